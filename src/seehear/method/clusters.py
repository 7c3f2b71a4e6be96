"""What exactly is clustered? Features of one modality, or of both joined, centred and scaled before
k-means.

The paper does not say how; `cluster.features` chooses. "l2": centre, then unit length, so that
k-means compares directions. "whiten": centre, rotate to principal components, scale each to unit
variance, then unit length, so that no direction dominates (what teaches alone; a run's final
clusters are then of "l2"). "none": as they are. In the joint space
each modality is prepared by itself, then both are joined and the rows scaled to unit length again,
so that neither outweighs the other. Before all that goes what rows share with their recording
(`recordings`), as `cluster.centre` says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from seehear.config import Cluster, Settings
from seehear.data.order import derive
from seehear.machine import distributed
from seehear.method.encoders.pair import TWINS
from seehear.method.features import Features
from seehear.method.kmeans import Clustering, Preprocessing, fit_preprocessing, kmeans
from seehear.method.rankme import rankme
from seehear.method.recordings import Centring, Spread

UNLABELLED = -1  # the label of a row that could not be read
NUMBERS = ("inertia", "reseeded", "iterations")  # of a clustering, beside its tensors
OF_FEATURES = ("shares", "chance", "rankme")  # numbers of what was clustered
ALL_SPACES = ("video", "audio", "joint")
# space -> the encoders whose features it joins
MEMBERS = {
    "video": ("video",),
    "audio": ("audio",),
    "joint": ("video", "audio"),
    **{twin: (twin,) for twin in TWINS},
}


@dataclass(frozen=True)
class Space:
    """A fitted preparation, of each modality that the space joins.

    centrings: what is taken from each for its recording, None for nothing; none at all is nothing
    for all. parts: what is done then.
    """

    parts: tuple[Preprocessing, ...]
    centrings: tuple[Centring | None, ...] = ()

    @classmethod
    def fit(
        cls,
        features: Sequence[Tensor],
        kind: str,
        recording_n: np.ndarray | None = None,
        spreads: Sequence[Spread] = (),
        centre: str = "all",
    ) -> Space:
        """Fit on the features (n, D) of each modality that the space joins, over all ranks.

        Args:
            kind: "l2", "whiten" or "none".
            recording_n: of the rows; with it `spreads`, one of each modality, and `centre`, as
                `cluster.centre`.
        """
        centrings = tuple(Centring.fit(spread, centre) for spread in spreads)
        features = _centred(features, centrings, recording_n)
        if kind == "none":
            return cls(tuple(Preprocessing(None, None, False) for _ in features), centrings)
        parts = tuple(fit_preprocessing(part, whiten=kind == "whiten") for part in features)
        return cls(parts, centrings)

    def __call__(self, features: Sequence[Tensor], recording_n: np.ndarray | None = None) -> Tensor:
        """Features of each modality (N, D) -> what is clustered (N, sum of widths), float32.

        recording_n: numbers that are equal for rows of one recording, all of whose rows should be
        here; without it, or where a row is alone of its recording, nothing is taken for that. Of
        rows that are not all here at once see `Recordings`.
        """
        features = _centred(features, self.centrings, recording_n)
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
        for i, centring in enumerate(self.centrings):
            if centring is not None:
                tensors[f"{i}.centre"] = centring.mean_D
                tensors[f"{i}.least"] = torch.tensor(centring.least)
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
        centrings = (
            Centring(state[f"{i}.centre"], int(state[f"{i}.least"]))
            if f"{i}.centre" in state
            else None
            for i in range(count)
        )
        return cls(tuple(parts), tuple(centrings))


def space_of(clustering: str) -> str:
    """ "video_128" -> "video": the space that a clustering is of."""
    return clustering.split("_")[0]


def number_of(clustering: str) -> int:
    """ "video_128" -> 128: of several numbers of clusters, its own; 0 of "video"."""
    return int(clustering.partition("_")[2] or 0)


def centrings_of(spaces: Mapping[str, Space]) -> dict[str, Centring]:
    """Modality -> what is taken from its features for their recordings, by the spaces of a run's
    clusterings; those of which nothing is taken are left out.

    Spaces that join the same modality take the same from it: it is fitted to the same rows.
    """
    return {
        modality: centring
        for name, space in spaces.items()
        for modality, centring in zip(MEMBERS[space_of(name)], space.centrings, strict=False)
        if centring is not None
    }


def _centred(
    features: Sequence[Tensor], centrings: Sequence[Centring | None], recording_n: np.ndarray | None
) -> Sequence[Tensor]:
    """Features of each modality without what is their recordings'."""
    if recording_n is None or not any(centrings):
        return features
    return [
        x if centring is None else centring(x, recording_n)
        for x, centring in zip(features, centrings, strict=True)
    ]


