"""Which cluster is nearest, and how far away is far?

Distances are Euclidean, between prepared features (`clusters.Space`) and centroids. A cluster's
radius is the 99th percentile of the distances of its training rows; beyond it a segment is far from
everything seen in training. Where a cluster has fewer than `FEW_ROWS` rows, its radius is the
percentile over all rows of its clustering.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from seehear.data.placing import MODALITIES
from seehear.errors import UsageError
from seehear.method.clusters import Space
from seehear.models.matching import space_of

FAR_PERCENTILE = 99.0
FEW_ROWS = 20
BLOCK_ROWS = 16_384  # read, prepared and compared at once: 34 MB as 512 float32 columns


@dataclass(frozen=True)
class Clustering:
    """One clustering of the finished encoders.

    Args:
        name: "video", "audio" or "joint"; with the number of clusters after it where there are
            several.
        space: the preparation of the features before distances.
        centroids_KD: (K, D) float32.
    """

    name: str
    space: Space
    centroids_KD: Tensor

    @property
    def modalities(self) -> tuple[str, ...]:
        """Which features it needs."""
        space = space_of(self.name)
        return MODALITIES if space == "joint" else (space,)

    def nearest(self, features: Mapping[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Where features belong.

        Args:
            features: (N, D) float32 of each modality that the clustering needs.
        Returns:
            The nearest centroid, (N,) int64; the distance to it, (N,) float32; and by how much the
            second nearest is farther, (N,) float32, infinite with a single centroid.
        """
        prepared_ND = self.space([features[modality] for modality in self.modalities])
        scores_NK = prepared_ND @ self.centroids_KD.T - self.centroids_KD.square().sum(dim=1) / 2
        best_N2 = scores_NK.topk(min(2, len(self.centroids_KD)), dim=1).indices
        exact_N2 = (prepared_ND[:, None] - self.centroids_KD[best_N2]).norm(dim=2)
        first_N = exact_N2.argmin(dim=1, keepdim=True)  # products round; differences do not
        distance_N = exact_N2.gather(1, first_N)[:, 0]
        margin_N = exact_N2[:, -1:].new_full((len(exact_N2),), torch.inf)
        if exact_N2.shape[1] > 1:
            margin_N = exact_N2.amax(dim=1) - distance_N
        return best_N2.gather(1, first_N)[:, 0], distance_N, margin_N


def clusterings_of(tensors: Mapping[str, Tensor]) -> dict[str, Clustering]:
    """What `centroids.safetensors` holds, in the order video, audio, joint."""
    found = {}
    for key in tensors:
        name, _, what = key.partition(".")
        if what == "centroids":
            prefix = f"{name}.space."
            state = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
            found[name] = Clustering(name, Space.from_state_dict(state), tensors[key].float())
    order = {space: i for i, space in enumerate((*MODALITIES, "joint"))}
    return {
        name: found[name] for name in sorted(found, key=lambda name: (order[space_of(name)], name))
    }


def blocks_of(
    arrays: Mapping[str, np.ndarray], modalities: Sequence[str], block_rows: int = BLOCK_ROWS
) -> Iterator[tuple[np.ndarray, dict[str, Tensor]]]:
    """Features on disk, some rows at a time: the numbers of the readable rows, and modality -> (n,
    D) float32.
    """
    num_rows = len(arrays[modalities[0]])
    for start in range(0, num_rows, block_rows):
        parts = {
            m: np.asarray(arrays[m][start : start + block_rows], dtype=np.float32)
            for m in modalities
        }
        good = ~np.isnan(np.stack([part[:, 0] for part in parts.values()])).any(axis=0)
        rows, found = (
            start + np.flatnonzero(good),
            {m: torch.from_numpy(part[good]) for m, part in parts.items()},
        )
        for modality, part in found.items():
            check_finite(
                str(getattr(arrays[modality], "filename", "The table")), modality, rows, part
            )
        yield rows, found


def check_finite(where: str, modality: str, rows: np.ndarray, features_nD: Tensor) -> None:
    """Raise UsageError for features that are NaN or infinite: nothing is near them, and every order
    of them is made up.

    Args:
        where: the file that they are from.
        rows: (n,) their numbers in it.
    """
    wrong_n = ~torch.isfinite(features_nD).all(dim=1).numpy()
    if wrong_n.any():
        raise UsageError(
            f"{where}: the {modality} features of row {int(rows[wrong_n][0])}, and "
            f"{int(wrong_n.sum()) - 1} more, are "
            f"NaN or infinite. Make them anew with seehear embed, or, of a run, with seehear "
            f"pretrain --resume."
        )


def radii_of(
    clustering: Clustering, labels_N: np.ndarray, arrays: Mapping[str, np.ndarray]
) -> Tensor:
    """The radius of each cluster, (K,) float32.

    Args:
        labels_N: (N,) the clusters of the training rows, -1 where unreadable.
        arrays: modality -> (N, D) their features, NaN where unreadable.
    """
    distance_N = np.full(len(labels_N), np.nan, dtype=np.float32)
    for rows, features in blocks_of(arrays, clustering.modalities):
        own_n = torch.from_numpy(labels_N[rows].astype(np.int64)).clamp(min=0)
        prepared_nD = clustering.space([features[modality] for modality in clustering.modalities])
        distance_N[rows] = (prepared_nD - clustering.centroids_KD[own_n]).norm(dim=1).numpy()
    known_N = (labels_N >= 0) & ~np.isnan(distance_N)
    everywhere = np.percentile(distance_N[known_N], FAR_PERCENTILE) if known_N.any() else np.inf
    radii_K = np.full(len(clustering.centroids_KD), everywhere, dtype=np.float32)
    order = np.argsort(labels_N[known_N], kind="stable")
    clusters, first = np.unique(labels_N[known_N][order], return_index=True)
    for cluster, members in zip(
        clusters, np.split(distance_N[known_N][order], first[1:]), strict=True
    ):
        if len(members) >= FEW_ROWS:
            radii_K[cluster] = np.percentile(members, FAR_PERCENTILE)
    return torch.from_numpy(radii_K)
