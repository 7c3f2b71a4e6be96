"""At which precision should k-means search here? Asked for by name, or chosen by trying."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from seehear import distributed
from seehear.errors import SettingsError
from seehear.kmeans.kernels import best_of
from seehear.kmeans.rows import Rows, Spread
from seehear.kmeans.scores import Codes, Fp32, Scorer

Precision = Literal["auto", "fp32", "bf16", "int8"]

_PROBE_ROWS = 4096
_PROBE_CLUSTERS = 4096
_SMALL = 2**32  # multiplications in one pass, below which a search takes about as long as the probe
_TOLERATED = 1.001  # inertia of one assignment over that of float32


def make_scorer(
    precision: str, rows: Rows, num_clusters: int, spread: Spread, weights_N: Tensor | None = None
) -> Scorer:
    """The scorer of a precision, over these rows.

    Raises:
        SettingsError: there is no such precision.
    """
    if precision == "fp32":
        return Fp32(rows, num_clusters, spread.far_centre(), weights_N)
    if precision == "int8":
        return Codes(rows, num_clusters, "int8", spread, weights_N)
    if precision == "bf16":
        return Codes(rows, num_clusters, "bf16", spread, weights_N)
    raise SettingsError(f"precision is {precision!r}. It must be auto, fp32, bf16 or int8.")


def choose_precision(rows: Rows, centroids_KD: Tensor, spread: Spread) -> str:
    """The fastest precision whose assignment is as good as float32's, alike on all ranks.

    Every rank tries each precision on its first 4096 rows: the seconds of an assignment, summed over ranks, decide
    among those whose inertia is within 0.1 % of float32's. Small problems take "fp32" without a trial.

    Args:
        centroids_KD: (K, D) float64, typical centroids, such as the first ones.
    """
    if rows.total * len(centroids_KD) * rows.width < _SMALL:
        return "fp32"
    probe = Rows(rows.data[:_PROBE_ROWS], rows.device, rows.block_rows)
    centroids = centroids_KD[:_PROBE_CLUSTERS]
    names = ("fp32", "bf16", "int8")
    trials = torch.tensor([_try(name, probe, centroids, spread) for name in names], dtype=torch.float64)
    seconds, inertia = distributed.all_reduce(trials).T.tolist()
    good = [i for i in range(len(names)) if inertia[i] <= _TOLERATED * inertia[0]]
    return names[min(good, key=lambda i: seconds[i])]


def _try(name: str, probe: Rows, centroids_KD: Tensor, spread: Spread) -> tuple[float, float]:
    """Seconds of an assignment of the probe's rows, and its inertia in float32."""
    scorer = make_scorer(name, probe, len(centroids_KD), spread)
    scorer.load(scorer.place(centroids_KD))

    def assign() -> list[Tensor]:
        return [scorer.nearest(start, stop) for start, stop in probe.blocks()]

    labels = assign()
    inertia = 0.0
    for (start, stop), label in zip(probe.blocks(), labels, strict=True):
        distances = probe.take(start, stop) - centroids_KD.float().index_select(0, label)
        inertia += float(distances.square_().sum(dtype=torch.float64))
    return best_of(assign, probe.device), inertia
