"""Which cluster does each row belong to? Lloyd's algorithm over rows sharded on ranks.

Each rank holds its own rows, features_ND, any number of them; row numbers run through the ranks in
order. One pass scores the rows in chunks and adds those that changed their cluster to running
totals; then one all-reduce of [sums | counts | changed] gives every rank the same means, and the
inertia with them. Nothing else travels, and labels stay where their rows are.
Reference: S. Lloyd, "Least squares quantization in PCM", 1982.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from seehear.errors import SettingsError
from seehear.machine import distributed
from seehear.method.kmeans.rows import Features, Rows, check_finite
from seehear.method.kmeans.scores import Scorer, centre_if_far
from seehear.method.kmeans.seeding import draw_rows, first_centroids, first_labels, split_largest
from seehear.method.kmeans.totals import AllRanks, Totals


@dataclass(frozen=True)
class Clustering:
    """What k-means found.

    Attributes:
        labels: (N,) int32, the cluster of each row of this rank, 0 to K - 1; where the features
            are.
        centroids: (K, D) float32, the same on every rank; `labels` are the nearest of these.
        sizes: (K,) int64, rows in each cluster over all ranks; 0 only where no row could be spared,
            as with fewer distinct rows than K.
        inertia: the sum over all rows of all ranks of the squared distance to their centroid.
        reseeded: how many times an empty cluster was re-seeded by splitting the largest.
        iterations: how many times the centroids were moved.
        converged: whether the last iteration changed no label.
        history: the inertia before each move of the centroids.
    """

    labels: Tensor
    centroids: Tensor
    sizes: Tensor
    inertia: float
    reseeded: int
    iterations: int
    converged: bool = False
    history: tuple[float, ...] = ()


def kmeans(
    features_ND: Features,
    num_clusters: int,
    *,
    seed: int,
    iterations: int = 20,
    init: Tensor | NDArray[np.generic] | None = None,
    points_per_centroid: int | None = None,
    device: str | torch.device | None = None,
) -> Clustering:
    """Cluster the rows of all ranks into `num_clusters`, by Lloyd's algorithm, in true float32.

    Memory above the features: one chunk of rows, 17 MB in float32, and as much again while they are
    summed; 4 MB of scores; a few (K, D) float64 arrays; 4 bytes a row for labels; the sampled rows
    with `points_per_centroid`. On CUDA chunks are 8 times that.

    Args:
        features_ND: this rank's rows, (N, D) float32, float16, bfloat16 or float64, in a tensor, an
            array or a memory-mapped array. N may differ between ranks and may be 0; D is the same.
        num_clusters: K, from 1 to the number of rows over all ranks.
        seed: with the rows in their order it decides the clustering (docs/kmeans.md says how
            exactly).
        iterations: at most so many moves of the centroids; it stops when no label changes.
        init: None for rows drawn at random; (K, D) floats are the first centroids (those of rank
            0); (N,) integers are the labels of a former clustering of the same rows (a warm start;
            -1 for rows without), whose means are the first centroids.
        points_per_centroid: search on so many rows times K, drawn at random, then make one move on
            all.
        device: where to compute; None for where the features are; else they are streamed there.

    Returns:
        The labels of this rank's rows, and what all ranks agree on.

    Raises:
        SettingsError: an argument is out of range, or rows hold NaN or infinite numbers (the first
            are named).
    """
    if iterations < 0:
        raise SettingsError(f"iterations is {iterations}. It must be 0 or more; 20 is usual.")
    if points_per_centroid is not None and points_per_centroid < 1:
        raise SettingsError(
            f"points_per_centroid is {points_per_centroid}. It must be positive; 1024 is usual."
        )
    rows = Rows(features_ND, device)
    if not 1 <= num_clusters <= rows.total:
        raise SettingsError(
            f"num_clusters is {num_clusters}. It must be from 1 to the number of rows, "
            f"{rows.total}."
        )
    check_finite(rows)
    known_N = first_labels(init, rows, num_clusters)
    first_KD = first_centroids(None if known_N is not None else init, rows, num_clusters, seed)

    search = _Search(num_clusters, seed)
    if points_per_centroid is None or points_per_centroid * num_clusters >= rows.total:
        centroids_KD = search.run(rows, iterations, first_KD, known_N)
    else:
        if known_N is not None:
            first_KD = search.run(rows, 0, first_KD, known_N)
        numbers = np.sort(draw_rows(seed, rows.total, points_per_centroid * num_clusters, stream=3))
        first_KD = search.run(rows.sample(numbers), iterations, first_KD)
        centroids_KD = search.run(rows, 1, first_KD)
    return search.finish(rows, centroids_KD.float())


def assign(
    features_ND: Features,
    centroids_KD: Tensor | NDArray[np.generic],
    *,
    device: str | torch.device | None = None,
) -> Tensor:
    """The nearest centroid of each row, on this process alone; the lowest number among equals.

    Args:
        features_ND: (N, D) floats.
        centroids_KD: (K, D) floats.
        device: as in `kmeans`.

    Returns:
        (N,) int32, where the features are.

    Raises:
        SettingsError: widths differ, or rows hold NaN or infinite numbers.
    """
    rows = Rows(features_ND, device, alone=True)
    check_finite(rows)
    centroids = torch.as_tensor(centroids_KD).to(rows.device, torch.float64)
    if centroids.ndim != 2 or centroids.shape[1] != rows.width:
        raise SettingsError(
            f"The centroids have the shape {tuple(centroids.shape)}; rows have {rows.width} "
            f"columns."
        )
    return _nearest(rows, centroids).to(rows.data.device)


@dataclass
class _Search:
    """The moves of the centroids, and what is counted on the way."""

    num_clusters: int
    seed: int
    reseeded: int = 0
    converged: bool = False
    history: list[float] = field(default_factory=list)

    def run(
        self, rows: Rows, iterations: int, first_KD: Tensor, known_N: Tensor | None = None
    ) -> Tensor:
        """Move the centroids at most `iterations` times; known labels, if any, make the first ones.

        Returns:
            The centroids, (K, D) float64.
        """
        # The rows themselves say where they lie: first centroids may be anywhere.
        few_nD = rows.by_number(draw_rows(self.seed, rows.total, min(rows.total, 256), stream=1))
        scorer = Scorer(rows, self.num_clusters, centre_if_far(few_nD))
        squares = scorer.sum_of_squares()
        totals = Totals(self.num_clusters, rows.width, rows.device)
        labels_N = torch.full((len(rows),), -1, dtype=torch.int32, device=rows.device)
        placed_KD = scorer.place(first_KD)
        # Equal labels mean equal centroids only where these are the means of labels: not yet.
        are_means = self.converged = False
        if known_N is not None:
            for start, stop in rows.blocks():
                scorer.add(totals, start, labels_N[start:stop], known_N[start:stop])
            labels_N = known_N.clone()
            placed_KD, are_means = self._moved(placed_KD, totals.over_ranks(0), squares)
        for _ in range(iterations):
            scorer.load(placed_KD)
            changed = 0
            # Long spans, since adding up the few rows that change has a price of its own.
            for start, stop in rows.spans():
                old = labels_N[start:stop]
                new = scorer.nearest(start, stop)
                changed += scorer.add(totals, start, old, new)
                labels_N[start:stop] = new
            all_ranks = totals.over_ranks(changed)
            self.history.append(_inertia(placed_KD, all_ranks, squares))
            if all_ranks.changed == 0 and are_means:
                self.converged = True
                break
            placed_KD, are_means = self._moved(placed_KD, all_ranks, squares)
        return scorer.lift(placed_KD)

    def _moved(self, placed_KD: Tensor, all_ranks: AllRanks, squares: float) -> tuple[Tensor, bool]:
        """The means of the clusters, and whether they are no more than that: none was re-seeded."""
        filled_K = all_ranks.counts_K > 0
        mass_K = all_ranks.counts_K.double()
        means_KD = all_ranks.sums_KD / mass_K.clamp(min=1)[:, None]  # what left leaves rounding
        moved_KD = torch.where(filled_K[:, None], means_KD, placed_KD)
        if bool(filled_K.all()):
            return moved_KD, True
        # |x|^2 = |mean|^2 + scatter, summed over rows: how far a coordinate is from its mean.
        lengths_K = torch.linalg.vector_norm(means_KD, dim=1)
        within = squares - float((mass_K * lengths_K.square()).sum())
        scatter = max(within / float(mass_K.sum()) / means_KD.shape[1], 0.0) ** 0.5
        reseeded = split_largest(
            moved_KD, all_ranks.counts_K, spread=scatter, seed=self.seed, move=len(self.history)
        )
        self.reseeded += reseeded
        return moved_KD, reseeded == 0

    def finish(self, rows: Rows, centroids_KD: Tensor) -> Clustering:
        """Assign each row to the nearest of the final centroids, (K, D) float32; inertia."""
        labels_N = _nearest(rows, centroids_KD.double())
        totals = torch.zeros(self.num_clusters + 1, dtype=torch.float64, device=rows.device)
        buffer = torch.empty(min(rows.cache_rows, len(rows)), rows.width, device=rows.device)
        for start, stop in rows.cache_blocks():
            nearest_nD = centroids_KD.index_select(0, labels_N[start:stop])
            distances_nD = rows.take(start, stop, out=buffer).sub_(nearest_nD)
            totals[-1] += distances_nD.square_().sum(1).double().sum()
        totals[:-1] = torch.bincount(labels_N, minlength=self.num_clusters)
        distributed.all_reduce(totals)
        home = rows.data.device
        return Clustering(
            labels=labels_N.to(home),
            centroids=centroids_KD.to(home),
            sizes=totals[:-1].long().to(home),
            inertia=float(totals[-1]),
            reseeded=self.reseeded,
            iterations=len(self.history),
            converged=self.converged,
            history=tuple(self.history),
        )


def _nearest(rows: Rows, centroids_KD: Tensor) -> Tensor:
    """The nearest of the centroids, (K, D) float64, for each row of this rank, (N,) int32."""
    scorer = Scorer(rows, len(centroids_KD), centre_if_far(centroids_KD))
    scorer.load(scorer.place(centroids_KD))
    labels_N = torch.empty(len(rows), dtype=torch.int32, device=rows.device)
    for start, stop in rows.blocks():
        labels_N[start:stop] = scorer.nearest(start, stop)
    return labels_N


def _inertia(placed_KD: Tensor, all_ranks: AllRanks, squares: float) -> float:
    """The sum of squared distances from totals alone: |x|^2 - 2 c . sum + count |c|^2."""
    products = float(torch.dot(placed_KD.flatten(), all_ranks.sums_KD.flatten()))
    lengths_K = torch.linalg.vector_norm(placed_KD, dim=1)
    lengths = float((all_ranks.counts_K * lengths_K.square()).sum())
    return max(squares - 2 * products + lengths, 0.0)
