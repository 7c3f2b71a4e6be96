"""Which segments are there? Those of an index, or some that are decoded and in memory.

Frames are (G, H, W, 3) uint8 on a grid of moments, sound (L,) float32 in [-1, 1].
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from seehear.config import Clip
from seehear.media import Hearing


@dataclass(frozen=True)
class Segment:
    """One segment, decoded on the grid of all moments where a clip may start. A modality that is not read is None."""

    frames_GHWC: np.ndarray | None
    waveform_L: np.ndarray | None


class Segments(Protocol):
    """What clips need of an index: where the segment of each row is, and how large its pictures are."""

    video: np.ndarray
    start_s: np.ndarray
    seconds: np.ndarray
    width: np.ndarray
    height: np.ndarray

    def __len__(self) -> int: ...

    def path(self, row: int) -> str:
        """The file of a row."""

    def hearing(self, row: int) -> Hearing | None:
        """Which of the file's sound is heard; None where that is not known yet."""


class SegmentsInMemory:
    """What stands in for an index where segments are decoded already: seconds, sizes and videos of the rows."""

    def __init__(self, segments: Sequence[Segment], clip: Clip) -> None:
        frames = [s.frames_GHWC for s in segments if s.frames_GHWC is not None]
        span_s = clip.span_seconds(("video", "audio"))
        spans = [(len(f) - clip.frames) / clip.frame_rate_hz + span_s for f in frames]
        self.seconds, self.start_s = np.array(spans), np.zeros(len(segments))
        self.height, self.width = (np.array([f.shape[axis] for f in frames]) for axis in (1, 2))
        self.video = np.arange(len(segments))

    def __len__(self) -> int:
        return len(self.video)

    def path(self, row: int) -> str:
        """A name for messages."""
        return f"segment {row} in memory"

    def hearing(self, row: int) -> None:
        """Nothing is read."""
