"""How do nearly right cluster sizes become exactly right, when rows lie on many ranks?

Rows of clusters that are too large propose to move to the cluster with room that costs them least. Each round admits
the cheapest proposals, as many as may leave and as many as there is room for; what remains proposes again. Costs are
told apart to a factor of two, and rows of one such class are taken in their order, so that counts per cluster and
class, summed over the ranks, are all that has to travel.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from seehear import distributed

_CLASSES = 256  # the exponents of float32
# local rows (n,), which clusters have room (K,) bool -> the best of them for each row (n,), and its cost (n,) >= 0
Proposal = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def whole_sizes(wanted_K: Tensor) -> Tensor:
    """Integers near the wanted sizes, (K,) int64, with the same total: the largest remainders are rounded up."""
    floors = wanted_K.floor()
    missing = round(float(wanted_K.sum() - floors.sum()))
    up = torch.argsort(wanted_K - floors, descending=True, stable=True)[:missing]
    whole = floors.long()
    whole[up] += 1
    return whole


def move_to_sizes(labels_N: Tensor, counts_K: Tensor, target_K: Tensor, propose: Proposal) -> int:
    """Change labels, in place, until every cluster has its target size over all ranks; return how many rows moved.

    Args:
        labels_N: (N,) int32 of this rank's rows.
        counts_K: (K,) int64 rows per cluster over all ranks.
        target_K: (K,) int64 wanted rows, with the same total.
        propose: where rows would go.
    """
    counts_K, moved = counts_K.clone(), 0
    while bool((excess_K := (counts_K - target_K).clamp(min=0)).any()):
        room_K = (target_K - counts_K).clamp(min=0)
        rows = torch.nonzero(excess_K[labels_N.long()] > 0).flatten()
        to_n, cost_n = propose(rows, room_K > 0)
        kind_n = cost_n.clamp(min=0).float().view(torch.int32) >> 23
        leaving = _admit(labels_N[rows].long(), kind_n, excess_K)
        rows, to_n, kind_n = rows[leaving], to_n[leaving], kind_n[leaving]
        entering = _admit(to_n.long(), kind_n, room_K)
        rows, to_n = rows[entering], to_n[entering]
        change_K = torch.bincount(to_n, minlength=len(counts_K)) - torch.bincount(
            labels_N[rows], minlength=len(counts_K)
        )
        labels_N[rows] = to_n.int()
        counts_K += distributed.all_reduce(change_K)
        moved += int(distributed.all_reduce(torch.tensor([len(rows)])))
    return moved


def _admit(groups_n: Tensor, kinds_n: Tensor, limits_K: Tensor) -> Tensor:
    """Choose at most limits_K[g] rows of each group over all ranks, lower kinds first, then in row order.

    Args:
        groups_n: (n,) int64 group of each of this rank's candidates, 0 to K - 1.
        kinds_n: (n,) int32, 0 to 255.

    Returns:
        (n,) bool, the candidates chosen.
    """
    clusters = len(limits_K)
    cells_n = groups_n * _CLASSES + kinds_n
    mine = torch.bincount(cells_n, minlength=clusters * _CLASSES).view(clusters, _CLASSES)
    everyone = distributed.all_reduce(mine.clone())
    before = everyone.cumsum(1) - everyone  # rows of lower kinds, in each group
    places = (limits_K[:, None] - before).clamp(min=0)  # for each kind of each group
    last_K = (places > 0).sum(1).clamp(min=1) - 1  # the last kind for which there is a place
    by_rank = torch.zeros(distributed.world_size(), clusters, dtype=torch.int64, device=groups_n.device)
    by_rank[distributed.rank()] = mine.gather(1, last_K[:, None]).flatten()
    taken_K = distributed.all_reduce(by_rank)[: distributed.rank()].sum(0)  # by ranks before this one
    quota = torch.minimum(places, everyone)
    left_K = (quota.gather(1, last_K[:, None]).flatten() - taken_K).clamp(min=0)
    quota.scatter_(1, last_K[:, None], left_K[:, None])
    return _position_in_group(cells_n) < quota.flatten()[cells_n]


def _position_in_group(groups_n: Tensor) -> Tensor:
    """For each element, how many of its group come before it, (n,) int64."""
    order = torch.argsort(groups_n, stable=True)
    _, counts = torch.unique_consecutive(groups_n[order], return_counts=True)
    starts = torch.repeat_interleave(counts.cumsum(0) - counts, counts)
    positions = torch.empty_like(order)
    positions[order] = torch.arange(len(order), device=order.device) - starts
    return positions
