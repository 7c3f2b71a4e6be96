"""Can the features that training computes anyway be clustered, instead of computing all of them once more?

The memory of DeepCluster-v2 (Caron et al., "Unsupervised Learning of Visual Features by Contrasting Cluster
Assignments", 2020, appendix A): what the encoders said of a row in the last epoch of a round. Such features are older
than fresh ones by up to an epoch, come from augmented clips, and were computed with the batch norms of training; those
of rows kept out of training come from `measure` and are fresh. Of a row that is drawn several times the last word
counts. Rows that the epoch did not draw, or could not read, are not in the memory: they are extracted.

On several ranks each remembers what it computed, and `deal` sends every feature to the rank that clusters its row.
Shapes: (n,) int64 rows; (n, D) float32 a modality.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from seehear import distributed
from seehear.features import Features

PARTS = 2**20  # more parts than a batch can have
KEPT_ON_DEVICE = 16  # parts; then they are copied to the CPU, which waits for the device


@dataclass
class Memory:
    """What this rank's forward passes said in the epoch at hand.

    steps: batches so far, which say what came last.
    """

    steps: int = 0
    rows: list[np.ndarray] = field(default_factory=list)
    order: list[np.ndarray] = field(default_factory=list)
    features: list[dict[str, Tensor]] = field(default_factory=list)

    def forget(self) -> None:
        """Begin a new epoch."""
        self.rows, self.order, self.features = [], [], []

    def keep(self, rows_B: np.ndarray, part: int, features: Mapping[str, Tensor]) -> None:
        """Remember the features (B, D) of some rows.

        Args:
            part: which part of the batch, counted over all ranks; the last one has the last word.
        """
        if len(rows_B):
            self.rows.append(rows_B)
            self.order.append(np.full(len(rows_B), self.steps * PARTS + part, dtype=np.int64))
            self.features.append({modality: x.detach().float() for modality, x in features.items()})
        if len(self.rows) % KEPT_ON_DEVICE == 0:
            self.features[-KEPT_ON_DEVICE:] = [_on_cpu(part) for part in self.features[-KEPT_ON_DEVICE:]]

    def forget_step(self, step: int) -> None:
        """Forget what a batch said: it was not finite, and nothing was learned from it."""
        for at in reversed(range(len(self.order))):
            if self.order[at][0] < step * PARTS:
                break
            if self.order[at][0] < (step + 1) * PARTS:
                del self.rows[at], self.order[at], self.features[at]

    def latest(self) -> tuple[np.ndarray, np.ndarray, dict[str, Tensor]]:
        """The last word on each row that this rank has: rows, ascending, their order, and their features."""
        if not self.rows:
            return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64), {}
        parts = [_on_cpu(part) for part in self.features]
        joined = {modality: torch.cat([part[modality] for part in parts]) for modality in parts[0]}
        rows, order, features = _last_word(np.concatenate(self.rows), np.concatenate(self.order), joined)
        self.rows, self.order, self.features = [rows], [order], [features]
        return rows, order, features

    def state(self, widths: Mapping[str, int]) -> dict[str, Any]:
        """For a checkpoint, on rank 0 that of all ranks; called on every rank.

        Args:
            widths: D of each modality.
        """
        rows, order, features = self.latest()
        parts = _of_widths(features, widths) | {"order": torch.from_numpy(order)[:, None]}
        rows, parts = distributed.gather_rows(rows, parts)
        return {"steps": self.steps, "rows": torch.from_numpy(rows.copy()), **parts}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` gave; rank 0 takes all of it."""
        self.forget()
        self.steps = int(state["steps"])
        if distributed.rank() == 0 and len(state["rows"]):
            self.rows, self.order = [state["rows"].numpy()], [state["order"][:, 0].numpy()]
            self.features = [{name: x for name, x in state.items() if name not in ("steps", "rows", "order")}]

    def deal(self, num_rows: int, widths: Mapping[str, int]) -> Features:
        """Forget all, and return the last word of all ranks on the rows that this rank clusters.

        One rank after another sends what it has, so that no rank ever holds more than two shards.
        """
        rows, order, features = self.latest()
        self.forget()
        mine = distributed.rows_of_rank(num_rows)
        kept = []
        for source in range(distributed.world_size()):
            some = np.frombuffer(distributed.share(np.stack([rows, order]).tobytes(), source), dtype=np.int64)
            rows_n, order_n = some.reshape(2, -1)
            here = (rows_n >= mine.start) & (rows_n < mine.stop)
            parts = {}
            for modality, x in _of_widths(features, widths).items():
                there = x if source == distributed.rank() else x.new_empty(len(rows_n), x.shape[1])
                parts[modality] = distributed.broadcast(there, source)[torch.from_numpy(here)]
            kept.append((rows_n[here], order_n[here], parts))
        joined = {modality: torch.cat([parts[modality] for _, _, parts in kept]) for modality in widths}
        rows, _, features = _last_word(
            np.concatenate([r for r, _, _ in kept]), np.concatenate([o for _, o, _ in kept]), joined
        )
        return Features(rows, features)


def share_of_rank(everything: Features, num_rows: int) -> Features:
    """Of the features of all ranks those of the rows that this one clusters."""
    mine = distributed.rows_of_rank(num_rows)
    here = (everything.rows >= mine.start) & (everything.rows < mine.stop)
    return Features(everything.rows[here], {m: x[torch.from_numpy(here)] for m, x in everything.of.items()})


def joined(one: Features, other: Features) -> Features:
    """The features of both, which have no row in common."""
    rows = np.concatenate([one.rows, other.rows])
    at = np.argsort(rows)
    return Features(rows[at], {m: torch.cat([x, other.of[m]])[torch.from_numpy(at)] for m, x in one.of.items()})


def _last_word(
    rows: np.ndarray, order: np.ndarray, features: Mapping[str, Tensor]
) -> tuple[np.ndarray, np.ndarray, dict[str, Tensor]]:
    by_row = np.lexsort((order, rows))
    is_last = np.append(np.diff(rows[by_row]) != 0, True)[: len(rows)]
    at = by_row[is_last]
    return rows[at], order[at], {modality: x[torch.from_numpy(at)] for modality, x in features.items()}


def _of_widths(features: Mapping[str, Tensor], widths: Mapping[str, int]) -> dict[str, Tensor]:
    """The features, or none of the right widths."""
    return {modality: features.get(modality, torch.zeros(0, width)) for modality, width in widths.items()}


def _on_cpu(features: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {modality: x.cpu() for modality, x in features.items()}
