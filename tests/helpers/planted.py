"""Segments whose classes can be both seen and heard: a colour and a tone, with noise that is
private to each.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from seehear.config import Clip, Settings, override
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
    return Clips.from_memory(segments, cfg.clip, cfg.data, cfg.seed), classes_N


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
