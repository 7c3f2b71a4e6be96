"""How do the ranks of torchrun make one index? Rank 0 lists the files and writes; each looks at its
share of them.

File i is looked at by rank i modulo their number, with worker processes of that rank's own machine.
What was seen travels to rank 0: some hundred bytes a file.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from seehear.data.decoding.worker import Job
from seehear.data.decoding.workers import Answer, examine_all

TIMEOUT_S = 24 * 3600.0
"""So long may one rank list or look at files while the others wait; one that dies is noticed at
once."""

Examine = Callable[[Sequence[Job], int, float], Iterator[tuple[int, Answer]]]


def on_all_ranks(work: Callable[[Examine], dict[str, Any]], workers: int) -> dict[str, Any]:
    """What `work` returns on rank 0, on every rank; each examines a part of the files.

    Args:
        work: is called on rank 0 alone, and calls what it is given, once at most, in place of
            `examine_all`.
        workers: processes of this rank.
    Raises: what `work` raises, on every rank.
    """
    from seehear.machine import distributed

    distributed.start("cpu", timeout_s=TIMEOUT_S)
    plan: list[tuple[Sequence[Job], float]] = []

    def examine(
        jobs: Sequence[Job], workers: int, timeout_s: float
    ) -> Iterator[tuple[int, Answer]]:
        plan.append((jobs, timeout_s))
        distributed.share(pickle.dumps(plan))
        return _examine_share(jobs, workers, timeout_s)

    def lead() -> dict[str, Any]:
        try:
            return work(examine)
        finally:
            if not plan:  # nothing is to be looked at, or something was wrong before
                distributed.share(pickle.dumps(plan))

    if distributed.rank() > 0:
        for jobs, timeout_s in pickle.loads(
            distributed.share(b"")
        ):  # from another rank of this program
            for _ in _examine_share(jobs, workers, timeout_s):
                pass
    return distributed.by_first(lead)


def _examine_share(
    jobs: Sequence[Job], workers: int, timeout_s: float
) -> Iterator[tuple[int, Answer]]:
    """What this rank sees of its files as it sees them, then what the others saw of theirs."""
    from seehear.machine import distributed

    me, ranks = distributed.rank(), distributed.world_size()
    mine = range(me, len(jobs), ranks)
    seen = []
    for number, answer in examine_all([jobs[i] for i in mine], workers, timeout_s):
        seen.append((mine[number], answer))
        yield seen[-1]
    for source in range(ranks):
        theirs = distributed.share(pickle.dumps(seen) if source == me else b"", source)
        if source != me:
            yield from pickle.loads(theirs)
