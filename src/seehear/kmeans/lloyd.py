"""Which cluster does each row belong to? Lloyd's algorithm over rows sharded on torch.distributed ranks.

Each rank holds its own rows, features_ND, any number of them; row numbers run through the ranks in order. An
iteration is one pass over the rows in chunks (scores by one GEMM, the winner per row, sums per cluster) and
one all-reduce of [sums | counts | inertia | changed]. Nothing else travels; labels stay where their rows are.
Reference: S. Lloyd, "Least squares quantization in PCM", 1982.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from seehear import distributed
from seehear.errors import SettingsError
from seehear.kmeans.seeding import draw_rows, hashes


@dataclass(frozen=True)
class Clustering:
    """What k-means found.

    Attributes:
        labels: (N,) int32, the cluster of each row of this rank.
        centroids: (K, D) float32, the same on every rank; `labels` are the nearest of these.
        sizes: (K,) int64, rows per cluster over all ranks.
        inertia: sum of squared distances of all rows, on all ranks, to their centroid.
        reseeded: how many times an empty cluster was re-seeded.
        iterations: how many times the centroids were moved.
    """

    labels: Tensor
    centroids: Tensor
    sizes: Tensor
    inertia: float
    reseeded: int
    iterations: int


def kmeans(
    features_ND: Tensor | np.ndarray,
    num_clusters: int,
    *,
    seed: int,
    iterations: int = 20,
    init: Tensor | np.ndarray | None = None,
    precision: str = "auto",
    chunk_rows: int = 8192,
) -> Clustering:
    """Cluster the rows of all ranks into `num_clusters` by Lloyd's algorithm.

    Args:
        features_ND: this rank's rows, (N, D), float32, float16 or bfloat16; N may differ between ranks.
        num_clusters: K, from 1 to the number of rows over all ranks.
        seed: which rows start as centroids is a function of this and of the rows' numbers.
        iterations: at most so many moves of the centroids.
        init: None for random rows; (K, D) floats are the first centroids; (N,) integers are the labels of a
            former clustering of the same rows, whose means are the first centroids.
        precision: "auto" or "fp32".
        chunk_rows: rows scored at once.

    Raises:
        SettingsError: K is out of range, or the features are not finite.
    """
    features = torch.as_tensor(features_ND)
    offset, total_rows = _global_rows(len(features))
    if not 1 <= num_clusters <= total_rows:
        raise SettingsError(
            f"num_clusters is {num_clusters}. It must be from 1 to the number of rows, {total_rows}."
        )
    _check_finite(features, offset, chunk_rows)
    labels = torch.full((len(features),), -1, dtype=torch.int32, device=features.device)
    width = features.shape[1]
    if init is None:
        centroids = _rows_by_number(features, draw_rows(seed, total_rows, num_clusters), offset)
    else:
        given = torch.as_tensor(init).to(features.device)
        if given.ndim == 2:
            centroids = given.double()
        else:
            labels.copy_(given)
            sums, counts = _sums(features, labels, num_clusters, chunk_rows)
            totals = distributed.all_reduce(torch.cat([sums.flatten(), counts.double()]))
            sums, counts = totals[:-num_clusters].view(num_clusters, width), totals[-num_clusters:].long()
            centroids = sums / counts.clamp(min=1)[:, None]
            _reseed(centroids, counts, float(centroids.std()), seed, -1)
    reseeded = moves = 0
    squares = sum(float(features[a:b].double().square().sum()) for a, b in _chunks(len(features), chunk_rows))
    for move in range(iterations + 1):
        best, changed = _assign(features, centroids, labels, chunk_rows)
        sums, counts = _sums(features, labels, num_clusters, chunk_rows)
        tail = torch.tensor([squares - 2 * best, changed], dtype=torch.float64, device=features.device)
        totals = distributed.all_reduce(torch.cat([sums.flatten(), counts.double(), tail]))
        sums = totals[: num_clusters * width].view(num_clusters, width)
        counts = totals[num_clusters * width : -2].round().long()
        inertia, changed = max(float(totals[-2]), 0.0), int(totals[-1])
        if move == iterations or (changed == 0 and move > 0):
            break
        moved = sums / counts.clamp(min=1)[:, None]
        centroids = torch.where(counts[:, None] > 0, moved, centroids)
        reseeded += _reseed(centroids, counts, (inertia / total_rows / width) ** 0.5, seed, move)
        moves += 1
    return Clustering(labels, centroids.float(), counts, inertia, reseeded, moves)


def _assign(features: Tensor, centroids: Tensor, labels: Tensor, chunk_rows: int) -> tuple[float, int]:
    """Write each row's nearest centroid into `labels`; return the sum of best scores and how many changed."""
    weights = centroids.float()
    bias = -0.5 * centroids.square().sum(1).float()
    scores = torch.empty(chunk_rows, len(centroids), device=features.device)
    best, changed = 0.0, 0
    for start, stop in _chunks(len(features), chunk_rows):
        out = scores[: stop - start]
        torch.addmm(bias, features[start:stop].float(), weights.T, out=out)
        value, winner = out.max(dim=1)
        best += float(value.sum(dtype=torch.float64))
        changed += int((labels[start:stop] != winner).sum())
        labels[start:stop] = winner
    return best, changed


