"""What does a finished run know? Its encoders, its clusters with their names, and how far away is far.

Distances are Euclidean, between prepared features (`spaces.Space`) and centroids. A cluster's radius is the 99th
percentile of the distances of its training rows; beyond it a segment is far from everything seen in training. Where a
cluster has fewer than `FEW_ROWS` rows, its radius is the percentile over all rows of its clustering. Radii are computed
once, from `features/*.npy`, and kept in `clusters/radii.safetensors`, which vanishes with the clusters that it is of.
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
from torch import Tensor

from seehear.errors import CheckpointError, RunError
from seehear.indexing import Index
from seehear.library.naming import Names, read_names
from seehear.matching import Matching, space_of
from seehear.model import MODALITIES, Model, load
from seehear.runs import Run, atomic_file
from seehear.spaces import Space

FAR_PERCENTILE = 99.0
FEW_ROWS = 20
BLOCK_ROWS = 16_384  # read, prepared and compared at once: 34 MB as 512 float32 columns
DIGEST_DIGITS = 12  # of a SHA-256 in hexadecimal


@dataclass(frozen=True)
class Clustering:
    """One clustering of the finished encoders.

    Args:
        name: "video", "audio" or "joint"; with the number of clusters after it where there are several.
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
            The nearest centroid, (N,) int64; the distance to it, (N,) float32; and by how much the second nearest is
            farther, (N,) float32, infinite with a single centroid.
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
    clusterings: Mapping[str, Clustering]
    names: Names = field(repr=False)

    @property
    def path(self) -> Path:
        """The run's folder."""
        return self.run.path

    @cached_property
    def digest(self) -> str:
        """Which encoders these are; features of others cannot be compared with theirs."""
        return digest_of(self.model)

    @cached_property
    def features(self) -> dict[str, np.ndarray]:
        """The features of the training rows, modality -> (N, D) float16, on disk; NaN where a row was unreadable.

        Raises:
            RunError: they are not there.
        """
        paths = {modality: self.path / "features" / f"{modality}.npy" for modality in MODALITIES}
        there = {modality: path for modality, path in paths.items() if path.exists()}
        if not there:
            raise RunError(f"{self.path} has no features of its rows. Make them: seehear pretrain ... --resume")
        return {modality: np.load(path, mmap_mode="r") for modality, path in there.items()}

    @cached_property
    def labels(self) -> dict[str, np.ndarray]:
        """The cluster of every training row, by clustering: (N,) int32, -1 where a row was unreadable."""
        import pyarrow.parquet as pq

        table = pq.read_table(self.path / "clusters" / "labels.parquet")
        return {name: table[name].to_numpy() for name in self.clusterings}

    @cached_property
    def matching(self) -> Matching:
        """What compares sights with sounds.

        Raises:
            RunError: the run has none.
        """
        from safetensors.torch import load_file

        path = self.path / "encoders" / "matching.safetensors"
        if not path.exists():
            raise RunError(f"{path} is missing, so that sights and sounds cannot be compared. Compare like with like.")
        return Matching.from_state_dict(load_file(path))

    @cached_property
    def radii(self) -> dict[str, Tensor]:
        """For each clustering (K,) float32: a segment farther from its centroid than this is far from all training."""
        from safetensors.torch import load_file, save_file

        path = self.path / "clusters" / "radii.safetensors"
        if path.exists():
            return dict(load_file(path))
        radii = {name: radii_of(clustering, self) for name, clustering in self.clusterings.items()}
        with contextlib.suppress(OSError), atomic_file(path) as temporary:  # a run may be read-only
            save_file(radii, temporary)
        return radii

    def index(self) -> Index:
        """The index that the run was trained on.

        Raises:
            RunError: it has vanished or changed.
        """
        place = self.run.record["index"]
        folder = Path(place["path"])
        hint = "Search another gallery, with --in, or bring the index back as it was."
        if not (folder / "index.json").exists():
            raise RunError(f"{folder}, the index that {self.path} was trained on, is not there. {hint}")
        index = Index.open(folder)
        if index.digest != place["digest"]:
            raise RunError(
                f"{folder} has changed since {self.path} was trained on it ({place['rows']} rows then, {len(index)} "
                f"now). {hint}"
            )
        return index


