"""How does an encoder learn one round's labels? By cross-entropy; the labels are fixed, so students learn one by one.

Every choice derives from (seed, epoch, row), so that a round is a function of its starting weights and its labels, and
the batches of an epoch are the same whatever the number of ranks; `step` divides each among them.

The learning rate rises, stays, and falls to zero in the last epoch (warm-up, stable, decay). The last epoch is the one
that `train.epochs` allows, or the one after the held-out loss has not improved for `train.patience` epochs: the labels
are learned as far as they generalise. It begins at the weights whose held-out loss was the best, so that what is
clustered next is neither overfitted nor cut off at a high rate. The paper trains until the validation loss saturates;
its schedule is in the supplement, which we could not read.
"""

from __future__ import annotations

import copy
import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch

from seehear.config import Train
from seehear.data.clips import Batch, Clips
from seehear.data.order import epoch_rows, share_seen
from seehear.data.placing import CENTRED, MODALITIES
from seehear.errors import TrainingError
from seehear.machine import distributed
from seehear.machine.devices import Numerics
from seehear.method.encoders import Pair
from seehear.method.features import encoder_inputs
from seehear.method.step import Done, Labels, Loss, Plan, Sums, Update, cross_entropy, losses

GO_ON, SAVE, LEAVE = range(3)  # what may be wished for after a step
RARE_STEPS, RARE_SHARE = 2, 0.01  # a round may skip so many steps, or this share of its steps, for losses not finite
IN_A_ROW = 3  # but not so many one after another: then it is not the batch
SHOWN_ROWS = 64  # of a batch, in a message


@dataclass
class Learning:
    """What happened while a round's labels were learned; one number a student and epoch.

    loss, accuracy: over the training clips; heldout_loss, heldout_accuracy: over the unaugmented clips of the videos
    kept out (empty where none were). Losses are in nats, accuracies in [0, 1] with chance 1 / K.
    seen: the share of the training rows that were drawn.
    skipped, in_a_row: steps from whose batch nothing was learned, because loss or gradient was not finite, and how many
    of these came last, one after another.
    """

    epochs: int = 0
    steps: int = 0
    skipped: int = 0
    in_a_row: int = 0
    clips: int = 0
    seconds: float = 0.0
    waiting_seconds: float = 0.0
    loss: dict[str, list[float]] = field(default_factory=dict)
    accuracy: dict[str, list[float]] = field(default_factory=dict)
    heldout_loss: dict[str, list[float]] = field(default_factory=dict)
    heldout_accuracy: dict[str, list[float]] = field(default_factory=dict)
    seen: dict[str, list[float]] = field(default_factory=dict)

    @classmethod
    def of_all(cls, parts: Iterable[Learning]) -> Learning:
        """That of students who learned one after another: counts added up, the most epochs, all the lists."""
        whole = cls()
        for part in parts:
            whole.epochs = max(whole.epochs, part.epochs)
            for name in ("steps", "skipped", "clips", "seconds", "waiting_seconds"):
                setattr(whole, name, getattr(whole, name) + getattr(part, name))
            for name in ("loss", "accuracy", "heldout_loss", "heldout_accuracy", "seen"):
                getattr(whole, name).update(getattr(part, name))
        return whole

    @property
    def clips_per_second(self) -> float:
        """Training clips a second, waiting for data included."""
        return self.clips / max(self.seconds, 1e-9)

    @property
    def waiting_share(self) -> float:
        """The share of the time that training waited for data, 0 to 1."""
        return self.waiting_seconds / max(self.seconds, 1e-9)


@dataclass(frozen=True)
class Keep:
    """When training that is not over is saved.

    wish: asked in each step: GO_ON, SAVE, or LEAVE (save and stop). The largest wish of all ranks is done by all.
    save: called between steps with what `learn(begun=...)` needs beside the pair, and the wish; on every rank. Right
        after a step whose loss was not finite it is not called to SAVE.
    say: told of each step that is skipped.
    last_good: called on every rank; names the last checkpoint, for a message.
    lr_name, precision_name: the settings that help against losses that are not finite, for a message.
    """

    wish: Callable[[], int]
    save: Callable[[dict[str, Any], int], None]
    say: Callable[[str], None] = lambda text: None
    last_good: Callable[[], str] = lambda: "none"
    lr_name: str = "train.lr"
    precision_name: str = "compute.precision"


