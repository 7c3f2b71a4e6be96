"""In which order does an epoch draw its rows, without a list of all of them?

Up to `WHOLE` draws an order is written out, as numpy's generator shuffles it. A longer one is worked out where it is
looked at: place i of a keyed permutation is a Feistel network of hashes over the smallest square power of two that
holds all places, walked until the result is one of them (Black and Rogaway, "Ciphers with arbitrary finite domains",
2002). So a permutation takes no memory, any rank can look at any part of it, and an order stays a function of seed and
epoch. Uniform over clusters, the rows sorted by cluster are all that is kept: 4 bytes a row, and two numbers a cluster.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from seehear.kmeans.drawing import hashes

WHOLE = 2**22
"""Draws up to which an order is written out: 32 MB."""

ROUNDS = 4  # of the Feistel network: enough with hashes as good as random (Luby and Rackoff, 1988)

_BLOCK = 2**16  # draws that are worked out at once
_BLOCKS_KEPT = 4  # those that read ahead are elsewhere than those that learn
_CHUNK_ROWS = 2**20

Integers = NDArray[np.integer]


class Order(Protocol):
    """Rows in the order in which they are drawn; an array is one, too."""

    def __len__(self) -> int: ...

    def __getitem__(self, span: slice, /) -> np.ndarray: ...


class Worked:
    """An order that is worked out, a block of so many draws at a time."""

    def __init__(self, count: int, rows_at: Callable[[NDArray[np.int64]], np.ndarray], block: int = _BLOCK) -> None:
        self._count, self._rows_at, self._size = count, rows_at, block
        self._block = lru_cache(maxsize=_BLOCKS_KEPT)(self._worked_out)

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, span: slice) -> np.ndarray:
        start, stop, step = span.indices(self._count)
        assert step == 1, step
        found = [np.zeros(0, np.int64)]
        for number in range(start // self._size, -(-stop // self._size)):
            first = number * self._size
            found.append(self._block(number)[max(0, start - first) : stop - first])
        return np.concatenate(found)

    def _worked_out(self, number: int) -> np.ndarray:
        first = number * self._size
        return self._rows_at(np.arange(first, min(first + self._size, self._count), dtype=np.int64))


def epoch_rows(
    rows: np.ndarray, labels: Mapping[str, np.ndarray], seed: int, epoch: int, *, uniform: bool, whole: int = WHOLE
) -> Order:
    """Which rows an epoch draws, in order: as many as `rows` has.

    Uniform over rows: a permutation. Uniform over clusters: for each draw a space, then one of its clusters, then one
    of the cluster's rows, so that every cluster is seen equally often in the space that it belongs to.

    Args:
        whole: so many rows are written out, longer orders are worked out.
    """
    seeds = (seed, epoch, 0x5EED)
    if not uniform:
        return shuffled(rows, seeds, whole=whole)
    generator, spaces = np.random.default_rng(seeds), sorted(labels)
    bounds = np.array([len(rows) * i // len(spaces) for i in range(len(spaces) + 1)])
    if len(rows) <= whole:
        counts = np.diff(bounds).tolist()
        drawn = [
            uniform_over_clusters(rows, labels[space][rows], count, generator)
            for space, count in zip(spaces, counts, strict=True)
        ]
        return generator.permutation(np.concatenate(drawn))
    clusters = [ByCluster(rows, labels[space], generator) for space in spaces]
    key = key_of(seeds)

    def rows_at(places: NDArray[np.int64]) -> np.ndarray:
        turns, found = permuted(places, len(rows), key), np.empty(len(places), np.int64)
        for i, one in enumerate(clusters):
            mine = (turns >= bounds[i]) & (turns < bounds[i + 1])
            found[mine] = one.rows_of(turns[mine] - bounds[i])
        return found

    return Worked(len(rows), rows_at)


def shuffled(rows: np.ndarray, seeds: tuple[int, ...], *, whole: int = WHOLE) -> Order:
    """Some rows, each once, in an order that derives from `seeds`."""
    if len(rows) <= whole:
        return np.random.default_rng(seeds).permutation(rows)
    key = key_of(seeds)
    return Worked(len(rows), lambda places: rows[permuted(places, len(rows), key)])


def uniform_over_clusters(
    rows: np.ndarray, labels_of_rows: np.ndarray, count: int, generator: np.random.Generator
) -> np.ndarray:
    """`count` rows such that every cluster comes equally often (to within one), and its rows as evenly as can be."""
    order = generator.permutation(len(rows))
    order = order[np.argsort(labels_of_rows[order], kind="stable")]
    _, first, sizes = np.unique(labels_of_rows[order], return_index=True, return_counts=True)
    turns = np.arange(count)
    cluster = generator.permutation(len(sizes))[turns % len(sizes)]
    return rows[order[first[cluster] + (turns // len(sizes)) % sizes[cluster]]]


class ByCluster:
    """The same by turns that are asked for: rows sorted by cluster, and a keyed permutation within each of them.

    Args:
        rows: (n,) row numbers.
        labels_N: of all rows, at least 0 for these.
        generator: draws the order of the clusters, and a key.
    """

    def __init__(self, rows: np.ndarray, labels_N: np.ndarray, generator: np.random.Generator) -> None:
        self.rows, counts = sorted_by_cluster(rows, labels_N)
        self.sizes = counts[counts > 0]
        self.first = np.cumsum(counts)[counts > 0] - self.sizes
        self.order = generator.permutation(len(self.sizes))
        self.key = int(generator.integers(2**63))

    def rows_of(self, turns: NDArray[np.int64]) -> np.ndarray:
        """The rows of some turns: turn t is the next row of cluster t modulo their number, in their drawn order."""
        cluster = self.order[turns % len(self.sizes)]
        place = turns // len(self.sizes) % self.sizes[cluster]
        rows: np.ndarray = self.rows[self.first[cluster] + permuted(place, self.sizes[cluster], self.key, cluster)]
        return rows


def sorted_by_cluster(rows: np.ndarray, labels_N: np.ndarray) -> tuple[np.ndarray, NDArray[np.int64]]:
    """Row numbers sorted by cluster, int32 where they fit, and the rows in each cluster: a counting sort in pieces."""
    spans = [slice(start, start + _CHUNK_ROWS) for start in range(0, len(rows), _CHUNK_ROWS)]
    counts = np.zeros(int(labels_N.max(initial=-1)) + 1, np.int64)
    for span in spans:
        counts += np.bincount(labels_N[rows[span]], minlength=len(counts))
    narrow = np.uint16 if len(counts) <= 2**16 else np.int64  # 16 bits are sorted by their digits, several times faster
    found = np.empty(len(rows), np.int32 if len(labels_N) <= 2**31 else np.int64)
    free = np.cumsum(counts) - counts  # the next free place of each cluster
    for span in spans:
        labels = labels_N[rows[span]].astype(narrow)
        order = np.argsort(labels, kind="stable")
        here = np.bincount(labels, minlength=len(counts))
        within = np.arange(len(labels)) - np.repeat(np.cumsum(here) - here, here)
        found[np.repeat(free, here) + within] = rows[span][order]
        free += here
    return found, counts


def key_of(seeds: tuple[int, ...]) -> int:
    """A key that is a function of some integers."""
    return int(np.random.SeedSequence(seeds).generate_state(1, np.uint64)[0])


def permuted(places: Integers, size: int | Integers, key: int, which: int | Integers = 0) -> NDArray[np.int64]:
    """Where a permutation takes some places.

    Args:
        places: (n,) integers from 0 to `size` - 1.
        size: how many are permuted, at least 1; or (n,), one number for each place.
        key: of the permutation.
        which: a second key, below 2**31; or (n,).
    """
    sizes = np.broadcast_to(np.asarray(size, np.uint64), places.shape)
    tweaks = np.broadcast_to(np.asarray(which, np.uint64) << np.uint64(32), places.shape)
    half = (np.ceil(np.log2(np.maximum(sizes, 2).astype(np.float64)) / 2)).astype(np.uint64)
    found = _network(places.astype(np.uint64), half, tweaks, key)
    while len(out := np.flatnonzero(found >= sizes)):  # on average less than three times
        found[out] = _network(found[out], half[out], tweaks[out], key)
    return found.astype(np.int64)


def _network(
    numbers: NDArray[np.uint64], half: NDArray[np.uint64], tweaks: NDArray[np.uint64], key: int
) -> NDArray[np.uint64]:
    """A bijection of the numbers below 4 to the power of `half`."""
    mask = (np.uint64(1) << half) - np.uint64(1)
    left, right = numbers >> half, numbers & mask
    for turn in range(ROUNDS):
        left, right = right, left ^ (hashes(key, right | tweaks, stream=turn) & mask)
    return left << half | right
