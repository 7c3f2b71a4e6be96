"""What exactly is clustered? Features of one modality, or of both joined, centred and scaled before
k-means.

The paper does not say how; `cluster.features` chooses. "l2": centre, then unit length, so that
k-means compares directions. "whiten": centre, rotate to principal components, scale each to unit
variance, then unit length, so that no direction dominates. "none": as they are. In the joint space
each modality is prepared by itself, then both are joined and the rows scaled to unit length again,
so that neither outweighs the other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from seehear.config import Cluster, Settings
from seehear.data.order import derive
from seehear.machine import distributed
from seehear.method.features import Features
from seehear.method.kmeans import Clustering, Preprocessing, fit_preprocessing, kmeans

UNLABELLED = -1  # the label of a row that could not be read
NUMBERS = ("inertia", "reseeded", "iterations")  # of a clustering, beside its tensors
# space -> the modalities whose features it joins
MEMBERS = {"video": ("video",), "audio": ("audio",), "joint": ("video", "audio")}
ALL_SPACES = tuple(MEMBERS)


@dataclass(frozen=True)
class Space:
    """A fitted preparation: one for each modality that the space joins."""

    parts: tuple[Preprocessing, ...]

    @classmethod
    def fit(cls, features: Sequence[Tensor], kind: str) -> Space:
        """Fit on the features (N, D) of each modality that the space joins, over the rows of all
        ranks.

        Args:
            kind: "l2", "whiten" or "none".
        """
        if kind == "none":
            return cls(tuple(Preprocessing(None, None, False) for _ in features))
        return cls(tuple(fit_preprocessing(part, whiten=kind == "whiten") for part in features))

    def __call__(self, features: Sequence[Tensor]) -> Tensor:
        """Features of each modality (N, D) -> what is clustered (N, sum of widths), float32."""
        joined = torch.cat([part(x) for part, x in zip(self.parts, features, strict=True)], dim=1)
        return (
            F.normalize(joined, dim=1)
            if len(self.parts) > 1 and self.parts[0].unit_length
            else joined
        )

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
            Preprocessing(
                state.get(f"{i}.mean"), state.get(f"{i}.axes"), bool(state[f"{i}.unit_length"])
            )
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

    def state_dict(self) -> dict[str, Any]:
        """Tensors by name, and "numbers": plain ones."""
        return {
            "labels": torch.from_numpy(self.labels_N),
            "centroids": self.clustering.centroids,
            "sizes": self.clustering.sizes,
            **{f"space.{key}": value for key, value in self.space.state_dict().items()},
            "numbers": {key: getattr(self.clustering, key) for key in NUMBERS},
        }

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Any]) -> Clusters:
        """The inverse of `state_dict`."""
        space = {
            key.removeprefix("space."): value
            for key, value in state.items()
            if key.startswith("space.")
        }
        clustering = Clustering(
            state["labels"], state["centroids"], state["sizes"], **state["numbers"]
        )
        return cls(state["labels"].numpy(), clustering, Space.from_state_dict(space))


def group(
    prepared_nD: Tensor,
    rows_n: np.ndarray,
    num_rows: int,
    num_clusters: int,
    cfg: Cluster,
    seed: int,
    device: str,
    before: Clusters | None,
) -> tuple[np.ndarray, Clustering]:
    """Cluster prepared features as the settings say; the labels of all rows, and the clustering of
    this rank's.

    Args:
        prepared_nD: features of the rows of this rank that could be read, prepared.
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
    clustering = replace(
        clustering, centroids=clustering.centroids.cpu(), sizes=clustering.sizes.cpu()
    )
    labels_N = np.full(num_rows, UNLABELLED, dtype=np.int32)
    labels_N[rows_n] = clustering.labels.cpu().numpy()
    # 4 bytes a row: all that ranks tell each other of rows
    distributed.all_reduce(torch.from_numpy(labels_N), "max")
    return labels_N, clustering


def cluster_features(
    features: Features,
    num_rows: int,
    cfg: Settings,
    device: str,
    number: int,
    spaces: Sequence[str],
    last: Mapping[str, Clusters] | None = None,
) -> dict[str, Clusters]:
    """Step 2 of a round: k-means on the features of the rows that could be read; `features` are
    those of this rank.

    Args:
        number: of the round; seeds derive from it.
        last: the clusters of the round before, to begin with where `cluster.warm_start` is set.
    """
    found: dict[str, Clusters] = {}
    for space in spaces:
        parts = [features.of[modality] for modality in MEMBERS[space]]
        fitted = Space.fit(parts, cfg.cluster.features)
        prepared_ND = fitted(parts)
        for k in cfg.cluster.num_clusters:
            name = space if len(cfg.cluster.num_clusters) == 1 else f"{space}_{k}"
            before = last.get(name) if last else None
            seed = derive(cfg.seed, number, 1 + len(found))
            labels = group(
                prepared_ND, features.rows, num_rows, k, cfg.cluster, seed, device, before
            )
            found[name] = Clusters(*labels, fitted)
    return found


def heads_of(
    clusters: Mapping[str, Clusters], teachers: Mapping[str, tuple[str, ...]]
) -> dict[str, dict[str, int]]:
    """student -> clustering -> K: one head for each clustering of each teaching space."""
    return {
        student: {
            name: len(c.clustering.centroids)
            for space in spaces
            for name, c in clusters.items()
            if name.split("_")[0] == space
        }
        for student, spaces in teachers.items()
    }
