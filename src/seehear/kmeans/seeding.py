"""Where do the centroids start, and where does an empty cluster start again? From the seed and row numbers alone.

The k-means++ of D. Arthur and S. Vassilvitskii (2007), in its greedy form, runs on a sample; its distances are
integers, so that neither the sharding nor the machine decides which row is next.
"""

from __future__ import annotations

import heapq
import math
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from seehear import distributed
from seehear.errors import SettingsError
from seehear.kmeans.arguments import checked_centroids
from seehear.kmeans.drawing import draw_rows, hashes
from seehear.kmeans.rows import Rows, Spread
from seehear.kmeans.scores import Codes

Init = Literal["random", "k-means++"] | Tensor | NDArray[np.generic] | None

_SAMPLE_PER_CLUSTER = 16  # rows that k-means++ chooses from, times K


def first_centroids(rows: Rows, init: Init, num_clusters: int, seed: int, spread: Spread) -> Tensor:
    """The first centroids, (K, D) float64, the same on every rank.

    Args:
        init: None or "random", "k-means++", or the centroids themselves.

    Raises:
        SettingsError: `init` is something else, or of another shape.
    """
    if isinstance(init, Tensor | np.ndarray):
        return checked_centroids(init, rows, num_clusters)
    if init is None or init == "random":
        return rows.by_number(draw_rows(seed, rows.total, num_clusters))
    if init == "k-means++":
        return _plus_plus(rows, num_clusters, seed, spread)
    raise SettingsError(f"init is {init!r}. It must be random, k-means++, centroids (K, D) or labels (N,).")


def split_largest(
    centroids_KD: Tensor, mass_K: Tensor, sizes_K: Tensor, *, spread: float, resolution: float, seed: int, move: int
) -> int:
    """Re-seed each empty cluster, in place, with a copy of the largest cluster's centroid moved a little.

    The copy moves by about `spread`, in a direction hashed from the seed, which is how far the rows of a cluster
    scatter along any one direction, so that it takes over up to half of them. The donor stays, counts as halved, and
    may be split again. Every rank computes the same from the same totals.

    Args:
        centroids_KD: (K, D) float64, changed where a cluster is empty.
        mass_K: (K,) total weight of each cluster; a cluster without weight is empty.
        sizes_K: (K,) rows in each cluster; a cluster of one row is never split.
        spread: root mean square of a coordinate's distance from its centroid, in units of the centroids.
        resolution: steps that are too small for the precision to see, in the same units.
        seed, move: what the direction depends on, besides the cluster.

    Returns:
        How many clusters were re-seeded.
    """
    empty = torch.nonzero(mass_K <= 0).flatten().tolist()
    if not empty:
        return 0
    heap = [(-size, cluster) for cluster, size in enumerate(sizes_K.tolist()) if size > 1]
    heapq.heapify(heap)
    reseeded = 0
    for cluster in empty:
        if not heap or -heap[0][0] <= 1:
            break
        size, donor = heap[0]
        heapq.heapreplace(heap, (size / 2, donor))
        heapq.heappush(heap, (size / 2, cluster))
        step = _small_step(centroids_KD.shape[1], spread, resolution, seed, move * len(sizes_K) + cluster)
        centroids_KD[cluster] = centroids_KD[donor] + torch.from_numpy(step).to(centroids_KD.device)
        reseeded += 1
    return reseeded


def _plus_plus(rows: Rows, num_clusters: int, seed: int, spread: Spread) -> Tensor:
    """Greedy k-means++ on a sample: each next row is the best of 2 + log K drawn with odds of squared distance."""
    wanted = min(rows.total, max(_SAMPLE_PER_CLUSTER * num_clusters, 2048))
    numbers = np.sort(draw_rows(seed, rows.total, wanted, stream=2))
    sample = rows.sample(numbers)
    codes = Codes(sample, num_clusters, "int8", spread)
    exact = torch.float32 if codes.longest_code**2 < 2**24 else torch.float64
    codes_nD = codes.codes_ND.to(exact)
    squares_n = codes_nD.square().sum(1, dtype=torch.float64)
    nearest_n = torch.full((len(sample),), 1, dtype=torch.int64, device=rows.device)  # odds of the first: all alike
    tries = 2 + int(math.log(num_clusters))
    chosen: list[int] = []
    for step in range(num_clusters):
        drawn = _draw_by_weight(nearest_n, hashes(seed, np.arange(tries), stream=4 + step))
        if drawn is None:  # every row is a centroid already: the rest stay doubles, and empty
            chosen += [chosen[0]] * (num_clusters - step)
            break
        candidates, positions = _share_rows(codes_nD, drawn, sample.first)
        distances_nT = squares_n[:, None] - 2 * (codes_nD @ candidates.T).double()
        distances_nT += candidates.double().square().sum(1)
        closer_nT = distances_nT.long() if step == 0 else torch.minimum(distances_nT.long(), nearest_n[:, None])
        best = int(distributed.all_reduce(closer_nT.sum(0)).argmin())
        nearest_n = closer_nT[:, best].contiguous()
        chosen.append(positions[best])
    return rows.by_number(numbers[chosen])


def _draw_by_weight(weights_n: Tensor, random_T: NDArray[np.uint64]) -> list[int] | None:
    """Draw rows with odds of their integer weights over all ranks; their local numbers, or -1 where on another rank.

    None where all weights are 0.
    """
    shares = torch.zeros(distributed.world_size(), dtype=torch.int64)
    cumulative_n = weights_n.cumsum(0)
    shares[distributed.rank()] = cumulative_n[-1] if len(weights_n) else 0
    distributed.all_reduce(shares)
    before, total = int(shares[: distributed.rank()].sum()), int(shares.sum())
    if total == 0:
        return None
    targets = torch.from_numpy((random_T % np.uint64(total)).astype(np.int64)) - before
    found = torch.searchsorted(cumulative_n, targets.to(weights_n.device), right=True).cpu()
    here = (targets >= 0) & (found < len(weights_n))
    return torch.where(here, found, -1).tolist()


def _share_rows(codes_nD: Tensor, drawn: list[int], first: int) -> tuple[Tensor, list[int]]:
    """The drawn rows' codes, (T, D), and their numbers through all ranks; each comes from the rank that has it."""
    shared = torch.zeros(len(drawn), codes_nD.shape[1] + 1, dtype=torch.float64, device=codes_nD.device)
    for place, row in enumerate(drawn):
        if row >= 0:
            shared[place, :-1] = codes_nD[row]
            shared[place, -1] = first + row
    distributed.all_reduce(shared)
    return shared[:, :-1].to(codes_nD.dtype), shared[:, -1].long().tolist()


def _small_step(width: int, spread: float, resolution: float, seed: int, stream: int) -> NDArray[np.float64]:
    """A step of length `spread` in a hashed direction: all coordinates alike, or fewer where they are too small."""
    if spread > 0:  # to an eighth of an octave, so that the order of a sum cannot show
        spread = 2.0 ** (round(math.log2(spread) * 8) / 8)
    bits = hashes(seed, np.arange(width, dtype=np.uint64), stream)
    along = width
    if resolution > 0:
        along = int(min(max((spread / (2 * resolution)) ** 2, 1), width))
    step = np.zeros(width)
    chosen = np.argsort(bits, kind="stable")[:along]
    size = max(spread / along**0.5, 2 * resolution)
    step[chosen] = np.where(bits[chosen] & np.uint64(1), size, -size)
    return step
