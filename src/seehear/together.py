"""Which clips are decoded together, so that a file is opened once for several of them?

Those of a group of batches, in the order of the index: there the rows of a file are neighbours, and ascend in time.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from seehear.decoding import Request
from seehear.remote import are_neighbours


class Chunks(Sequence[np.ndarray]):
    """Rows cut into chunks of `size`; the last may be shorter. Each is cut when it is asked for."""

    def __init__(self, rows: np.ndarray, size: int) -> None:
        self._rows, self._size = rows, size

    def __len__(self) -> int:
        return math.ceil(len(self._rows) / self._size)

    def __getitem__(self, number: Any) -> Any:
        """One chunk."""
        return self._rows[range(0, len(self._rows), self._size)[number] :][: self._size]  # IndexError behind the last


@dataclass(frozen=True)
class Group:
    """Chunks that are decoded together: their rows, each once and ascending, and which of these make up each chunk."""

    chunks: list[np.ndarray]
    rows: np.ndarray
    places: list[np.ndarray]


def grouped(chunks: Sequence[np.ndarray], counts: Sequence[int]) -> Iterator[Group]:
    """Groups of so many chunks each, in their order."""
    first = 0
    for count in counts:
        together = [chunks[number] for number in range(first, first + count)]
        rows, places = np.unique(np.concatenate(together), return_inverse=True)
        yield Group(together, rows, np.split(places, np.cumsum([len(chunk) for chunk in together])[:-1]))
        first += count


def left_open(requests: Iterator[Request]) -> Iterator[Request]:
    """The same requests; one whose file, or whose neighbour in a remote shard, the next one is for says so."""
    last = next(requests, None)
    for request in requests:
        assert last is not None
        if last.path == request.path:
            yield replace(last, stays_open=True)
        else:
            yield replace(last, goes_on=True) if are_neighbours(last.path, request.path) else last
        last = request
    if last is not None:
        yield last
