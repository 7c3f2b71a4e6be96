"""One update of one encoder, or of several, from one batch, which ranks share and parts divide.

The batch is the same whatever the number of ranks: rank and part decide who computes what, never
what is computed.

    batch norm of each rank   the batch is cut into P = max(train.batch_parts, ranks) parts, dealt
                              out to the ranks; batch norm sees one part at a time
    nn.SyncBatchNorm          it is cut into train.batch_parts parts, each shared by all ranks

A part's running statistics all start from those before the step and are averaged after it.
Gradients of summed losses, these statistics, losses and the request to stop travel in one
all-reduce, and the sum over clips is divided by their number over all ranks: unreadable rows leave
ranks with different numbers. So weights, statistics and decisions are the same on all ranks after
every step. A batch whose loss or gradient is not finite anywhere is learned from nowhere.

DistributedDataParallel is not used: it rearranges its buckets after the first step, so that with
three ranks or more gradients are added in another order than in a run that was resumed there, and
the bits differ. On CPUs it saves no time either (docs/distributed.md has both measurements).

A step never waits for a GPU. Labels are sent ahead, counts and requests travel between CPUs, sums
and losses stay on the device. Whether all numbers are finite is known there: it decides there
whether anything changes, and a copy of it is on its way to the CPU, to be read while the next step
is computed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from seehear.config import Clip, Train
from seehear.data.clips import Batch
from seehear.machine import distributed
from seehear.machine.devices import Numerics, download, upload
from seehear.method.encoders import Pair
from seehear.method.features import encoder_inputs
from seehear.method.learning import Sums

# head -> (N,) int32 labels, -1 where a row could not be read; or what `loss` takes
Labels = Mapping[str, np.ndarray]
Loss = Callable[[Tensor, Tensor, float], tuple[Tensor, Tensor]]  # see `cross_entropy`


def cross_entropy(
    scores_BK: Tensor, targets_B: Tensor, smoothing: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Cross-entropy and right answers, both summed over the clips of a batch: what a `Loss` is.

    Args:
        scores_BK: of one head, in float32.
        targets_B: (B,) int64; whole numbers of `Labels` come as int64, others as float32, of any
            shape (B, ...).
        smoothing: of the labels; 0 where clips are only looked at.
    """
    loss = F.cross_entropy(scores_BK, targets_B, label_smoothing=smoothing, reduction="sum")
    return loss, (scores_BK.argmax(dim=1) == targets_B).sum()


@dataclass(frozen=True)
class Done:
    """What came of a step.

    request: the largest of all ranks.
    clips: learned from, if all was finite: of all ranks, and 0 where there were too few.
    is_finite: waits until that is known. Where a loss or gradient is not finite, the batch has
        changed nothing: neither weights, nor running statistics, nor sums.

    All are the same on every rank.
    """

    request: int
    clips: int
    is_finite: Callable[[], bool]


