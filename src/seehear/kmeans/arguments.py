"""Are the arguments of k-means usable? Errors name the value and what to give instead."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from seehear import distributed
from seehear.errors import SettingsError
from seehear.kmeans.rows import Rows


def check_numbers(
    *,
    iterations: int,
    relaxation: float = 1.0,
    points_per_centroid: int | None = None,
    full_passes: int = 1,
    tolerance: float = 0.0,
    chunk_rows: int | None = None,
) -> None:
    """Raise SettingsError for a number that is out of range."""
    if iterations < 0:
        raise SettingsError(f"iterations is {iterations}. It must be 0 or more; 20 is usual.")
    if not 1 <= relaxation < 2:
        raise SettingsError(f"relaxation is {relaxation}. It must be from 1 (none) to below 2; 1.4 is usual.")
    if points_per_centroid is not None and points_per_centroid < 1:
        raise SettingsError(f"points_per_centroid is {points_per_centroid}. It must be positive; 1024 is usual.")
    if full_passes < 0:
        raise SettingsError(f"full_passes is {full_passes}. It must be 0 or more; 1 is usual.")
    if tolerance < 0:
        raise SettingsError(f"tolerance is {tolerance}. It must be 0 or more.")
    if chunk_rows is not None and chunk_rows < 1:
        raise SettingsError(f"chunk_rows is {chunk_rows}. It must be positive, or None to choose.")


def checked_weights(weights_N: Any, rows: Rows) -> Tensor:
    """Weights of this rank's rows, (N,) float64 where the rows are computed with.

    Raises:
        SettingsError: their number, a value, or their sum over all ranks is not usable.
    """
    weights = torch.as_tensor(weights_N).to(rows.device, torch.float64)
    if weights.shape != (len(rows),):
        raise SettingsError(f"The weights have the shape {tuple(weights.shape)}; there are {len(rows)} rows.")
    bad = ~(torch.isfinite(weights) & (weights >= 0))
    totals = torch.stack([bad.sum().double(), weights.nan_to_num(0, 0, 0).clamp(min=0).sum()])
    distributed.all_reduce(totals)
    if totals[0] > 0:
        raise SettingsError(f"{int(totals[0])} weights are negative, NaN or infinite. They must be 0 or more.")
    if totals[1] == 0:
        raise SettingsError("All weights are 0. At least one row needs a positive weight.")
    return weights


def checked_labels(init: Any, rows: Rows, num_clusters: int) -> Tensor | None:
    """The labels to start from, (N,) int32, if `init` is labels, else None.

    Raises:
        SettingsError: their number is not that of the rows, or a label is outside -1 to K - 1.
    """
    if not isinstance(init, Tensor | np.ndarray) or init.ndim != 1:
        return None
    labels = torch.as_tensor(init).to(rows.device)
    if labels.is_floating_point() or labels.shape != (len(rows),):
        raise SettingsError(
            f"init has the shape {tuple(labels.shape)} and the type {labels.dtype}. Labels to start from are integers, "
            f"one for each of the {len(rows)} rows; centroids have two dimensions."
        )
    bounds = torch.tensor([-1, -1], dtype=torch.int64)
    if len(labels):
        bounds = torch.stack([-labels.min().long(), labels.max().long()]).cpu()
    lowest, highest = (-1, 1) * distributed.all_reduce(bounds, "max").numpy()
    if lowest < -1 or highest >= num_clusters:
        raise SettingsError(
            f"init holds labels from {lowest} to {highest}. They must be from -1 (none) to {num_clusters - 1}."
        )
    return labels.int()


def checked_centroids(init: Tensor | NDArray[np.generic], rows: Rows, num_clusters: int) -> Tensor:
    """The given first centroids, (K, D) float64, those of rank 0 on every rank.

    Raises:
        SettingsError: the shape is another, or a number is not finite.
    """
    centroids = torch.as_tensor(init).to(rows.device, torch.float64).contiguous()
    if centroids.shape != (num_clusters, rows.width):
        raise SettingsError(
            f"init has the shape {tuple(centroids.shape)}. First centroids are ({num_clusters}, {rows.width})."
        )
    centroids = distributed.broadcast(centroids.clone())
    if not bool(torch.isfinite(centroids).all()):
        raise SettingsError("init holds centroids that are NaN or infinite. Give finite ones.")
    return centroids
