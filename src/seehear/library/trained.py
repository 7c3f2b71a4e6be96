"""What does a finished run know? Its encoders, its clusters, their names, the features of its rows.

Distances are Euclidean, between prepared features (`clusters.Space`) and centroids. A cluster's
radius is the 99th percentile of the distances of its training rows; beyond it a segment is far from
everything seen in training. Where a cluster has fewer than `FEW_ROWS` rows, its radius is the
percentile over all rows of its clustering. Radii are computed once, from `features/*.npy`, and kept
in `clusters/radii.safetensors`, which vanishes with the clusters that it is of when a run goes on.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from seehear.data.index import Index
from seehear.errors import CheckpointError, RunError, UsageError
from seehear.machine.files import atomic_file
from seehear.machine.reading import (
    anew,
    open_features,
    open_recordings,
    read_labels,
    readable,
    rows_of,
)
from seehear.method.clusters import ALL_SPACES, MEMBERS, Space, centrings_of, number_of, space_of
from seehear.method.recordings import Centring, Recordings
from seehear.models.matching import Matching
from seehear.models.model import Model, load
from seehear.runs.fingerprint import index_of_run
from seehear.runs.folder import Run
from seehear.runs.names import Names, read_names

FAR_PERCENTILE = 99.0
FEW_ROWS = 20
BLOCK_ROWS = 16_384  # read, prepared and compared at once: 34 MB as 512 float32 columns

# numbers of rows (n,), and modality -> their features (n, D) float32
Block = tuple[np.ndarray, dict[str, Tensor]]


@dataclass(frozen=True)
class Centroids:
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
        return MEMBERS[space_of(self.name)]

    def prepared(self, features: Mapping[str, Tensor]) -> Tensor:
        """Features (N, D) of its modalities, less their recordings' -> (N, d), as clustered."""
        return self.space([features[modality] for modality in self.modalities])

    def nearest(self, features: Mapping[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """The nearest centroid of each row of features, as `prepared` takes them: (N,) int64, its
        distance, and the margin.

        The margin is by how much the second nearest is farther, infinite with a single centroid.
        """
        prepared_ND = self.prepared(features)
        scores_NK = prepared_ND @ self.centroids_KD.T - self.centroids_KD.square().sum(dim=1) / 2
        best_N2 = scores_NK.topk(min(2, len(self.centroids_KD)), dim=1).indices
        exact_N2 = (prepared_ND[:, None] - self.centroids_KD[best_N2]).norm(dim=2)
        first_N = exact_N2.argmin(dim=1, keepdim=True)  # products round; differences do not
        distance_N = exact_N2.gather(1, first_N)[:, 0]
        margin_N = exact_N2[:, -1:].new_full((len(exact_N2),), torch.inf)
        if exact_N2.shape[1] > 1:
            margin_N = exact_N2.amax(dim=1) - distance_N
        return best_N2.gather(1, first_N)[:, 0], distance_N, margin_N


@dataclass(frozen=True)
class Trained:
    """A finished run, opened.

    Args:
        run: its folder and record.
        model: its encoders.
        clusterings: by name.
        names: what a person called the clusters.
    """

    run: Run
    model: Model
    clusterings: Mapping[str, Centroids]
    names: Names = field(repr=False)

    @property
    def path(self) -> Path:
        """The run's folder."""
        return self.run.path

    @cached_property
    def features(self) -> dict[str, np.ndarray]:
        """The features of the training rows, modality -> (N, D) float16, on disk; NaN: unreadable.

        Raises:
            RunError: they are not there.
        """
        widths = {m: self.model.pair.feature_dim(m) for m in self.model.modalities}
        return open_features(self.path, len(next(iter(self.labels.values()))), widths)

    @cached_property
    def labels(self) -> dict[str, np.ndarray]:
        """The cluster of every training row, by clustering: (N,) int32, -1 where unreadable."""
        sizes = {name: len(c.centroids_KD) for name, c in self.clusterings.items()}
        path = self.path / "clusters" / "labels.parquet"
        return dict(read_labels(path, anew(self.path), sizes, rows_of(self.path)))

    @cached_property
    def centrings(self) -> dict[str, Centring]:
        """Modality -> what is taken from its features for their recordings."""
        return centrings_of({name: c.space for name, c in self.clusterings.items()})

    @cached_property
    def recordings(self) -> Recordings | None:
        """The recordings of the training rows, where anything is taken for them.

        Raises:
            RunError: features or recordings of the rows are not there.
        """
        if not self.centrings:
            return None
        recording_N = open_recordings(self.path, len(next(iter(self.labels.values()))))
        blocks = blocks_of(self.features, tuple(self.features))
        return Recordings.of(recording_N, blocks, self.centrings)

    def features_of(
        self, rows: NDArray[np.int64], modalities: Sequence[str]
    ) -> Mapping[str, Tensor]:
        """The features (n, D) of some training rows, without what is their recordings'."""
        found = {
            m: torch.from_numpy(np.asarray(self.features[m][rows], np.float32)) for m in modalities
        }
        return without_recordings(self.recordings, rows, found)

    @property
    def matching(self) -> Matching:
        """What compares sights with sounds.

        Raises:
            RunError: the run has none.
        """
        if self.model.matching is None:
            raise RunError(
                f"{self.path / 'encoders' / 'matching.safetensors'} is missing, so that sights "
                f"and sounds cannot be compared. Compare like with like."
            )
        return self.model.matching

    @cached_property
    def radii(self) -> dict[str, Tensor]:
        """For each clustering the radii of its clusters, (K,) float32."""
        from safetensors.torch import load_file, save_file

        path = self.path / "clusters" / "radii.safetensors"
        sizes = {name: (len(c.centroids_KD),) for name, c in self.clusterings.items()}
        with contextlib.suppress(Exception):  # damaged or not there, it is computed again
            kept = load_file(path)
            if all(kept[name].shape == size for name, size in sizes.items()):
                return dict(kept)
        radii = {
            name: radii_of(c, self.labels[name], self.features, self.recordings)
            for name, c in self.clusterings.items()
        }
        with contextlib.suppress(OSError), atomic_file(path) as temporary:  # a run may be read-only
            save_file(radii, temporary)
        return radii

    @property
    def digest(self) -> str:
        """SHA-256 of all that decides a label: encoders, centroids, radii and names."""
        digest = hashlib.sha256(f"{self.model.digest} {sorted(self.names.items())}".encode())
        for name, clustering in self.clusterings.items():
            for tensor in (
                clustering.centroids_KD,
                self.radii[name],
                *clustering.space.state_dict().values(),
            ):
                digest.update(tensor.numpy().tobytes())
        return digest.hexdigest()

    def unit_vectors(self, space: str, features: Mapping[str, Tensor]) -> Tensor:
        """Features (N, D), less their recordings' -> (N, d) of unit length, as clustered."""
        found = next(c for name, c in self.clusterings.items() if space_of(name) == space)
        prepared_ND = found.prepared(features)
        return prepared_ND if found.space.parts[0].unit_length else F.normalize(prepared_ND, dim=1)

    def index(self, given: str | Path | None = None) -> Index:
        """The index that the run was trained on: the given one, or where the run was told it is.

        Raises:
            RunError, IndexFileError: it has vanished or changed.
        """
        return index_of_run(self.run, given)


def open_run(run: str | Path | Model | Trained, *, device: str = "auto") -> Trained:
    """Open a finished run.

    Args:
        run: its folder, or its encoders where they are loaded already; what is open stays as it is.
        device: where encoders run that are not loaded yet.
    Raises:
        RunError: no run there, or one that has not finished, or malformed names.
        CheckpointError: damaged files.
    """
    from safetensors.torch import load_file

    if isinstance(run, Trained):
        return run
    folder = run.run if isinstance(run, Model) else Path(run)
    if folder is None:
        raise RunError(
            "These encoders are of no run, so that there are no clusters. Load the folder of a run."
        )
    opened = Run.open(folder)
    path = opened.path / "clusters" / "centroids.safetensors"
    if not path.exists():
        raise RunError(
            f"{opened.path} has no final clusters: it has not finished. Go on: seehear pretrain "
            f"... --resume"
        )
    with readable(path, anew(opened.path), CheckpointError):
        clusterings = clusterings_of(load_file(path))
    names = read_names(opened.path, {name: len(c.centroids_KD) for name, c in clusterings.items()})
    model = run if isinstance(run, Model) else load(opened.path, device=device)
    with readable(path, anew(opened.path), CheckpointError):
        empty = {m: torch.zeros(1, model.pair.feature_dim(m)) for m in model.modalities}
        needed = {m for c in clusterings.values() for m in c.modalities}
        if not clusterings or not needed <= empty.keys():
            raise ValueError("it holds no clusters of these encoders")
        for clustering in clusterings.values():  # all shapes fit, or this fails
            clustering.nearest(empty)
    return Trained(opened, model, clusterings, names)


def clusterings_of(tensors: Mapping[str, Tensor]) -> dict[str, Centroids]:
    """What `centroids.safetensors` holds: video, audio, joint, each from few clusters to many."""
    found = {}
    for key in tensors:
        name, _, what = key.partition(".")
        if what == "centroids":
            prefix = f"{name}.space."
            state = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
            found[name] = Centroids(name, Space.from_state_dict(state), tensors[key].float())

    order = sorted(found, key=lambda name: (ALL_SPACES.index(space_of(name)), number_of(name)))
    return {name: found[name] for name in order}


def blocks_of(
    arrays: Mapping[str, np.ndarray], modalities: Sequence[str], block_rows: int = BLOCK_ROWS
) -> Iterator[Block]:
    """Features on disk, (N, D) by modality, some rows at a time; without those that are NaN."""
    for start in range(0, len(arrays[modalities[0]]), block_rows):
        stop = start + block_rows
        parts = {m: np.asarray(arrays[m][start:stop], dtype=np.float32) for m in modalities}
        good_n = ~np.isnan(np.stack([part[:, 0] for part in parts.values()])).any(axis=0)
        rows = start + np.flatnonzero(good_n)
        found = {m: torch.from_numpy(part[good_n]) for m, part in parts.items()}
        for modality, part in found.items():
            where = str(getattr(arrays[modality], "filename", "The table"))
            check_features_finite(where, modality, rows, part)
        yield rows, found


def check_features_finite(
    where: str, modality: str, rows_n: np.ndarray, features_nD: Tensor
) -> None:
    """Raise UsageError for features that are NaN or infinite: nothing is near them."""
    wrong_n = ~torch.isfinite(features_nD).all(dim=1).numpy()
    if wrong_n.any():
        raise UsageError(
            f"{where}: the {modality} features of row {int(rows_n[wrong_n][0])}, and "
            f"{int(wrong_n.sum()) - 1} more, are NaN or infinite. Make them anew with seehear "
            f"embed, or, of a run, with seehear pretrain --resume."
        )


def without_recordings(
    recordings: Recordings | None, rows_n: np.ndarray, features: Mapping[str, Tensor]
) -> Mapping[str, Tensor]:
    """Features (n, D) of some rows without what is their recordings', if anything is taken."""
    return features if recordings is None else recordings.without(rows_n, features)


def radii_of(
    clustering: Centroids,
    labels_N: np.ndarray,
    features: Mapping[str, np.ndarray],
    recordings: Recordings | None,
) -> Tensor:
    """The radius of each cluster, (K,) float32, by the labels and features of the training rows."""
    distance_N = np.full(len(labels_N), np.nan, dtype=np.float32)
    for rows, block in blocks_of(features, clustering.modalities):
        own_n = torch.from_numpy(labels_N[rows].astype(np.int64)).clamp(min=0)
        centred = without_recordings(recordings, rows, block)
        difference_nD = clustering.prepared(centred) - clustering.centroids_KD[own_n]
        distance_N[rows] = difference_nD.norm(dim=1).numpy()
    known_N = (labels_N >= 0) & ~np.isnan(distance_N)
    everywhere = np.percentile(distance_N[known_N], FAR_PERCENTILE) if known_N.any() else np.inf
    radii_K = np.full(len(clustering.centroids_KD), everywhere, dtype=np.float32)
    order = np.argsort(labels_N[known_N], kind="stable")
    clusters, first = np.unique(labels_N[known_N][order], return_index=True)
    members = np.split(distance_N[known_N][order], first[1:])
    for cluster, distance_n in zip(clusters, members, strict=True):
        if len(distance_n) >= FEW_ROWS:
            radii_K[cluster] = np.percentile(distance_n, FAR_PERCENTILE)
    return torch.from_numpy(radii_K)
