"""How does k-means look at rows that are a tensor, an array or a file larger than memory, sharded
over ranks?

`Rows` hands out float32 chunks of this rank's rows and knows the global number of its first one
(row numbers run through the ranks in order).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from seehear.errors import SettingsError
from seehear.machine import distributed

Features = Tensor | NDArray[np.generic]

# float32 numbers in one block of rows, and in one step of arithmetic that should stay in a cache;
# GPUs want more
_BLOCK_NUMBERS = {"cpu": 2**22, "cuda": 2**25}
_CACHE_NUMBERS = {"cpu": 2**19, "cuda": 2**23}
_SPAN_ROWS = 32768
_NAMED_ROWS = 5  # so many bad rows are named in an error


class Rows:
    """This rank's rows, (N, D), as float32 chunks on the device that computes.

    Args:
        features: (N, D) float32, float16, bfloat16 or float64, as a tensor, an array or a
            memory-mapped array.
        device: where to compute; None for where the features are.
        alone: these rows have nothing to do with those of other ranks; no rank waits for another.

    Raises:
        SettingsError: the shape or type is another, or ranks differ in D.
    """

    def __init__(
        self, features: Features, device: str | torch.device | None = None, *, alone: bool = False
    ) -> None:
        self.data = as_matrix(features)
        self.device = self.data.device if device is None else torch.device(device)
        self.width = int(self.data.shape[1])
        kind = "cuda" if self.device.type == "cuda" else "cpu"
        self.block_rows = max(1, _BLOCK_NUMBERS[kind] // self.width)  # 16 MB in float32 on a CPU
        self.cache_rows = min(self.block_rows, max(1, _CACHE_NUMBERS[kind] // self.width))
        self.alone = alone
        here = len(self.data)
        self.first, self.total = (0, here) if alone else _place(here, self.width)

    def __len__(self) -> int:
        return len(self.data)

    def blocks(self) -> Iterator[tuple[int, int]]:
        """The (start, stop) of each block of this rank's rows, in order."""
        yield from _steps(len(self), self.block_rows)

    def spans(self) -> Iterator[tuple[int, int]]:
        """The same in longer steps, the same ones whatever the size of a block."""
        yield from _steps(len(self), _SPAN_ROWS)

    def cache_blocks(self) -> Iterator[tuple[int, int]]:
        """The same in smaller steps, which stay in a processor's cache."""
        yield from _steps(len(self), self.cache_rows)

    def take(self, start: int, stop: int, out: Tensor | None = None) -> Tensor:
        """Rows start to stop - 1, (n, D) float32 on the device; a view if nothing changes.

        With `out`, (at least n, D) float32 on the device, they are always written there, so that
        they may be changed.
        """
        rows = self.data[start:stop]
        if out is not None:
            return out[: stop - start].copy_(rows)
        return rows.to(self.device, torch.float32)

    def pick(self, local_rows: Tensor) -> Tensor:
        """The rows with these local numbers, (n, D) float32 on the device, always a copy."""
        picked = self.data.index_select(0, local_rows.to(self.data.device))
        return picked.to(self.device, torch.float32)

    def local(self, numbers: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Positions in `numbers` of the global row numbers that lie here; their local numbers."""
        here = np.flatnonzero((numbers >= self.first) & (numbers < self.first + len(self)))
        return here, numbers[here] - self.first

    def by_number(self, numbers: NDArray[np.int64]) -> Tensor:
        """The rows with these global numbers, (len(numbers), D) float64, the same on every rank."""
        rows = torch.zeros(len(numbers), self.width, dtype=torch.float64, device=self.device)
        here, local = self.local(numbers)
        rows[torch.from_numpy(here).to(self.device)] = self.pick(torch.from_numpy(local)).double()
        return distributed.all_reduce(rows)

    def sample(self, numbers: NDArray[np.int64]) -> Rows:
        """The rows with these global numbers, ascending, copied into memory."""
        local = torch.from_numpy(np.sort(self.local(numbers)[1]))
        return Rows(self.data.index_select(0, local.to(self.data.device)), self.device)


def as_matrix(features: Features) -> Tensor:
    """The features as a tensor that shares their memory.

    Raises:
        SettingsError: they are not two-dimensional, have no columns, or are not floating point.
    """
    if isinstance(features, np.ndarray):
        if features.dtype.name == "bfloat16":  # of the package ml_dtypes, which torch does not know
            tensor = _share(features.view(np.uint16)).view(torch.bfloat16)
        else:
            tensor = _share(features)
    else:
        tensor = torch.as_tensor(features).detach()
    if tensor.ndim != 2 or tensor.shape[1] == 0:
        raise SettingsError(
            f"The features have the shape {tuple(tensor.shape)}. They must be (rows, columns)."
        )
    if not tensor.is_floating_point():
        raise SettingsError(
            f"The features are {tensor.dtype}. They must be float32, float16 or bfloat16."
        )
    return tensor


def check_finite(rows: Rows) -> None:
    """Look through the rows of all ranks for numbers that k-means cannot use.

    Raises:
        SettingsError: on every rank, if there are any; it names the first such rows.
    """
    bad_rows: list[int] = []
    buffer = torch.empty(min(rows.cache_rows, len(rows)), rows.width, device=rows.device)
    as_is = rows.data.dtype == torch.float32 and rows.data.device == rows.device
    for start, stop in rows.cache_blocks():
        lengths = torch.linalg.vector_norm(rows.take(start, stop, None if as_is else buffer), dim=1)
        if not math.isfinite(float(lengths.sum())):
            bad_rows += (
                torch.nonzero(~torch.isfinite(lengths)).flatten() + rows.first + start
            ).tolist()
        if len(bad_rows) >= _NAMED_ROWS:
            break
    named = bad_rows[:_NAMED_ROWS]
    if not rows.alone:
        found = torch.full((distributed.world_size(), _NAMED_ROWS), -1, dtype=torch.int64)
        found[distributed.rank(), : len(named)] = torch.tensor(named, dtype=torch.int64)
        named = sorted(
            row for row in distributed.all_reduce(found, "max").flatten().tolist() if row >= 0
        )
        named = named[:_NAMED_ROWS]
    if named:
        what = f"Row {named[0]} is" if len(named) == 1 else f"Rows {', '.join(map(str, named))} are"
        more = " (there may be more)" if len(named) == _NAMED_ROWS else ""
        raise SettingsError(
            f"{what} not finite{more}: NaN, infinite, or beyond 1e18, whose square overflows. Rows "
            "are counted from 0 through all ranks. Find what wrote them, or leave these rows out."
        )


def _steps(num_rows: int, step: int) -> Iterator[tuple[int, int]]:
    for start in range(0, num_rows, step):
        yield start, min(start + step, num_rows)


def _share(array: NDArray[np.generic]) -> Tensor:
    if any(stride < 0 for stride in array.strides) or not array.dtype.isnative:
        array = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("="))
    with (
        warnings.catch_warnings()
    ):  # a read-only file is welcome: nothing here writes to the features
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(array)


def _place(local_rows: int, width: int) -> tuple[int, int]:
    """The global number of this rank's first row, and the number of rows over all ranks."""
    lengths = torch.zeros(distributed.world_size(), 2, dtype=torch.int64)
    lengths[distributed.rank()] = torch.tensor([local_rows, width])
    distributed.all_reduce(lengths)
    widths = sorted(set(lengths[:, 1].tolist()))
    if len(widths) > 1:
        raise SettingsError(
            f"The features have {widths} columns on different ranks. All ranks need the same width."
        )
    return int(lengths[: distributed.rank(), 0].sum()), int(lengths[:, 0].sum())
