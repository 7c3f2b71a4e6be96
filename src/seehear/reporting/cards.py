"""What is in each cluster? Size, compactness, the rows nearest to the centroid, partners elsewhere,
classes.

Distances are Euclidean, in the space that was clustered (`clusters.Space`), without what is the
recording's where the run takes that away, so "nearest" means what k-means meant. Shapes: N rows, K
clusters, C classes; a row without a label has NaN for its distance and -1 for its rank.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from seehear.machine.reading import (
    anew,
    open_features,
    open_recordings,
    read_labels,
    readable,
    rows_of,
)
from seehear.method.clusters import Space, centrings_of, space_of

CENTROIDS = Path("clusters") / "centroids.safetensors"
CHUNK_ROWS = 32768
SHOWN = 6  # neighbours of the centroid on a card
LISTED_ROWS = 50_000  # in the lists of members of one clustering
LISTED_LEAST = 48  # of every cluster
LISTED_OF_CELL = 12  # of every cell of the matrix
PARTS = {"video": ("video",), "audio": ("audio",), "joint": ("video", "audio")}


@dataclass(frozen=True)
class Grouping:
    """One clustering of all rows.

    name: such as "video", or "video_64" where there are several of a space. labels_N: int32, -1 for
    unreadable rows. distance_N: float32 to the own centroid. rank_N: int32, 0 for the row nearest
    to its centroid.
    """

    name: str
    num_clusters: int
    labels_N: np.ndarray
    distance_N: np.ndarray
    rank_N: np.ndarray

    @property
    def space(self) -> str:
        """video, audio or joint."""
        return space_of(self.name)

    @property
    def sizes_K(self) -> np.ndarray:
        """Rows in each cluster."""
        return np.bincount(self.labels_N[self.labels_N >= 0], minlength=self.num_clusters)


def read_groupings(run: Path) -> list[Grouping]:
    """The clusterings of a finished run, with the distance of every row to its centroid.

    Raises:
        RunError: files of the run are missing or damaged, or do not fit together.
    """
    import torch

    tensors = read_centroids(run)
    sizes = {
        key.partition(".")[0]: len(tensors[key]) for key in tensors if key.endswith(".centroids")
    }
    labels = read_labels(run / "clusters" / "labels.parquet", anew(run), sizes, rows_of(run))
    features = open_features(run, len(next(iter(labels.values()))))
    found = []
    with (
        torch.inference_mode(),
        readable(run / CENTROIDS, f"It, or what is in features/, is damaged. {anew(run)}"),
    ):
        spaces = {name: space_in(tensors, name) for name in labels}
        without = Centred(run, features, spaces)
        for name, labels_N in labels.items():
            distance_N = distances(
                without, labels_N, spaces[name], PARTS[space_of(name)], tensors[f"{name}.centroids"]
            )
            rank_N = ranks(labels_N, distance_N)
            found.append(Grouping(name, sizes[name], labels_N, distance_N, rank_N))
    return found


def read_centroids(run: Path) -> dict[str, Any]:
    """What `centroids.safetensors` of a finished run holds."""
    from safetensors.torch import load_file

    with readable(run / CENTROIDS, anew(run)):
        return dict(load_file(run / CENTROIDS))


def space_in(tensors: Mapping[str, Any], name: str) -> Space:
    """The preparation of a clustering."""
    head = f"{name}.space."
    return Space.from_state_dict(
        {key.removeprefix(head): value for key, value in tensors.items() if key.startswith(head)}
    )


class Centred:
    """The features of a run's rows as they were clustered: without what is their recordings'.

    Args:
        features: modality -> (N, D), memory-mapped perhaps; NaN where a row could not be read.
        spaces: clustering -> its preparation.
    """

    def __init__(
        self, run: Path, features: Mapping[str, np.ndarray], spaces: Mapping[str, Space]
    ) -> None:
        from seehear.method.recordings import Recordings

        self.features, self.num_rows = features, len(next(iter(features.values())))
        self.recordings, centrings = None, centrings_of(spaces)
        if centrings:
            recording_N = open_recordings(run, self.num_rows)
            blocks = map(self._there, range(0, self.num_rows, CHUNK_ROWS))
            self.recordings = Recordings.of(recording_N, blocks, centrings)

    def __call__(self, rows: np.ndarray) -> Mapping[str, Any]:
        """Modality -> features (n, D) of some rows, float32."""
        import torch

        found = {
            modality: torch.from_numpy(np.asarray(array[rows], np.float32))
            for modality, array in self.features.items()
        }
        return found if self.recordings is None else self.recordings.without(rows, found)

    def _there(self, begin: int) -> tuple[np.ndarray, Mapping[str, Any]]:
        rows = np.arange(begin, min(begin + CHUNK_ROWS, self.num_rows))
        found = self(rows)
        good_n = ~np.any([part[:, 0].isnan().numpy() for part in found.values()], axis=0)
        return rows[good_n], {modality: part[good_n] for modality, part in found.items()}


def distances(
    centred: Centred,
    labels_N: np.ndarray,
    space: Space,
    modalities: tuple[str, ...],
    centroids_KD: Any,
) -> np.ndarray:
    """The distance of every row to the centroid of its cluster, (N,) float32."""
    import torch

    result_N = np.full(len(labels_N), np.nan, np.float32)
    for begin in range(0, len(labels_N), CHUNK_ROWS):
        rows = begin + np.flatnonzero(labels_N[begin : begin + CHUNK_ROWS] >= 0)
        if not len(rows):
            continue
        of = centred(rows)
        prepared_nD = space([of[modality] for modality in modalities])
        own_nD = centroids_KD.float()[torch.from_numpy(labels_N[rows].astype(np.int64))]
        result_N[rows] = (prepared_nD.float() - own_nD).norm(dim=1).numpy()
    return result_N


def ranks(labels_N: np.ndarray, distance_N: np.ndarray) -> np.ndarray:
    """The place of every row in its cluster, by distance, then by number: 0 is nearest."""
    order = np.lexsort((np.arange(len(labels_N)), distance_N, labels_N))
    sorted_N = labels_N[order]
    first = np.searchsorted(sorted_N, sorted_N, side="left")
    rank_N = np.empty(len(labels_N), np.int32)
    rank_N[order] = np.arange(len(labels_N)) - first
    rank_N[labels_N < 0] = -1
    return rank_N


def counts(labels_N: np.ndarray, num: int, others_N: np.ndarray, num_others: int) -> np.ndarray:
    """How many rows have each pair of labels, (num, num_others) int64, of rows that have both."""
    both_N = (labels_N >= 0) & (others_N >= 0)
    flat = labels_N[both_N].astype(np.int64) * num_others + others_N[both_N]
    return np.bincount(flat, minlength=num * num_others).reshape(num, num_others)


def cards_of(
    grouping: Grouping, others: list[Grouping], class_N: np.ndarray | None, num_classes: int
) -> dict[str, Any]:
    """One clustering as the page shows it, without the segments themselves.

    Returns:
        name, space, clusters; cards: for each cluster that is not empty its number, size,
        compactness (mean distance to the centroid), nearest (row numbers), partners ([{name,
        cluster, share}]: where most of its rows are in the other modalities), and with classes
        purity (share of the most frequent) and classes ([[class, rows], ...]);
        empty: how many clusters hold nothing.
    """
    sizes_K = grouping.sizes_K
    sums_K = np.bincount(
        grouping.labels_N[grouping.labels_N >= 0],
        weights=grouping.distance_N[grouping.labels_N >= 0],
        minlength=grouping.num_clusters,
    )
    nearest = nearest_rows(grouping, SHOWN)
    tables = {
        o.name: counts(grouping.labels_N, grouping.num_clusters, o.labels_N, o.num_clusters)
        for o in others
    }
    of_class_KC = (
        None
        if class_N is None
        else counts(grouping.labels_N, grouping.num_clusters, class_N, num_classes)
    )
    cards = []
    for k in np.flatnonzero(sizes_K):
        card: dict[str, Any] = {
            "cluster": int(k),
            "size": int(sizes_K[k]),
            "compactness": round(float(sums_K[k] / sizes_K[k]), 4),
            "nearest": nearest[k].tolist(),
            "partners": [
                {
                    "name": name,
                    "cluster": int(t[k].argmax()),
                    "share": round(float(t[k].max() / sizes_K[k]), 4),
                }
                for name, t in tables.items()
            ],
        }
        if of_class_KC is not None and of_class_KC[k].sum():
            top = np.argsort(-of_class_KC[k], kind="stable")[:5]
            card["purity"] = round(float(of_class_KC[k].max() / of_class_KC[k].sum()), 4)
            card["classes"] = [[int(c), int(of_class_KC[k, c])] for c in top if of_class_KC[k, c]]
        cards.append(card)
    return {
        "name": grouping.name,
        "space": grouping.space,
        "clusters": grouping.num_clusters,
        "empty": int((sizes_K == 0).sum()),
        "cards": cards,
    }


def nearest_rows(grouping: Grouping, count: int) -> list[np.ndarray]:
    """For each cluster, the `count` rows nearest to its centroid, nearest first."""
    rows = np.flatnonzero((grouping.rank_N >= 0) & (grouping.rank_N < count))
    rows = rows[np.lexsort((grouping.rank_N[rows], grouping.labels_N[rows]))]
    bounds = np.searchsorted(grouping.labels_N[rows], np.arange(grouping.num_clusters + 1))
    return [rows[a:b] for a, b in pairwise(bounds)]


def listed_rows(grouping: Grouping, other: Grouping | None) -> np.ndarray:
    """The rows that the lists of members hold, by cluster and then distance.

    All of them, where the clustering has at most `LISTED_ROWS`; else of each cluster the nearest,
    an equal number of each, and the nearest of each cell that it shares with a cluster of `other`.
    """
    labelled_N = grouping.labels_N >= 0
    if labelled_N.sum() > LISTED_ROWS:
        most = max(LISTED_LEAST, LISTED_ROWS // grouping.num_clusters)
        keep_N = labelled_N & (grouping.rank_N < most)
        if other is not None:
            cell_N = (
                grouping.labels_N.astype(np.int64) * (other.num_clusters + 1) + other.labels_N + 1
            )
            cell_N[~labelled_N] = -1
            keep_N |= labelled_N & (ranks(cell_N, grouping.distance_N) < LISTED_OF_CELL)
        labelled_N = keep_N
    rows = np.flatnonzero(labelled_N)
    return rows[np.lexsort((grouping.rank_N[rows], grouping.labels_N[rows]))]
