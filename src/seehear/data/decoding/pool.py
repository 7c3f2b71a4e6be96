"""How does a file that crashes, hangs or starves the decoder cost a run nothing but its own row?

Files are read in processes that do one job after the other, so it is known which file each was at.
A process that dies, or is killed because it takes longer than the time limit, is replaced. Its job
is tried again where the pool allows that, and else answered with a `Rejection`.

Answers come in the order of the jobs. Jobs are drawn as they are needed and are small: no process
holds an index, and nothing here grows with its length. A thread here serves each of the others.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
import weakref
from collections import deque
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from seehear.data.decoding.process import Process, Stopped
from seehear.data.decoding.worker import Job
from seehear.data.index.examination import Rejection
from seehear.data.media import MediaInfo
from seehear.errors import StorageError

LOST = frozenset({"crashed the decoder", "timed out"})
"""Reasons for which the process is gone."""

IN_HAND_SECONDS = 0.1
"""A process has jobs for so long at once: neither it nor this process waits or wakes for each."""

MOST_IN_HAND = 16

AHEAD = 64
"""Jobs for each process that may be done before the answers in front of them are there."""

Examined = MediaInfo | Rejection | None


@dataclass
class Answer:
    """What came of a job, and how processes were lost with it on the way."""

    job: Job
    content: Any = None
    losses: list[Rejection] = field(default_factory=list)


class Pool:
    """Processes that do jobs; they start when first needed and live from pass to pass.

    Args:
        task: "module:function" of what is done; arguments and answers travel between processes. The
            first argument is the path of a file, or has it as `path`.
        workers: processes.
        timeout_s: how long one job may take, without the time for fetching a remote file.
        tries: so often a job may lose its process until it is given up.
        cache_gigabytes: what copies of remote files may take; -1 is the default.
    """

    def __init__(
        self,
        task: str,
        workers: int,
        timeout_s: float,
        *,
        tries: int = 1,
        cache_gigabytes: float = -1.0,
    ) -> None:
        self._processes = [Process(task, timeout_s, cache_gigabytes) for _ in range(workers)]
        self._tries = tries
        self._close = weakref.finalize(self, _end, self._processes)

    def close(self) -> None:
        """End all processes, as the last use of this object and the end of this process do."""
        self._close()

    def run(self, jobs: Iterable[Job | Rejection], *, ahead: int) -> Generator[Answer]:
        """One pass: an answer for each job, in their order. One left early ends its processes.

        `jobs` are arguments of the task, drawn one at a time, as they are needed, by any thread; a
        `Rejection` in place of one is its own answer. About `ahead` answers are there before they
        are taken. Raises SeehearError where processes cannot be started.
        """
        queue = _Queue(jobs, max(ahead, len(self._processes)))
        most = min(max(1, ahead // len(self._processes)), MOST_IN_HAND)
        threads = [
            threading.Thread(target=_serve, args=(process, queue, most, self._tries), daemon=True)
            for process in self._processes
        ]
        for thread in threads:
            thread.start()
        try:
            while (answer := queue.next_answer()) is not None:
                yield answer
        finally:
            queue.stop()
            for thread in threads:
                thread.join()


def run(task: str, jobs: Iterable[Job], workers: int, timeout_s: float) -> Generator[Any]:
    """Do one thing with many files in a pool of its own.

    Yields:
        The answer to each job, in order; a `Rejection` where the function raised or crashed.
    Raises:
        StorageError: what a job was to write cannot be written.
    """
    with (
        contextlib.closing(Pool(task, workers, timeout_s)) as pool,
        contextlib.closing(pool.run(jobs, ahead=AHEAD * workers)) as answers,
    ):
        for answer in answers:
            if isinstance(answer.content, StorageError):
                raise answer.content
            yield answer.content


def examine_all(jobs: Iterable[Job], workers: int, timeout_s: float) -> Generator[Examined]:
    """What `examine` found of each file, in their order; `jobs` are its arguments."""
    return run("seehear.data.index.examination:examine", jobs, workers, timeout_s)


class _Queue:
    """The jobs of one pass and their answers, shared by its threads."""

    def __init__(self, jobs: Iterable[Job | Rejection], ahead: int) -> None:
        self._jobs = iter(jobs)
        self._ahead = ahead
        self._changed = threading.Condition()
        self._answers: dict[int, Answer] = {}
        self._given = self._taken = 0
        self._is_drawn = self.is_stopped = False
        self._error: BaseException | None = None

    def get(self, *, wait: bool) -> tuple[int, Job | Rejection] | None:
        """The next job and its number; None at the end, or, unless told to wait, for now."""
        with self._changed:
            if wait:
                self._changed.wait_for(lambda: self._is_over() or self._has_room())
            if self._is_over() or not self._has_room():
                return None
            job = None
            try:
                job = next(self._jobs, None)
                self._is_drawn = job is None
            except Exception as error:  # whatever it is, whoever takes answers raises it
                self._error = error
            self._changed.notify_all()
            if job is None:
                return None
            self._given += 1
            return self._given - 1, job

    def put(self, answers: Mapping[int, Answer]) -> None:
        """Hand in the answers to some jobs."""
        with self._changed:
            self._answers.update(answers)
            self._changed.notify_all()

    def fail(self, error: BaseException) -> None:
        """Have the pass end with an error."""
        with self._changed:
            self._error = error
            self._changed.notify_all()

    def next_answer(self) -> Answer | None:
        """The answer to the next job, in their order; None after the last."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._taken in self._answers or self._error or self._is_at_end()
            )
            if self._error is not None:
                raise self._error
            if self._is_at_end():
                return None
            self._taken += 1
            self._changed.notify_all()
            return self._answers.pop(self._taken - 1)

    def stop(self) -> None:
        """Nobody wants the other answers."""
        with self._changed:
            self.is_stopped = True
            self._changed.notify_all()

    def _has_room(self) -> bool:
        return self._given < self._taken + self._ahead

    def _is_over(self) -> bool:
        return self._is_drawn or self.is_stopped or self._error is not None

    def _is_at_end(self) -> bool:
        return self._is_drawn and self._taken == self._given


