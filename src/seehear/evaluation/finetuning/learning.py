"""How do encoders and a new head learn classes? Cross-entropy (or one binary one a class), a head for each modality.

Every choice derives from (seed, epoch, row), as in pretraining, so that an epoch is a function of the weights and the
optimiser's state it began with. Video and audio share the batches and are otherwise apart: no weight is in both.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seehear.clips import Batch, Clips
from seehear.encoders import AudioEncoder, Pair, VideoEncoder
from seehear.encoders.resnets import initialise
from seehear.errors import SettingsError, TrainingError
from seehear.evaluation.finetuning.settings import Finetune
from seehear.evaluation.finetuning.testing import HEAD, item_scores, values_of
from seehear.features import encoder_inputs
from seehear.numerics import Numerics
from seehear.sampling import epoch_rows
from seehear.trainer import learning_rate, make_optimizer

State = dict[str, Any]  # tensors and plain data: all that going on needs


@dataclass(frozen=True)
class Lesson:
    """What is learned from.

    Args:
        clips: of all rows.
        item_N: (N,) int64, the item of each row.
        target_V: (V,) int64 class of each item, or (V, C) bool.
        train_rows: rows to learn from.
        heldout_rows: rows that are only looked at after each epoch; may be empty.
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
    def epoch_steps(self) -> int:
        """Updates an epoch."""
        return self.settings.epoch_steps or len(self.train_rows) // self.batch_size


def learn_classes(
    pair: Pair,
    lesson: Lesson,
    state: State | None = None,
    *,
    after_epoch: Callable[[State], None] = lambda state: None,
    progress: Callable[[int], None] = lambda done: None,
) -> list[dict[str, Any]]:
    """Train `pair` in place on classes, through its heads named `HEAD`.

    Args:
        state: what `after_epoch` was given, to go on from there.
        after_epoch: called with the state after each epoch.
        progress: called with the number of updates made.
    Returns:
        A record of each epoch: its learning rate, and loss and accuracy of each modality.
    Raises:
        TrainingError: a loss that is not finite (names epoch, step and rows), or too many unreadable rows.
    """
    cfg = lesson.settings
    if cfg.freeze:
        pair.encoders.requires_grad_(False)
    optimizer = make_optimizer(pair, cfg.train)
    history: list[dict[str, Any]] = []
    step = 0
    if state is not None:
        pair.load_state_dict(state["pair"], strict=True)
        optimizer.load_state_dict(state["optimizer"])
        history, step = list(state["history"]), int(state["step"])
    for epoch in range(len(history), cfg.epochs):
        begin, sums = time.perf_counter(), Sums()
        pair.train()
        if cfg.freeze:
            pair.encoders.eval()  # batch norms would move otherwise
        for number, batch in enumerate(epoch_batches(lesson, epoch), epoch * lesson.epoch_steps):
            for group in optimizer.param_groups:
                group["lr"] = rate(number, lesson.epoch_steps, cfg)
            update(pair, batch, lesson, optimizer, sums, f"epoch {epoch + 1}, step {step + 1} of {lesson.name}")
            step += 1
            progress(step)
        history.append(
            {"epoch": epoch + 1, "steps": step, "lr": optimizer.param_groups[0]["lr"], **sums.means()}
            | heldout(pair, lesson)
            | {"seconds": round(time.perf_counter() - begin, 2)}
        )
        after_epoch(
            {"step": step, "history": history, "pair": pair.state_dict(), "optimizer": optimizer.state_dict()},
        )
    return history


def update(pair: Pair, batch: Batch, lesson: Lesson, optimizer: torch.optim.Optimizer, sums: Sums, where: str) -> None:
    """One update by the sum over modalities of the losses."""
    cfg, numerics = lesson.settings, lesson.numerics
    with numerics.autocast():
        scores = pair(encoder_inputs(batch, lesson.clips.clip, numerics, pair))
    targets = torch.from_numpy(lesson.target_V[lesson.item_N[batch.rows_B]]).to(numerics.device)
    parts = {m: class_loss(heads[HEAD].float(), targets, cfg.label_smoothing) for m, heads in scores.items()}
    loss = torch.stack(list(parts.values())).sum()
    value = float(loss.detach())
    if not math.isfinite(value):
        raise TrainingError(
            f"The loss is {value} in {where}, rows {batch.rows_B[:8].tolist()}... Lower finetune.lr ({cfg.lr:g}) or "
            f"set finetune.precision to fp32, and start anew with --overwrite."
        )
    for modality, part in parts.items():
        sums.add(modality, part.detach(), scores[modality][HEAD].detach(), targets)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()


