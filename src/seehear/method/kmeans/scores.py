"""Which centroid is nearest to each row, and what do the rows of each cluster add up to?

The nearest centroid of a row x has the largest score x . c - |c|^2 / 2: one matrix product with a
bias, and no distance is ever formed. Scores are made in tiles that stay in the cache, and only
winners leave. Products are true float32; sums of up to 32 rows are float32, and sums of these
float64 (`totals`).

Shapes: rows (n, D), centroids (K, D), labels (n,) int32 with -1 for "none yet".
"""

from __future__ import annotations

import platform
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from seehear.machine import distributed
from seehear.method.kmeans.rows import Rows
from seehear.method.kmeans.totals import Totals

# Rows and centroids of a tile of scores. On CPUs that is 4 MB, and rows are read once for all of
# their tiles: 3 % faster than 2,048 rows by 1,024 centroids (D = 512, AMD EPYC).
_TILE = {"cpu": (4096, 256), "cuda": (16384, 512)}
_ADD_ROWS = 8192  # rows that are added up at once


class Scorer:
    """The winner of each row from tiles of scores, and sums per cluster.

    Args:
        rows: the features.
        num_clusters: K.
        centre_D: (D,) float32, taken from each chunk of rows as it is read, and from centroids by
            `place`; None where float32 does without.
    """

    def __init__(self, rows: Rows, num_clusters: int, centre_D: Tensor | None) -> None:
        self.rows, self.num_clusters, self.centre_D = rows, num_clusters, centre_D
        tile_rows, tile_clusters = _TILE["cuda" if rows.device.type == "cuda" else "cpu"]
        self.tile_rows = min(tile_rows, rows.block_rows)
        self.tile_clusters = min(tile_clusters, num_clusters)
        self.add_rows = min(_ADD_ROWS, rows.block_rows)
        # Buffers are made once and used again: a fresh one a chunk takes twice the time.
        self._scores = torch.empty(self.tile_rows * self.tile_clusters, device=rows.device)
        self._chunk: Tensor | None = None
        self._values: Tensor | None = None

    def place(self, centroids_KD: Tensor) -> Tensor:
        """Centroids of the features -> of the rows as they are scored, (K, D) float64."""
        return centroids_KD if self.centre_D is None else centroids_KD - self.centre_D.double()

    def lift(self, placed_KD: Tensor) -> Tensor:
        """The inverse of `place`."""
        return placed_KD if self.centre_D is None else placed_KD + self.centre_D.double()

    def load(self, placed_KD: Tensor) -> None:
        """Prepare the scores of these centroids, (K, D) float64, as `place` gives them."""
        weights_KD = placed_KD.float()
        lengths_K = torch.linalg.vector_norm(weights_KD, dim=1, dtype=torch.float64)
        bias_K = (-0.5 * lengths_K.square()).float()
        # Centroids as the right side of a product, so that the library copies nothing, and a bias
        # that is added afterwards: 3 to 5 % faster than `addmm` with a transposed view.
        self._weights_Dk = [w.T.contiguous() for w in torch.split(weights_KD, self.tile_clusters)]
        self._bias_k = torch.split(bias_K, self.tile_clusters)

    def sum_of_squares(self) -> float:
        """The sum over the rows of all ranks of their squared lengths, by one pass."""
        total = torch.zeros(1, dtype=torch.float64, device=self.rows.device)
        for start, stop in self.rows.cache_blocks():
            lengths_n = torch.linalg.vector_norm(self._centred(start, stop), dim=1)
            total += lengths_n.double().square().sum()
        return float(distributed.all_reduce(total))

    def nearest(self, start: int, stop: int) -> Tensor:
        """The nearest centroid of rows start to stop - 1, (n,) int32; the lowest among equals."""
        winners_n = torch.empty(stop - start, dtype=torch.int32, device=self.rows.device)
        for a in range(start, stop, self.tile_rows):
            b = min(a + self.tile_rows, stop)
            rows_nD = self._centred(a, b)
            winner_n, best_n = self._winners(rows_nD, 0)
            for tile in range(1, len(self._bias_k)):
                index_n, value_n = self._winners(rows_nD, tile)
                winner_n = torch.where(value_n > best_n, index_n, winner_n)
                best_n = torch.maximum(best_n, value_n)
            winners_n[a - start : b - start] = winner_n
        return winners_n

    def add(self, totals: Totals, start: int, old_n: Tensor, new_n: Tensor) -> int:
        """Move rows start, start + 1, ... from clusters `old_n` to `new_n`; return how many moved.

        A label of -1 is no cluster. Rows that stay cost nothing.
        """
        moved = torch.nonzero(old_n != new_n).flatten()
        everything = len(moved) == len(new_n)
        data = self.rows.data
        in_place = data.dtype == torch.float32 and data.device == self.rows.device
        in_place = in_place and data.is_contiguous() and self.centre_D is None
        for first in range(0, len(moved), self.add_rows):
            some = moved[first : first + self.add_rows]
            if in_place:  # rows are added from where they lie, without a copy
                totals.move(data, old_n[some], new_n[some], some + start)
                continue
            # All rows of a span are a slice, which is read faster than single rows.
            span = slice(start + first, start + first + len(some))
            values_nD = self._copied(span if everything else some + start)
            totals.move(values_nD, old_n[some], new_n[some])
        return len(moved)

    def _winners(self, rows_nD: Tensor, tile: int) -> tuple[Tensor, Tensor]:
        """The best of a tile's centroids for each row, and its score."""
        weights_Dk, bias_k = self._weights_Dk[tile], self._bias_k[tile]
        scores_nk = self._scores[: len(rows_nD) * len(bias_k)].view(len(rows_nD), len(bias_k))
        with exact_products(self.rows.device):
            torch.mm(rows_nD, weights_Dk, out=scores_nk)
        scores_nk.add_(bias_k)
        if scores_nk.is_cuda:
            value_n, index_n = scores_nk.max(dim=1)
        else:
            # NumPy finds a maximum's place with vector instructions, PyTorch one number after
            # another: 80 against 900 ns a row of 1,024.
            index_n = torch.from_numpy(scores_nk.numpy().argmax(axis=1))
            value_n = scores_nk.gather(1, index_n[:, None]).flatten()
        return index_n + tile * self.tile_clusters, value_n

    def _centred(self, start: int, stop: int) -> Tensor:
        """Rows start to stop - 1 in float32 without the centre; a view where nothing changes."""
        data = self.rows.data
        as_is = data.dtype == torch.float32 and data.device == self.rows.device
        if self.centre_D is None and as_is:
            return self.rows.take(start, stop)
        if self._chunk is None:
            size = (self.rows.block_rows, self.rows.width)
            self._chunk = torch.empty(size, device=self.rows.device)
        chunk_nD = self.rows.take(start, stop, out=self._chunk)
        return chunk_nD if self.centre_D is None else chunk_nD.sub_(self.centre_D)

    def _copied(self, local_rows: Tensor | slice) -> Tensor:
        """Some rows in float32 without the centre, (n, D)."""
        if self._values is None:
            size = (self.add_rows, self.rows.width)
            self._values = torch.empty(size, device=self.rows.device)
        if isinstance(local_rows, slice):
            values_nD = self.rows.take(local_rows.start, local_rows.stop, out=self._values)
        else:
            values_nD = self._values[: len(local_rows)].copy_(self.rows.pick(local_rows))
        return values_nD if self.centre_D is None else values_nD.sub_(self.centre_D)


