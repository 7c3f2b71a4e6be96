"""Which centroid is nearest to each row, and what do the rows of each cluster add up to, at three precisions?

The nearest centroid of a row y has the largest score y . c - |c|^2 / 2, one matrix product with a bias; no distance is
ever formed. Scores are made in tiles of about a million numbers, which stay in the cache, and only winners leave.

- `Fp32`: the features themselves, converted chunk by chunk; sums in float64.
- `Codes` ("int8", "bf16"): the centred features rounded to integers once, y = step * code; centroids are rounded to
  integers on a finer grid in every iteration. Sums and scores are integers, so neither the order of rows, nor chunks,
  threads or ranks can change a bit. In "bf16" the integers have 8 leading bits and go through bfloat16 units, which
  add exactly in float32 and round each score once.

Shapes: rows (n, D), centroids (K, D), labels (n,) int32 with -1 for "none yet".
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from seehear import distributed
from seehear.kmeans.kernels import Product, exact_products, int8_product
from seehear.kmeans.rows import Rows, Spread
from seehear.kmeans.totals import Totals

_SCORES = {"cpu": 2**21, "cuda": 2**23}  # numbers in one tile: 8 MB in float32, or what stays in a GPU's cache
_TILE_CLUSTERS = 4096  # clusters in one tile, so that a tile has 512 rows or more
_TILE_ROWS = {"cpu": 4096, "cuda": 65536}
_ADD_ROWS = 8192  # rows summed at once: codes up to 1024 then add up to 2**23 at most, exact in float32
_EXACT = 2**24  # integers below this are exact in float32


class Scorer:
    """What the precisions share: the winner of each row from tiles of scores, and sums per cluster.

    Attributes:
        rows: the features behind it.
        add_rows: so many rows are added up at a time.
        keeps_from: from so many clusters on, a known cluster is looked at before the position of a maximum is sought.
        resolution: the smallest step of a placed centroid's coordinate that the scores see.
        squares: sum over all ranks of (weighted) squared lengths of the rows as scored, in units of `unit` squared.
        unit: the length of 1 in the scored rows, in units of the features.
        weight_unit: the weight that counts as 1 in the totals.
        mean_square: of the rows' distances to their centroids, in units of `unit` squared; None before the first pass.
    """

    add_rows = _ADD_ROWS
    keeps_from = 0
    resolution = 0.0
    unit = 1.0
    weight_unit = 1.0
    squares = 0.0
    mean_square: float | None = None

    def __init__(self, rows: Rows, num_clusters: int, weights_N: Tensor | None) -> None:
        self.rows = rows
        self.num_clusters = num_clusters
        self.weights_N = weights_N
        self.centre_D: Tensor | None = None
        self.tile_by(_TILE_CLUSTERS)
        self._scores: Tensor | None = None
        self._values: Tensor | None = None

    def tile_by(self, clusters: int) -> None:
        """Score at most so many clusters at a time."""
        tile = min(self.num_clusters, clusters)
        kind = "cuda" if self.rows.device.type == "cuda" else "cpu"
        self.tiles = [(first, min(first + tile, self.num_clusters)) for first in range(0, self.num_clusters, tile)]
        self.tile_rows = max(1, min(_TILE_ROWS[kind], _SCORES[kind] // tile, self.rows.block_rows))
        self.add_rows = min(self.add_rows, self.rows.block_rows)

    def measure_squares(self) -> None:
        """Find `squares`, by one pass over the rows and one all-reduce, where they are not known yet."""

    def place(self, centroids_KD: Tensor) -> Tensor:
        """Centroids in units of the features -> as the rows are scored: (c - centre) / unit, (K, D) float64."""
        return (centroids_KD if self.centre_D is None else centroids_KD - self.centre_D.double()) / self.unit

    def lift(self, placed_KD: Tensor) -> Tensor:
        """The inverse of `place`."""
        lifted = placed_KD * self.unit
        return lifted if self.centre_D is None else lifted + self.centre_D.double()

    def load(self, placed_KD: Tensor) -> None:
        """Prepare the scores of these centroids, (K, D) float64, as placed by `place`."""
        raise NotImplementedError

    def scores(self, start: int, stop: int, tile: int) -> Tensor:
        """Scores of rows start to stop - 1 with the centroids of a tile, (n, k); valid until the next call."""
        raise NotImplementedError

    def values(self, local_rows: Tensor | slice) -> Tensor:
        """The rows as they are added up, (n, D) float; sums of one block of them are exact or nearly so."""
        raise NotImplementedError

    def ready_rows(self) -> Tensor | None:
        """All rows, where they lie in memory as `values` would give them and need not be copied."""
        return None

    def nearest(self, start: int, stop: int, known_n: Tensor | None = None) -> Tensor:
        """The nearest centroid of rows start to stop - 1, (n,) int32; the lowest number among equals.

        With `known_n`, the labels of the last pass, and `keeps_from` clusters or more, a row whose known centroid is
        among the nearest keeps it. This is faster, because the position of a maximum need not be found for most rows.
        """
        winners = torch.empty(stop - start, dtype=torch.int32, device=self.rows.device)
        for a in range(0, stop - start, self.tile_rows):
            b = min(a + self.tile_rows, stop - start)
            if known_n is not None and len(self.tiles) == 1 and self.num_clusters >= self.keeps_from:
                winners[a:b] = _keep_or_find(self.scores(start + a, start + b, 0), known_n[a:b])
            else:
                winners[a:b] = self._winners(start + a, start + b)
        return winners

    def add(self, totals: Totals, start: int, old_n: Tensor, new_n: Tensor) -> int:
        """Move rows start, start + 1, ... from clusters `old_n` to `new_n` in the totals; return how many moved.

        A label of -1 is no cluster. Rows that stay cost nothing.
        """
        moved = torch.nonzero(old_n != new_n).flatten()
        everything = len(moved) == len(new_n)
        for first in range(0, len(moved), self.add_rows):
            some = moved[first : first + self.add_rows]
            where = slice(start + first, start + first + len(some)) if everything else some + start
            weights = None if self.weights_N is None else self.weights_N[where]
            ready = self.ready_rows()
            if ready is None:
                totals.move(self.values(where), old_n[some], new_n[some], weights)
            else:
                totals.move(ready, old_n[some], new_n[some], weights, some + start)
        return len(moved)

    def _winners(self, start: int, stop: int) -> Tensor:
        best, winner = self.scores(start, stop, 0).max(dim=1)
        for tile, (first, _) in enumerate(self.tiles[1:], start=1):
            value, index = self.scores(start, stop, tile).max(dim=1)
            winner = torch.where(value > best, index + first, winner)
            best = torch.maximum(best, value)
        return winner

    def _score_buffer(self, rows: int, clusters: int, dtype: torch.dtype) -> Tensor:
        if self._scores is None:
            size = self.tile_rows * (self.tiles[0][1] - self.tiles[0][0])
            self._scores = torch.empty(size, dtype=dtype, device=self.rows.device)
        return self._scores[: rows * clusters].view(rows, clusters)

    def _value_buffer(self, rows: int, width: int, dtype: torch.dtype) -> Tensor:
        if self._values is None or len(self._values) < rows:
            self._values = torch.empty(rows, width, dtype=dtype, device=self.rows.device)
        return self._values[:rows]


class Fp32(Scorer):
    """Scores in true float32, sums of a few rows in float32 and of these in float64; only the features are stored.

    Args:
        centre_D: (D,) float32, taken from each chunk of rows as it is read; None where that is not needed.
    """

    keeps_from = 128

    def __init__(self, rows: Rows, num_clusters: int, centre_D: Tensor | None, weights_N: Tensor | None = None) -> None:
        super().__init__(rows, num_clusters, weights_N)
        self.centre_D = centre_D
        self._chunk: Tensor | None = None

    def load(self, placed_KD: Tensor, prices_K: Tensor | None = None) -> None:
        """As in `Scorer`; half of the prices, (K,) in units of squared distance, is taken from the scores."""
        self._weights_KD = placed_KD.float()
        squares = torch.linalg.vector_norm(self._weights_KD, dim=1, dtype=torch.float64).square()
        self._bias_K = (-0.5 * (squares if prices_K is None else squares + prices_K.double())).float()

    def scores(self, start: int, stop: int, tile: int) -> Tensor:
        first, last = self.tiles[tile]
        out = self._score_buffer(stop - start, last - first, torch.float32)
        rows = self._centred(start, stop)
        with exact_products(self.rows.device):
            return torch.addmm(self._bias_K[first:last], rows, self._weights_KD[first:last].T, out=out)

    def scores_of(self, local_rows: Tensor) -> Tensor:
        """Scores of some rows with all centroids, (n, K), where those are one tile."""
        rows = self.rows.pick(local_rows)
        out = self._score_buffer(len(rows), self.num_clusters, torch.float32)
        with exact_products(self.rows.device):
            return torch.addmm(
                self._bias_K, rows if self.centre_D is None else rows.sub_(self.centre_D), self._weights_KD.T, out=out
            )

    def ready_rows(self) -> Tensor | None:
        data = self.rows.data
        as_is = data.dtype == torch.float32 and data.device == self.rows.device and data.is_contiguous()
        return data if as_is and self.centre_D is None and self.weights_N is None else None

    def values(self, local_rows: Tensor | slice) -> Tensor:
        dtype = torch.float32 if self.weights_N is None else torch.float64
        buffer = self._value_buffer(self.add_rows, self.rows.width, dtype)
        if isinstance(local_rows, slice):
            values = self.rows.take(local_rows.start, local_rows.stop, out=buffer)
        else:
            values = buffer[: len(local_rows)].copy_(self.rows.pick(local_rows))
        return values if self.centre_D is None else values.sub_(self.centre_D)

    def _centred(self, start: int, stop: int) -> Tensor:
        data = self.rows.data
        if self.centre_D is None and data.dtype == torch.float32 and data.device == self.rows.device:
            return self.rows.take(start, stop)
        if self._chunk is None:
            self._chunk = torch.empty(self.rows.block_rows, self.rows.width, device=self.rows.device)
        chunk = self.rows.take(start, stop, out=self._chunk)
        return chunk if self.centre_D is None else chunk.sub_(self.centre_D)

    def measure_squares(self) -> None:
        total = torch.zeros(1, dtype=torch.float64, device=self.rows.device)
        for start, stop in self.rows.cache_blocks():
            squares = torch.linalg.vector_norm(self._centred(start, stop), dim=1).double().square()
            total += (squares if self.weights_N is None else squares * self.weights_N[start:stop]).sum()
        self.squares = float(distributed.all_reduce(total))


class Codes(Scorer):
    """Scores and sums of rows rounded to integers: about 2 to 8 times as fast, and the same bits everywhere.

    Args:
        precision: "int8" (codes to 127, 5 standard deviations) or "bf16" (to 1024, 20 of them, with 8 leading bits).
        spread: where the rows lie, from `measure`.
    """

    def __init__(
        self,
        rows: Rows,
        num_clusters: int,
        precision: Literal["int8", "bf16"],
        spread: Spread,
        weights_N: Tensor | None = None,
    ) -> None:
        super().__init__(rows, num_clusters, weights_N)
        self.precision = precision
        self.centre_D = spread.centre_D
        self.limit = 127 if precision == "int8" else 1024
        fine = 25 if precision == "int8" else 50  # steps in a standard deviation
        self.unit = max(spread.typical / fine, spread.widest * 5 / self.limit) or 1.0
        self.usual_square = rows.width * (spread.typical / self.unit) ** 2 + 1
        padding = 0 if precision == "int8" else 4  # three columns of ones carry the bias, one a row's own offset
        self.code_width = -(-(rows.width + padding) // 32) * 32
        dtype = torch.int8 if precision == "int8" else torch.bfloat16
        if weights_N is not None:  # integers, so that their sums do not depend on the order
            largest = distributed.all_reduce(torch.cat([weights_N, weights_N.new_zeros(1)]).max(), "max")
            steps = 2 ** min(math.floor(math.log2(2**53 / self.limit / rows.total)), 27)  # exact in float64
            self.weight_unit = float(largest) / steps
            self.weights_N = (weights_N / self.weight_unit).round_()
        self._products: list[Product] = []
        self.codes_ND = torch.zeros(len(rows), self.code_width, dtype=dtype, device=rows.device)
        self._encode()

    def load(self, placed_KD: Tensor) -> None:
        grid = self._finest_grid(placed_KD)
        rounded = placed_KD.new_zeros(len(placed_KD), self.code_width)
        used = rounded[:, : self.rows.width]
        torch.mul(placed_KD, grid, out=used)
        limit = self.limit if self.precision == "int8" else _EXACT
        used.round_().clamp_(-limit, limit)
        if self.precision == "bf16":
            used.copy_(used.bfloat16())  # still integers
        bias = -torch.linalg.vecdot(used, used) / (2 * grid)
        if self.precision == "bf16":
            bias += self._expected_square() * grid / 2
        bias.round_()
        self.resolution = 1 / grid
        make = self._int8_tile if self.precision == "int8" else self._bf16_tile
        self._products = [make(rounded[a:b], bias[a:b], grid) for a, b in self.tiles]

    def scores(self, start: int, stop: int, tile: int) -> Tensor:
        return self._products[tile](self.codes_ND[start:stop])

    def values(self, local_rows: Tensor | slice) -> Tensor:
        picked = self.codes_ND[local_rows]
        dtype = torch.float32 if self.weights_N is None else torch.float64
        return self._value_buffer(len(picked), self.rows.width, dtype).copy_(picked[:, : self.rows.width])

    def _finest_grid(self, placed_KD: Tensor) -> float:
        """Steps of the centroids' grid in one step of the codes: a power of 2, the largest that keeps sums exact."""
        longest = float(torch.linalg.vector_norm(placed_KD, dim=1).max()) + 1e-9
        rounding = self.longest_code * self.rows.width**0.5 / 2
        largest = self.longest_code * longest + longest**2 / 2 + 1
        if self.precision == "bf16":
            largest += self.usual_square + self._expected_square() / 2
        room = (0.99 * _EXACT - rounding) / largest
        if self.precision == "int8":
            room = min(room, self.limit / (float(torch.linalg.vector_norm(placed_KD, torch.inf)) + 1e-9))
        return float(2.0 ** min(math.floor(math.log2(room)), 10))

    def _int8_tile(self, centroids_kD: Tensor, bias_k: Tensor, grid: float) -> Product:
        return int8_product(centroids_kD.to(torch.int8), bias_k.float())

    def _expected_square(self) -> float:
        """What scores are compared to: 1.5 times the mean square of a row's distance, to an eighth of an octave."""
        square = self.usual_square if self.mean_square is None else min(self.mean_square + 1, self.usual_square)
        return float(1.5 * 2.0 ** (round(math.log2(square) * 8) / 8))

    def _bf16_tile(self, centroids_kD: Tensor, bias_k: Tensor, grid: float) -> Product:
        """Scores (expected - distance^2) / 2: small numbers, of which bfloat16 keeps the digits that differ.

        Each row has its squared length in a column, roughly: it shifts all scores of the row alike. Most best scores
        are positive, and positive bfloat16 numbers are the ones that are compared fast.
        """
        digits, width = centroids_kD, self.rows.width
        digits[:, width] = (bias_k / 65536).trunc()
        digits[:, width + 1] = (bias_k.fmod(65536) / 256).trunc() * 256
        digits[:, width + 2] = bias_k.fmod(256)
        digits[:, width] *= 65536
        digits[:, width + 3] = -grid / 2
        weights = digits.bfloat16()

        def product(codes_nD: Tensor) -> Tensor:
            out = self._score_buffer(len(codes_nD), len(weights), torch.bfloat16)
            with exact_products(codes_nD.device):
                return torch.mm(codes_nD, weights.T, out=out)

        return product

    def _encode(self) -> None:
        """Fill the codes block by block, and find their total square and the longest row, exact over all ranks."""
        assert self.centre_D is not None
        buffer = torch.empty(self.rows.cache_rows, self.rows.width, device=self.rows.device)
        total = torch.zeros(2, dtype=torch.float64, device=self.rows.device)
        for start, stop in self.rows.cache_blocks():
            codes = self.rows.take(start, stop, out=buffer).sub_(self.centre_D)
            codes.mul_(1 / self.unit).round_().clamp_(-self.limit, self.limit)
            target = self.codes_ND[start:stop]
            target[:, : self.rows.width] = codes
            if self.precision == "bf16":
                target[:, self.rows.width : self.rows.width + 3] = 1
                codes.copy_(target[:, : self.rows.width])
            squares = codes.square_().sum(1, dtype=torch.float64)  # integers
            if self.precision == "bf16":  # coarse, so that half of it times the grid is an integer too
                target[:, self.rows.width + 3] = (squares / 1024).round_().mul_(1024).clamp_(max=2 * self.usual_square)
            total[1] = torch.maximum(total[1], squares.max())
            total[0] += (squares if self.weights_N is None else squares * self.weights_N[start:stop]).sum()
        self.squares = float(distributed.all_reduce(total[:1]))
        self.longest_code = math.sqrt(float(distributed.all_reduce(total[1:], "max")) + 3)


