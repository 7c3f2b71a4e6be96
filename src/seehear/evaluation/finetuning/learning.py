"""How do encoders and a new head learn classes? By pretraining's loop, with classes for labels.

What is its own: a loss for items of several classes, a schedule of the learning rate over a fixed
number of updates, and heads that learn alone where encoders are frozen. All else, ranks, parts of a
batch, losses that are not finite, going on within a pass, is `train.train`'s. Video and audio share
the batches, and no weight is in both.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seehear.data.clips import Clips
from seehear.errors import SettingsError
from seehear.evaluation.finetuning.settings import Finetune
from seehear.evaluation.finetuning.testing import HEAD
from seehear.machine.devices import Numerics
from seehear.method.encoders import AudioEncoder, Pair, VideoEncoder
from seehear.method.encoders.resnets import initialise
from seehear.method.learning import Step
from seehear.method.state import State
from seehear.method.step import cross_entropy
from seehear.method.train import Course, train


@dataclass(frozen=True)
class Lesson:
    """What is learned from.

    Args:
        clips: of all rows.
        item_N: (N,) int64, the item of each row.
        target_V: (V,) int64 class of each item, or (V, C) bool.
        train_rows: rows to learn from.
        heldout_rows: rows that are only looked at after each pass; may be empty.
        settings, numerics: how.
        name: for messages.
    """

    clips: Clips
    item_N: np.ndarray
    target_V: np.ndarray
    train_rows: np.ndarray
    heldout_rows: np.ndarray
    settings: Finetune
    numerics: Numerics
    name: str = "the only split"

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
    """Train `state.pair` in place on classes, through its heads named `HEAD`; yields after every
    step.

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
        {HEAD: lesson.target_V[lesson.item_N]},
        lesson.train_rows,
        lesson.heldout_rows,
        loss=cross_entropy if lesson.target_V.ndim == 1 else binary_cross_entropy,
        rate=lambda step, *_: rate(step, lesson.epoch_steps, cfg),
        most_steps=lesson.steps,
        remedy="a finetune.lr below {lr:g}, or with finetune.precision fp32",
    )
    passes = math.ceil(lesson.steps / lesson.pass_steps)
    yield from train(state, lesson.clips, course, replace(cfg.train, epochs=passes))


def binary_cross_entropy(
    scores_BC: Tensor, targets_BC: Tensor, smoothing: float = 0.0
) -> tuple[Tensor, Tensor]:
    """The mean over classes of the binary cross-entropy and of right decisions, both summed over
    the clips.
    """
    losses_BC = F.binary_cross_entropy_with_logits(scores_BC, targets_BC.float(), reduction="none")
    hits_BC = (scores_BC.detach() > 0) == (targets_BC > 0)
    return losses_BC.mean(dim=1).sum(), hits_BC.float().mean(dim=1).sum()


def rate(step: int, epoch_steps: int, cfg: Finetune) -> float:
    """Linear warm-up, then constant, a cosine to zero, or a tenth after each `step_epochs`; step 0
    is the first.
    """
    steps = cfg.epochs * epoch_steps
    warmup = max(1.0, cfg.warmup_share * steps)
    if step < warmup:
        return cfg.lr * (step + 1) / (warmup + 1)
    if cfg.schedule == "cosine":
        return cfg.lr * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1.0, steps - warmup)))
    tenths = step // epoch_steps // cfg.step_epochs if cfg.schedule == "step" else 0
    return cfg.lr * 0.1**tenths


def make_anew(pair: Pair, modalities: Sequence[str], seed: int) -> None:
    """Give encoders new random weights, as if they had just been built, whatever architecture they
    are.

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
                    raise SettingsError(
                        f"The {modality} encoder cannot be made anew: its {type(module).__name__} "
                        f"has weights and no "
                        f"reset_parameters(). Leave --scratch out."
                    )
            if isinstance(encoder, VideoEncoder | AudioEncoder):
                initialise(encoder)


def heads_of(pair: Pair, modalities: Sequence[str]) -> dict[str, nn.Module]:
    """The head of each modality."""
    return {m: pair.heads[m][HEAD] for m in modalities}  # type: ignore[index]