def class_loss(scores_BC: Tensor, targets: Tensor, smoothing: float) -> Tensor:
    """Cross-entropy in nats for one class an item (B,), the mean binary one over classes for several (B, C)."""
    if targets.ndim == 2:
        return F.binary_cross_entropy_with_logits(scores_BC, targets.float())
    return F.cross_entropy(scores_BC, targets, label_smoothing=smoothing)


def epoch_batches(lesson: Lesson, epoch: int) -> Iterator[Batch]:
    """The batches of one epoch: one pass over the training rows, or as many as `epoch_steps` takes.

    Each pass has a number of its own over the whole fine-tune, which its draws are of.
    """
    size, wanted = lesson.batch_size, lesson.epoch_steps
    steps_a_pass = len(lesson.train_rows) // size
    passes = math.ceil(wanted / steps_a_pass)
    for turn in range(passes):
        number = epoch * passes + turn
        order = epoch_rows(lesson.train_rows, {}, lesson.clips.seed, number, uniform=False)
        rows = order[: (wanted - turn * steps_a_pass) * size]
        for batch in lesson.clips.batches(rows, epoch=number, batch_size=size, keep_last=False):
            if len(batch.rows_B) > 1:  # batch norm needs two clips; only failures make a batch so small
                yield batch


def rate(step: int, epoch_steps: int, cfg: Finetune) -> float:
    """Linear warm-up, then constant, a cosine to zero, or a tenth after each `step_epochs`; step 0 is the first."""
    tenths = step // epoch_steps // cfg.step_epochs if cfg.schedule == "step" else 0
    return learning_rate(step, cfg.epochs * epoch_steps, cfg.train) * 0.1**tenths


def heldout(pair: Pair, lesson: Lesson) -> dict[str, Any]:
    """What the middle clips of the rows that were kept out say; nothing where there are none."""
    if not len(lesson.heldout_rows):
        return {}
    found = item_scores(pair, lesson.clips, lesson.numerics, lesson.item_N, lesson.target_V, lesson.heldout_rows, 1)
    return {"heldout": values_of(found, lesson.target_V)}


def make_anew(pair: Pair, modalities: Sequence[str], seed: int) -> None:
    """Give encoders new random weights, as if they had just been built, whatever architecture they are.

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
                        f"The {modality} encoder cannot be made anew: its {type(module).__name__} has weights and no "
                        f"reset_parameters(). Leave --scratch out."
                    )
            if isinstance(encoder, VideoEncoder | AudioEncoder):
                initialise(encoder)


def heads_of(pair: Pair, modalities: Sequence[str]) -> dict[str, nn.Module]:
    """The head of each modality."""
    return {m: pair.heads[m][HEAD] for m in modalities}  # type: ignore[index]


class Sums:
    """Loss and hits of each modality over an epoch; kept on the device, read once."""

    def __init__(self) -> None:
        self.of: dict[str, list[Tensor]] = {}
        self.clips: dict[str, int] = {}

    def add(self, modality: str, loss: Tensor, scores_BC: Tensor, targets: Tensor) -> None:
        """Add one batch."""
        if targets.ndim == 2:
            hits = ((scores_BC > 0) == targets).double().mean(dim=1).sum()
        else:
            hits = (scores_BC.argmax(dim=1) == targets).double().sum()
        now = torch.stack([loss.double() * len(targets), hits])
        self.of[modality] = [*self.of.get(modality, []), now]
        self.clips[modality] = self.clips.get(modality, 0) + len(targets)

    def means(self) -> dict[str, dict[str, float]]:
        """{"loss": {modality: nats}, "accuracy": {modality: 0 to 1}} (of all class by class decisions, for several)."""
        means = {m: (torch.stack(parts).sum(dim=0) / self.clips[m]).tolist() for m, parts in self.of.items()}
        return {"loss": {m: x[0] for m, x in means.items()}, "accuracy": {m: x[1] for m, x in means.items()}}
