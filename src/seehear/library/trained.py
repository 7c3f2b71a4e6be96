"""What does a finished run know? Its encoders, its clusters with their names, and the features of
its rows.

The radii of its clusters (`clusters`) are computed once, from `features/*.npy`, and kept in
`clusters/radii.safetensors`, which vanishes with the clusters that it is of when a run goes on.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from seehear.data.index import Index
from seehear.errors import CheckpointError, RunError
from seehear.library.clusters import Clustering, clusterings_of, radii_of
from seehear.machine.files import atomic_file
from seehear.machine.reading import anew, open_features, read_labels, readable, rows_of
from seehear.models.matching import Matching
from seehear.models.model import Model, load
from seehear.runs.fingerprint import index_of_run
from seehear.runs.folder import Run
from seehear.runs.names import Names, read_names


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
    def features(self) -> dict[str, np.ndarray]:
        """The features of the training rows, modality -> (N, D) float16, on disk; NaN where a row
        was unreadable.

        Raises:
            RunError: they are not there.
        """
        widths = {
            modality: self.model.pair.feature_dim(modality) for modality in self.model.modalities
        }
        return open_features(self.path, len(next(iter(self.labels.values()))), widths)

    @cached_property
    def labels(self) -> dict[str, np.ndarray]:
        """The cluster of every training row, by clustering: (N,) int32, -1 where a row was
        unreadable.
        """
        sizes = {name: len(c.centroids_KD) for name, c in self.clusterings.items()}
        path = self.path / "clusters" / "labels.parquet"
        return dict(read_labels(path, anew(self.path), sizes, rows_of(self.path)))

    @property
    def matching(self) -> Matching:
        """What compares sights with sounds.

        Raises:
            RunError: the run has none.
        """
        if self.model.matching is None:
            raise RunError(
                f"{self.path / 'encoders' / 'matching.safetensors'} is missing, so that sights "
                f"and sounds cannot be "
                "compared. Compare like with like."
            )
        return self.model.matching

    @cached_property
    def radii(self) -> dict[str, Tensor]:
        """For each clustering (K,) float32: a segment farther from its centroid than this is far
        from all training.
        """
        from safetensors.torch import load_file, save_file

        path = self.path / "clusters" / "radii.safetensors"
        with contextlib.suppress(Exception):  # damaged or not there, it is computed again
            kept = load_file(path)
            if all(
                kept[name].shape == c.centroids_KD.shape[:1] for name, c in self.clusterings.items()
            ):
                return dict(kept)
        radii = {
            name: radii_of(c, self.labels[name], self.features)
            for name, c in self.clusterings.items()
        }
        with contextlib.suppress(OSError), atomic_file(path) as temporary:  # a run may be read-only
            save_file(radii, temporary)
        return radii

    def index(self, given: str | Path | None = None) -> Index:
        """The index that the run was trained on: the one that is given, else where the run was told
        it is.

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
    if isinstance(run, Model) and run.run is None:
        raise RunError(
            "These encoders are of no run, so that there are no clusters. Load the folder of a run."
        )
    opened = Run.open(Path(run.run if isinstance(run, Model) else run))  # type: ignore[arg-type]
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
        if (
            not clusterings
            or not {m for c in clusterings.values() for m in c.modalities} <= empty.keys()
        ):
            raise ValueError("it holds no clusters of these encoders")
        for clustering in clusterings.values():  # all shapes fit, or this fails
            clustering.nearest(empty)
    return Trained(opened, model, clusterings, names)
