"""Which of these stretches of files can be read, for those who know what they want: evaluation,
search, embedding.

An index in memory, a row a stretch. Unlike `index`, nothing is looked for, cut or judged: a file
may be silent or still, and needs only the streams that are wanted. Files are opened in worker
processes, as for `index`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from seehear.data.decoding.pool import examine_all
from seehear.data.index.examination import Rejection
from seehear.data.index.table import FACTS, Index, Video
from seehear.data.media import MediaInfo
from seehear.data.remote import absolute, is_remote, stamp
from seehear.machine.console import Console
from seehear.machine.distributed import cores

CUT_SLACK_S = (
    1.0  # a stretch that was cut out of its video may be so much longer: cutters stop at frames
)


@dataclass(frozen=True)
class Stretch:
    """A file, or part of it.

    Args:
        path: of the file.
        start_s: since the container's start. A file that is no longer than `seconds` and ends
            before `start_s` is taken for the stretch itself, already cut out of a video.
        seconds: how long; None is to the end.
    """

    path: str
    start_s: float = 0.0
    seconds: float | None = None


@dataclass(frozen=True)
class Found:
    """What `look_up` found.

    Args:
        index: a row for each stretch that can be read, in memory.
        stretch_N: (N,) int64, which stretch a row is.
        rejected: the number of each other stretch -> why it cannot be read.
    """

    index: Index
    stretch_N: NDArray[np.int64]
    rejected: dict[int, Rejection]


def look_up(
    stretches: Sequence[Stretch],
    wanted: Sequence[str],
    *,
    workers: int | None = None,
    timeout_s: float = 30.0,
    console: Console | None = None,
) -> Found:
    """Open the files of some stretches and make an index in memory of what can be read.

    Args:
        stretches: parts of files; several may be of one file.
        wanted: the streams that must be there, of "video" and "audio".
        workers: processes; by default as many as there are cores for this process.
        timeout_s: a file that takes longer is rejected as "timed out".
        console: where a bar is shown.

    Returns:
        The index and which stretch each row is. Rows of a file are neighbours; files come in the
        order in which they are first named.
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
            videos.append(Video(path, _facts(path, answer), start_s, end_s - start_s))
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


def _facts(path: str, info: MediaInfo) -> dict[str, object]:
    known = dict(zip(("file_bytes", "modified_ns"), stamp(path), strict=True))
    return {name: getattr(info, name, None) for name in FACTS} | known
