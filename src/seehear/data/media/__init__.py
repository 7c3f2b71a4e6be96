"""Seconds a..b of this file: which pictures are to be seen, and what is to be heard?

A file is opened once for both streams, by FFmpeg through PyAV, and gives two arrays:

    frames_THWC  uint8    (T, H, W, 3) RGB, upright, in display proportions
    sound_S      float32  (S,) one channel in [-1, 1]

All times are seconds since the container's start: the start time of MPEG-TS (1.4 s) is subtracted,
edit lists are honoured, and a gap between the streams stays one. A frame is chosen by its
timestamp, never by `t * fps`, which is wrong for variable frame rates and edited files. One thread:
parallelism belongs to the caller's processes.

A path may lead into a shard (`members`). `opening` opens a file, `tracks` chooses streams,
`container` finds where to start, `clock` says when a frame is seen, `pictures` and `sound` decode,
`hearing` chooses a track and a channel, `reader` puts all together.
"""

from __future__ import annotations

import os

import numpy as np
from numpy.typing import NDArray

from seehear.data.media.hearing import Hearing
from seehear.data.media.members import Member, stamp
from seehear.data.media.pictures import Times
from seehear.data.media.reader import MediaInfo, Reader
from seehear.data.media.reasons import MAX_CHANNELS, MAX_PIXELS, MAX_SAMPLE_RATE_HZ, REASONS

__all__ = [
    "MAX_CHANNELS",
    "MAX_PIXELS",
    "MAX_SAMPLE_RATE_HZ",
    "REASONS",
    "Hearing",
    "MediaInfo",
    "Member",
    "Reader",
    "probe",
    "read_clip",
    "read_frames",
    "read_sound",
    "stamp",
]


def probe(path: str | os.PathLike[str]) -> MediaInfo:
    """What a file holds: streams, sizes, rates, and when picture and sound run.

    Raises:
        MediaError: the file cannot be opened, or no frame of its video stream can be decoded.
    """
    with Reader(path) as reader:
        return reader.info()


def read_clip(
    path: str | os.PathLike[str],
    frame_times_s: Times,
    sound_start_s: float,
    sound_seconds: float,
    *,
    short_side_pixels: int | None,
    sample_rate_hz: int = 16000,
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Frames and sound of a file, from one opening; see `Reader.frames` and `Reader.sound`.

    Returns:
        uint8 (T, H, W, 3) RGB and float32 (round(sound_seconds * sample_rate_hz),) in [-1, 1].

    Raises:
        MediaError: with `path` and a `reason` out of `REASONS`.
    """
    with Reader(path) as reader:
        frames_THWC = reader.frames(frame_times_s, short_side_pixels=short_side_pixels)
        return frames_THWC, reader.sound(
            sound_start_s, sound_seconds, sample_rate_hz=sample_rate_hz
        )


def read_frames(
    path: str | os.PathLike[str], frame_times_s: Times, *, short_side_pixels: int | None
) -> NDArray[np.uint8]:
    """Some frames of a file, which need not have sound; see `Reader.frames`."""
    with Reader(path) as reader:
        return reader.frames(frame_times_s, short_side_pixels=short_side_pixels)


def read_sound(
    path: str | os.PathLike[str], start_s: float, seconds: float, *, sample_rate_hz: int = 16000
) -> NDArray[np.float32]:
    """A stretch of a file's sound; the file need not have pictures; see `Reader.sound`."""
    with Reader(path) as reader:
        return reader.sound(start_s, seconds, sample_rate_hz=sample_rate_hz)
