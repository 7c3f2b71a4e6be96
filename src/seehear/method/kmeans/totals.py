"""What do the rows of each cluster add up to, on this rank and over all of them?

Sums are kept from pass to pass and follow only the rows that change their cluster, a few percent in
most passes. Rows sorted by cluster are added as bags, which is faster than scattered additions (3
times), and each bag in a fixed order. A bag adds at most 32 rows in float32, so that its error is
that of a few roundings; totals are float64, and counts int64 (float32 stops counting at 2^24 rows).

Shapes: rows (n, D), sums (K, D), labels (n,) with -1 for no cluster.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from seehear.machine import distributed

_BAG_ROWS = 32  # rows added in float32 before they join the float64 totals


class Totals:
    """Sums of this rank's rows per cluster, kept from pass to pass, changed by rows that move.

    Attributes:
        sums_KD: float64.
        counts_K: int64, rows in each cluster.
    """

    def __init__(self, num_clusters: int, width: int, device: torch.device) -> None:
        self.sums_KD = torch.zeros(num_clusters, width, dtype=torch.float64, device=device)
        self.counts_K = torch.zeros(num_clusters, dtype=torch.int64, device=device)

    def move(
        self, values_mD: Tensor, old_n: Tensor, new_n: Tensor, where_n: Tensor | None = None
    ) -> None:
        """Take rows out of clusters `old_n` and put them into `new_n`.

        Args:
            values_mD: (m, D) float32 rows.
            where_n: which of them are meant; by default all, in order.
        """
        leaves, enters = torch.nonzero(old_n >= 0).flatten(), torch.nonzero(new_n >= 0).flatten()
        clusters = torch.cat([new_n[enters], old_n[leaves]])
        index = torch.cat([enters, leaves])
        if len(index) == 0:
            return
        sign = torch.ones(len(index), dtype=values_mD.dtype, device=values_mD.device)
        sign[len(enters) :] = -1
        self.counts_K.index_add_(0, clusters, sign.long())
        order = torch.argsort(clusters, stable=True)
        clusters = clusters[order]
        offsets = _bag_starts(clusters)
        picked = index[order] if where_n is None else where_n[index[order]]
        bags = functional.embedding_bag(
            picked, values_mD, offsets, mode="sum", per_sample_weights=sign[order]
        )
        self.sums_KD.index_add_(0, clusters[offsets], bags.double())

    def over_ranks(self, changed: int) -> AllRanks:
        """The totals over all ranks, by one all-reduce; counts are exact to 2^53."""
        clusters, width = self.sums_KD.shape
        parts = [self.sums_KD.flatten(), self.counts_K, self.counts_K.new_tensor([changed])]
        summed = distributed.all_reduce(torch.cat([part.double() for part in parts]))
        sums, counts, moved = torch.split(summed, [clusters * width, clusters, 1])
        return AllRanks(sums.view(clusters, width), counts.long(), int(moved))


def _bag_starts(clusters_n: Tensor) -> Tensor:
    """Where bags begin among sorted clusters: at each new one, and after every `_BAG_ROWS` rows."""
    position_n = torch.arange(len(clusters_n), device=clusters_n.device)
    _, counts = torch.unique_consecutive(clusters_n, return_counts=True)
    first_n = torch.repeat_interleave(counts.cumsum(0) - counts, counts)
    return torch.nonzero((position_n - first_n) % _BAG_ROWS == 0).flatten()


@dataclass(frozen=True)
class AllRanks:
    """Totals over all ranks: sums_KD float64, counts_K int64, and how many labels changed."""

    sums_KD: Tensor
    counts_K: Tensor
    changed: int
