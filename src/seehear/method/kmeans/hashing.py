"""Which rows start as centroids? A function of the seed and the number of rows, whatever rank holds
them.

Rows are drawn without replacement by hashing a counter (splitmix64), so no generator state exists
and any rank can work out the draw alone, in memory that grows with the draw and not with N.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_MASK = (1 << 64) - 1


def draw_rows(seed: int, num_rows: int, count: int, stream: int = 0) -> NDArray[np.int64]:
    """Draw `count` different row numbers out of `num_rows`, the same everywhere.

    Args:
        seed: any integer.
        num_rows: N; the rows are 0 to N - 1.
        count: how many, 0 to N.
        stream: a second seed, so that two draws of one job differ.

    Returns:
        (count,) int64 in the order drawn; every subset is equally likely up to the hash.
    """
    assert 0 <= count <= num_rows, (count, num_rows)
    if 2 * count >= num_rows:  # most rows are wanted: order them all by their hash
        return np.argsort(
            hashes(seed, np.arange(num_rows, dtype=np.uint64), stream), kind="stable"
        )[:count]
    drawn = np.empty(0, dtype=np.int64)
    start = 0
    while len(drawn) < count:  # each pass keeps at least half of what it draws
        counter = np.arange(start, start + 2 * count + 16, dtype=np.uint64)
        drawn = np.concatenate(
            [drawn, (hashes(seed, counter, stream) % np.uint64(num_rows)).astype(np.int64)]
        )
        first = np.unique(drawn, return_index=True)[1]
        drawn = drawn[np.sort(first)]
        start += len(counter)
    return drawn[:count]


def hashes(seed: int, numbers: NDArray[np.integer], stream: int = 0) -> NDArray[np.uint64]:
    """Hash numbers to uniform uint64 (two rounds of the splitmix64 finaliser); any shape, the same
    out.
    """
    key = np.uint64(_mix(_mix(seed & _MASK) ^ (stream & _MASK)))
    with np.errstate(over="ignore"):
        z = (numbers.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15) + key
        for _ in range(2):
            z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            z = z ^ (z >> np.uint64(31))
    return z


def _mix(z: int) -> int:
    z = (z + 0x9E3779B97F4A7C15) & _MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
    return z ^ (z >> 31)