def _serve(process: Process, queue: _Queue, most: int, tries: int) -> None:
    """What the thread of one process does in one pass."""
    in_hand: deque[tuple[int, Answer]] = deque()
    try:
        while _fill(in_hand, process, queue, most):
            new = itertools.islice(in_hand, process.num_sent, None)
            process.send([answer.job for _, answer in new])
            # Sleep over some answers while the process still has jobs: to be woken by each costs
            # more.
            busy_s = (process.num_sent - 1) * process.job_seconds
            time.sleep(max(0.0, min(IN_HAND_SECONDS, busy_s) / 2))
            done: dict[int, Answer] = {}
            while True:
                number, answer = in_hand[0]
                answer.content = process.receive(lambda: queue.is_stopped)
                is_lost = isinstance(answer.content, Rejection) and answer.content.reason in LOST
                if is_lost:
                    answer.losses.append(answer.content)
                if not is_lost or len(answer.losses) >= tries:
                    done[number] = answer
                    in_hand.popleft()
                if not process.num_sent or not process.has_answer():
                    break
            queue.put(done)
    except Stopped:
        process.end()
    except BaseException as error:
        process.end()
        queue.fail(error)


def _fill(in_hand: deque[tuple[int, Answer]], process: Process, queue: _Queue, most: int) -> bool:
    """Draw jobs until the process has enough; whether it has any."""
    wanted = min(1 + round(IN_HAND_SECONDS / process.job_seconds), most)
    while len(in_hand) < wanted and (drawn := queue.get(wait=not in_hand)):
        number, job = drawn
        if isinstance(job, Rejection):
            queue.put({number: Answer((), job)})
        else:
            in_hand.append((number, Answer(job)))
    return bool(in_hand)


def _end(processes: Sequence[Process]) -> None:
    for process in processes:
        process.end()