def centre_if_far(points_nD: Tensor) -> Tensor | None:
    """The mean of some points, (D,) float32, where it is so far out that float32 loses differences.

    That is where it is longer than 4 times the root mean square distance of the points from it.
    """
    middle_D = points_nD.double().mean(0)
    spread = float((points_nD - middle_D).square().sum(1).mean())
    return middle_D.float() if float(middle_D.square().sum()) > 16 * spread else None


@contextmanager
def exact_products(device: torch.device) -> Iterator[None]:
    """Within the block, float32 matrix products on the device round no operand.

    PyTorch may round float32 operands to TF32 or bfloat16 when told to. On CPUs where oneDNN is
    faster than MKL and exact all the same (without AMX), float32 products are sent there.
    """
    backend = torch.backends.cuda if device.type == "cuda" else torch.backends.mkldnn
    holder: Any = getattr(backend, "matmul", None)
    if not hasattr(holder, "fp32_precision"):  # PyTorch before 2.9 has no such setting
        yield
        return
    before = holder.fp32_precision
    holder.fp32_precision = "ieee" if device.type == "cuda" else _cpu_route()
    try:
        yield
    finally:
        holder.fp32_precision = before


@cache
def _cpu_route() -> str:
    """With which setting float32 products are exact and fastest on this CPU: "ieee" or "bf16".

    "bf16" permits oneDNN to round the operands, which it does where AMX is there and nowhere else
    known; without AMX it brings oneDNN's own float32 kernels, 1.1 to 2 times as fast as MKL on
    AMD's processors. So: there, and where a trial shows that nothing is rounded. Nothing is timed,
    since the route changes the last bits of a score, and all processes must take the same.
    """
    holder: Any = getattr(torch.backends.mkldnn, "matmul", None)
    if not _is_amd():
        return "ieee"
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(1024, 512, generator=generator)
    columns = torch.randn(512, 512, generator=generator)
    before = holder.fp32_precision
    try:
        holder.fp32_precision = "bf16"
        error = float((torch.mm(rows, columns) - rows.double() @ columns.double()).abs().max())
    finally:
        holder.fp32_precision = before
    return "bf16" if error < 1e-3 else "ieee"  # bfloat16 operands would give about 0.2


def _is_amd() -> bool:
    """Whether the processor is of AMD's make, as far as the system tells."""
    try:
        return "AuthenticAMD" in Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return "AMD" in platform.processor()
