"""How are features centred, whitened and normalised, when no rank has them all?

The fit is one pass and one all-reduce of [sum | products | count], D + D^2 + 1 float64 numbers; then every rank can
transform its own rows. The order is: subtract the mean, project on the leading principal axes (whitened or not), divide
by the length. Reference for whitening before k-means: M. Caron et al., "Deep Clustering for Unsupervised Learning of
Visual Features", 2018.

Shapes: features (N, D), transformed (N, d).
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from seehear import distributed
from seehear.errors import CheckpointError, SettingsError
from seehear.kmeans.drawing import draw_rows
from seehear.kmeans.kernels import exact_products
from seehear.kmeans.rows import Features, Rows, check_finite

_FORMAT = "seehear preprocessing 1"
_SHORTEST = 1e-12  # rows shorter than this are not stretched to unit length


@dataclass(frozen=True)
class Preprocessing:
    """A fitted transformation of features: y = (x - mean) @ axes, then divided by its length.

    Attributes:
        mean_D: (D,) float64, or None where rows are not centred.
        axes_Dd: (D, d) float64, principal axes as columns, divided by their standard deviation where whitening; or
            None where rows are not projected.
        unit_length: whether rows are divided by their Euclidean length at the end (a row of zeros stays zero).
        explained_d: (d,) float64, the variance along each axis, or None without axes.
    """

    mean_D: Tensor | None
    axes_Dd: Tensor | None
    unit_length: bool
    explained_d: Tensor | None = None

    def __call__(
        self,
        features_ND: Features,
        *,
        out: Tensor | None = None,
        chunk_rows: int | None = None,
        device: str | torch.device | None = None,
    ) -> Tensor:
        """Transform rows, chunk by chunk; no rank waits for another.

        Args:
            features_ND: (N, D) floats.
            out: (N, d) of any floating type to write to, on any device (so a memory-mapped file too); None allocates
                float32 where the features are. It may be `features_ND` itself where d = D.
            chunk_rows, device: as in `kmeans`.

        Returns:
            (N, d), `out` if it was given.

        Raises:
            SettingsError: the features have another width than those of the fit, or `out` another shape.
        """
        rows = Rows(features_ND, device, chunk_rows, alone=True)
        width = self.mean_D if self.mean_D is not None else None if self.axes_Dd is None else self.axes_Dd[:, 0]
        if width is not None and len(width) != rows.width:
            raise SettingsError(f"The features have {rows.width} columns; the fit had {len(width)}.")
        shape = (len(rows), rows.width if self.axes_Dd is None else self.axes_Dd.shape[1])
        if out is None:
            out = torch.empty(shape, device=rows.data.device)
        elif out.shape != shape:
            raise SettingsError(f"out has the shape {tuple(out.shape)}. It must be {shape}.")
        mean = None if self.mean_D is None else self.mean_D.to(rows.device, torch.float32)
        axes = None if self.axes_Dd is None else self.axes_Dd.to(rows.device, torch.float32)
        buffer = torch.empty(min(rows.cache_rows, len(rows)), rows.width, device=rows.device)
        for start, stop in rows.cache_blocks():
            chunk = rows.take(start, stop, out=buffer)
            if mean is not None:
                chunk.sub_(mean)
            if axes is not None:
                with exact_products(rows.device):
                    chunk = chunk @ axes
            if self.unit_length:
                chunk /= torch.linalg.vector_norm(chunk, dim=1, keepdim=True).clamp_(min=_SHORTEST)
            out[start:stop] = chunk
        return out

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the transformation to a safetensors file, whole or not at all, and return its path."""
        from safetensors.torch import save_file

        target = Path(path)
        temporary = target.with_name(f"{target.name}.{os.getpid()}.part")
        parts = {"mean_D": self.mean_D, "axes_Dd": self.axes_Dd, "explained_d": self.explained_d}
        tensors = {name: tensor.cpu().contiguous() for name, tensor in parts.items() if tensor is not None}
        try:
            save_file(tensors, temporary, metadata={"format": _FORMAT, "unit_length": str(int(self.unit_length))})
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)
        return target

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Preprocessing:
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
                        "Give a file that Preprocessing.save wrote."
                    )
                found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no iterator
        except (OSError, SafetensorError) as error:
            raise CheckpointError(f"{path} cannot be read as a preprocessing: {error}. Fit it again.") from error
        return cls(found.get("mean_D"), found.get("axes_Dd"), metadata["unit_length"] == "1", found.get("explained_d"))


