"""In which order does an epoch draw its rows? 4 bytes a draw, as NumPy's generator shuffles."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

CHUNK_ROWS = 2**20  # looked at at once

MOST_DRAWS = 10
"""A row is drawn at most so often in an epoch, however small its cluster: a cluster of one row
would otherwise be drawn N / K times, 445 at the size of Kinetics with 256 clusters."""


class Chunks(Sequence[np.ndarray]):
    """Rows cut into chunks of `size`; the last may be shorter. Each is cut when it is asked for."""

    def __init__(self, rows: np.ndarray, size: int) -> None:
        self._rows, self._size = rows, size

    def __len__(self) -> int:
        return math.ceil(len(self._rows) / self._size)

    def __getitem__(self, number: Any) -> Any:
        """One chunk."""
        # IndexError behind the last
        return self._rows[range(0, len(self._rows), self._size)[number] :][: self._size]


def epoch_rows(
    rows: np.ndarray, labels: Mapping[str, np.ndarray], seeds: tuple[int, ...], *, uniform: bool
) -> np.ndarray:
    """Which rows an epoch draws, in order: as many as `rows` has; the order derives from `seeds`.

    Uniform over rows: a permutation. Uniform over clusters (DeepCluster's rule): each clustering of
    `labels` (which has a label for every row of the index) has an equal share of the draws, and
    within it every cluster, as far as `MOST_DRAWS` lets it.
    """
    if not uniform:
        return shuffled(rows, seeds)
    generator, names = np.random.default_rng(seeds), sorted(labels)
    bounds = [len(rows) * i // len(names) for i in range(len(names) + 1)]
    most = max(1, MOST_DRAWS // len(names))
    drawn = [
        uniform_over_clusters(rows, labels[name][rows], stop - start, generator, most)
        for name, start, stop in zip(names, bounds[:-1], bounds[1:], strict=True)
    ]
    return generator.permutation(np.concatenate(drawn))


def shuffled(rows: np.ndarray, seeds: tuple[int, ...]) -> np.ndarray:
    """Some rows, each once, in an order that derives from `seeds`."""
    return np.random.default_rng(seeds).permutation(rows)


def uniform_over_clusters(
    rows: np.ndarray,
    labels_of_rows: np.ndarray,
    count: int,
    generator: np.random.Generator,
    most: int = MOST_DRAWS,
) -> np.ndarray:
    """`count` draws, sorted by cluster: equally many a cluster, and the rows of one evenly.

    A row is drawn at most `most` times, so `count` is at most `most` times the rows; what a small
    cluster cannot take is spread over the others.
    """
    order = generator.permutation(
        np.arange(len(rows), dtype=np.int32 if len(rows) < 2**31 else np.int64)
    )
    # by cluster, in random order within each
    order = order[np.argsort(labels_of_rows[order], kind="stable")]
    _, first, sizes = np.unique(labels_of_rows[order], return_index=True, return_counts=True)
    shares = equal_shares(count, most * sizes, generator)
    place = np.arange(len(order)) - np.repeat(first, sizes)  # of a row within its cluster
    times = np.repeat(shares // sizes, sizes) + (place < np.repeat(shares % sizes, sizes))
    drawn: np.ndarray = rows[np.repeat(order, times)]
    return drawn


def equal_shares(count: int, most_K: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """`count` dealt out to K takers, equally (to within one) but for those with less capacity.

    `most_K` is what each can take, in all at least `count`; `generator` draws who gets one more.
    """
    assert most_K.sum() >= count, (most_K.sum(), count)
    shares_K = np.zeros(len(most_K), np.int64)
    by_size = np.argsort(most_K, kind="stable")
    sorted_K = most_K[by_size]
    # for a taker and all larger ones, if the smaller ones are full
    left_K = count - (np.cumsum(sorted_K) - sorted_K)
    is_full_K = sorted_K * np.arange(len(sorted_K), 0, -1) <= left_K
    num_full = len(sorted_K) if is_full_K.all() else int(np.argmin(is_full_K))
    shares_K[by_size[:num_full]] = sorted_K[:num_full]
    if num_full < len(sorted_K):
        rest = generator.permutation(by_size[num_full:])
        shares_K[rest] = left_K[num_full] // len(rest)
        shares_K[rest[: left_K[num_full] % len(rest)]] += 1
    return shares_K


def split(
    groups_N: np.ndarray, share: float, seeds: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """Rows that stay and rows kept out, ascending: a `share` of the groups, none split."""
    is_there = np.zeros(int(groups_N.max(initial=-1)) + 1, dtype=np.bool_)
    is_there[groups_N] = True
    ids = np.flatnonzero(is_there)
    is_kept = np.zeros_like(is_there)
    is_kept[shuffled(ids, seeds)[: round(share * len(ids))]] = True
    out_N = is_kept[groups_N]
    return _numbers(~out_N), _numbers(out_N)


def _numbers(is_in_N: np.ndarray) -> np.ndarray:
    """Which rows are true, ascending, without a wider copy of them all."""
    found = np.empty(np.count_nonzero(is_in_N), np.int32 if len(is_in_N) <= 2**31 else np.int64)
    done = 0
    for start in range(0, len(is_in_N), CHUNK_ROWS):
        here = np.flatnonzero(is_in_N[start : start + CHUNK_ROWS])
        found[done : done + len(here)] = here + start
        done += len(here)
    return found


def share_seen(drawn: np.ndarray, rows: np.ndarray) -> float:
    """Which share of `rows` is among the rows that were drawn."""
    is_drawn = np.zeros(int(rows.max(initial=-1)) + 1, np.bool_)
    is_drawn[drawn] = True
    return float(np.count_nonzero(is_drawn)) / max(1, len(rows))


def derive(*numbers: int) -> int:
    """A seed that is a function of some integers."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])