@dataclass(frozen=True)
class Clusters:
    """One clustering: the labels of all rows, and what would assign new ones.

    labels_N is int32, UNLABELLED where a row could not be read. shares: modality -> the share of
    its features' variance that lies between recordings; chance: what is to be expected of it.
    rankme: modality -> in how many directions its features vary.
    """

    labels_N: np.ndarray
    clustering: Clustering
    space: Space
    shares: Mapping[str, float] = field(default_factory=dict)
    chance: float = 0.0
    rankme: Mapping[str, float] = field(default_factory=dict)

    def state_dict(self) -> dict[str, Any]:
        """Tensors by name, and plain numbers."""
        return {
            "labels": torch.from_numpy(self.labels_N),
            "centroids": self.clustering.centroids,
            "sizes": self.clustering.sizes,
            **{f"space.{key}": value for key, value in self.space.state_dict().items()},
            "numbers": {key: getattr(self.clustering, key) for key in NUMBERS},
            "of_features": {name: getattr(self, name) for name in OF_FEATURES},
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
        numbers = state["of_features"]
        return cls(state["labels"].numpy(), clustering, Space.from_state_dict(space), **numbers)


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
    """Cluster prepared features: the labels of all rows, and this rank's clustering.

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
    recording_N: np.ndarray,
    cfg: Settings,
    device: str,
    number: int,
    spaces: Sequence[str],
    last: Mapping[str, Clusters] | None = None,
) -> dict[str, Clusters]:
    """Step 2 of a round: k-means on the features of readable rows, of which this rank has some.

    Args:
        recording_N: of all rows, which recording each is of.
        number: of the round; seeds derive from it.
        last: the clusters of the round before, to begin with where `cluster.warm_start` is set.
    """
    found: dict[str, Clusters] = {}
    recording_n = recording_N[features.rows]
    spreads = {
        modality: Spread.of(features.of[modality], recording_n)
        for modality in features.of
        if any(modality in MEMBERS[space] for space in spaces)
    }
    ranks = {
        modality: rankme(features.of[modality], features.rows, len(recording_N))
        for modality in spreads
    }
    for space in spaces:
        parts = [features.of[modality] for modality in MEMBERS[space]]
        of_space = [spreads[modality] for modality in MEMBERS[space]]
        how = (cfg.cluster.features, recording_n, of_space, cfg.cluster.centre)
        fitted = Space.fit(parts, *how)
        prepared_ND = fitted(parts, recording_n)
        for k in cfg.cluster.num_clusters:
            name = space if len(cfg.cluster.num_clusters) == 1 else f"{space}_{k}"
            before = last.get(name) if last else None
            seed = derive(cfg.seed, number, 1 + len(found))
            sizes = (len(recording_N), k)
            labels = group(prepared_ND, features.rows, *sizes, cfg.cluster, seed, device, before)
            shares = {m: spreads[m].share for m in MEMBERS[space]}
            rank = {m: ranks[m] for m in MEMBERS[space]}
            found[name] = Clusters(*labels, fitted, shares, of_space[0].chance, rank)
    return found


def members_of(
    teachers: Mapping[str, tuple[str, ...]], known: str = "none"
) -> tuple[list[str], set[str]]:
    """The spaces that teach, in the order of `MEMBERS`, but for one, and their encoders."""
    teach = {space for of in teachers.values() for space in of if space != known}
    spaces = [space for space in MEMBERS if space in teach]
    return spaces, {encoder for space in spaces for encoder in MEMBERS[space]}


def heads_of(
    clusters: Mapping[str, Clusters], teachers: Mapping[str, tuple[str, ...]]
) -> dict[str, dict[str, int]]:
    """student -> clustering -> K: one head for each clustering of each teaching space."""
    return {
        student: {
            name: len(c.clustering.centroids)
            for space in spaces
            for name, c in clusters.items()
            if space_of(name) == space
        }
        for student, spaces in teachers.items()
    }
