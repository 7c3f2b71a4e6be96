"""How do two encoders learn one round's labels? Cross-entropy on pseudo-labels, both losses summed in each step.

Every choice derives from (seed, epoch, row), so that a round is a function of its starting weights and its labels, and
the batches of an epoch are the same whatever the number of ranks; `updates` divides each among them.
Where the paper is silent (learning rate, warm-up, saturation) the settings `train.*` decide.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch

from seehear import distributed
from seehear.clips import Batch, Clips
from seehear.config import Train
from seehear.encoders import Pair
from seehear.errors import TrainingError
from seehear.features import encoder_inputs
from seehear.numerics import Numerics
from seehear.placing import CENTRED
from seehear.sampling import epoch_rows
from seehear.updates import Done, Labels, Loss, Plan, Sums, Update, cross_entropy, losses

GO_ON, SAVE, LEAVE = range(3)  # what may be wished for after a step
RARE_STEPS, RARE_SHARE = 2, 0.01  # a round may skip so many steps, or this share of its steps, for losses not finite
IN_A_ROW = 3  # but not so many one after another: then it is not the batch
SHOWN_ROWS = 64  # of a batch, in a message


@dataclass
class Learning:
    """What happened while a round's labels were learned; one number a student and epoch.

    loss, accuracy: over the training clips; heldout_loss, heldout_accuracy: over the unaugmented clips of the videos
    kept out (empty where none were). Losses are in nats, accuracies in [0, 1] with chance 1 / K.
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


def learning_rate(step: int, steps: int, cfg: Train) -> float:
    """Linear warm-up, then constant or a cosine to zero."""
    warmup = max(1.0, cfg.warmup_share * steps)
    if step < warmup:
        return cfg.lr * (step + 1) / (warmup + 1)
    if cfg.schedule == "constant":
        return cfg.lr
    return cfg.lr * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1.0, steps - warmup)))


Rate = Callable[[int, int, Train], float]  # `learning_rate` is one


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
    loss: Loss = cross_entropy,
    rate: Rate = learning_rate,
    most_steps: int | None = None,
    progress: Callable[[int], None] = lambda done: None,
    begun: Mapping[str, Any] | None = None,
    keep: Keep = never,
) -> Learning:
    """Train the encoders of `pair` in place on `labels`, through the heads that it has.

    Args:
        labels: for each space that a head is named after, one label per row of the index.
        first_epoch: the number, over the whole run, of the first epoch; draws derive from it.
        train_rows, heldout_rows: rows to train on, and rows only to look at.
        loss: of one head's scores and targets.
        rate: the learning rate in a step of so many.
        most_steps: end the last epoch after so many steps of all epochs.
        progress: called with the number of clips learned from so far, after each step.
        begun: what `keep.save` got, to go on from there, with `pair` as it was then.
        keep: saves the state between steps.
    Raises:
        TrainingError: too many losses that are not finite (names step, rows and last checkpoint), or too many
            unreadable rows.
    """
    batch_size = min(cfg.batch_size, len(train_rows))
    batches = len(train_rows) // batch_size
    distributed.align(pair)
    optimizer = make_optimizer(pair, cfg)
    update = Update(pair, clips.clip, labels, cfg, numerics, optimizer, loss)
    learning, sums, done = Learning(), Sums(pair, numerics.device), 0
    if begun is not None:
        learning, done = Learning(**begun["learning"]), int(begun["batches"])
        optimizer.load_state_dict(begun["optimizer"])
        for group in optimizer.param_groups:
            group["fused"] = True  # whatever wrote the checkpoint
        sums.add(begun["sums"].to(numerics.device), int(begun["sums_clips"]))
    begin = time.perf_counter() - learning.seconds

    def state(batches_done: int) -> dict[str, Any]:
        learning.seconds = time.perf_counter() - begin
        at = {"learning": asdict(learning), "batches": batches_done, "optimizer": optimizer.state_dict()}
        return at | {"sums": sums.table_S2, "sums_clips": sums.clips}

    unsettled: deque[tuple[Done, str, np.ndarray]] = deque()  # steps, where they are, and their rows

    def settle(keep_last: int = 0) -> None:
        """Count steps once it is known whether they were finite, all but the last so many."""
        while len(unsettled) > keep_last:
            step, where, batch = unsettled.popleft()
            if step.is_finite():
                learning.in_a_row = 0
                learning.steps += step.clips > 0
                learning.clips += step.clips
                sums.clips += step.clips
                progress(learning.clips)
            else:
                learning.in_a_row += 1
                skip(learning, where, batch, cfg, batches, keep)

    for epoch in range(first_epoch + learning.epochs, first_epoch + cfg.epochs):
        rows = epoch_rows(train_rows, labels, clips.seed, epoch, uniform=cfg.uniform_clusters)
        stop = batches if most_steps is None else min(batches, most_steps - learning.epochs * batches)
        plan = Plan(update.pieces, rows, batch_size, range(done, stop))
        pair.train()
        stream = timed(clips.pieces(plan, epoch=epoch, num_rows=plan.num_rows), learning)
        for number in range(done, stop):
            for group in optimizer.param_groups:
                group["lr"] = rate((epoch - first_epoch) * batches + number, cfg.epochs * batches, cfg)
            pieces = [next(stream) for _ in range(plan.parts)]
            batch = rows[number * batch_size : (number + 1) * batch_size]
            step = update(pieces, batch, keep.wish(), sums)
            unsettled.append((step, f"epoch {epoch}, step {number + 1} of {batches}", batch))
            settle(keep_last=0 if step.wish else 1)
            if step.wish and (not learning.in_a_row or step.wish == LEAVE):
                keep.save(state(number + 1), step.wish)
        settle()
        measured, wish = measure(pair, clips, labels, heldout_rows, numerics, batch_size, keep, loss)
        if wish:
            keep.save(state(batches), wish)
        learning.epochs += 1
        sums.append_to(learning.loss, learning.accuracy)
        measured.append_to(learning.heldout_loss, learning.heldout_accuracy)
        sums, done = Sums(pair, numerics.device), 0
        if saturated(learning.heldout_loss, cfg.patience):
            break
    learning.seconds = time.perf_counter() - begin
    return learning