def open_run(run: str | Path | Trained, *, model: Model | None = None, device: str = "auto") -> Trained:
    """Open a finished run.

    Args:
        run: its folder; what is open already stays as it is.
        model: its encoders, where they are loaded already.
        device: where encoders run that are not.
    Raises:
        RunError: no run there, or one that has not finished, or malformed names.
        CheckpointError: damaged files.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if isinstance(run, Trained):
        return run
    opened = Run.open(Path(run))
    path = opened.path / "clusters" / "centroids.safetensors"
    try:
        tensors = load_file(path)
    except FileNotFoundError:
        raise RunError(
            f"{run} has no final clusters: it has not finished. Go on: seehear pretrain ... --resume"
        ) from None
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path} cannot be read ({error}).") from None
    clusterings = clusterings_of(tensors)
    names = read_names(opened.path, {name: len(c.centroids_KD) for name, c in clusterings.items()})
    return Trained(opened, model or load(opened.path, device=device), clusterings, names)


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
    return {name: found[name] for name in sorted(found, key=lambda name: (order[space_of(name)], name))}


def blocks_of(
    arrays: Mapping[str, np.ndarray], modalities: Sequence[str], block_rows: int = BLOCK_ROWS
) -> Iterator[tuple[np.ndarray, dict[str, Tensor]]]:
    """Features on disk, some rows at a time: the numbers of the readable rows, and modality -> (n, D) float32."""
    num_rows = len(arrays[modalities[0]])
    for start in range(0, num_rows, block_rows):
        parts = {m: np.asarray(arrays[m][start : start + block_rows], dtype=np.float32) for m in modalities}
        good = ~np.isnan(np.stack([part[:, 0] for part in parts.values()])).any(axis=0)
        yield start + np.flatnonzero(good), {m: torch.from_numpy(part[good]) for m, part in parts.items()}


def radii_of(clustering: Clustering, trained: Trained) -> Tensor:
    """The radius of each cluster, (K,) float32, from the training rows."""
    labels_N = trained.labels[clustering.name]
    distance_N = np.full(len(labels_N), np.nan, dtype=np.float32)
    for rows, features in blocks_of(trained.features, clustering.modalities):
        own_n = torch.from_numpy(labels_N[rows].astype(np.int64)).clamp(min=0)
        prepared_nD = clustering.space([features[modality] for modality in clustering.modalities])
        distance_N[rows] = (prepared_nD - clustering.centroids_KD[own_n]).norm(dim=1).numpy()
    known_N = (labels_N >= 0) & ~np.isnan(distance_N)
    everywhere = np.percentile(distance_N[known_N], FAR_PERCENTILE) if known_N.any() else np.inf
    radii_K = np.full(len(clustering.centroids_KD), everywhere, dtype=np.float32)
    order = np.argsort(labels_N[known_N], kind="stable")
    clusters, first = np.unique(labels_N[known_N][order], return_index=True)
    for cluster, members in zip(clusters, np.split(distance_N[known_N][order], first[1:]), strict=True):
        if len(members) >= FEW_ROWS:
            radii_K[cluster] = np.percentile(members, FAR_PERCENTILE)
    return torch.from_numpy(radii_K)


def digest_of(model: Model) -> str:
    """What a model's weights are, in 12 hexadecimal digits: the start of a SHA-256 over all of them by name."""
    digest = hashlib.sha256()
    state = model.pair.encoders.state_dict()
    for key in sorted(state):
        array = state[key].detach().cpu().contiguous()
        digest.update(f"{key} {array.dtype} {tuple(array.shape)}\n".encode())
        digest.update(array.view(-1).view(torch.uint8).numpy().tobytes() if array.numel() else b"")
    return digest.hexdigest()[:DIGEST_DIGITS]
