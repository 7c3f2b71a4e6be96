"""Which part of a file is meant? A `Stretch`; and into which segments is one cut?"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Times = NDArray[np.float64]


@dataclass(frozen=True)
class Stretch:
    """A file, or part of it."""

    path: str  # of the file
    start_s: float = 0.0  # since the container's start
    seconds: float | None = None  # how long; None is to the end

    @property
    def end_s(self) -> float:
        """To the microsecond; infinite where it is the file's."""
        return math.inf if self.seconds is None else round(self.start_s + self.seconds, 6)

    @property
    def fragment(self) -> str:
        """What follows the file's name where a stretch of it is meant; empty where all of it is."""
        return "" if self.seconds is None else fragment(self.start_s, self.seconds)


def fragment(start_s: float, seconds: float) -> str:
    """A stretch of a file as W3C's media fragments write it, to the microsecond: #t=1.5,2.25."""
    return f"#t={round(float(start_s), 6)!r},{round(float(start_s) + float(seconds), 6)!r}"


def cut(
    start_s: float, seconds: float, segment_seconds: float, min_seconds: float
) -> tuple[Times, Times]:
    """Cut a stretch into equal segments; the last may be shorter, down to `min_seconds`.

    Returns starts and lengths, float64 (N,), to the microsecond.
    """
    one_V = np.array([start_s], np.float64), np.array([seconds], np.float64)
    return cut_all(*one_V, segment_seconds, min_seconds)[1:]


def cut_all(
    start_s_V: Times, seconds_V: Times, segment_seconds: float, min_seconds_V: Times | float
) -> tuple[NDArray[np.int64], Times, Times]:
    """`cut` of many stretches: which one each segment is of, and all segments, in order."""
    whole_V = np.floor(seconds_V / segment_seconds + 1e-6)
    rest_V = seconds_V - whole_V * segment_seconds
    count_V = whole_V.astype(np.int64) + (rest_V >= min_seconds_V)
    stretch_N = np.repeat(np.arange(len(count_V)), count_V)
    number_N = np.arange(len(stretch_N)) - np.repeat(np.cumsum(count_V) - count_V, count_V)
    seconds_N = np.where(number_N < whole_V[stretch_N], segment_seconds, rest_V[stretch_N])
    start_s_N = start_s_V[stretch_N] + number_N * segment_seconds
    return stretch_N, start_s_N.round(6), seconds_N.round(6)
