"""How do two encoders learn one round's labels? Cross-entropy on pseudo-labels, both losses summed in each step.

Every choice derives from (seed, epoch, row), so that a round is a function of its starting weights and its labels.
Where the paper is silent (learning rate, warm-up, saturation) the settings `train.*` decide.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from seehear.clips import CENTRED, Batch, Clips
from seehear.config import Train
from seehear.encoders import Pair
from seehear.errors import TrainingError
from seehear.features import encoder_inputs
from seehear.numerics import Numerics

Labels = Mapping[str, np.ndarray]  # space -> (N,) int32 labels, -1 where a row could not be read


@dataclass
class Learning:
    """What happened while a round's labels were learned; one number a student and epoch.

    loss, accuracy: over the training clips; heldout_loss, heldout_accuracy: over the unaugmented clips of the videos
    kept out (empty where none were). Losses are in nats, accuracies in [0, 1] with chance 1 / K.
    """

    epochs: int = 0
    steps: int = 0
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
    progress: Callable[[int], None] = lambda done: None,
) -> Learning:
    """Train both encoders of `pair` in place on `labels`, through the heads that it has.

    Args:
        labels: for each space that a head is named after, one label per row of the index.
        first_epoch: the number, over the whole run, of the first epoch; draws derive from it.
        train_rows, heldout_rows: rows to train on, and rows only to look at.
        progress: called with the number of clips learned from so far, after each step.
    Raises:
        TrainingError: a loss that is not finite (names epoch, step and rows), or too many unreadable rows.
    """
    batch_size = min(cfg.batch_size, len(train_rows))
    steps_an_epoch = len(train_rows) // batch_size
    steps = cfg.epochs * steps_an_epoch
    optimizer = make_optimizer(pair, cfg)
    learning, begin = Learning(), time.perf_counter()
    for epoch in range(first_epoch, first_epoch + cfg.epochs):
        rows = epoch_rows(train_rows, labels, clips.seed, epoch, uniform=cfg.uniform_clusters)
        sums = _Sums()
        pair.train()
        stream = timed(clips.batches(rows, epoch=epoch, batch_size=batch_size, keep_last=False), learning)
        for batch in stream:
            if len(batch.rows_B) < 2:
                continue  # batch norm needs two clips; only failures make a batch so small
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(learning.steps, steps, cfg)
            train_step(pair, batch, labels, clips, cfg, numerics, optimizer, sums, epoch)
            learning.steps += 1
            learning.clips += len(batch.rows_B)
            progress(learning.clips)
        learning.epochs += 1
        sums.append_to(learning.loss, learning.accuracy)
        measure(pair, clips, labels, heldout_rows, numerics, batch_size).append_to(
            learning.heldout_loss, learning.heldout_accuracy
        )
        if saturated(learning.heldout_loss, cfg.patience):
            break
    learning.seconds = time.perf_counter() - begin
    return learning


def train_step(
    pair: Pair,
    batch: Batch,
    labels: Labels,
    clips: Clips,
    cfg: Train,
    numerics: Numerics,
    optimizer: torch.optim.Optimizer,
    sums: _Sums,
    epoch: int,
) -> None:
    """One update of both encoders by the sum of their losses."""
    with numerics.autocast():
        scores = pair(encoder_inputs(batch, clips.clip, numerics, pair))
    loss = losses(scores, labels, batch.rows_B, cfg.label_smoothing, sums)
    value = float(loss.detach())
    if not math.isfinite(value):
        raise TrainingError(
            f"The loss is {value} in epoch {epoch}, batch rows {batch.rows_B[:8].tolist()}... Lower train.lr "
            f"({cfg.lr:g}) or set compute.precision to fp32, then go on from the last round with --resume."
        )
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()


def losses(
    scores: dict[str, dict[str, Tensor]], labels: Labels, rows_B: np.ndarray, smoothing: float, sums: _Sums
) -> Tensor:
    """The sum over students of the mean over their heads of the cross-entropy; also adds to `sums`."""
    total = torch.zeros(())
    for student, heads in scores.items():
        for space, scores_BK in heads.items():
            wanted_B = torch.from_numpy(labels[space][rows_B].astype(np.int64)).to(scores_BK.device)
            loss = F.cross_entropy(scores_BK.float(), wanted_B, label_smoothing=smoothing)
            correct = (scores_BK.detach().argmax(dim=1) == wanted_B).sum()
            sums.add(student, len(rows_B) / len(heads), loss.detach(), correct / len(heads))
            total = total.to(loss.device) + loss / len(heads)
    return total


@torch.inference_mode()
def measure(pair: Pair, clips: Clips, labels: Labels, rows: np.ndarray, numerics: Numerics, batch_size: int) -> _Sums:
    """Loss and accuracy on the unaugmented clips of `rows`."""
    sums = _Sums()
    pair.eval()
    for batch in clips.batches(rows, epoch=CENTRED, batch_size=batch_size):
        with numerics.autocast():
            scores = pair(encoder_inputs(batch, clips.clip, numerics, pair))
        losses(scores, labels, batch.rows_B, 0.0, sums)
    return sums


def epoch_rows(rows: np.ndarray, labels: Labels, seed: int, epoch: int, *, uniform: bool) -> np.ndarray:
    """Which rows an epoch draws, in order: as many as `rows` has.

    Uniform over rows: a permutation. Uniform over clusters: for each draw a space, then one of its clusters, then one
    of the cluster's rows, so that every cluster is seen equally often in the space that it belongs to.
    """
    generator = np.random.default_rng((seed, epoch, 0x5EED))
    if not uniform:
        return generator.permutation(rows)
    spaces = sorted(labels)
    drawn = []
    for i, space in enumerate(spaces):
        count = len(rows) * (i + 1) // len(spaces) - len(rows) * i // len(spaces)
        drawn.append(uniform_over_clusters(rows, labels[space][rows], count, generator))
    return generator.permutation(np.concatenate(drawn))


def uniform_over_clusters(
    rows: np.ndarray, labels_of_rows: np.ndarray, count: int, generator: np.random.Generator
) -> np.ndarray:
    """`count` rows such that every cluster comes equally often (to within one), and its rows as evenly as can be."""
    order = generator.permutation(len(rows))
    order = order[np.argsort(labels_of_rows[order], kind="stable")]
    _, first, sizes = np.unique(labels_of_rows[order], return_index=True, return_counts=True)
    turns = np.arange(count)
    cluster = generator.permutation(len(sizes))[turns % len(sizes)]
    return rows[order[first[cluster] + (turns // len(sizes)) % sizes[cluster]]]


def learning_rate(step: int, steps: int, cfg: Train) -> float:
    """Linear warm-up, then constant or a cosine to zero."""
    warmup = max(1.0, cfg.warmup_share * steps)
    if step < warmup:
        return cfg.lr * (step + 1) / (warmup + 1)
    if cfg.schedule == "constant":
        return cfg.lr
    return cfg.lr * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1.0, steps - warmup)))


def make_optimizer(pair: Pair, cfg: Train) -> torch.optim.Optimizer:
    """The optimiser; weight decay spares biases and batch norms (all parameters with fewer than two axes)."""
    groups = [
        {"params": [p for p in pair.parameters() if p.ndim > 1], "weight_decay": cfg.weight_decay},
        {"params": [p for p in pair.parameters() if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if cfg.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=cfg.lr, momentum=cfg.momentum)
    return torch.optim.AdamW(groups, lr=cfg.lr)


def saturated(heldout_loss: Mapping[str, list[float]], patience: int) -> bool:
    """Whether the held-out loss, summed over students, has not improved in the last `patience` epochs."""
    if not patience or not heldout_loss:
        return False
    totals = [sum(epoch) for epoch in zip(*heldout_loss.values(), strict=True)]
    return len(totals) > patience and min(totals[-patience:]) >= min(totals[:-patience])


def timed(batches: Iterator[Batch], learning: Learning) -> Iterator[Batch]:
    """The batches, with the time spent waiting for each added to `learning`."""
    while True:
        begin = time.perf_counter()
        batch = next(batches, None)
        learning.waiting_seconds += time.perf_counter() - begin
        if batch is None:
            return
        yield batch


class _Sums:
    """Loss and hits of each student over an epoch; kept on the device, read once."""

    def __init__(self) -> None:
        self.loss: dict[str, Tensor] = {}
        self.hits: dict[str, Tensor] = {}
        self.clips: dict[str, float] = {}

    def add(self, student: str, clips: float, loss: Tensor, hits: Tensor) -> None:
        self.loss[student] = self.loss.get(student, torch.zeros((), device=loss.device)) + loss.double() * clips
        self.hits[student] = self.hits.get(student, torch.zeros((), device=hits.device)) + hits.double()
        self.clips[student] = self.clips.get(student, 0.0) + clips

    def append_to(self, losses: dict[str, list[float]], accuracies: dict[str, list[float]]) -> None:
        for student, loss in self.loss.items():
            losses.setdefault(student, []).append(float(loss) / self.clips[student])
            accuracies.setdefault(student, []).append(float(self.hits[student]) / self.clips[student])
