"""Which of these stretches of files can be read? An index in memory of them, a row a stretch.

For those who know what they want, as evaluation does. Unlike in `index`, nothing is looked for, cut
or judged: a file may be silent or still, and needs only the streams that are wanted. Files are
opened in worker processes, as for `index`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from seehear.data.decoding.pool import examine_all
from seehear.data.index.columns import Video
from seehear.data.index.examination import Rejection
from seehear.data.index.table import Index
from seehear.data.media import MediaInfo
from seehear.data.remote import absolute, is_remote, stamp
from seehear.data.stretches import Stretch
from seehear.machine.console import Console
from seehear.machine.distributed import cores

CUT_SLACK_S = 1.0
"""So much longer may a stretch be that was cut out of its video: cutters stop at frames."""


@dataclass(frozen=True)
class Found:
    """What `look_up` found."""

    index: Index  # a row for each stretch that can be read, in memory
    stretch_N: NDArray[np.int64]  # (N,) int64, which stretch a row is
    rejected: dict[int, Rejection]  # the number of each other stretch -> why it cannot be read


def look_up(
    stretches: Sequence[Stretch],
    wanted: Sequence[str],
    *,
    workers: int | None = None,
    timeout_s: float = 30.0,
    console: Console | None = None,
) -> Found:
    """Open the files of some stretches and make an index in memory of what can be read.

    `wanted` streams must be there, of "video" and "audio". A file that is no longer than its
    stretch and ends before that begins is taken for the stretch itself, cut out already. Rows of a
    file are neighbours; files come in the order in which they are first named.
    """
    by_path: dict[str, list[int]] = {}
    for number, stretch in enumerate(stretches):
        by_path.setdefault(absolute(stretch.path), []).append(number)
    answers = _examined(list(by_path), wanted, workers, timeout_s, console)
    videos: list[Video] = []
    order: list[int] = []
    rejected: dict[int, Rejection] = {}
    for (path, numbers), answer in zip(by_path.items(), answers, strict=True):
        if isinstance(answer, Rejection):
            rejected |= dict.fromkeys(numbers, answer)
            continue
        spans = [_within(stretches[number], answer, wanted) for number in numbers]
        good = [i for i, (start_s, end_s) in enumerate(spans) if end_s > start_s]
        rejected |= {
            number: Rejection("past the end")
            for i, number in enumerate(numbers)
            if i not in set(good)
        }
        if good:
            start_s, end_s = np.array([spans[i] for i in good], dtype=np.float64).T
            videos.append(Video.of(path, answer, start_s, end_s - start_s, stamp(path)))
            order += [numbers[i] for i in good]
    here = [os.path.dirname(path) for path in by_path if not is_remote(path)]  # noqa: PTH120
    root = os.path.commonpath(here) if here else os.sep
    return Found(Index.in_memory(videos, root), np.array(order, dtype=np.int64), rejected)


def _examined(
    paths: list[str],
    wanted: Sequence[str],
    workers: int | None,
    timeout_s: float,
    console: Console | None,
) -> list[MediaInfo | Rejection]:
    """What each file holds, or why it cannot be read."""
    answers: list[MediaInfo | Rejection] = [Rejection("not a media file")] * len(paths)
    jobs = [(path, True, tuple(wanted)) for path in paths]
    count = console.watch("looking at files", len(jobs)) if console else lambda done: None
    for number, answer in enumerate(examine_all(jobs, workers or cores(), timeout_s)):
        if answer is not None:
            answers[number] = answer
        count(number + 1)
    return answers


def _within(stretch: Stretch, info: MediaInfo, wanted: Sequence[str]) -> tuple[float, float]:
    """Start and end of the part of a stretch in which all wanted streams are there.

    A file that ends before the stretch begins, and is as long as the stretch, is the stretch:
    somebody has cut it out.
    """
    first_s, last_s = info.extent_s(wanted)
    if stretch.seconds is not None and first_s < last_s <= min(
        stretch.start_s, stretch.seconds + CUT_SLACK_S
    ):
        return first_s, last_s
    end_s = last_s if stretch.seconds is None else min(last_s, stretch.start_s + stretch.seconds)
    return max(first_s, stretch.start_s), end_s
