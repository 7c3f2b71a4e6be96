"""What does a finished run know? Its encoders, its clusters with their names, and the features of its rows.

The radii of its clusters (`clusters`) are computed once, from `features/*.npy`, and kept in
`clusters/radii.safetensors`, which vanishes with the clusters that it is of when a run goes on.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from seehear.errors import CheckpointError, RunError
from seehear.indexing import Index
from seehear.library.clusters import Clustering, clusterings_of, radii_of
from seehear.library.naming import Names, read_names
from seehear.matching import Matching
from seehear.model import MODALITIES, Model, load
from seehear.runs import Run, atomic_file

DIGEST_DIGITS = 12  # of a SHA-256 in hexadecimal


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
        radii = {name: radii_of(c, self.labels[name], self.features) for name, c in self.clusterings.items()}
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


def digest_of(model: Model) -> str:
    """What a model's weights are, in 12 hexadecimal digits: the start of a SHA-256 over all of them by name."""
    digest = hashlib.sha256()
    state = model.pair.encoders.state_dict()
    for key in sorted(state):
        array = state[key].detach().cpu().contiguous()
        digest.update(f"{key} {array.dtype} {tuple(array.shape)}\n".encode())
        digest.update(array.view(-1).view(torch.uint8).numpy().tobytes() if array.numel() else b"")
    return digest.hexdigest()[:DIGEST_DIGITS]