def fit_preprocessing(
    features_ND: Features,
    *,
    centre: bool = True,
    components: int | None = None,
    whiten: bool = False,
    unit_length: bool = True,
    seed: int = 0,
    chunk_rows: int | None = None,
    device: str | torch.device | None = None,
) -> Preprocessing:
    """Fit a transformation to the rows of all ranks.

    Memory above the features: one chunk, and three (D, D) float64 matrices where components or whitening are wanted.

    Args:
        features_ND: this rank's rows, (N, D) floats, as for `kmeans`.
        centre: subtract the mean. Components and whitening are about the mean in any case.
        components: keep so many principal axes, 1 to D; None projects on none, or on all of them where whitening.
        whiten: divide each component by its standard deviation.
        unit_length: divide each row by its length at the end.
        seed: draws the few rows about which products are taken, so that a mean far from 0 does not swamp them.
        chunk_rows, device: as in `kmeans`.

    Returns:
        The transformation, the same on every rank up to the rounding of float64 sums.

    Raises:
        SettingsError: there are no rows, they are not finite, or `components` is out of range.
    """
    rows = Rows(features_ND, device, chunk_rows)
    if rows.total == 0:
        raise SettingsError("There are no rows to fit a preprocessing to, on any rank.")
    if components is not None and not 1 <= components <= rows.width:
        raise SettingsError(f"components is {components}. It must be from 1 to the width of the rows, {rows.width}.")
    check_finite(rows)
    project = whiten or components is not None
    if not (centre or project):
        return Preprocessing(None, None, unit_length)
    mean_D, covariance_DD = _moments(rows, seed, project)
    if not project:
        return Preprocessing(mean_D, None, unit_length)
    variance, axes = torch.linalg.eigh(covariance_DD)
    kept = rows.width if components is None else components
    variance, axes = variance.flip(0)[:kept].clamp(min=0), axes.flip(1)[:, :kept]
    axes = axes * torch.where(axes.gather(0, axes.abs().argmax(0, keepdim=True)) < 0, -1.0, 1.0)  # a fixed sign
    if whiten:  # directions without variance stay at 0 rather than blow rounding errors up
        smallest = variance[0] * 1e-10
        axes = axes * torch.where(variance > smallest, variance.clamp(min=1e-300).rsqrt(), 0.0)
    distributed.broadcast(axes := axes.contiguous())  # a decomposition may differ in the last bits between machines
    return Preprocessing(mean_D, axes, unit_length, variance)


def _moments(rows: Rows, seed: int, products: bool) -> tuple[Tensor, Tensor]:
    """Mean (D,) and, if wanted, covariance (D, D) of the rows of all ranks, float64, by one all-reduce."""
    few = rows.by_number(draw_rows(seed, rows.total, min(rows.total, 64), stream=5))
    shift_D = few.mean(0).float()
    size = rows.width
    totals = torch.zeros(size + (size * size if products else 0), dtype=torch.float64, device=rows.device)
    sum_D, product_DD = totals[:size], totals[size:].view(-1, size)
    buffer = torch.empty(min(rows.block_rows, len(rows)), size, device=rows.device)
    for start, stop in rows.blocks():
        chunk = rows.take(start, stop, out=buffer).sub_(shift_D)
        sum_D += chunk.sum(0, dtype=torch.float64)
        if products:
            with exact_products(rows.device):
                product_DD += chunk.T @ chunk
    distributed.all_reduce(totals)
    about_shift = sum_D / rows.total
    covariance = product_DD / rows.total
    if products:
        covariance -= torch.outer(about_shift, about_shift)
    return about_shift + shift_D.double(), covariance
