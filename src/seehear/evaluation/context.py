"""What does every task start from? A model, a labelled set, and features that are extracted once.

Values that a result needs beside it, chance and majority rate, are here too: no number is shown
without them.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from seehear.config import Data
from seehear.data.clips import Clips
from seehear.evaluation.baselines import baseline_features
from seehear.evaluation.datasets import Split
from seehear.evaluation.protocols import USUAL, Protocol, clips_of_rows, forecast
from seehear.evaluation.sets import LabelledSet
from seehear.machine import distributed
from seehear.machine.console import Console, listing
from seehear.method.features import Features, extract
from seehear.models.model import Model

FEW_ROWS = 64  # are decoded in this process: starting others would take longer


@dataclass(frozen=True)
class Evaluation:
    """One model on one set."""

    model: Model  # the encoders
    data: LabelledSet  # what is measured on
    seed: int  # draws what a task draws
    # clips of each item whose features or scores are averaged, None for what is usual
    num_clips: int | None
    console: Console  # where progress is shown
    results: Path = Path("results")  # the folder that results are written to
    clips: Clips | None = None  # of the set's index, where they are there already
    # of each clip's frames, along their longer side; None for what is usual
    num_crops: int | None = None
    usual: Protocol = USUAL  # what the task usually takes on this set

    @cached_property
    def reading(self) -> Clips:
        """The clips of the set, of the modalities that are measured."""
        few = len(self.data.index) < FEW_ROWS
        data = Data(workers=0 if few else -1)
        return self.clips or Clips(
            self.data.index, self.model.clip, data, self.seed, self.modalities
        )

    @property
    def clips_an_item(self) -> int:
        """How many clips of each item have their features averaged."""
        return self.num_clips or self.usual.clips

    @property
    def crops(self) -> int:
        """How many crops of each clip's frames; sound has none."""
        return (self.num_crops or self.usual.crops) if "video" in self.modalities else 1

    @cached_property
    def clips_n(self) -> np.ndarray:
        """How many clips each row of `data.rows` gives: one if it is no longer than a clip."""
        rows = self.data.rows
        wanted_n = clips_of_rows(
            self.data.item_N[rows], self.data.index.seconds[rows], self.clips_an_item
        )
        found_n: np.ndarray = np.minimum(wanted_n, self.reading.num_starts(rows))
        return found_n

    @property
    def modalities(self) -> tuple[str, ...]:
        """What both the model and the set have."""
        return tuple(m for m in self.data.modalities if m in self.model.modalities)

    @cached_property
    def features(self) -> Features:
        """Of readable rows with a class; ranks extract a share each, and the first gets all."""
        span = distributed.rows_of_rank(len(self.data.rows))
        rows = self.data.rows[span.start : span.stop]
        clips_n = self.clips_n[span.start : span.stop]
        total = int(clips_n.sum())
        less = [
            f"--{name} 1"
            for name, n in (("clips", self.clips_an_item), ("crops", self.crops))
            if n > 1
        ]
        advice = f"Quicker and less exact: {' '.join(less)}." if less else ""
        failed = self.reading.failures
        watched = self.console.watch("features", total, lambda: listing(failed), unit="clips")
        mine = extract(
            self.model.pair,
            self.reading,
            self.model.numerics,
            rows=rows,
            num_clips=clips_n,
            num_crops=self.crops,
            progress=forecast(watched, total, self.console.say, advice, time.monotonic),
        )
        failures = distributed.sum_counters(self.reading.failures)
        self.reading.failures.clear()
        self.reading.failures.update(failures)
        return Features(*distributed.gather_rows(mine.rows, mine.of))

    @cached_property
    def pooled(self) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """The mean feature of each item by modality, (V, D), and which have one, (V,) bool."""
        return self._pooled(
            self.features.rows, {m: part.numpy() for m, part in self.features.of.items()}
        )

    @cached_property
    def baselines(self) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """The same of what needs no learning, by baseline, of the same clips."""
        return self._pooled(*baseline_features(self.reading, self.data.rows, self.clips_n))

    def _pooled(
        self, rows: np.ndarray, of: Mapping[str, np.ndarray]
    ) -> tuple[dict[str, np.ndarray], np.ndarray]:
        weights_n = self.clips_n[np.searchsorted(self.data.rows, rows)]
        parts = {m: self.data.pool(rows, part, weights_n) for m, part in of.items()}
        return {m: pooled for m, (pooled, _) in parts.items()}, next(iter(parts.values()))[1]

    @property
    def clips_sentence(self) -> str:
        """How features are made, for the protocol."""
        clip, clips, crops = self.model.clip, self.clips_an_item, self.crops
        how = "the middle clip" if clips == 1 else f"{clips} clips, spread evenly,"
        parts = []
        if "video" in self.modalities:
            crop = "centre crop" if crops == 1 else f"{crops} crops along the longer side"
            parts.append(
                f"{clip.frames} frames at {clip.frame_rate_hz:g} Hz, {crop} of "
                f"{clip.crop_pixels} pixels of a short side of {clip.short_side_pixels}"
            )
        if "audio" in self.modalities:
            parts.append(f"{clip.sound_seconds:g} s of sound")
        return f"{' and '.join(parts)}; features of {how} of each item averaged"


def named(splits: Sequence[Split]) -> str:
    """Which splits a number is of, for the protocol."""
    names = ", ".join(split.name for split in splits)
    return f"split {names}" if len(splits) == 1 else f"mean over the splits {names}"


def rates(data: LabelledSet, there_V: np.ndarray) -> dict[str, Any]:
    """What values must be compared with, means over the splits, and how many were measured.

    Test items that could not be read are among them: they count as wrong. A task without splits has
    no such values.

    chance: of guessing uniformly; majority: of always saying the most frequent training class.
    Where items have several classes, chance is the mean share of items that a class has, the
    average precision of a random order, and there is no majority rate.
    """
    tests = [split.test for split in data.splits]
    trains = [split.train[there_V[split.train]] for split in data.splits]
    counts = {"n_train": [len(part) for part in trains], "n_test": [len(part) for part in tests]}
    about: dict[str, Any] = {
        key: values[0] if len(values) == 1 else values for key, values in counts.items()
    }
    about |= {"num_classes": len(data.classes), "num_splits": len(data.splits)}
    about["num_unread_test"] = (
        len(np.unique(np.concatenate([part[~there_V[part]] for part in tests]))) if tests else 0
    )
    if not all(map(len, (*tests, *trains))) or not data.splits:
        return {"chance": None, "majority": None, **about}
    if data.multilabel:
        shares = [data.target_V[part].mean(axis=0) for part in tests]
        return {
            "chance": float(np.mean([share[share > 0].mean() for share in shares])),
            "majority": None,
            **about,
        }
    majority = [
        np.mean(data.target_V[test] == np.bincount(data.target_V[train]).argmax())
        for train, test in zip(trains, tests, strict=True)
    ]
    return {"chance": 1 / len(data.classes), "majority": float(np.mean(majority)), **about}
