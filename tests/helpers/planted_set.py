"""A labelled set of planted clips, and settings to fine-tune on it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from planted import clips_in_memory, planted_clips, tiny_settings
from seehear.data.segments import Segment
from seehear.evaluation.datasets import Split
from seehear.evaluation.finetuning import Finetune, finetune, finetune_settings
from seehear.evaluation.finetuning.training import Lesson
from seehear.evaluation.sets import LabelledSet
from seehear.machine.console import Console
from seehear.machine.devices import Numerics
from seehear.method.encoders.building import build_pair
from seehear.models.model import Model

EMPTY = np.empty(0, dtype=np.int64)
CPU = Numerics("cpu", "fp32", "contiguous")
FIXED = {
    "finetune.precision": "fp32",
    "finetune.memory_format": "contiguous",
    "finetune.workers": 0,
}


def settings_with(**changes: object) -> Finetune:
    few = {"finetune.epochs": 2, "finetune.batch_size": 8, "finetune.clips": 2}
    return finetune_settings(
        "default", FIXED | few | {f"finetune.{name}": value for name, value in changes.items()}
    )


class Planted:
    """Clips in memory of 4 classes, as a labelled set of 64 items of a row each, in two splits."""

    def __init__(self, changes: Mapping[str, Any] | None = None) -> None:
        self.cfg = tiny_settings({"encoders.video_width": 8, **(changes or {})})
        self.clips, self.class_N = planted_clips(self.cfg)
        items = np.arange(64)
        splits = (
            Split("1", items[:40], items[40:], EMPTY),
            Split("2", items[24:], items[:24], EMPTY),
        )
        self.data = LabelledSet(
            name="planted",
            source="made up",
            index=self.clips.index,  # type: ignore[arg-type]
            item_N=items,
            target_V=self.class_N,
            items=tuple(f"item {i}" for i in items),
            classes=("red", "green", "blue", "yellow"),
            splits=splits,
            modalities=("video", "audio"),
            missing=(),
            unreadable={},
            num_official=64,
            digest="sha256:planted",
        )
        pair = build_pair(self.cfg).eval()
        info = {"format": 1, "encoders": self.cfg.to_dict()["encoders"]}
        self.model = Model(pair, self.cfg.clip, CPU, info)

    def run(
        self, out: Path, settings: Finetune, *, data: LabelledSet | None = None, **options: object
    ) -> dict:
        data = data or self.data
        clips = self.clips
        if data.modalities == ("audio",):
            alone = [Segment(None, s.waveform_L) for s in self.clips._cached or []]
            clips = clips_in_memory(alone, self.cfg.clip, self.cfg.data, self.cfg.seed)
        with Console(quiet=True) as console:
            return finetune(
                self.model, data, out, settings, clips=clips, console=console, **options
            )

    def lesson(self, settings: Finetune, rows: np.ndarray, heldout: np.ndarray = EMPTY) -> Lesson:
        return Lesson(self.data, self.clips, rows, heldout, settings, CPU)
