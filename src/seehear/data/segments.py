"""Which clips are in a segment that is decoded and in memory, and how much memory would all take?

Frames are (G, H, W, 3) uint8 on a grid of moments, sound (L,) float32 in [-1, 1].
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from seehear.config import Clip
from seehear.data.augment import START
from seehear.data.decoding.request import Decoded
from seehear.data.placing import num_starts

if TYPE_CHECKING:
    from seehear.data.index import Index

CHUNK_ROWS = 2**20  # of the index, looked at at once


@dataclass(frozen=True)
class Segment:
    """A segment, decoded on the grid of all clip starts. A modality that is not read is None."""

    frames_GHWC: np.ndarray | None
    waveform_L: np.ndarray | None

    def num_starts(self, clip: Clip) -> int:
        """At how many moments a clip may start: what is kept says so."""
        if self.frames_GHWC is not None:
            return max(1, len(self.frames_GHWC) - clip.frames + 1)
        assert self.waveform_L is not None, "frames or sound"
        more = len(self.waveform_L) - round(clip.sound_seconds * clip.sample_rate_hz)
        # 1: lengths are rounded
        return max(0, int((more + 1) / clip.sample_rate_hz * clip.frame_rate_hz)) + 1

    def cut(self, draws: np.ndarray, clip: Clip, modalities: Sequence[str]) -> Decoded:
        """Frames and sound of one clip."""
        first = int(float(draws[START]) * self.num_starts(clip))
        frames = self.frames_GHWC if "video" in modalities else None
        waveform = self.waveform_L if "audio" in modalities else None
        if frames is not None:
            frames = frames[first : first + clip.frames]
        if waveform is not None:
            sound = round(first / clip.frame_rate_hz * clip.sample_rate_hz)
            waveform = waveform[sound : sound + round(clip.sound_seconds * clip.sample_rate_hz)]
        return frames, waveform


def decoded_bytes(index: Index, clip: Clip, modalities: Sequence[str]) -> int:
    """What all segments of an index take in memory when they are decoded."""
    total = 0.0
    for start in range(0, len(index), CHUNK_ROWS):
        width_n, height_n, seconds_n = (
            column_N[start : start + CHUNK_ROWS]
            for column_N in (index.width, index.height, index.seconds)
        )
        starts_n = num_starts(seconds_n, clip, modalities)
        if "video" in modalities:
            scale = clip.short_side_pixels / np.minimum(width_n, height_n)
            pixels_n = np.ceil(width_n * scale) * np.ceil(height_n * scale)
            total += ((starts_n + clip.frames - 1) * pixels_n * 3).sum()
        if "audio" in modalities:
            seconds_n = (starts_n - 1) / clip.frame_rate_hz + clip.sound_seconds
            total += (seconds_n * clip.sample_rate_hz * 4).sum()
    return int(total)