def centre_if_far(centroids_KD: Tensor) -> Tensor | None:
    """The mean of the centroids, (D,) float32, where it lies so far out that float32 would lose small differences.

    That is where it is longer than 4 times the root mean square distance of the centroids from it.
    """
    middle = centroids_KD.double().mean(0)
    spread = float((centroids_KD - middle).square().sum(1).mean())
    return middle.float() if float(middle.square().sum()) > 16 * spread else None


def _keep_or_find(scores_nk: Tensor, known_n: Tensor) -> Tensor:
    """Winners of rows that mostly keep their cluster, (n,) int32; a known cluster that is among the best is kept.

    The maximum of a row alone is cheap; its position is looked for only where the known cluster does not have it.
    """
    if scores_nk.is_cuda:  # where positions are cheap, and looking at how many moved is not
        best, winner = scores_nk.max(dim=1)
        return torch.where(scores_nk.gather(1, known_n.clamp(min=0).long()[:, None]).flatten() == best, known_n, winner)
    bits = scores_nk.view(torch.int16) if scores_nk.dtype == torch.bfloat16 else scores_nk
    top = bits.amax(dim=1)
    if bits is not scores_nk:  # bfloat16 as int16: many times faster, in order only among positive numbers
        below = torch.nonzero(top < 0).flatten()
        top[below] = bits.index_select(0, below).amin(dim=1)
    known = known_n.clamp(min=0)
    stays = bits.gather(1, known.long()[:, None]).flatten() == top
    search = torch.nonzero(~stays).flatten()
    if 2 * len(search) > len(known):
        return torch.where(stays, known, scores_nk.max(dim=1).indices.int())
    known[search] = scores_nk.index_select(0, search).max(dim=1).indices.int()
    return known
