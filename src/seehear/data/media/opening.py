"""Opening a media file, with a reason where that fails; what first bytes look like.

A file is data, not a programme: only regular files, and members of tar files, are opened, only by
the demuxers of `FORMATS`: playlists, network addresses, image patterns and devices are refused.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

import av
from av.container import InputContainer

from seehear.data.media.members import member_of, open_bytes
from seehear.data.media.reasons import MAX_PIXELS
from seehear.errors import MediaError

FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,flv,live_flv,kux,asf,asf_o,ogg,rm,wtv,mxf,gxf,nut,"
    "dv,ivf,nsv,nuv,swf,obu,av1,h261,h263,h264,hevc,vvc,m4v,vc1,dirac,mjpeg,yuv4mpegpipe,gif,apng,ty,pva,dhav,ivr,"
    "wav,w64,aiff,au,caf,mp3,flac,aac,ac3,eac3,dts,dtshd,truehd,mlp,ape,wv,tta,tak,amr,mpc,mpc8,shn,voc,loas"
)
"""FFmpeg's names of the demuxers that may be used: none follows a reference to another file."""

HEAD_BYTES = 4096
"""So many first bytes are enough to say what a file looks like."""

_STARTS = (
    b"\x1aE\xdf\xa3",  # Matroska, WebM
    b"OggS",
    b"FLV\x01",
    b"\x30\x26\xb2\x75\x8e\x66\xcf\x11",  # ASF: WMV, WMA
    b"\x00\x00\x01\xba",  # MPEG program stream
    b"\x00\x00\x01\xb3",  # MPEG-1 and 2 video
    b"\x00\x00\x01\xb0",  # MPEG-4 video
    b"\x00\x00\x00\x01",  # H.264 and HEVC as a byte stream
    b".RMF",
    b"\x06\x0e\x2b\x34",  # MXF
    b"nut/multimedia container",
    b"DKIF",  # IVF
    b"YUV4MPEG2",
    b"NSVf",
    b"\xb7\xd8\x00\x20\x37\x49\xda\x11",  # WTV
    b"\x1f\x07\x00",  # DV
    b"DHAV",
    b"GIF8",
    b"FWS",
    b"CWS",
    b"ID3",  # MP3 with tags
    b"fLaC",
    b"FORM",  # AIFF
    b".snd",
    b"caff",
    b"riff\x2e\x91\xcf\x11",  # Wave64
    b"MAC ",
    b"wvPK",
    b"TTA1",
    b"tBaK",
    b"#!AMR",
    b"MP+",
    b"MPCK",
    b"ajkg",
    b"Creative Voice File",
    b"\x0bw",  # AC-3
    b"\x7f\xfe\x80\x01",  # DTS
    b"\xff\xf1",  # AAC
    b"\xff\xf9",
    b"\xff\xfb",  # MP3
    b"\xff\xf3",
    b"\xff\xf2",
    b"\xff\xfa",
)
_BOXES = b"ftyp moov mdat free skip wide pnot styp uuid junk".split()  # MP4, QuickTime
_RIFF_KINDS = (b"AVI ", b"AVIX", b"WAVE", b"AMV ")
_TRANSPORT_PACKETS = ((188, 0), (192, 4), (204, 0))  # length, offset of the first sync byte

_PLAYLIST_STARTS = (
    b"#EXTM3U",
    b"ffconcat",
    b"v=0\r\n",
    b"v=0\n",
    b"[playlist]",
    b"[Reference]",
    b"[InternetShortcut]",
)
_PLAYLIST_TAGS = (b"<MPD", b"<SmoothStreamingMedia", b"<playlist", b"<smil", b"<asx", b"<ASX")

OPEN_OPTIONS = {
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
    return _open_address(path, absolute, OPEN_OPTIONS)


def _open_bytes(
    path: str, file: str, offset: int, size: int, span: tuple[int, int] | None
) -> InputContainer:
    """Open some bytes of a file by its absolute path, which FFmpeg takes for nothing but a file."""
    first, end = span or (0, size)
    address = f"subfile,,start,{offset + first},end,{offset + end},,:{file}"
    return _open_address(path, address, OPEN_OPTIONS | {"protocol_whitelist": "file,subfile"})


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


def looks_like_media(head: bytes) -> bool:
    """Do the first bytes look like media? Those of damaged files do, too."""
    if head.startswith(_STARTS) or head[4:8] in _BOXES:
        return True
    if head[:4] in (b"RIFF", b"RF64"):
        return head[8:12] in _RIFF_KINDS
    return any(
        head[offset : offset + 3 * size : size] == b"GGG" for size, offset in _TRANSPORT_PACKETS
    )


def looks_like_playlist(head: bytes) -> bool:
    """Do the first bytes look like a text that only points to media?"""
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    return text.startswith(_PLAYLIST_STARTS) or (
        text.startswith(b"<") and any(tag in text for tag in _PLAYLIST_TAGS)
    )