def _sums(features: Tensor, labels: Tensor, num_clusters: int, chunk_rows: int) -> tuple[Tensor, Tensor]:
    """Sum of the rows of each cluster, (K, D) float64, and their number, (K,) int64, on this rank."""
    sums = torch.zeros(num_clusters, features.shape[1], dtype=torch.float64, device=features.device)
    counts = torch.zeros(num_clusters, dtype=torch.int64, device=features.device)
    for start, stop in _chunks(len(features), chunk_rows):
        chosen = labels[start:stop]
        count = torch.bincount(chosen, minlength=num_clusters)
        starts = count.cumsum(0) - count
        order = torch.argsort(chosen, stable=True)
        sums += functional.embedding_bag(order, features[start:stop].float(), starts, mode="sum")
        counts += count
    return sums, counts


def _reseed(centroids: Tensor, counts: Tensor, spread: float, seed: int, move: int) -> int:
    """Give each empty cluster half of the largest one: its centroid, moved a little in a hashed direction."""
    width = centroids.shape[1]
    empty = torch.nonzero(counts == 0).flatten().tolist()
    remaining = counts.double()
    for cluster in empty:
        donor = int(remaining.argmax())
        bits = hashes(
            seed, np.arange(width, dtype=np.uint64), stream=(move + 2) * len(counts) + cluster
        ) >> np.uint64(63)
        signs = torch.from_numpy(bits.astype(np.float64) * 2 - 1).to(centroids.device)
        centroids[cluster] = centroids[donor] + signs * (spread / width**0.5)
        remaining[donor] /= 2
        remaining[cluster] = remaining[donor]
    return len(empty)


def _rows_by_number(features: Tensor, numbers: np.ndarray, offset: int) -> Tensor:
    """The rows of these global numbers, (len(numbers), D) float64, on every rank."""
    rows = torch.zeros(len(numbers), features.shape[1], dtype=torch.float64, device=features.device)
    local = torch.from_numpy(numbers - offset).to(features.device)
    mine = torch.nonzero((local >= 0) & (local < len(features))).flatten()
    rows[mine] = features[local[mine]].double()
    return distributed.all_reduce(rows)


def _global_rows(local_rows: int) -> tuple[int, int]:
    """The global number of this rank's first row, and the number of rows over all ranks."""
    lengths = torch.zeros(distributed.world_size(), dtype=torch.int64)
    lengths[distributed.rank()] = local_rows
    distributed.all_reduce(lengths)
    return int(lengths[: distributed.rank()].sum()), int(lengths.sum())


def _check_finite(features: Tensor, offset: int, chunk_rows: int) -> None:
    first = torch.tensor([2**62], dtype=torch.int64)
    for start, stop in _chunks(len(features), chunk_rows):
        bad = torch.nonzero(~torch.isfinite(features[start:stop]).all(dim=1)).flatten()
        if len(bad):
            first[0] = offset + start + int(bad[0])
            break
    if int(distributed.all_reduce(first, "min")) < 2**62:
        raise SettingsError(
            f"Row {int(first)} of the features is not finite (NaN or infinite). Find what wrote it."
        )


def _chunks(num_rows: int, chunk_rows: int) -> list[tuple[int, int]]:
    return [(start, min(start + chunk_rows, num_rows)) for start in range(0, num_rows, chunk_rows)]
