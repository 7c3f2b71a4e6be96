"""What did k-means find? The result, and its file.

Shapes: labels (N,) of this rank's rows, centroids (K, D), sizes (K,) over all ranks.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from seehear.errors import CheckpointError

_FORMAT = "seehear clustering 1"


@dataclass(frozen=True)
class Clustering:
    """What k-means found.

    Attributes:
        labels: (N,) int32, the cluster of each row of this rank, 0 to K - 1; where the features are.
        centroids: (K, D) float32, the same on every rank; `labels` are the nearest of these (for balanced clusters:
            the nearest after the prices of the clusters).
        sizes: (K,) int64, rows per cluster over all ranks; 0 only where no row could be spared, as with fewer
            distinct rows than K.
        inertia: sum over all rows of all ranks of the squared distance to their centroid (times the row's weight),
            measured on the features as given, whatever the precision of the search.
        reseeded: how many times an empty cluster was re-seeded by splitting the largest.
        iterations: how many times the centroids were moved.
        precision: "fp32", "bf16" or "int8": what the search used, also where it was asked to choose.
        converged: whether the last iteration changed no label (or moved the centroids less than the tolerance).
        history: the inertia before each move of the centroids, as the search saw it.
        prices: (K,) float32, of balanced clusters alone: what is added to the squared distance to each centroid
            before the nearest is taken.
    """

    labels: Tensor
    centroids: Tensor
    sizes: Tensor
    inertia: float
    reseeded: int
    iterations: int
    precision: str = "fp32"
    converged: bool = False
    history: tuple[float, ...] = ()
    prices: Tensor | None = None

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the result to a safetensors file, whole or not at all; the labels are those of this rank.

        Returns:
            The path written.
        """
        from safetensors.torch import save_file

        target = Path(path)
        temporary = target.with_name(f"{target.name}.{os.getpid()}.part")
        found = {name: getattr(self, name) for name in ("labels", "centroids", "sizes", "prices")}
        tensors = {name: tensor.cpu().contiguous() for name, tensor in found.items() if tensor is not None}
        numbers = {name: getattr(self, name) for name in _NUMBERS}
        try:
            save_file(tensors, temporary, metadata={"format": _FORMAT, "numbers": json.dumps(numbers)})
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)
        return target

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Clustering:
        """Read what `save` wrote.

        Raises:
            CheckpointError: the file is missing, damaged, or of another kind.
        """
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
                if metadata.get("format") != _FORMAT:
                    raise CheckpointError(
                        f"{path} is of the format {metadata.get('format')!r}, not {_FORMAT!r}. "
                        "Give a file that Clustering.save wrote."
                    )
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no iterator
        except (OSError, SafetensorError) as error:
            raise CheckpointError(f"{path} cannot be read as a clustering: {error}. Cluster again.") from error
        numbers = json.loads(metadata["numbers"])
        return cls(**tensors, **{**numbers, "history": tuple(numbers["history"])})


_NUMBERS = ("inertia", "reseeded", "iterations", "precision", "converged", "history")
