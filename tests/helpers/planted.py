"""Segments whose classes can be both seen and heard: a colour and a tone, with noise that is
private to each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from seehear.config import Clip, Data, Settings, override
from seehear.data.augment import DRAWS
from seehear.data.clips import Batch, Clips
from seehear.data.segments import Segment
from seehear.presets import preset_settings

COLOURS = np.array([[200, 40, 40], [40, 200, 40], [40, 40, 200], [200, 200, 40]])
TONES_HZ = (300.0, 700.0, 1500.0, 3300.0)

AS_DEBUG = {"clip.short_side_pixels": 36, "clip.crop_pixels": 32, "clip.sound_seconds": 1.0}
"""Clips as large as those of the debug preset: for encoders that are to find the classes by
themselves, and where few clips are normalised together, which blows up rounding if the last layers
have but one position."""


def tiny_settings(changes: Mapping[str, Any] | None = None) -> Settings:
    """The debug preset with smaller clips, and fixed numerics, so that nothing depends on a
    probe.
    """
    fixed = {"compute.precision": "fp32", "compute.memory_format": "contiguous", "data.workers": 0}
    fixed |= {"clip.short_side_pixels": 20, "clip.crop_pixels": 16, "clip.sound_seconds": 0.5}
    return override(preset_settings("debug"), fixed | dict(changes or {}))


def planted_clips(cfg: Settings, rows: int = 64) -> tuple[Clips, np.ndarray]:
    """Clips in memory and the class of each row."""
    generator = np.random.default_rng(cfg.seed)
    classes_N = generator.permutation(np.arange(rows) % len(TONES_HZ))
    segments = [segment(int(c), cfg, generator) for c in classes_N]
    return clips_in_memory(segments, cfg.clip, cfg.data, cfg.seed), classes_N


def made_up_batch(clip: Clip, size: int) -> Batch:
    """Noise to see and to hear, as a batch of the loader."""
    generator, side = torch.Generator().manual_seed(0), clip.short_side_pixels
    shape = (size, clip.frames, side, side, 3)
    frames = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    length = round(clip.sound_seconds * clip.sample_rate_hz)
    waveform = torch.randn(size, length, generator=generator) / 10
    return Batch(np.arange(size), frames, waveform, torch.rand(size, DRAWS, generator=generator))


def segment(number: int, cfg: Settings, generator: np.random.Generator) -> Segment:
    """Noise around a class's colour, and a class's tone of any phase in noise."""
    clip = cfg.clip
    shape = (clip.frames + 2, clip.short_side_pixels, clip.short_side_pixels + 4, 3)
    frames_GHWC = (COLOURS[number] + generator.normal(0, 20, shape)).clip(0, 255).astype(np.uint8)
    seconds = clip.sound_seconds + 2 / clip.frame_rate_hz
    t_s = np.arange(round(seconds * clip.sample_rate_hz)) / clip.sample_rate_hz
    tone = 0.3 * np.sin(2 * np.pi * (TONES_HZ[number] * t_s + generator.random()))
    return Segment(frames_GHWC, (tone + generator.normal(0, 0.02, len(t_s))).astype(np.float32))


class SegmentsInMemory:
    """In place of an index where segments are decoded already: seconds, sizes, videos of rows."""

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


def clips_in_memory(segments: Sequence[Segment], clip: Clip, data: Data, seed: int) -> Clips:
    """Clips of segments that are decoded already; each is taken for a video of its own.

    Frames are on a grid of `clip.frame_rate_hz`, their short side `clip.short_side_pixels`.
    """
    parts = {"video": segments[0].frames_GHWC, "audio": segments[0].waveform_L}
    there = tuple(modality for modality, part in parts.items() if part is not None)
    clips = Clips(SegmentsInMemory(segments, clip), clip, data, seed, there)  # type: ignore[arg-type]
    clips._cached = list(segments)
    return clips
