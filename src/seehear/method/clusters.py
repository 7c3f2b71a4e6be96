"""What exactly is clustered? Features of one modality, or of both joined, centred and scaled before k-means.

The paper does not say how; `cluster.features` chooses. "l2": centre, then unit length, so that k-means compares
directions. "whiten": centre, rotate to principal components, scale each to unit variance, then unit length, so that no
direction dominates. "none": as they are. In the joint space each modality is prepared by itself, then both are joined
and the rows scaled to unit length again, so that neither outweighs the other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from seehear.config import Cluster
from seehear.machine import distributed
from seehear.method.kmeans import Clustering, Preprocessing, fit_preprocessing, kmeans

UNLABELLED = -1  # the label of a row that could not be read


@dataclass(frozen=True)
class Space:
    """A fitted preparation: one for each modality that the space joins."""

    parts: tuple[Preprocessing, ...]

    @classmethod
    def fit(cls, features: Sequence[Tensor], kind: str) -> Space:
        """Fit on the features (N, D) of each modality that the space joins, over the rows of all ranks.

        Args:
            kind: "l2", "whiten" or "none".
        """
        if kind == "none":
            return cls(tuple(Preprocessing(None, None, False) for _ in features))
        return cls(tuple(fit_preprocessing(part, whiten=kind == "whiten") for part in features))

    def __call__(self, features: Sequence[Tensor]) -> Tensor:
        """Features of each modality (N, D) -> what is clustered (N, sum of widths), float32."""
        joined = torch.cat([part(x) for part, x in zip(self.parts, features, strict=True)], dim=1)
        return F.normalize(joined, dim=1) if len(self.parts) > 1 and self.parts[0].unit_length else joined

    def state_dict(self) -> dict[str, Tensor]:
        """The fitted tensors by name."""
        tensors = {}
        for i, part in enumerate(self.parts):
            tensors[f"{i}.unit_length"] = torch.tensor(part.unit_length)
            if part.mean_D is not None:
                tensors[f"{i}.mean"] = part.mean_D
            if part.axes_DD is not None:
                tensors[f"{i}.axes"] = part.axes_DD
        return tensors

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Tensor]) -> Space:
        """The inverse of `state_dict`."""
        count = sum(name.endswith(".unit_length") for name in state)
        parts = (
            Preprocessing(state.get(f"{i}.mean"), state.get(f"{i}.axes"), bool(state[f"{i}.unit_length"]))
            for i in range(count)
        )
        return cls(tuple(parts))


@dataclass(frozen=True)
class Clusters:
    """One clustering: the labels of all rows, and what would assign new ones.

    labels_N is int32, UNLABELLED where a row could not be read.
    """

    labels_N: np.ndarray
    clustering: Clustering
    space: Space


def group(
    prepared_nD: Tensor,
    space: Space,
    rows_n: np.ndarray,
    num_rows: int,
    num_clusters: int,
    cfg: Cluster,
    seed: int,
    device: str,
    before: Clusters | None,
) -> Clusters:
    """Cluster prepared features as the settings say.

    Args:
        prepared_nD: features of the rows of this rank that could be read, after `space`.
        rows_n: which rows these are, of `num_rows` over all ranks.
        device: where to compute.
        before: the last round's clusters of the same space, or None.
    """
    init = before.labels_N[rows_n] if before and cfg.warm_start else None
    clustering = kmeans(
        prepared_nD,
        num_clusters,
        seed=seed,
        iterations=cfg.iterations,
        init=init,
        points_per_centroid=cfg.points_per_centroid or None,
        device=device,
    )
    clustering = replace(clustering, centroids=clustering.centroids.cpu(), sizes=clustering.sizes.cpu())
    labels_N = np.full(num_rows, UNLABELLED, dtype=np.int32)
    labels_N[rows_n] = clustering.labels.cpu().numpy()
    distributed.all_reduce(torch.from_numpy(labels_N), "max")  # 4 bytes a row: all that ranks tell each other of rows
    return Clusters(labels_N, clustering, space)
