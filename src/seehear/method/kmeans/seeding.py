"""Where do centroids start, and where does an empty cluster start again? From hashes of the seed.

Rows are drawn without replacement by hashing a counter (splitmix64), so no generator state exists
and any rank can work out the draw alone, in memory that grows with the draw and not with N.
"""

from __future__ import annotations

import heapq
import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from seehear.errors import SettingsError
from seehear.machine import distributed
from seehear.method.kmeans.rows import Rows

_MASK = (1 << 64) - 1


def first_centroids(
    init: Tensor | NDArray[np.generic] | None, rows: Rows, num_clusters: int, seed: int
) -> Tensor:
    """The first centroids, (K, D) float64, the same on every rank: rows drawn at random, or `init`.

    Raises:
        SettingsError: `init` is no array, has another shape, or is not finite.
    """
    if init is None:
        return rows.by_number(draw_rows(seed, rows.total, num_clusters))
    if not isinstance(init, Tensor | np.ndarray):
        raise SettingsError(f"init is {init!r}. It must be centroids (K, D), labels (N,) or None.")
    centroids_KD = torch.as_tensor(init).to(rows.device, torch.float64).contiguous()
    if centroids_KD.shape != (num_clusters, rows.width):
        raise SettingsError(
            f"init has the shape {tuple(centroids_KD.shape)}. First centroids are "
            f"({num_clusters}, {rows.width})."
        )
    centroids_KD = distributed.broadcast(centroids_KD.clone())
    if not bool(torch.isfinite(centroids_KD).all()):
        raise SettingsError("init holds centroids that are NaN or infinite. Give finite ones.")
    return centroids_KD


def first_labels(
    init: Tensor | NDArray[np.generic] | None, rows: Rows, num_clusters: int
) -> Tensor | None:
    """The labels to start from, (N,) int32, if `init` is labels, else None.

    Raises:
        SettingsError: their number is not that of the rows, or a label is outside -1 to K - 1.
    """
    if not isinstance(init, Tensor | np.ndarray) or init.ndim != 1:
        return None
    labels_N = torch.as_tensor(init).to(rows.device)
    if labels_N.is_floating_point() or labels_N.shape != (len(rows),):
        raise SettingsError(
            f"init has the shape {tuple(labels_N.shape)} and the type {labels_N.dtype}. Labels to "
            f"start from are integers, one for each of the {len(rows)} rows; centroids have two "
            "dimensions."
        )
    bounds = torch.tensor([-1, -1], dtype=torch.int64)
    if len(labels_N):
        bounds = torch.stack([-labels_N.min().long(), labels_N.max().long()]).cpu()
    lowest, highest = (-1, 1) * distributed.all_reduce(bounds, "max").numpy()
    if lowest < -1 or highest >= num_clusters:
        raise SettingsError(
            f"init holds labels from {lowest} to {highest}. They must be from -1 (none) to "
            f"{num_clusters - 1}."
        )
    return labels_N.int()


def split_largest(
    centroids_KD: Tensor, sizes_K: Tensor, *, spread: float, seed: int, move: int
) -> int:
    """Re-seed each empty cluster, in place, beside the largest cluster's centroid.

    The copy moves by about `spread`, which is how far the rows of a cluster scatter along any one
    direction, in a direction hashed from the seed, so that it takes over up to half of them. The
    donor stays, counts as halved, and may be split again. Every rank computes the same from the
    same totals.

    Args:
        centroids_KD: (K, D) float64, changed where a cluster is empty.
        sizes_K: (K,) rows in each cluster; a cluster of one row is never split.
        spread: root mean square of a coordinate's distance from its centroid.
        seed, move: what the direction depends on, besides the cluster.

    Returns:
        How many clusters were re-seeded.
    """
    empty = torch.nonzero(sizes_K <= 0).flatten().tolist()
    heap = [(-size, cluster) for cluster, size in enumerate(sizes_K.tolist()) if size > 1]
    heapq.heapify(heap)
    reseeded = 0
    for cluster in empty:
        if not heap or -heap[0][0] <= 1:
            break
        size, donor = heap[0]
        heapq.heapreplace(heap, (size / 2, donor))
        heapq.heappush(heap, (size / 2, cluster))
        step_D = _step(centroids_KD.shape[1], spread, seed, move * len(sizes_K) + cluster)
        centroids_KD[cluster] = centroids_KD[donor] + torch.from_numpy(step_D).to(
            centroids_KD.device
        )
        reseeded += 1
    return reseeded


def _step(width: int, spread: float, seed: int, stream: int) -> NDArray[np.float64]:
    """A step of length `spread` in a hashed direction: coordinates differ in their signs alone."""
    if spread > 0:  # to an eighth of an octave, so that the order of a sum cannot show
        spread = 2.0 ** (round(math.log2(spread) * 8) / 8)
    bits_D = hashes(seed, np.arange(width, dtype=np.uint64), stream)
    size = spread / width**0.5
    step_D: NDArray[np.float64] = np.where(bits_D & np.uint64(1), size, -size)
    return step_D


def draw_rows(seed: int, num_rows: int, count: int, stream: int = 0) -> NDArray[np.int64]:
    """Draw `count` different row numbers out of `num_rows`, the same everywhere.

    Args:
        seed: any integer.
        num_rows: N; the rows are 0 to N - 1.
        count: how many, 0 to N.
        stream: a second seed, so that two draws of one job differ.

    Returns:
        (count,) int64 in the order drawn; every subset is equally likely up to the hash.
    """
    assert 0 <= count <= num_rows, (count, num_rows)
    if 2 * count >= num_rows:  # most rows are wanted: order them all by their hash
        return np.argsort(
            hashes(seed, np.arange(num_rows, dtype=np.uint64), stream), kind="stable"
        )[:count]
    drawn = np.empty(0, dtype=np.int64)
    start = 0
    while len(drawn) < count:  # each pass keeps at least half of what it draws
        counter = np.arange(start, start + 2 * count + 16, dtype=np.uint64)
        drawn = np.concatenate(
            [drawn, (hashes(seed, counter, stream) % np.uint64(num_rows)).astype(np.int64)]
        )
        first = np.unique(drawn, return_index=True)[1]
        drawn = drawn[np.sort(first)]
        start += len(counter)
    return drawn[:count]


def hashes(seed: int, numbers: NDArray[np.integer], stream: int = 0) -> NDArray[np.uint64]:
    """Hash numbers of any shape to uniform uint64: two rounds of the splitmix64 finaliser."""
    key = np.uint64(_mix(_mix(seed & _MASK) ^ (stream & _MASK)))
    with np.errstate(over="ignore"):
        z = (numbers.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15) + key
        for _ in range(2):
            z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            z = z ^ (z >> np.uint64(31))
    return z


def _mix(z: int) -> int:
    z = (z + 0x9E3779B97F4A7C15) & _MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
    return z ^ (z >> 31)
