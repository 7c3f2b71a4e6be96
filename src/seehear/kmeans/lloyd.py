"""Which cluster does each row belong to? Lloyd's algorithm over rows sharded on torch.distributed ranks.

Each rank holds its own rows, features_ND, any number of them; row numbers run through the ranks in order. One pass
scores the rows in chunks and adds those that changed their cluster to running totals; then one all-reduce of
[sums | mass | counts | changed] gives every rank the same means, and the inertia with them. Nothing else travels,
and labels stay where their rows are. Reference: S. Lloyd, "Least squares quantization in PCM", 1982.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from seehear import distributed
from seehear.errors import SettingsError
from seehear.kmeans.arguments import check_numbers, checked_labels, checked_weights
from seehear.kmeans.clustering import Clustering
from seehear.kmeans.drawing import draw_rows
from seehear.kmeans.precision import Precision, choose_precision, make_scorer
from seehear.kmeans.rows import Features, Rows, Spread, check_finite, measure
from seehear.kmeans.scores import Fp32, Scorer, centre_if_far
from seehear.kmeans.seeding import Init, first_centroids, split_largest
from seehear.kmeans.totals import AllRanks, Totals

PLAIN_MOVES = 2  # the last moves of an over-relaxed search


def kmeans(
    features_ND: Features,
    num_clusters: int,
    *,
    seed: int,
    iterations: int = 20,
    init: Init = None,
    precision: Precision = "auto",
    final_precision: Literal["fp32"] | None = None,
    weights_N: Tensor | NDArray[np.generic] | None = None,
    points_per_centroid: int | None = None,
    full_passes: int = 1,
    relaxation: float = 1.0,
    spherical: bool = False,
    tolerance: float = 0.0,
    chunk_rows: int | None = None,
    device: str | torch.device | None = None,
) -> Clustering:
    """Cluster the rows of all ranks into `num_clusters`, by Lloyd's algorithm.

    Memory above the features: one chunk of rows, 17 MB in float32, and as much again while they are summed; 4 MB of
    scores; a few (K, D) float64 arrays; 4 bytes a row for labels. In "int8" and "bf16" also the codes, N * D bytes or
    twice that, made chunk by chunk; with `points_per_centroid` also the sampled rows. On CUDA chunks are 8 times that.

    Args:
        features_ND: this rank's rows, (N, D) float32, float16 or bfloat16, in a tensor, an array or a memory-mapped
            array. N may differ between ranks and may be 0; D is the same.
        num_clusters: K, from 1 to the number of rows over all ranks.
        seed: the clustering is a function of this and of the rows in their order (see docs/kmeans.md for how exactly).
        iterations: at most so many moves of the centroids; it stops when no label changes.
        init: None or "random" for rows drawn at random; "k-means++" for rows far from each other, picked from a
            sample of 16 K; (K, D) floats are the first centroids (those of rank 0); (N,) integers are the labels of a
            former clustering of the same rows (a warm start; -1 for rows without), whose means are the first centroids.
        precision: how the search computes: "fp32" (true float32), "bf16" or "int8" (the rows rounded to integers;
            the result is the same, bit for bit, for any number of ranks, threads and any chunks), or "auto": the
            fastest on 4096 rows whose assignment is within 0.1 % of float32's in inertia; on small problems "fp32".
        final_precision: "fp32" makes the last assignment in float32 whatever the search used.
        weights_N: (N,) weights of this rank's rows, not negative.
        points_per_centroid: search on so many rows times K, drawn at random, then make `full_passes` moves on all.
        relaxation: move the centroids by so many times the way to their mean, from 1 to below 2, except in the last
            two moves; 1.4 reaches in 12 iterations what 1 reaches in 20.
        spherical: centroids have unit length. For rows of unit length this maximises the cosine similarity.
        tolerance: stop when the squared moves of all centroids add up to at most this times the mean variance of a
            column.
        chunk_rows: rows per chunk, for tests and small memories; None chooses.
        device: where to compute; None for where the features are. Features elsewhere are streamed there.

    Returns:
        The labels of this rank's rows, and what all ranks agree on.

    Raises:
        SettingsError: an argument is out of range, or rows hold NaN or infinite numbers (the first are named).
    """
    check_numbers(
        iterations=iterations,
        relaxation=relaxation,
        points_per_centroid=points_per_centroid,
        full_passes=full_passes,
        tolerance=tolerance,
        chunk_rows=chunk_rows,
    )
    rows = Rows(features_ND, device, chunk_rows)
    if not 1 <= num_clusters <= rows.total:
        raise SettingsError(f"num_clusters is {num_clusters}. It must be from 1 to the number of rows, {rows.total}.")
    check_finite(rows)
    weights = None if weights_N is None else checked_weights(weights_N, rows)
    spread = measure(rows, seed)
    known = checked_labels(init, rows, num_clusters)
    first_KD = first_centroids(rows, None if known is not None else init, num_clusters, seed, spread)
    taken = choose_precision(rows, first_KD, spread) if precision == "auto" else precision

    search = _Search(num_clusters, seed, taken, spread, relaxation, spherical, tolerance)
    if points_per_centroid is None or points_per_centroid * num_clusters >= rows.total:
        scorer, centroids = search.run(rows, weights, iterations, first_KD, known)
    else:
        if known is not None:
            first_KD = search.run(rows, weights, 0, first_KD, known)[1]
        numbers = np.sort(draw_rows(seed, rows.total, points_per_centroid * num_clusters, stream=3))
        chosen = None if weights is None else weights[torch.from_numpy(rows.local(numbers)[1]).to(rows.device)]
        first_KD = search.run(rows.sample(numbers), chosen, iterations, first_KD)[1]
        scorer, centroids = search.run(rows, weights, full_passes, first_KD)
    in_float32 = taken == "fp32" or final_precision == "fp32"
    return search.finish(rows, weights, None if in_float32 else scorer, centroids.float())


def assign(
    features_ND: Features,
    centroids_KD: Tensor | NDArray[np.generic],
    *,
    prices_K: Tensor | None = None,
    chunk_rows: int | None = None,
    device: str | torch.device | None = None,
) -> Tensor:
    """The nearest centroid of each row, in true float32, on this process alone; the lowest number among equals.

    Args:
        features_ND: (N, D) floats.
        centroids_KD: (K, D) floats.
        prices_K: (K,) added to the squared distances first: those of a balanced clustering.
        chunk_rows, device: as in `kmeans`.

    Returns:
        (N,) int32, where the features are.
    """
    rows = Rows(features_ND, device, chunk_rows, alone=True)
    check_finite(rows)
    centroids = torch.as_tensor(centroids_KD).to(rows.device, torch.float64)
    if centroids.ndim != 2 or centroids.shape[1] != rows.width:
        raise SettingsError(f"The centroids have the shape {tuple(centroids.shape)}; rows have {rows.width} columns.")
    scorer = Fp32(rows, len(centroids), centre_if_far(centroids))
    scorer.load(scorer.place(centroids), None if prices_K is None else prices_K.to(rows.device))
    labels = torch.empty(len(rows), dtype=torch.int32, device=rows.device)
    for start, stop in rows.blocks():
        labels[start:stop] = scorer.nearest(start, stop)
    return labels.to(rows.data.device)


@dataclass
class _Search:
    """The moves of the centroids, and what is counted on the way."""

    num_clusters: int
    seed: int
    precision: str
    spread: Spread
    relaxation: float
    spherical: bool
    tolerance: float
    reseeded: int = 0
    converged: bool = False
    history: list[float] = field(default_factory=list)

    def run(
        self, rows: Rows, weights_N: Tensor | None, iterations: int, first_KD: Tensor, known_N: Tensor | None = None
    ) -> tuple[Scorer, Tensor]:
        """Move the centroids at most `iterations` times; known labels, if any, make the first centroids.

        Returns:
            The scorer of these rows, to be used again, and the centroids, (K, D) float64.
        """
        scorer = make_scorer(self.precision, rows, self.num_clusters, self.spread, weights_N)
        scorer.measure_squares()
        totals, self.converged = Totals(self.num_clusters, rows.width, weights_N is not None, rows.device), False
        labels_N = torch.full((len(rows),), -1, dtype=torch.int32, device=rows.device)
        placed_KD, settled = self._project(scorer, scorer.place(first_KD)), False
        if known_N is not None:
            for start, stop in rows.blocks():
                scorer.add(totals, start, labels_N[start:stop], known_N[start:stop])
            labels_N = known_N.clone()
            scorer.load(placed_KD)  # for the resolution
            placed_KD, settled = self._moved(scorer, placed_KD, totals.over_ranks(0), plain=True)
        for move in range(iterations):
            scorer.load(placed_KD)
            changed = 0
            for start, stop in rows.spans():  # long, since adding up the few rows that move has a price of its own
                old = labels_N[start:stop]
                new = scorer.nearest(start, stop, None if move == 0 and known_N is None else old)
                changed += scorer.add(totals, start, old, new)
                labels_N[start:stop] = new
            all_ranks = totals.over_ranks(changed)
            inertia = _inertia(scorer, placed_KD, all_ranks)
            scorer.mean_square = inertia / float(all_ranks.mass_K.sum())
            self.history.append(inertia * scorer.unit**2 * scorer.weight_unit)
            if all_ranks.changed == 0 and settled:
                self.converged = True
                break
            before_KD = placed_KD
            placed_KD, settled = self._moved(scorer, before_KD, all_ranks, plain=move >= iterations - PLAIN_MOVES)
            if self._close(scorer, before_KD, placed_KD, all_ranks):
                self.converged = True
                break
        return scorer, scorer.lift(placed_KD)

    def _moved(self, scorer: Scorer, placed_KD: Tensor, all_ranks: AllRanks, plain: bool) -> tuple[Tensor, bool]:
        """The centroids after a move, and whether they depend on the labels alone, so that equal labels settle it."""
        filled_K = all_ranks.mass_K > 0
        means_KD = all_ranks.sums_KD / all_ranks.mass_K.clamp(min=1e-300)[:, None]
        lengths_K = torch.linalg.vector_norm(means_KD, dim=1)
        if not plain and self.relaxation != 1:
            means_KD.sub_(placed_KD).mul_(self.relaxation).add_(placed_KD)
        settled = plain or self.relaxation == 1
        moved_KD = self._project(scorer, torch.where(filled_K[:, None], means_KD, placed_KD))
        if bool(filled_K.all()):
            return moved_KD, settled
        within = scorer.squares - float((all_ranks.mass_K * lengths_K.square()).sum())
        scatter = max(within / float(all_ranks.mass_K.sum()) / scorer.rows.width, 0.0) ** 0.5
        reseeded = split_largest(
            moved_KD,
            all_ranks.mass_K,
            all_ranks.counts_K,
            spread=scatter,
            resolution=scorer.resolution,
            seed=self.seed,
            move=len(self.history),
        )
        self.reseeded += reseeded
        return self._project(scorer, moved_KD), settled and reseeded == 0

    def _project(self, scorer: Scorer, placed_KD: Tensor) -> Tensor:
        if not self.spherical:
            return placed_KD
        centroids = scorer.lift(placed_KD)
        lengths = torch.linalg.vector_norm(centroids, dim=1, keepdim=True)
        return scorer.place(torch.where(lengths > 0, centroids / lengths, centroids))

    def _close(self, scorer: Scorer, before_KD: Tensor, after_KD: Tensor, all_ranks: AllRanks) -> bool:
        """Whether the last move was within the tolerance."""
        if self.tolerance <= 0:
            return False
        weight = float(all_ranks.mass_K.sum())
        mean = float((all_ranks.sums_KD.sum(0) / weight).square().sum())
        variance = max(scorer.squares / weight - mean, 0.0) / scorer.rows.width
        return float((after_KD - before_KD).square().sum()) <= self.tolerance * variance

    def finish(self, rows: Rows, weights_N: Tensor | None, scorer: Scorer | None, centroids_KD: Tensor) -> Clustering:
        """Assign every row to the nearest of the final centroids, (K, D) float32, and measure the inertia on the rows.

        Without a scorer this is done as `assign` does it.
        """
        exact = centroids_KD.double()
        if scorer is None:
            scorer = Fp32(rows, self.num_clusters, centre_if_far(exact))
        scorer.load(scorer.place(exact))
        labels_N = torch.empty(len(rows), dtype=torch.int32, device=rows.device)
        totals = torch.zeros(self.num_clusters + 1, dtype=torch.float64, device=rows.device)
        buffer = torch.empty(min(rows.cache_rows, len(rows)), rows.width, device=rows.device)
        for start, stop in rows.blocks():
            labels_N[start:stop] = scorer.nearest(start, stop)
        for start, stop in rows.cache_blocks():
            labels = labels_N[start:stop]
            distances = rows.take(start, stop, out=buffer).sub_(centroids_KD.index_select(0, labels))
            squares = distances.square_().sum(1).double()
            totals[-1] += (squares if weights_N is None else squares * weights_N[start:stop]).sum()
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
            precision=self.precision,
            converged=self.converged,
            history=tuple(self.history),
        )


def _inertia(scorer: Scorer, placed_KD: Tensor, all_ranks: AllRanks) -> float:
    """The sum of (weighted) squared distances as scored, from totals alone: |x|^2 - 2 c . sum + mass |c|^2."""
    products = float(torch.dot(placed_KD.flatten(), all_ranks.sums_KD.flatten()))
    lengths = float((all_ranks.mass_K * torch.linalg.vector_norm(placed_KD, dim=1).square()).sum())
    return max(scorer.squares - 2 * products + lengths, 0.0)
