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
the bits differ. On CPUs it saves no time either (docs/lab.md has both measurements).

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
        ranks = 1 if self.synced else distributed.world_size()
        return max(1, min(max(self.cfg.batch_parts, ranks), clips // 2))  # 2 clips a part or more

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
        is_whole = distributed.world_size() == 1 and len(pieces) == 1  # nothing to add up
        table_S2 = torch.zeros(len(self.students), 2, device=self.numerics.device)
        clips = parts = 0
        self.statistics.begin()
        for batch in self._large_enough(pieces):
            # Each part starts from the statistics before the step, as if it were the only one:
            # else their order, and so the number of ranks, would show.
            if not is_whole:
                self.statistics.restore()
            table_S2 += self._learn(batch, len(rows_B))
            if not is_whole:
                self.statistics.keep()
            clips, parts = clips + len(batch.rows_B), parts + 1
        if not is_whole:
            clips, parts, request = self._over_ranks(clips, parts, request, table_S2)

        # From here on everything is the same on all ranks. One NaN anywhere is in all sums, so
        # each rank sees it by itself; the norm of a tensor stands for all of its numbers.
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        is_wrong = ~are_finite([table_S2[:, 0], *gradients])
        self.statistics.undo_where(is_wrong)
        if clips >= 2:
            # `_learn` divided by the clips that were wanted; some could not be read.
            if clips != len(rows_B):
                torch._foreach_mul_(gradients, len(rows_B) / clips)
            # What a gradient scaler sets: fused kernels look at it on the device, and change
            # nothing where it is 1. Nobody waits for the device to know.
            self.optimizer.found_inf = is_wrong.float()  # type: ignore[attr-defined]
            self.optimizer.step()
            sums.add(torch.where(is_wrong, 0.0, table_S2.double()))
        wrong = download(is_wrong)
        return Done(request, clips if clips >= 2 else 0, lambda: not wrong())

    def _large_enough(self, pieces: Sequence[Batch | None]) -> Iterator[Batch]:
        """The parts that batch norm can take: two clips or more, on all ranks if it is synced."""
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
        """Add the gradients of one part to those there; its (students, 2) losses and hits."""
        with self.numerics.autocast():
            inputs = encoder_inputs(batch, self.clip, self.numerics, self.pair, self.students)
            scores = self.pair(inputs)
        table_S2 = losses(scores, self.labels, batch.rows_B, self.loss, self.cfg.label_smoothing)
        loss = table_S2[:, 0].sum()
        (loss / batch_size).backward()  # type: ignore[no-untyped-call]
        return table_S2.detach()

    def _over_ranks(
        self, clips: int, parts: int, request: int, table_S2: Tensor
    ) -> tuple[int, int, int]:
        """Sum gradients, statistics and the table over ranks; returns clips, parts and request."""
        for p in self.parameters:  # a rank without clips has no gradients, and still takes part
            p.grad = torch.zeros_like(p) if p.grad is None else p.grad
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        summed = [*gradients, self.statistics.total, table_S2]
        # On the CPU, so that what they say is known without waiting for a GPU. The largest request
        # of all ranks, by a sum: how many want at least SAVE, and how many LEAVE.
        counts = torch.tensor([clips, parts, request >= 1, request >= 2], dtype=table_S2.dtype)
        if table_S2.device.type == "cpu":
            distributed.all_reduce_at_once([*summed, counts])
        else:
            distributed.all_reduce(counts)
            distributed.all_reduce_at_once(summed)
        clips, parts, any_1, any_2 = (round(number) for number in counts.tolist())
        self.statistics.end(parts)
        return clips, parts, 2 if any_2 else min(any_1, 1)


def losses(
    scores: Mapping[str, Mapping[str, Tensor]],
    labels: Labels,
    rows_B: np.ndarray,
    loss: Loss,
    smoothing: float = 0.0,
) -> Tensor:
    """(students, 2): each student's loss and rightly labelled clips, summed over clips.

    Of several heads both are the mean.
    """
    table = []
    for heads in scores.values():
        parts = []
        for name, scores_BK in heads.items():
            targets = labels[name][rows_B]
            is_float = np.issubdtype(targets.dtype, np.floating)
            targets = torch.from_numpy(targets.astype(np.float32 if is_float else np.int64))
            value, hits = loss(scores_BK.float(), upload(targets, scores_BK.device), smoothing)
            parts.append(torch.stack([value, hits.to(value.dtype)]) / len(heads))
        table.append(torch.stack(parts).sum(dim=0))
    return torch.stack(table)


def are_finite(tensors: list[Tensor]) -> Tensor:
    """Whether all numbers of some tensors are finite, on their device; 1e19 counts as not."""
    return torch.isfinite(torch.stack(torch._foreach_norm(tensors))).all()


def make_optimizer(pair: Pair, cfg: Train, students: Sequence[str] = ()) -> torch.optim.Optimizer:
    """The optimiser, one kernel for all; weight decay spares biases and batch norms.

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
    if cfg.momentum:
        # The fused kernel makes these without filling them, and a first step that is skipped as
        # not finite would leave them as memory was.
        for p in parameters:
            optimizer.state[p]["momentum_buffer"] = torch.zeros_like(p)
    return optimizer


class _Statistics:
    """Running statistics of all batch norms, many and small, laid end to end: a mean over parts."""

    def __init__(self, modules: nn.Module) -> None:
        self._norms = [
            m for m in modules.modules() if isinstance(m, _BatchNorm) and m.running_mean is not None
        ]
        self._none = next(modules.parameters()).detach().new_zeros(0)  # there may be no batch norms

    @torch.no_grad()
    def begin(self) -> None:
        """Remember them as they are before a step; those that stay as they are do not count."""
        norms = [m for m in self._norms if m.training]
        self._tensors: list[Tensor] = [t for m in norms for t in (m.running_mean, m.running_var)]  # type: ignore[misc]
        self._counters: list[Any] = [m.num_batches_tracked for m in norms]
        self._start, self._counted = self._now(), self._count_now()
        self.total = torch.zeros_like(self._start)

    @torch.no_grad()
    def restore(self) -> None:
        """Set them back to before the step."""
        self._set(self._start)

    @torch.no_grad()
    def undo_where(self, is_wrong: Tensor) -> None:
        """Set them and their counters back to before the step, where a truth says so."""
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