never = Keep(lambda: GO_ON, lambda state, wish: None)


def learning_rate(step: int, steps: int, is_last: bool, cfg: Train) -> float:
    """The rate in one step: linear warm-up, then constant, and in the last epoch half a cosine to zero.

    Args:
        step: since training began.
        steps: in an epoch.
        is_last: whether the step is of the last epoch.
    """
    warmup = max(1.0, cfg.warmup_share * cfg.epochs * steps)
    if step < warmup:
        return cfg.lr * (step + 1) / (warmup + 1)
    if not is_last:
        return cfg.lr
    first, end = max(warmup, step // steps * steps), (step // steps + 1) * steps
    return cfg.lr * 0.5 * (1 + math.cos(math.pi * (step - first) / max(1.0, end - first)))


Rate = Callable[[int, int, bool, Train], float]  # `learning_rate` is one


def learn(
    pair: Pair,
    clips: Clips,
    labels: Labels,
    cfg: Train,
    numerics: Numerics,
    *,
    first_epoch: int,
    train_rows: np.ndarray,
    heldout_rows: np.ndarray,
    students: Sequence[str] = (),
    loss: Loss = cross_entropy,
    rate: Rate = learning_rate,
    most_steps: int | None = None,
    progress: Callable[[int], None] = lambda done: None,
    begun: Mapping[str, Any] | None = None,
    keep: Keep = never,
) -> Learning:
    """Train encoders of `pair` in place on `labels`, through the heads that they have.

    Args:
        labels: for each clustering that a head is named after, one label per row of the index.
        first_epoch: the number, over the whole run, of the first epoch; draws derive from it.
        train_rows, heldout_rows: rows to train on, and rows only to look at.
        students: who learns; nothing of another encoder is read or changed. Several see the same batches, and stop
            together by the sum of their losses. By default all that have heads.
        loss: of one head's scores and targets.
        rate: the learning rate in a step.
        most_steps: end the last epoch after so many steps of all epochs.
        progress: called with the number of clips learned from so far, after each step.
        begun: what `keep.save` got, to go on from there, with `pair` as it was then.
        keep: saves the state between steps.
    Raises:
        TrainingError: too many losses that are not finite (names step, rows and last checkpoint), or too many
            unreadable rows.
    """
    students = tuple(students) or pair.students
    distributed.align(pair)
    optimizer = make_optimizer(pair, cfg, students)
    update = Update(pair, clips.clip, labels, cfg, numerics, optimizer, students, loss)
    course = _Course(update, clips, first_epoch, train_rows, heldout_rows, rate, most_steps, progress, keep)
    if begun is not None:
        course.load_state_dict(begun)
    is_last = False
    while not is_last:
        is_last = course.next_is_last()
        course.epoch(is_last)
    return course.learning


class _Course:
    """The epochs of one call of `learn`, and all that going on within one needs."""

    def __init__(
        self,
        update: Update,
        clips: Clips,
        first_epoch: int,
        train_rows: np.ndarray,
        heldout_rows: np.ndarray,
        rate: Rate,
        most_steps: int | None,
        progress: Callable[[int], None],
        keep: Keep,
    ) -> None:
        self.update, self.clips, self.first_epoch = update, clips, first_epoch
        self.train_rows, self.heldout_rows = train_rows, heldout_rows
        self.rate, self.most_steps, self.progress, self.keep = rate, most_steps, progress, keep
        self.cfg, self.students = update.cfg, update.students
        self.batch_size = min(self.cfg.batch_size, len(train_rows))
        self.batches = len(train_rows) // self.batch_size  # of an epoch
        taught_by = {name for student in self.students for name in update.pair.heads_for(student)}
        self.labels = {name: update.labels[name] for name in taught_by}
        self.learning = Learning()
        self.done = 0  # batches of the epoch at hand
        self.sums = Sums(self.students, update.numerics.device)
        self.best: dict[str, Any] | None = None  # weights and optimiser after the epoch of the least held-out loss
        self._unsettled: deque[tuple[Done, str, np.ndarray]] = deque()  # steps, where they are, and their rows
        self._begin = time.perf_counter()

    def state_dict(self) -> dict[str, Any]:
        """All that going on needs, beside the weights of the pair."""
        self.learning.seconds = time.perf_counter() - self._begin
        return {
            "learning": asdict(self.learning),
            "batches": self.done,
            "optimizer": self.update.optimizer.state_dict(),
            "sums": self.sums.table_S2,
            "sums_clips": self.sums.clips,
            "best": self.best,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        self.learning, self.done = Learning(**state["learning"]), int(state["batches"])
        self._load_optimizer(state["optimizer"])
        self.sums.add(state["sums"].to(self.update.numerics.device), int(state["sums_clips"]))
        self.best = state["best"]
        self._begin = time.perf_counter() - self.learning.seconds

    def next_is_last(self) -> bool:
        """Whether the next epoch, or the one at hand, is the last: all are over but one, or the labels are learned."""
        return self.learning.epochs + 1 >= self.cfg.epochs or saturated(self.learning.heldout_loss, self.cfg.patience)

    def epoch(self, is_last: bool) -> None:
        """Train one epoch, or the rest of it, and look at the clips that were kept out."""
        learning, pair, epoch = self.learning, self.update.pair, self.first_epoch + self.learning.epochs
        if is_last and not self.done:
            self._back_to_the_best()
        seeds = (self.clips.seed, epoch, 0x5EED, *map(MODALITIES.index, self.students))
        rows = epoch_rows(self.train_rows, self.labels, seeds, uniform=self.cfg.uniform_clusters)
        stop = self.batches
        if self.most_steps is not None:
            stop = min(stop, self.most_steps - learning.epochs * self.batches)
        plan = Plan(self.update.pieces, rows, self.batch_size, range(self.done, stop))
        pair.train()
        read = self.clips.pieces(plan, epoch=epoch, num_rows=plan.num_rows, modalities=self.students)
        stream = timed(read, learning)
        for number in range(self.done, stop):
            lr = self.rate(learning.epochs * self.batches + number, self.batches, is_last, self.cfg)
            for group in self.update.optimizer.param_groups:
                group["lr"] = lr
            pieces = [next(stream) for _ in range(plan.parts)]
            batch = rows[number * self.batch_size : (number + 1) * self.batch_size]
            self._step(pieces, batch, f"epoch {epoch}, step {number + 1} of {self.batches}")
        self._settle()
        measured, wish = measure(self.update, self.clips, self.heldout_rows, self.batch_size, self.keep)
        if wish:
            self.keep.save(self.state_dict(), wish)
        learning.epochs += 1
        self.sums.append_to(learning.loss, learning.accuracy)
        measured.append_to(learning.heldout_loss, learning.heldout_accuracy)
        for student in self.students:
            learning.seen.setdefault(student, []).append(share_seen(rows, self.train_rows))
        self.sums, self.done = Sums(self.students, self.update.numerics.device), 0
        if not is_last:
            self._keep_the_best()
        learning.seconds = time.perf_counter() - self._begin

    def _step(self, pieces: list[Batch | None], batch: np.ndarray, where: str) -> None:
        """One update, and a checkpoint if any rank wishes for one."""
        step = self.update(pieces, batch, self.keep.wish(), self.sums)
        self.done += 1
        self._unsettled.append((step, where, batch))
        self._settle(keep_last=0 if step.wish else 1)
        if step.wish and (not self.learning.in_a_row or step.wish == LEAVE):
            self.keep.save(self.state_dict(), step.wish)

    def _settle(self, keep_last: int = 0) -> None:
        """Count steps once it is known whether they were finite, all but the last so many."""
        while len(self._unsettled) > keep_last:
            step, where, batch = self._unsettled.popleft()
            if step.is_finite():
                self.learning.in_a_row = 0
                self.learning.steps += step.clips > 0
                self.learning.clips += step.clips
                self.sums.clips += step.clips
                self.progress(self.learning.clips)
            else:
                self.learning.in_a_row += 1
                skip(self.learning, self.students, where, batch, self.cfg, self.batches, self.keep)

    def _keep_the_best(self) -> None:
        """Remember the state after an epoch whose held-out loss is the least so far, if that is looked at."""
        totals = summed(self.learning.heldout_loss)
        if self.cfg.patience and totals and totals[-1] == min(totals):
            weights = {name: value.clone() for name, value in self.update.pair.state_of(self.students).items()}
            optimizer = copy.deepcopy(self.update.optimizer.state_dict())
            self.best = {"weights": weights, "optimizer": optimizer}

    def _back_to_the_best(self) -> None:
        if self.best is not None:
            self.update.pair.load_state_dict(self.best["weights"], strict=False)
            self._load_optimizer(self.best["optimizer"])
        self.best = None

    def _load_optimizer(self, state: dict[str, Any]) -> None:
        self.update.optimizer.load_state_dict(state)
        for group in self.update.optimizer.param_groups:
            group["fused"] = True  # whatever wrote the checkpoint


def skip(
    learning: Learning, students: Sequence[str], where: str, rows_B: np.ndarray, cfg: Train, batches: int, keep: Keep
) -> None:
    """Count a step whose loss is not finite, and say so; raise TrainingError where such steps are not rare."""
    learning.skipped += 1
    rows = ", ".join(map(str, rows_B[:SHOWN_ROWS])) + (", ..." if len(rows_B) > SHOWN_ROWS else "")
    who = " and ".join(students)
    what = f"The loss of the {who} encoder, or its gradient, is not finite in {where}, batch rows {rows}."
    if learning.skipped <= max(RARE_STEPS, RARE_SHARE * cfg.epochs * batches) and learning.in_a_row < IN_A_ROW:
        keep.say(f"warning: {what} The step is skipped; {learning.skipped} skipped in this round.")
        return
    raise TrainingError(
        f"{what} With this step {learning.skipped} would be skipped in this round, {learning.in_a_row} in a row: too "
        f"many. Last good checkpoint: {keep.last_good()}. Start anew with a {keep.lr_name} below {cfg.lr:g}, or "
        f"with {keep.precision_name} fp32. --resume repeats the same steps from that checkpoint, and helps only if the "
        f"machine was at fault."
    )


@torch.inference_mode()
def measure(update: Update, clips: Clips, rows: np.ndarray, batch_size: int, keep: Keep = never) -> tuple[Sums, int]:
    """Loss and accuracy on the unaugmented clips of `rows`, and the wish for which it was broken off, or 0."""
    pair, numerics, students = update.pair, update.numerics, update.students
    sums, span, leave = Sums(students, numerics.device), distributed.rows_of_rank(len(rows)), 0
    pair.eval()
    rows = rows[span.start : span.stop]
    for batch in clips.batches(rows, epoch=CENTRED, batch_size=batch_size, modalities=students):
        if leave := LEAVE * (keep.wish() == LEAVE):
            break
        with numerics.autocast():
            scores = pair(encoder_inputs(batch, clips.clip, numerics, pair))
        sums.add(losses(scores, update.labels, batch.rows_B, update.loss).double(), len(batch.rows_B))
    counts = sums.table_S2.new_tensor([sums.clips, leave])
    distributed.all_reduce_at_once([sums.table_S2, counts])
    sums.clips = round(float(counts[0]))
    return sums, LEAVE * (float(counts[1]) > 0)


def make_optimizer(pair: Pair, cfg: Train, students: Sequence[str] = ()) -> torch.optim.Optimizer:
    """The optimiser, one kernel for all parameters; weight decay spares biases and batch norms (less than two axes).

    Args:
        students: whose encoders and heads it updates; by default all of the pair.
    """
    parameters = list(pair.modules_of(students).parameters() if students else pair.parameters())
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": cfg.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if cfg.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=cfg.lr, fused=True)
    optimizer = torch.optim.SGD(groups, lr=cfg.lr, momentum=cfg.momentum, fused=True)
    if cfg.momentum:  # else a first step that is not taken, because it is not finite, leaves these as memory was
        for p in parameters:
            optimizer.state[p]["momentum_buffer"] = torch.zeros_like(p)
    return optimizer


def saturated(heldout_loss: Mapping[str, list[float]], patience: int) -> bool:
    """Whether the held-out loss, summed over students, has not improved in the last `patience` epochs."""
    if not patience or not heldout_loss:
        return False
    totals = summed(heldout_loss)
    return len(totals) > patience and min(totals[-patience:]) >= min(totals[:-patience])


def summed(by_student: Mapping[str, list[float]]) -> list[float]:
    """One number an epoch: the sum over students."""
    return [sum(epoch) for epoch in zip(*by_student.values(), strict=True)]


def timed(batches: Iterator[Batch | None], learning: Learning) -> Iterator[Batch | None]:
    """The batches, with the time spent waiting for each added to `learning`."""
    while True:
        begin = time.perf_counter()
        try:
            batch = next(batches)
        except StopIteration:
            return
        finally:
            learning.waiting_seconds += time.perf_counter() - begin
        yield batch