def skip(learning: Learning, where: str, rows_B: np.ndarray, cfg: Train, batches: int, keep: Keep) -> None:
    """Count a step whose loss is not finite, and say so; raise TrainingError where such steps are not rare."""
    learning.skipped += 1
    rows = ", ".join(map(str, rows_B[:SHOWN_ROWS])) + (", ..." if len(rows_B) > SHOWN_ROWS else "")
    what = f"The loss or its gradient is not finite in {where}, batch rows {rows}."
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
def measure(
    pair: Pair,
    clips: Clips,
    labels: Labels,
    rows: np.ndarray,
    numerics: Numerics,
    batch_size: int,
    keep: Keep = never,
    loss: Loss = cross_entropy,
) -> tuple[Sums, int]:
    """Loss and accuracy on the unaugmented clips of `rows`, and the wish for which it was broken off, or 0."""
    sums, span, leave = Sums(pair, numerics.device), distributed.rows_of_rank(len(rows)), 0
    pair.eval()
    for batch in clips.batches(rows[span.start : span.stop], epoch=CENTRED, batch_size=batch_size):
        if leave := LEAVE * (keep.wish() == LEAVE):
            break
        with numerics.autocast():
            scores = pair(encoder_inputs(batch, clips.clip, numerics, pair))
        sums.add(losses(scores, labels, batch.rows_B, loss, 0.0)[1].double(), len(batch.rows_B))
    counts = sums.table_S2.new_tensor([sums.clips, leave])
    distributed.all_reduce_at_once([sums.table_S2, counts])
    sums.clips = round(float(counts[0]))
    return sums, LEAVE * (float(counts[1]) > 0)


def make_optimizer(pair: Pair, cfg: Train) -> torch.optim.Optimizer:
    """The optimiser, one kernel for all parameters; weight decay spares biases and batch norms (less than two axes)."""
    groups = [
        {"params": [p for p in pair.parameters() if p.ndim > 1], "weight_decay": cfg.weight_decay},
        {"params": [p for p in pair.parameters() if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if cfg.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=cfg.lr, fused=True)
    optimizer = torch.optim.SGD(groups, lr=cfg.lr, momentum=cfg.momentum, fused=True)
    if cfg.momentum:  # else a first step that is not taken, because it is not finite, leaves these as memory was
        for p in pair.parameters():
            optimizer.state[p]["momentum_buffer"] = torch.zeros_like(p)
    return optimizer


def saturated(heldout_loss: Mapping[str, list[float]], patience: int) -> bool:
    """Whether the held-out loss, summed over students, has not improved in the last `patience` epochs."""
    if not patience or not heldout_loss:
        return False
    totals = [sum(epoch) for epoch in zip(*heldout_loss.values(), strict=True)]
    return len(totals) > patience and min(totals[-patience:]) >= min(totals[:-patience])


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
