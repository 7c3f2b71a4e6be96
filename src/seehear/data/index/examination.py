"""Can one file be used, and when do its picture and its sound run? Runs in a worker process.

Frames and sound are decoded at several places up to the end, so that clips can be read later:

- silent: every channel of every track, below -60 dB wherever it was sampled:
  `seehear.data.media.hearing`
- still: no pixel of the shrunken picture changes by more than `STILL_LEVELS` between frames
  sampled, four first and, if these are alike, up to forty. Coding noise of usual quality stays
  below that; stills whose coding visibly pumps are not recognised.

A longer film may thus be called silent or still for what happens between the samples only.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from seehear.data.media import MediaInfo, Reader
from seehear.data.media.opening import HEAD_BYTES, looks_like_media
from seehear.errors import MediaError

STILL_LEVELS = 4
"""Of 255, in a picture whose short side is shrunk to `STILL_PIXELS`."""

STILL_PIXELS = 32

LEAST_SECONDS = 0.02
"""With both picture and sound; less is rounding. Clips of a short segment repeat it."""

_FIRST_FRAMES, _MORE_FRAMES = 4, 40


@dataclass(frozen=True)
class Rejection:
    """Why a file is left out: a key of `seehear.data.media.REASONS`, and what else is known."""

    reason: str
    detail: str = ""


def examine(
    path: str,
    is_promised: bool,
    wanted: Sequence[str] = (),
    any_of_them: bool = False,
    keeps_stills: bool = False,
) -> MediaInfo | Rejection | None:
    """Look at one file.

    Args:
        path: the file.
        is_promised: its name says that it is a video. Other files are of interest only if they have
            a moving picture or sound.
        wanted: streams that must be there, of "video" and "audio", whatever is to be seen or heard
            in them; by default both, and neither still nor silent.
        any_of_them: one of `wanted` is enough.
        keeps_stills: a picture that never changes is one, too.

    Returns:
        What it holds, why it cannot be used, or None for what nobody would take for media.
    """
    has_stream = False
    try:
        if not is_promised and not _begins_like_media(path):
            return None
        with Reader(path) as reader:
            has_stream = reader.has_video or reader.num_sounds > 0
            if wanted:
                return _with_streams(reader, wanted, any_of_them)
            return _examine(reader, keeps_stills)
    except MediaError as error:
        return Rejection(error.reason, error.detail) if is_promised or has_stream else None


def _begins_like_media(path: str) -> bool:
    try:
        with open(path, "rb") as file:  # noqa: PTH123
            return looks_like_media(file.read(HEAD_BYTES))
    except OSError:
        return False


def _with_streams(reader: Reader, wanted: Sequence[str], any_of_them: bool = False) -> MediaInfo:
    info = reader.info(listens="audio" in wanted)
    missing = [
        kind for kind in wanted if not (info.video_codec if kind == "video" else info.audio_codec)
    ]
    if missing and (not any_of_them or len(missing) == len(wanted)):
        raise MediaError(info.path, f"no {missing[0]} stream")
    return info


def _examine(reader: Reader, keeps_stills: bool) -> MediaInfo:
    info = _with_streams(reader, ("video", "audio"))
    if info.seconds < LEAST_SECONDS:
        raise MediaError(
            info.path, "too short", f"{info.seconds:.2f} s with both picture and sound"
        )
    counts = _FIRST_FRAMES, _MORE_FRAMES
    if not keeps_stills and all(_is_still(reader, info, count) for count in counts):
        raise MediaError(info.path, "still picture")
    heard = reader.listen()
    if heard.failure is not None:
        raise heard.failure
    if heard.is_silent:
        level = (
            "zeros only" if math.isinf(heard.loudest_db) else f"at most {heard.loudest_db:.0f} dB"
        )
        tracks = f"in all {reader.num_sounds} tracks" if reader.num_sounds > 1 else ""
        raise MediaError(
            info.path, "silent audio", ", ".join(filter(None, (level, tracks, heard.detail)))
        )
    return info


def _is_still(reader: Reader, info: MediaInfo, count: int) -> bool:
    last_s = info.start_s + info.seconds - 1.5 / (info.fps or 25.0)  # within the last frame but one
    times_s = np.linspace(info.start_s, max(last_s, info.start_s), count)
    frames_THWC = reader.frames(list(times_s), short_side_pixels=STILL_PIXELS)
    return bool(np.max(np.ptp(frames_THWC, axis=0)) <= STILL_LEVELS)
