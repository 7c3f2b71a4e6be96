"""What is decoded of one file for one clip? Frames at some times, and a stretch of sound.

Shapes: frames (T, H, W, 3) uint8, sound (L,) float32 in [-1, 1]; None for what was not asked for.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from seehear.data.index.examination import Rejection
from seehear.data.media import Hearing, Reader
from seehear.data.remote import local
from seehear.errors import MediaError

Decoded = tuple[np.ndarray | None, np.ndarray | None]  # frames and sound


@dataclass(frozen=True)
class Request:
    """What is to be decoded of one file."""

    row: int  # what is decoded, by number: it is given up when it has cost too many processes
    path: str  # of the file
    # (T,) float64, when frames are wanted, in seconds since the container's start; None: no frames
    times_s: np.ndarray | None
    short_side_pixels: int  # frames are scaled to this shorter side
    # start and length of the stretch to be heard; None: no sound
    sound_s: tuple[float, float] | None
    sample_rate_hz: int  # of the sound
    # where on the longer side a square is cut from the frames, a share in [0, 1) of the way; None:
    # no square
    place: float | None = None
    hearing: Hearing | None = None  # which of the file's sound; None has that found out


def decode(request: Request, cache_gigabytes: float = -1.0) -> Decoded | Rejection:
    """Frames and sound of a file, or why they cannot be read; here, in the process that calls."""
    try:
        with local(request.path, cache_gigabytes) as path:
            frames, sound = _read(request, path)
    except MediaError as error:
        return Rejection(error.reason, error.detail)
    if frames is not None and request.place is not None:
        frames = np.ascontiguousarray(square(frames, request.place, request.short_side_pixels))
    return frames, sound


def _read(request: Request, path: str) -> Decoded:
    reader, frames, sound = Reader(path, request.hearing), None, None
    try:
        if request.times_s is not None:
            frames = reader.frames(
                request.times_s.tolist(), short_side_pixels=request.short_side_pixels
            )
        if request.sound_s is not None:
            sound = reader.sound(*request.sound_s, sample_rate_hz=request.sample_rate_hz)
    finally:
        reader.close()
    return frames, sound


def square(frames_THWC: np.ndarray, place: float, side_pixels: int) -> np.ndarray:
    """A view of a square, at a share in [0, 1) of the way along the longer side."""
    height, width = frames_THWC.shape[1:3]
    top, left = int(place * (height - side_pixels + 1)), int(place * (width - side_pixels + 1))
    return frames_THWC[:, top : top + side_pixels, left : left + side_pixels]
