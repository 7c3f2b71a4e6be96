"""What does a finished run know? Its encoders, its clusters with their names, and the features of its rows.

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
from torch import Tensor

from seehear.errors import CheckpointError, RunError
from seehear.indexing import Index
from seehear.library.clusters import Clustering, clusterings_of, radii_of
from seehear.matching import Matching
from seehear.model import MODALITIES, Model, load
from seehear.naming import Names, read_names
from seehear.runs import Run, atomic_file


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

    @property
    def matching(self) -> Matching:
        """What compares sights with sounds.

        Raises:
            RunError: the run has none.
        """
        if self.model.matching is None:
            raise RunError(
                f"{self.path / 'encoders' / 'matching.safetensors'} is missing, so that sights and sounds cannot be "
                "compared. Compare like with like."
            )
        return self.model.matching

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


def open_run(run: str | Path | Model | Trained, *, device: str = "auto") -> Trained:
    """Open a finished run.

    Args:
        run: its folder, or its encoders where they are loaded already; what is open stays as it is.
        device: where encoders run that are not loaded yet.
    Raises:
        RunError: no run there, or one that has not finished, or malformed names.
        CheckpointError: damaged files.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if isinstance(run, Trained):
        return run
    if isinstance(run, Model) and run.run is None:
        raise RunError("These encoders are of no run, so that there are no clusters. Load the folder of a run.")
    opened = Run.open(Path(run.run if isinstance(run, Model) else run))  # type: ignore[arg-type]
    path = opened.path / "clusters" / "centroids.safetensors"
    try:
        tensors = load_file(path)
    except FileNotFoundError:
        raise RunError(
            f"{opened.path} has no final clusters: it has not finished. Go on: seehear pretrain ... --resume"
        ) from None
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path} cannot be read ({error}).") from None
    clusterings = clusterings_of(tensors)
    names = read_names(opened.path, {name: len(c.centroids_KD) for name, c in clusterings.items()})
    model = run if isinstance(run, Model) else load(opened.path, device=device)
    return Trained(opened, model, clusterings, names)
