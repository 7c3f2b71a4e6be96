"""Which cluster does each row belong to, if all clusters must have equal (or given) sizes?

Rows are assigned by optimal transport: of all ways to spread the rows over clusters of the wanted sizes, the one with
the largest total score, softened by an entropy term and found by the Sinkhorn-Knopp iteration (M. Cuturi, 2013; used on
labels by Y. Asano et al., 2020). It needs one price per cluster and nothing per row: scores are made again, chunk by
chunk, in every iteration, and each iteration is one all-reduce of K masses. A row's label is the cluster whose squared
distance plus price is least. Means and prices are improved together while the entropy cools; then prices alone; and the
few rows that are still too many somewhere move to where there is room, so that the sizes are met exactly.

Shapes: rows (N, D), centroids (K, D), prices (K,) in units of squared distance.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from seehear import distributed
from seehear.errors import SettingsError
from seehear.kmeans.arguments import check_numbers
from seehear.kmeans.clustering import Clustering
from seehear.kmeans.lloyd import kmeans
from seehear.kmeans.rounding import move_to_sizes, whole_sizes
from seehear.kmeans.rows import Features, Rows
from seehear.kmeans.scores import Fp32, centre_if_far
from seehear.kmeans.seeding import Init, split_largest
from seehear.kmeans.totals import Totals

_WARMEST = 0.5  # the first entropy, so that prices find their place between far clusters
_COLDEST = 0.03  # the last, of the entropy asked for
_ANNEALING_STEPS = 40
_RELAXATION = 1.5  # of a Sinkhorn step: settles in half the steps


def balanced_kmeans(
    features_ND: Features,
    num_clusters: int,
    *,
    seed: int,
    iterations: int = 20,
    init: Init = None,
    sizes_K: Tensor | NDArray[np.generic] | None = None,
    entropy: float = 0.1,
    price_steps: int = 4,
    chunk_rows: int | None = None,
    device: str | torch.device | None = None,
) -> Clustering:
    """Cluster the rows of all ranks into clusters of equal or given sizes.

    Memory above the features: one chunk of rows in float32 and float64 (33 MB), 8 MB of scores and shares, five (K, D)
    float64 arrays, and 8 bytes a row for labels.

    Args:
        features_ND: this rank's rows, as for `kmeans`.
        num_clusters: K, from 1 to the number of rows over all ranks.
        seed: as for `kmeans`.
        iterations: moves of the centroids: the first half plain, by `kmeans`, the other half balanced.
        init: as for `kmeans`.
        sizes_K: (K,) wanted sizes, positive, in any unit; None for equal ones.
        entropy: how soft the assignment is in the end, as a share of the centroids' mean squared distance from their
            mean; 0.05 to 0.2. Harder settles slowly, and in worse clusters.
        price_steps: passes that adjust the prices before each balanced move. Before the first of them and after the
            last move there are 40.
        chunk_rows, device: as for `kmeans`.

    Returns:
        A `Clustering` with its `prices`, whose sizes are exactly the wanted ones (rounded to whole rows). Nearly all
        labels are the nearest after the prices; the others were moved to meet the sizes.

    Raises:
        SettingsError: an argument is out of range, or rows are not finite.
    """
    check_numbers(iterations=iterations, chunk_rows=chunk_rows)
    if not 0 < entropy <= 1:
        raise SettingsError(f"entropy is {entropy}. It must be above 0 and at most 1; 0.1 is usual.")
    if price_steps < 0:
        raise SettingsError(f"price_steps is {price_steps}. It must be 0 or more; 4 is usual.")
    rows = Rows(features_ND, device, chunk_rows)
    if not 1 <= num_clusters <= rows.total:
        raise SettingsError(f"num_clusters is {num_clusters}. It must be from 1 to the number of rows, {rows.total}.")
    wanted_K = _wanted_sizes(sizes_K, num_clusters, rows)
    plain = kmeans(
        features_ND,
        num_clusters,
        seed=seed,
        iterations=iterations // 2,
        init=init,
        precision="fp32",
        chunk_rows=chunk_rows,
        device=device,
    )
    transport = _Transport(rows, wanted_K, plain, seed)
    if iterations > 0:
        transport.anneal(_WARMEST, entropy)
    for _ in range(iterations - iterations // 2):
        transport.move(entropy, price_steps)
    transport.anneal(2 * entropy if iterations else _WARMEST, _COLDEST * entropy)
    return transport.finish()


class _Transport:
    """Prices and labels of the rows of all ranks."""

    def __init__(self, rows: Rows, wanted_K: Tensor, start: Clustering, seed: int) -> None:
        self.rows, self.wanted_K, self.seed = rows, wanted_K, seed
        self.prices_K = torch.zeros(len(wanted_K), dtype=torch.float64, device=rows.device)
        self.labels_N = torch.full((len(rows),), -1, dtype=torch.int32, device=rows.device)
        self.reseeded, self.history = start.reseeded, list(start.history)
        self.centre_D = centre_if_far(start.centroids.to(rows.device))
        self._place(start.centroids.to(rows.device).double())
        self.totals = Totals(len(wanted_K), rows.width, False, rows.device)

    def anneal(self, warmest: float, coldest: float) -> None:
        """Adjust the prices to the centroids, from a soft assignment to a harder one."""
        for step in range(_ANNEALING_STEPS):
            self._adjust(warmest * (coldest / warmest) ** (step / (_ANNEALING_STEPS - 1)))

    def move(self, entropy: float, price_steps: int) -> None:
        """Adjust the prices, label all rows, and move the centroids to the means of their rows."""
        for _ in range(price_steps):
            self._adjust(entropy)
        self._label()
        found = self.totals.over_ranks(0)
        self.history.append(self._inertia())
        means_KD = self.scorer.lift(found.sums_KD / found.mass_K.clamp(min=1)[:, None])
        moved = torch.where(found.mass_K[:, None] > 0, means_KD, self.centroids_KD)
        typical = (self.history[-1] / self.rows.total / self.rows.width) ** 0.5
        self.reseeded += split_largest(
            moved, found.mass_K, found.counts_K, spread=typical, resolution=0.0, seed=self.seed, move=len(self.history)
        )
        self._place(moved)

    def finish(self) -> Clustering:
        """Label all rows, and move the few that are too many somewhere to where there is room."""
        self._label()
        counts_K = distributed.all_reduce(torch.bincount(self.labels_N, minlength=len(self.wanted_K)))
        target_K = whole_sizes(self.wanted_K)
        move_to_sizes(self.labels_N, counts_K, target_K, self._propose)
        home = self.rows.data.device
        return Clustering(
            labels=self.labels_N.to(home),
            centroids=self.centroids_KD.float().to(home),
            sizes=target_K.to(home),
            inertia=self._inertia(),
            reseeded=self.reseeded,
            iterations=len(self.history),
            precision="fp32",
            history=tuple(self.history),
            prices=self.prices_K.float().to(home),
        )

    def _place(self, centroids_KD: Tensor) -> None:
        """Score by these centroids from now on, rounded to float32 as they will be returned."""
        self.centroids_KD = centroids_KD.float().double()
        apart = (self.centroids_KD - self.centroids_KD.mean(0)).square().sum(1).mean()
        self.scatter = float(apart) or 1.0  # the scale of prices
        self.scorer = Fp32(self.rows, len(centroids_KD), self.centre_D)
        self.scorer.tile_by(len(centroids_KD))  # a row's shares need all of its scores

    def _adjust(self, entropy: float) -> None:
        """A Sinkhorn step: prices rise where rows, shared softly, make too much mass, and fall where too little."""
        softness, mass_K = entropy * self.scatter, torch.zeros_like(self.prices_K)
        for _, _, scores in self._tiles():
            mass_K += torch.softmax(scores.mul_(2 / softness), dim=1).sum(0)
        distributed.all_reduce(mass_K)
        self.prices_K += _RELAXATION * softness * torch.log(mass_K.clamp(min=1e-6) / self.wanted_K)
        self.prices_K -= self.prices_K.mean()

    def _label(self) -> None:
        before = self.labels_N.clone()
        for start, stop, scores in self._tiles():
            self.labels_N[start:stop] = scores.max(dim=1).indices
        for start, stop in self.rows.blocks():
            self.scorer.add(self.totals, start, before[start:stop], self.labels_N[start:stop])

    def _tiles(self) -> Iterator[tuple[int, int, Tensor]]:
        """(start, stop, scores) of a few rows at a time; the scores may be overwritten."""
        self.scorer.load(self.scorer.place(self.centroids_KD), self.prices_K)
        for start in range(0, len(self.rows), self.scorer.tile_rows):
            stop = min(start + self.scorer.tile_rows, len(self.rows))
            yield start, stop, self.scorer.scores(start, stop, 0)

    def _inertia(self) -> float:
        total = torch.zeros(1, dtype=torch.float64, device=self.rows.device)
        buffer = torch.empty(min(self.rows.cache_rows, len(self.rows)), self.rows.width, device=self.rows.device)
        for start, stop in self.rows.cache_blocks():
            own = self.centroids_KD.float().index_select(0, self.labels_N[start:stop])
            total += self.rows.take(start, stop, out=buffer).sub_(own).square_().sum(1).sum(dtype=torch.float64)
        return float(distributed.all_reduce(total))

    def _propose(self, rows_n: Tensor, room_K: Tensor) -> tuple[Tensor, Tensor]:
        """For rows that may have to leave: the best cluster with room, and how much score the move costs."""
        to_n = torch.empty(len(rows_n), dtype=torch.int64, device=rows_n.device)
        cost_n = torch.empty(len(rows_n), device=rows_n.device)
        for start in range(0, len(rows_n), self.scorer.tile_rows):
            some = rows_n[start : start + self.scorer.tile_rows]
            scores = self.scorer.scores_of(some)
            own = scores.gather(1, self.labels_N[some].long()[:, None]).flatten()
            best, where = scores.masked_fill_(~room_K, -torch.inf).max(dim=1)
            to_n[start : start + len(some)], cost_n[start : start + len(some)] = where, own - best
        return to_n, cost_n


def _wanted_sizes(sizes_K: Tensor | NDArray[np.generic] | None, num_clusters: int, rows: Rows) -> Tensor:
    """Wanted sizes that add up to the number of rows, (K,) float64."""
    if sizes_K is None:
        return torch.full((num_clusters,), rows.total / num_clusters, dtype=torch.float64, device=rows.device)
    sizes = torch.as_tensor(sizes_K).to(rows.device, torch.float64)
    if sizes.shape != (num_clusters,) or not bool((torch.isfinite(sizes) & (sizes > 0)).all()):
        raise SettingsError(f"sizes_K must be {num_clusters} positive numbers; it has shape {tuple(sizes.shape)}.")
    return sizes * (rows.total / sizes.sum())
