"""How does the field measure on a set? Clips of an item, crops of a clip, the classifier, the
split: defaults by set.

Every one of them can be given; a result says which were taken. What is not in the table is as
`USUAL`. Sources are named where they are known; what is recalled says so. XDC's own protocol for
sounds is in its supplement, which we could not read. Two tasks have one clip a segment on every
set, since that is what they are about: `clusters` (a run clusters the middle clip of each segment)
and features as a sequence (a window is one clip).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from seehear.evaluation.linear import Kind
from seehear.machine.console import Count, duration, rate

MEASURED_S = 4.0  # clips are timed so long before it is said how long all of them take
WORTH_SAYING_S = 30.0


@dataclass(frozen=True)
class Protocol:
    """How a set is measured."""

    clips: int = 10  # of each item, spread evenly over all of it
    # of each clip's frames: 1 is the centre; 3 are left, centre and right along the longer side
    crops: int = 1
    classifier: Kind = "logistic"  # of the task probe
    # the split on which retrieval is reported; None: the mean over all
    retrieval_split: str | None = None


USUAL = Protocol()
# 10 clips x 3 crops, as SlowFast (Feichtenhofer et al. 2019) tests on Kinetics
THREE_CROPS = Protocol(crops=3)
# one centre crop, as VMZ tests; split 1 as in SeLaVi and GDT (recalled)
OF_ACTIONS = Protocol(retrieval_split="1")
OF_SOUNDS = Protocol(classifier="svm")  # as in AVTS (Korbar et al. 2018) and after (recalled)

PROTOCOLS = {
    **dict.fromkeys(("ucf101", "hmdb51"), OF_ACTIONS),
    **dict.fromkeys(("kinetics400", "kinetics600", "kinetics700", "kinetics-sounds"), THREE_CROPS),
    **dict.fromkeys(
        ("kinetics-sounds-31", "kinetics-sounds-32", "kinetics-sounds-34"), THREE_CROPS
    ),
    **dict.fromkeys(("vggsound", "audioset", "audioset-balanced"), THREE_CROPS),
    **dict.fromkeys(("esc50", "esc10", "dcase2014", "tut", "urbansound8k"), OF_SOUNDS),
}


def protocol_of(name: str, task: str) -> Protocol:
    """The defaults of a task on the set of a name."""
    usual = PROTOCOLS.get(name, USUAL)
    return replace(usual, clips=1, crops=1) if task == "clusters" else usual


def clips_of_rows(item_n: np.ndarray, seconds_n: np.ndarray, num_clips: int) -> np.ndarray:
    """How many clips each row of an item gives, (n,), spread evenly over it; at least one.

    Args:
        item_n: the item of each row; the rows of an item are in the order of time.
        seconds_n: the length of each row.
        num_clips: of each item.
    """
    counts_n = np.full(len(item_n), num_clips)
    order = np.argsort(item_n, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(item_n[order])) + 1):
        if len(rows) > 1:
            ends_s = np.cumsum(seconds_n[rows])
            moments_s = (np.arange(num_clips) + 0.5) / num_clips * ends_s[-1]
            here = np.searchsorted(ends_s[:-1], moments_s, side="right")
            counts_n[rows] = np.maximum(1, np.bincount(here, minlength=len(rows)))
    return counts_n


def forecast(
    count: Count, total: int, say: Callable[[str], None], advice: str, clock: Callable[[], float]
) -> Count:
    """A count that says once, from the first clips, how long it takes, if that is long.

    Args:
        count: what is told of progress anyway.
        total: clips in all.
        say: takes the line.
        advice: what is shorter.
        clock: seconds, such as `time.monotonic`.
    """
    first: tuple[float, int] | None = None  # after the first clips, so that processes have started
    is_said = False

    def told(done: int) -> None:
        nonlocal first, is_said
        count(done)
        now = clock()
        if first is None:
            first = now, done
        elif not is_said and now - first[0] >= MEASURED_S and done > first[1]:
            is_said = True
            speed = (done - first[1]) / (now - first[0])
            if total / speed >= WORTH_SAYING_S:
                say(
                    f"{total} clips at {rate(speed)}: {duration((total - done) / speed)} left. "
                    f"{advice}"
                )

    return told
