"""How do encoders and a new head learn classes? By pretraining's loop, with classes for labels.

What is its own: which items are learned from, a loss for items of several classes, a schedule of
the learning rate over a fixed number of updates, and heads that learn alone where encoders are
frozen. All else, ranks, parts of a batch, losses that are not finite, going on within a pass, is
`train.train`'s. Video and audio share the batches, and no weight is in both.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from seehear.data.clips import Clips
from seehear.data.order import derive
from seehear.errors import SettingsError
from seehear.evaluation.classifiers import few_of_each
from seehear.evaluation.datasets import Split
from seehear.evaluation.finetuning.settings import Finetune
from seehear.evaluation.finetuning.testing import HEAD
from seehear.evaluation.sets import LabelledSet
from seehear.machine.devices import Numerics
from seehear.method.encoders import AudioEncoder, Pair, VideoEncoder
from seehear.method.encoders.resnets import initialise
from seehear.method.features import calibrate
from seehear.method.learning import Step
from seehear.method.state import State
from seehear.method.step import cross_entropy
from seehear.method.train import Course, train

CALIBRATION_ROWS = 64  # of a batch, when new encoders get the statistics of their batch norms


@dataclass(frozen=True)
class Lesson:
    """What is learned from: rows of a set, in clips; heldout_rows, if any, are only looked at."""

    data: LabelledSet
    clips: Clips
    train_rows: np.ndarray
    heldout_rows: np.ndarray
    settings: Finetune
    numerics: Numerics
    name: str = "the only split"  # for messages

    @property
    def batch_size(self) -> int:
        """Clips a step: as set, or all there are."""
        return min(self.settings.batch_size, len(self.train_rows))

    @property
    def pass_steps(self) -> int:
        """Updates in one pass over the training rows."""
        return len(self.train_rows) // self.batch_size

    @property
    def epoch_steps(self) -> int:
        """Updates an epoch."""
        return self.settings.epoch_steps or self.pass_steps

    @property
    def steps(self) -> int:
        """Updates in all."""
        return self.settings.epochs * self.epoch_steps


def learn_classes(state: State, lesson: Lesson) -> Iterator[Step]:
    """Train `state.pair` in place on classes, by heads named `HEAD`; yields after each step.

    What was learned is in `state.learning`: loss and accuracy of each modality and pass over the
    training rows.

    Raises:
        TrainingError: too many losses that are not finite, or too many unreadable rows.
    """
    cfg, pair = lesson.settings, state.pair
    if cfg.freeze:
        pair.freeze()
    pair.recompute(cfg.checkpoint_activations)
    course = Course(
        pair.students,
        {HEAD: lesson.data.target_V[lesson.data.item_N]},
        lesson.train_rows,
        lesson.heldout_rows,
        loss=binary_cross_entropy if lesson.data.multilabel else cross_entropy,
        rate=lambda step, *_: rate(step, lesson.epoch_steps, cfg),
        most_steps=lesson.steps,
        remedy="a finetune.lr below {lr:g}, or with finetune.precision fp32",
    )
    passes = math.ceil(lesson.steps / lesson.pass_steps)
    yield from train(state, lesson.clips, course, replace(cfg.train, epochs=passes))


def binary_cross_entropy(
    scores_BC: Tensor, targets_BC: Tensor, smoothing: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Binary cross-entropy and right decisions: means over classes, sums over clips."""
    losses_BC = F.binary_cross_entropy_with_logits(scores_BC, targets_BC.float(), reduction="none")
    hits_BC = (scores_BC.detach() > 0) == (targets_BC > 0)
    return losses_BC.mean(dim=1).sum(), hits_BC.float().mean(dim=1).sum()


def rate(step: int, epoch_steps: int, cfg: Finetune) -> float:
    """Linear warm-up, then constant, a cosine to zero, or a tenth after each `step_epochs`."""
    steps = cfg.epochs * epoch_steps
    warmup = max(1.0, cfg.warmup_share * steps)
    if step < warmup:
        return cfg.lr * (step + 1) / (warmup + 1)
    if cfg.schedule == "cosine":
        return cfg.lr * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1.0, steps - warmup)))
    tenths = step // epoch_steps // cfg.step_epochs if cfg.schedule == "step" else 0
    return cfg.lr * 0.1**tenths


def make_anew(pair: Pair, modalities: Sequence[str], seed: int) -> None:
    """Give encoders new random weights, as if they had just been built, in any architecture.

    Raises:
        SettingsError: a part of an encoder does not say how it is initialised.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for modality in modalities:
            encoder = pair.encoders[modality]
            for module in encoder.modules():
                reset = getattr(module, "reset_parameters", None)
                if reset is not None:
                    reset()
                elif next(module.parameters(recurse=False), None) is not None:
                    part = f"its {type(module).__name__} has weights and no reset_parameters()"
                    what = f"The {modality} encoder cannot be made anew"
                    raise SettingsError(f"{what}: {part}. Leave --scratch out.")
            if isinstance(encoder, VideoEncoder | AudioEncoder):
                initialise(encoder)


def training_items(
    data: LabelledSet, split: Split, low_shot: int | None, heldout_share: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Readable items of the training part: to train on, and to be only looked at; ascending.

    Low-shot choices are nested: what is drawn for 5 a class holds what is drawn for 1.
    """
    items = np.array(sorted(set(split.train.tolist()) & set(data.item_N.tolist())), dtype=np.int64)
    order = np.random.default_rng((seed, 0x4E1D)).permutation(items)
    count = round(heldout_share * len(items))
    kept_out, items = np.sort(order[:count]), np.sort(order[count:])
    if low_shot is not None:
        items = items[
            few_of_each(data.target_V[items], low_shot, np.random.default_rng((seed, 0xF05)))
        ]
    return items, kept_out


def lesson_of(
    data: LabelledSet,
    clips: Clips,
    settings: Finetune,
    numerics: Numerics,
    train: np.ndarray,
    kept_out: np.ndarray,
    name: str,
) -> Lesson:
    """The lesson on some items, and on others that are only looked at.

    Raises:
        SettingsError: fewer than two rows to train on.
    """
    rows = rows_of(data, train)
    if len(rows) < 2:
        what = f"{name} of {data.name} has {len(rows)} row(s) to train on"
        advice = "raise --low-shot or lower finetune.heldout_share"
        raise SettingsError(f"{what}. Batch norm needs 2: {advice}.")
    return Lesson(data, clips, rows, rows_of(data, kept_out), settings, numerics, name)


def starting_pair(pretrained: Pair, lesson: Lesson, *, scratch: bool, seed: int) -> Pair:
    """What a split begins with: copies of the encoders, or new ones, and new heads.

    New encoders have their batch norms set to the statistics of the training rows.
    """
    modalities, numerics, rows = lesson.clips.modalities, lesson.numerics, lesson.train_rows
    pair = copy.deepcopy(pretrained).cpu()
    if scratch:
        make_anew(pair, modalities, derive(seed, 1))
    heads = {m: {HEAD: len(lesson.data.classes)} for m in modalities}
    pair.renew_heads(heads, torch.Generator().manual_seed(derive(seed, 2)))
    numerics.place(pair)
    if scratch:
        batch_size = min(CALIBRATION_ROWS, len(rows))
        calibrate(pair, lesson.clips, numerics, rows=rows, batch_size=batch_size)
    return pair


def rows_of(data: LabelledSet, items: np.ndarray) -> np.ndarray:
    """The rows of some items, ascending."""
    return np.flatnonzero(np.isin(data.item_N, items))