class Plan(Sequence[np.ndarray]):
    """What this rank reads in some batches of an epoch, part by part, cut when it is asked for.

    Args:
        cut: what this rank computes of a batch: `Update.pieces`.
        rows: in the order of the epoch.
        batches: the numbers of the batches, of `batch_size` rows each.
    """

    def __init__(
        self,
        cut: Callable[[np.ndarray], list[np.ndarray]],
        rows: np.ndarray,
        batch_size: int,
        batches: range,
    ) -> None:
        self._cut, self._rows, self._size, self._batches = cut, rows, batch_size, batches
        sizes = [len(part) for part in cut(np.zeros(batch_size, dtype=np.int64))]
        self.parts = len(sizes)  # of each batch
        self.num_rows = len(batches) * sum(sizes)

    def __len__(self) -> int:
        return len(self._batches) * self.parts

    def __getitem__(self, number: Any) -> Any:
        """One part."""
        first = self._batches[number // self.parts] * self._size  # IndexError behind the last
        return self._cut(self._rows[first : first + self._size])[number % self.parts]


class Update:
    """Updates the students of a pair in place, one batch a call.

    Args:
        labels: what each head is to say, by its name.
        optimizer: of the students' parameters, as `train.make_optimizer` makes it.
        students: whose clips are read and who learns; by default all that have heads.
        loss: of one head's scores and targets.
    """

    def __init__(
        self,
        pair: Pair,
        clip: Clip,
        labels: Labels,
        cfg: Train,
        numerics: Numerics,
        optimizer: torch.optim.Optimizer,
        students: Sequence[str] = (),
        loss: Loss = cross_entropy,
    ) -> None:
        self.pair, self.clip, self.labels, self.cfg = pair, clip, labels, cfg
        self.numerics, self.optimizer, self.loss = numerics, optimizer, loss
        self.students = tuple(students) or pair.students
        modules = pair.modules_of(self.students)
        self.synced = any(isinstance(m, nn.SyncBatchNorm) for m in modules.modules())
        self.parameters = [p for p in modules.parameters() if p.requires_grad]
        self.statistics = _Statistics(modules)

    def pieces(self, rows_B: np.ndarray) -> list[np.ndarray]:
        """What this rank computes of a batch, part by part."""
        ranks, me = distributed.world_size(), distributed.rank()
        count = self._parts(len(rows_B))
        if self.synced:
            return [_share(_share(rows_B, part, count), me, ranks) for part in range(count)]
        return [_share(rows_B, part, count) for part in distributed.rows_of_rank(count)]

    def _parts(self, clips: int) -> int:
        """Into how many parts a batch is cut."""
        wanted = (
            self.cfg.batch_parts
            if self.synced
            else max(self.cfg.batch_parts, distributed.world_size())
        )
        return max(1, min(wanted, clips // 2))

    def __call__(
        self, pieces: list[Batch | None], rows_B: np.ndarray, request: int, sums: Sums
    ) -> Done:
        """Learn from a batch of which this rank has read `pieces`.

        Args:
            rows_B: the rows of the whole batch.
            request: what this rank wants to happen after the step, 0 to 2.
            sums: gets the losses and hits, but not the number of clips, which is counted when they
                are known to be finite.
        """
        self.optimizer.zero_grad(set_to_none=True)
        alone = distributed.world_size() == 1 and len(pieces) == 1
        table_S2 = torch.zeros(len(self.students), 2, device=self.numerics.device)
        clips = parts = 0
        self.statistics.begin()
        for batch in self._large_enough(pieces):
            if not alone:
                self.statistics.restore()
            table_S2 += self._learn(batch, len(rows_B))
            if not alone:
                self.statistics.keep()
            clips, parts = clips + len(batch.rows_B), parts + 1
        clips, parts, request, table_S2 = self._over_ranks(clips, parts, request, table_S2, alone)
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        is_wrong = ~are_finite([table_S2[:, 0], *gradients])
        self.statistics.undo_where(is_wrong)
        if clips >= 2:
            if clips != len(rows_B):
                torch._foreach_mul_(gradients, len(rows_B) / clips)
            self.optimizer.found_inf = is_wrong.float()  # type: ignore[attr-defined]  # then fused kernels change nothing
            self.optimizer.step()
            sums.add(torch.where(is_wrong, 0.0, table_S2.double()))
        wrong = download(is_wrong)
        return Done(request, clips if clips >= 2 else 0, lambda: not wrong())

    def _large_enough(self, pieces: Sequence[Batch | None]) -> Iterator[Batch]:
        """The parts that batch norm can take: of two clips or more, on all ranks where it waits for
        all of them.
        """
        # only failures make it small
        clips = torch.tensor([len(batch.rows_B) if batch else 0 for batch in pieces])
        if self.synced:
            distributed.all_reduce(clips, "min")
        return (
            batch
            for batch, least in zip(pieces, clips.tolist(), strict=True)
            if batch and least >= 2
        )

    def _learn(self, batch: Batch, batch_size: int) -> Tensor:
        """Add the gradients of one part to those that are there; its (students, 2) losses and
        hits.
        """
        with self.numerics.autocast():
            scores = self.pair(encoder_inputs(batch, self.clip, self.numerics, self.pair))
        table_S2 = losses(scores, self.labels, batch.rows_B, self.loss, self.cfg.label_smoothing)
        loss = table_S2[:, 0].sum()
        (loss / batch_size).backward()  # type: ignore[no-untyped-call]
        return table_S2.detach()

    def _over_ranks(
        self, clips: int, parts: int, request: int, table_S2: Tensor, alone: bool
    ) -> tuple[int, int, int, Tensor]:
        """Sum all that a step needs over the ranks, and set the running statistics."""
        if alone:
            return clips, parts, request, table_S2
        for p in self.parameters:
            p.grad = torch.zeros_like(p) if p.grad is None else p.grad
        # on the CPU
        counts = torch.tensor([clips, parts, request >= 1, request >= 2], dtype=table_S2.dtype)
        summed = [p.grad for p in self.parameters if p.grad is not None] + [
            self.statistics.total,
            table_S2,
        ]
        if table_S2.device.type == "cpu":
            distributed.all_reduce_at_once([*summed, counts])
        else:
            distributed.all_reduce(counts)
            distributed.all_reduce_at_once(summed)
        clips, parts, any_1, any_2 = (round(number) for number in counts.tolist())
        self.statistics.end(parts)
        return clips, parts, 2 if any_2 else min(any_1, 1), table_S2


def losses(
    scores: Mapping[str, Mapping[str, Tensor]],
    labels: Labels,
    rows_B: np.ndarray,
    loss: Loss,
    smoothing: float = 0.0,
) -> Tensor:
    """(students, 2): the loss of each student, and how many clips it labelled right, summed over
    clips.

    Of several heads both are the mean.
    """
    table = []
    for heads in scores.values():
        parts = []
        for name, scores_BK in heads.items():
            targets = labels[name][rows_B]
            targets = targets.astype(
                np.float32 if np.issubdtype(targets.dtype, np.floating) else np.int64
            )
            value, hits = loss(
                scores_BK.float(), upload(torch.from_numpy(targets), scores_BK.device), smoothing
            )
            parts.append(torch.stack([value, hits.to(value.dtype)]) / len(heads))
        table.append(torch.stack(parts).sum(dim=0))
    return torch.stack(table)


def are_finite(tensors: list[Tensor]) -> Tensor:
    """Whether all numbers in some tensors on one device are finite, on that device; beyond 1e19 or
    so they count as if not.
    """
    return torch.isfinite(torch.stack(torch._foreach_norm(tensors))).all()


def make_optimizer(pair: Pair, cfg: Train, students: Sequence[str] = ()) -> torch.optim.Optimizer:
    """The optimiser, one kernel for all parameters; weight decay spares biases and batch norms
    (less than two axes).

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
    if (
        cfg.momentum
    ):  # else a first step that is not taken, because it is not finite, leaves these as memory was
        for p in parameters:
            optimizer.state[p]["momentum_buffer"] = torch.zeros_like(p)
    return optimizer


class _Statistics:
    """The running statistics of all batch norms, as a mean over the parts of a batch. They are many
    and small, so they are laid end to end.
    """

    def __init__(self, modules: nn.Module) -> None:
        norms = [
            m for m in modules.modules() if isinstance(m, _BatchNorm) and m.running_mean is not None
        ]
        self._tensors: list[Tensor] = [t for m in norms for t in (m.running_mean, m.running_var)]  # type: ignore[misc]
        self._counters: list[Any] = [m.num_batches_tracked for m in norms]
        self._none = next(modules.parameters()).detach().new_zeros(0)  # there may be no batch norms

    @torch.no_grad()
    def begin(self) -> None:
        """Remember them as they are before a step."""
        self._start, self._counted = self._now(), self._count_now()
        self.total = torch.zeros_like(self._start)

    @torch.no_grad()
    def restore(self) -> None:
        """Set them back to before the step."""
        self._set(self._start)

    @torch.no_grad()
    def undo_where(self, is_wrong: Tensor) -> None:
        """Set them and their counters back, as if the step had not been, where a truth on the
        device says so.
        """
        self._set(torch.where(is_wrong, self._start, self._now()))
        self._set_counters(torch.where(is_wrong, self._counted, self._count_now()))

    @torch.no_grad()
    def keep(self) -> None:
        """Add what a part made of them to the total."""
        self.total += self._now()

    @torch.no_grad()
    def end(self, parts: int) -> None:
        """Set them to the mean over so many parts."""
        self._set(self.total / parts if parts else self._start)
        self._set_counters(self._counted + min(parts, 1))

    def _now(self) -> Tensor:
        return torch.cat([self._none, *self._tensors])

    def _count_now(self) -> Tensor:
        return torch.stack(self._counters) if self._counters else self._none

    def _set(self, values: Tensor) -> None:
        if self._tensors:
            torch._foreach_copy_(
                self._tensors, torch.split(values, [len(tensor) for tensor in self._tensors])
            )

    def _set_counters(self, counts: Tensor) -> None:
        if self._counters:
            torch._foreach_copy_(self._counters, torch.unbind(counts))


def _share(rows: np.ndarray, part: int, parts: int) -> np.ndarray:
    span = distributed.rows_of_rank(len(rows), part, parts)
    return rows[span.start : span.stop]
