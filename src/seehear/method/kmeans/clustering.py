"""What did k-means find?"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


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
