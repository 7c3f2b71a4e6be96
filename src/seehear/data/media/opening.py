"""Opening a media file, with a reason where that fails.

A file is data, not a programme: only regular files, and members of tar files, are opened, only by
the demuxers of `FORMATS`, so that playlists, network addresses, image patterns and devices are
refused.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

import av
from av.container import InputContainer

from seehear.data.media.members import member_of, open_bytes
from seehear.data.media.reasons import MAX_PIXELS
from seehear.data.media.signatures import HEAD_BYTES, looks_like_media, looks_like_playlist
from seehear.errors import MediaError

FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,flv,live_flv,kux,asf,asf_o,ogg,rm,wtv,mxf,gxf,nut,"
    "dv,ivf,nsv,nuv,swf,obu,av1,h261,h263,h264,hevc,vvc,m4v,vc1,dirac,mjpeg,yuv4mpegpipe,gif,apng,ty,pva,dhav,ivr,"
    "wav,w64,aiff,au,caf,mp3,flac,aac,ac3,eac3,dts,dtshd,truehd,mlp,ape,wv,tta,tak,amr,mpc,mpc8,shn,voc,loas"
)
"""FFmpeg's names of the demuxers that may open a file: none of them follows a reference to another
file."""

_OPEN_OPTIONS = {
    "protocol_whitelist": "file",
    "format_whitelist": FORMATS,
    "max_pixels": str(MAX_PIXELS),
}


def open_container(path: str, span: tuple[int, int] | None = None) -> InputContainer:
    """Open a file or a member of a tar file, or only some bytes of it.

    Raises:
        MediaError: it cannot be opened.
    """
    member = member_of(path)
    if member is not None:
        member.check()
        return _open_bytes(path, member.shard, member.offset, member.size, span)
    try:
        status = Path(path).stat()
    except PermissionError as error:
        raise MediaError(path, "no permission", error.strerror or "") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise MediaError(
            path, "not found", getattr(error, "strerror", None) or str(error)
        ) from None
    if not stat.S_ISREG(status.st_mode):
        raise MediaError(path, "not a regular file")
    if status.st_size == 0:
        raise MediaError(path, "empty file")
    # An absolute path never looks like a protocol ("concat:", "http:").
    absolute = os.path.abspath(path)  # noqa: PTH100 (the links are the user's business)
    if span is not None:
        return _open_bytes(path, absolute, 0, status.st_size, span)
    return _open_address(path, absolute, _OPEN_OPTIONS)


def _open_bytes(
    path: str, file: str, offset: int, size: int, span: tuple[int, int] | None
) -> InputContainer:
    """Open some bytes; the file's path is absolute, so FFmpeg can take it for nothing but a
    file.
    """
    first, end = span or (0, size)
    address = f"subfile,,start,{offset + first},end,{offset + end},,:{file}"
    return _open_address(path, address, _OPEN_OPTIONS | {"protocol_whitelist": "file,subfile"})


def _open_address(
    path: str, address: str, options: dict[str, str], form: str | None = None
) -> InputContainer:
    try:  # metadata may be in any encoding
        return av.open(address, "r", format=form, options=options, metadata_errors="replace")
    except PermissionError as error:
        raise MediaError(path, "no permission", error.strerror or "") from None
    except av.FFmpegError as error:
        # FFmpeg may take a film of JPEG pictures for one picture, which is none of FORMATS.
        if (
            form is None
            and isinstance(error, av.error.ArgumentError)
            and path.lower().endswith((".mjpeg", ".mjpg"))
        ):
            return _open_address(path, address, options, "mjpeg")
        raise MediaError(
            path, _reason_of_failed_open(path, error), error.strerror or str(error)
        ) from None


def _reason_of_failed_open(path: str, error: av.FFmpegError) -> str:
    with open_bytes(path) as (file, _, size):
        head = file.read(min(HEAD_BYTES, size))
    if looks_like_playlist(head):
        return "playlist"
    # A demuxer that is not in FORMATS is refused as a wrong argument.
    is_refused = isinstance(error, av.error.ArgumentError)
    return "unreadable" if looks_like_media(head) and not is_refused else "not a media file"
