"""How are features centred, whitened and normalised, when no rank has them all?

The fit is one pass and one all-reduce of [sum | products], D + D^2 float64 numbers; then every rank
can transform its own rows: subtract the mean, rotate to principal axes divided by their standard
deviation (whitening), divide by the length. Reference for whitening before k-means: M. Caron et
al., "Deep Clustering for Unsupervised Learning of Visual Features", 2018.

Shapes: features (N, D), axes (D, D), columns are axes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from seehear.errors import SettingsError
from seehear.machine import distributed
from seehear.method.kmeans.rows import Features, Rows, check_finite
from seehear.method.kmeans.scores import exact_products
from seehear.method.kmeans.seeding import draw_rows

_SHORTEST = 1e-12  # rows shorter than this are not stretched to unit length


@dataclass(frozen=True)
class Preprocessing:
    """A fitted transformation of features: y = (x - mean) @ axes, then divided by its length.

    Attributes:
        mean_D: (D,) float64, or None where rows are not centred.
        axes_DD: (D, D) float64, principal axes as columns, divided by their standard deviation; or
            None where rows are not whitened.
        unit_length: whether rows are divided by their Euclidean length at the end (a row of zeros
            stays zero).
    """

    mean_D: Tensor | None
    axes_DD: Tensor | None
    unit_length: bool

    def __call__(
        self, features_ND: Features, *, device: str | torch.device | None = None
    ) -> Tensor:
        """Transform rows, chunk by chunk; no rank waits for another.

        Args:
            features_ND: (N, D) floats.
            device: as in `kmeans`.

        Returns:
            (N, D) float32, where the features are.

        Raises:
            SettingsError: the features have another width than those of the fit.
        """
        rows = Rows(features_ND, device, alone=True)
        if self.mean_D is not None and len(self.mean_D) != rows.width:
            raise SettingsError(
                f"The features have {rows.width} columns; the fit had {len(self.mean_D)}."
            )
        out_ND = torch.empty(len(rows), rows.width, device=rows.data.device)
        mean_D = None if self.mean_D is None else self.mean_D.to(rows.device, torch.float32)
        axes_DD = None if self.axes_DD is None else self.axes_DD.to(rows.device, torch.float32)
        buffer = torch.empty(min(rows.cache_rows, len(rows)), rows.width, device=rows.device)
        for start, stop in rows.cache_blocks():
            chunk_nD = rows.take(start, stop, out=buffer)
            if mean_D is not None:
                chunk_nD.sub_(mean_D)
            if axes_DD is not None:
                with exact_products(rows.device):
                    chunk_nD = chunk_nD @ axes_DD
            if self.unit_length:
                lengths_n = torch.linalg.vector_norm(chunk_nD, dim=1, keepdim=True)
                chunk_nD /= lengths_n.clamp_(min=_SHORTEST)
            out_ND[start:stop] = chunk_nD
        return out_ND


def fit_preprocessing(
    features_ND: Features,
    *,
    whiten: bool = False,
    unit_length: bool = True,
    seed: int = 0,
    device: str | torch.device | None = None,
) -> Preprocessing:
    """Fit a transformation to the rows of all ranks: centred, whitened if wanted, of unit length.

    Memory above the features: one chunk, and three (D, D) float64 matrices for whitening.

    Args:
        features_ND: this rank's rows, (N, D) floats, as for `kmeans`.
        whiten: rotate to the principal axes and divide each by its standard deviation.
        unit_length: divide each row by its length at the end.
        seed: draws the rows about which products are taken, so that a mean far from 0 swamps
            nothing.
        device: as in `kmeans`.

    Returns:
        The transformation, the same on every rank up to the rounding of float64 sums.

    Raises:
        SettingsError: there are no rows, or they are not finite.
    """
    rows = Rows(features_ND, device)
    if rows.total == 0:
        raise SettingsError("There are no rows to fit a preprocessing to, on any rank.")
    check_finite(rows)
    mean_D, covariance_DD = _moments(rows, seed, products=whiten)
    if not whiten:
        return Preprocessing(mean_D, None, unit_length)
    variance_D, axes_DD = torch.linalg.eigh(covariance_DD)
    variance_D, axes_DD = variance_D.flip(0).clamp(min=0), axes_DD.flip(1)
    largest = axes_DD.gather(0, axes_DD.abs().argmax(0, keepdim=True))
    axes_DD = axes_DD * torch.where(largest < 0, -1.0, 1.0)  # an axis has no sign of its own
    # Directions without variance stay at 0 rather than blow rounding errors up.
    is_flat_D = variance_D <= variance_D[0] * 1e-10
    axes_DD = axes_DD * torch.where(is_flat_D, 0.0, variance_D.clamp(min=1e-300).rsqrt())
    # A decomposition may differ in the last bits between machines: rank 0's holds.
    distributed.broadcast(axes_DD := axes_DD.contiguous())
    return Preprocessing(mean_D, axes_DD, unit_length)


def _moments(rows: Rows, seed: int, products: bool) -> tuple[Tensor, Tensor]:
    """Mean (D,) and, if wanted, covariance (D, D) of the rows of all ranks, by one all-reduce."""
    few_nD = rows.by_number(draw_rows(seed, rows.total, min(rows.total, 64), stream=5))
    shift_D = few_nD.mean(0).float()
    size = rows.width
    totals = torch.zeros(
        size + (size * size if products else 0), dtype=torch.float64, device=rows.device
    )
    sum_D, product_DD = totals[:size], totals[size:].view(-1, size)
    buffer = torch.empty(min(rows.block_rows, len(rows)), size, device=rows.device)
    for start, stop in rows.blocks():
        chunk_nD = rows.take(start, stop, out=buffer).sub_(shift_D)
        sum_D += chunk_nD.sum(0, dtype=torch.float64)
        if products:
            with exact_products(rows.device):
                product_DD += chunk_nD.T @ chunk_nD
    distributed.all_reduce(totals)
    about_shift_D = sum_D / rows.total
    covariance_DD = product_DD / rows.total
    if products:
        covariance_DD -= torch.outer(about_shift_D, about_shift_D)
    return about_shift_D + shift_D.double(), covariance_DD
