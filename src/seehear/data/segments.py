"""Which segments are there, of an index or decoded and in memory, and when may a clip of one start?

Frames are (G, H, W, 3) uint8 on a grid of moments, sound (L,) float32 in [-1, 1].
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from seehear.config import Clip
from seehear.data.media import Hearing

ROUNDING_S = 1e-6


@dataclass(frozen=True)
class Segment:
    """One segment, decoded on the grid of all moments where a clip may start. A modality that is
    not read is None.
    """

    frames_GHWC: np.ndarray | None
    waveform_L: np.ndarray | None


class Segments(Protocol):
    """What clips need of an index: where the segment of each row is, and how large its pictures
    are.
    """

    video: np.ndarray
    recording: np.ndarray
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
    """What stands in for an index where segments are decoded already: seconds, sizes and videos of
    the rows.
    """

    def __init__(self, segments: Sequence[Segment], clip: Clip) -> None:
        frames = [s.frames_GHWC for s in segments if s.frames_GHWC is not None]
        sounds = [s.waveform_L for s in segments if s.waveform_L is not None]
        if frames:
            span_s = clip.span_seconds(("video", "audio") if sounds else ("video",))
            spans = [(len(f) - clip.frames) / clip.frame_rate_hz + span_s for f in frames]
        else:
            spans = [len(sound) / clip.sample_rate_hz for sound in sounds]
        self.seconds, self.start_s = np.array(spans), np.zeros(len(segments))
        self.height, self.width = (np.array([f.shape[axis] for f in frames]) for axis in (1, 2))
        self.video = self.recording = np.arange(len(segments))

    def __len__(self) -> int:
        return len(self.video)

    def path(self, row: int) -> str:
        """A name for messages."""
        return f"segment {row} in memory"

    def hearing(self, row: int) -> None:
        """Nothing is read."""


def num_starts(segment_seconds: Any, clip: Clip, modalities: Sequence[str]) -> Any:
    """How many grid moments a clip may start at: only the first where the segment is shorter than a
    clip.
    """
    slack_s = np.maximum(
        0.0, np.asarray(segment_seconds, dtype=np.float64) - clip.span_seconds(modalities)
    )
    return np.floor(slack_s * clip.frame_rate_hz + 1e-6).astype(np.int64) + 1


def starts_kept(segment: Segment, clip: Clip) -> int:
    """The same of a segment in memory: what is kept of it says so."""
    if segment.frames_GHWC is not None:
        return max(1, len(segment.frames_GHWC) - clip.frames + 1)
    assert segment.waveform_L is not None, "frames or sound"
    more = len(segment.waveform_L) - round(clip.sound_seconds * clip.sample_rate_hz)
    # 1: lengths are rounded
    return max(0, int((more + 1) / clip.sample_rate_hz * clip.frame_rate_hz)) + 1


def looped(moments_s: np.ndarray, segment_seconds: float) -> np.ndarray:
    """Seconds since a segment's start, of moments that may lie beyond its end, when it is played in
    a loop.
    """
    phases_s: np.ndarray = np.mod(moments_s, segment_seconds)
    phases_s[segment_seconds - phases_s < ROUNDING_S] = (
        0.0  # the end of a turn is the start of the next
    )
    return phases_s
