"""Where does the time of reading one clip go? Open, seek, decode, resize, sound: the reader's own
code, with a clock.

`resize` is the conversion to RGB, which scales in the same call; `decode` is what is left of
reading the pictures.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from seehear.data.media.container import Source
from seehear.data.media.pictures import Pictures, Times
from seehear.data.media.sound import read_samples
from seehear.data.media.tracks import AnyPacket, Kind

STAGES = ("open", "seek", "decode", "resize", "sound")


class _TimedSource(Source):
    """A file that notes how long seeking took."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        super().__init__(path)
        self.seek_s = 0.0

    def packets_from(self, kind: Kind, time_s: float) -> tuple[bool, Iterator[AnyPacket | None]]:
        begin = time.perf_counter()
        try:
            return super().packets_from(kind, time_s)
        finally:
            self.seek_s += time.perf_counter() - begin


class _TimedPictures(Pictures):
    """Pictures that note how long converting and scaling took."""

    resize_s = 0.0

    def _convert(self, frame: VideoFrame, size: tuple[int, int]) -> NDArray[np.uint8]:
        begin = time.perf_counter()
        try:
            return super()._convert(frame, size)
        finally:
            self.resize_s += time.perf_counter() - begin


def time_stages(
    path: str,
    frame_times_s: Times,
    sound_start_s: float,
    sound_seconds: float,
    *,
    short_side_pixels: int,
    sample_rate_hz: int,
) -> dict[str, float]:
    """Seconds of each of `STAGES` for reading one clip; arguments as of `read_clip`.

    Raises:
        MediaError: it cannot be read.
    """
    begin = time.perf_counter()
    source = _TimedSource(path)
    try:
        pictures = _TimedPictures(source)
        opened = time.perf_counter()
        pictures.at(frame_times_s, short_side_pixels)
        seen, seek_s = time.perf_counter(), source.seek_s
        read_samples(source, sound_start_s, sound_seconds, sample_rate_hz)
        heard = time.perf_counter()
    finally:
        source.close()
    decode_s = seen - opened - seek_s - pictures.resize_s
    times = (opened - begin, seek_s, decode_s, pictures.resize_s, heard - seen)
    return dict(zip(STAGES, times, strict=True))
