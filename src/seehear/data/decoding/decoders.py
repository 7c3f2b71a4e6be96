"""How does a file that crashes, hangs or starves the decoder cost a run nothing but its own row?

Files are decoded in processes that answer one request after the other, so that it is known which
file each was at. A process that dies, or takes longer than the time limit and is killed, is
replaced, and its request is tried once more; a file that does it again is given up with a reason.
The memory of each process is limited (`workers`).

Answers come in the order of the requests. Requests are drawn as they are needed and are small: no
process holds an index, and nothing here grows with its length. One thread of this process serves
each of the others.
"""

from __future__ import annotations

import itertools
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass

from seehear.data.decoding.request import Decoded, Request, decode
from seehear.data.decoding.workers import START_TRIES, Worker
from seehear.data.index.examination import Rejection
from seehear.errors import MediaError

TRIES = 2
"""So often a file may take a process with it: the first time, it may have been the machine."""

LOST = frozenset({"crashed the decoder", "timed out"})
"""Reasons for which the process is gone."""

IN_HAND_SECONDS = 0.1
"""A process has requests for so long at once, so that it need not wait for the next, nor this
process wake for each."""

FEWEST_IN_HAND, MOST_IN_HAND = 2, 16
"""So many at least and at most."""

_TASK = "seehear.data.decoding.request:decode"
_LOOK_UP_SECONDS = (
    0.1  # how soon a thread that waits for an answer sees that nobody wants it any more
)
_NEWEST = 0.2  # weight of the last request in the mean of what one takes


class Decoders:
    """Processes that decode; they start when first needed and live from pass to pass.

    Args:
        workers: how many; with 0, this process decodes, without protection from crashes and hangs.
        timeout_s: how long one request may take, without the time for fetching a remote file.
        cache_gigabytes: what copies of remote files may take; -1 is the default.

    Attributes:
        quarantine: rows that were given up, and why. They are answered at once with that.
    """

    def __init__(self, workers: int, timeout_s: float, cache_gigabytes: float = -1.0) -> None:
        self.quarantine: dict[int, Rejection] = {}
        self._cache_gigabytes = cache_gigabytes
        self._hands = [_Hand(timeout_s, self.quarantine, cache_gigabytes) for _ in range(workers)]
        self._close = weakref.finalize(self, _let_go, self._hands)

    def close(self) -> None:
        """End all processes; they are also ended with the last use of this object and with this
        process.
        """
        self._close()

    def run(
        self,
        requests: Iterable[Request],
        *,
        ahead: int,
        say: Callable[[str], None] = lambda line: None,
    ) -> Generator[Decoded | MediaError]:
        """One pass: an answer for each request, in their order.

        Args:
            requests: drawn as they are needed, one at a time, by any thread.
            ahead: about so many answers are decoded before they are taken.
            say: told of each process that was lost, with the file that it was at.
        Raises:
            SeehearError: processes cannot be started.
        """
        if not self._hands:
            for request in requests:
                yield _unpacked(request, decode(request, self._cache_gigabytes))
            return
        work = _Pass(requests, max(ahead, FEWEST_IN_HAND * len(self._hands)), len(self._hands))
        threads = [
            threading.Thread(target=_serve, args=(hand, work), daemon=True) for hand in self._hands
        ]
        for thread in threads:
            thread.start()
        try:
            while (answer := work.next_answer()) is not None:
                for line in answer.losses:
                    say(line)
                yield _unpacked(answer.request, answer.content)
        finally:
            work.stop()
            for thread in threads:
                thread.join()


@dataclass(frozen=True)
class _Answer:
    """What came of one request, and what happened on the way."""

    request: Request
    content: Decoded | Rejection
    losses: Sequence[str]


class _Pass:
    """What the threads of one pass share: requests that are still to be done, and answers that
    nobody took yet.
    """

    def __init__(self, requests: Iterable[Request], ahead: int, hands: int) -> None:
        self._requests = iter(requests)
        self._ahead = ahead
        # of the requests that can be done now, so that there are some for all
        self.share = ahead // hands
        self._changed = threading.Condition()
        self._answers: dict[int, _Answer] = {}
        self._given = self._taken = 0
        self._is_drawn = self.is_stopped = False
        self._error: BaseException | None = None

    def next_request(self, *, wait: bool) -> tuple[int, Request] | None:
        """The next request, and its number; None at the end.

        Args:
            wait: while too many answers lie about; otherwise there is none for now.
        """
        with self._changed:
            if wait:
                self._changed.wait_for(lambda: self._is_over() or self._has_room())
            if self._is_over() or not self._has_room():
                return None
            request = None
            try:
                request = next(self._requests, None)
                self._is_drawn = request is None
            # whatever it is, whoever takes answers raises it: noted before another thread
            except Exception as error:
                self._error = (
                    error  # can look, which would find no more requests and take that for the end
                )
            self._changed.notify_all()
            if request is None:
                return None
            self._given += 1
            return self._given - 1, request

    def put(self, answers: Mapping[int, _Answer]) -> None:
        """Hand in the answers to some requests."""
        with self._changed:
            self._answers.update(answers)
            self._changed.notify_all()

    def fail(self, error: BaseException) -> None:
        """Have the pass end with an error."""
        with self._changed:
            self._error = error
            self._changed.notify_all()

    def next_answer(self) -> _Answer | None:
        """The answer to the next request, in their order; None after the last."""
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


@dataclass
class _Job:
    """A request that a process has or will get, and what happened on the way."""

    number: int
    request: Request
    losses: list[str]


class _Hand:
    """One process, or the place of one; used by one thread at a time."""

    def __init__(
        self, timeout_s: float, quarantine: dict[int, Rejection], cache_gigabytes: float
    ) -> None:
        self._timeout_s = timeout_s
        self._cache_gigabytes = cache_gigabytes
        self._quarantine = quarantine
        self._worker: Worker | None = None
        # what it did not answer yet, and in which place it will
        self._sent: deque[tuple[Request, int]] = deque()
        self._seconds = IN_HAND_SECONDS  # that a request takes

    def serve(self, work: _Pass) -> None:
        """Do this process's share of a pass."""
        while (
            self._worker is not None and self._sent
        ):  # an earlier pass did not wait for its answers
            if self._hear(self._worker, work) is None:
                return
        jobs: deque[_Job] = deque()
        while self._has_drawn(jobs, work):
            worker = self._give(jobs, work)
            self._let_answers_gather()
            answers: dict[int, _Answer] = {}
            while True:
                content = self._hear(worker, work)
                if content is None:
                    return
                if not self._is_to_be_tried_again(jobs[0], content):
                    job = jobs.popleft()
                    answers[job.number] = _Answer(job.request, content, job.losses)
                if not self._sent or not worker.has_spoken(0):
                    break
            work.put(answers)

    def _has_drawn(self, jobs: deque[_Job], work: _Pass) -> bool:
        """Whether there are jobs, once there are as many as there are to be."""
        wanted = max(
            FEWEST_IN_HAND, min(round(IN_HAND_SECONDS / self._seconds), MOST_IN_HAND, work.share)
        )
        while len(jobs) < wanted and (following := work.next_request(wait=not jobs)):
            number, request = following
            if request.row in self._quarantine:
                work.put({number: _Answer(request, self._quarantine[request.row], ())})
            else:
                jobs.append(_Job(number, request, []))
        return bool(jobs)

    def _let_answers_gather(self) -> None:
        """Sleep over some answers, while the process still has something to do: to be woken by each
        costs more.
        """
        time.sleep(min(IN_HAND_SECONDS, (len(self._sent) - 1) * self._seconds) / 2)

    def end(self) -> None:
        """End the process, if there is one."""
        if self._worker is not None:
            self._worker.end()
        self._worker = None
        self._sent.clear()

    def _is_to_be_tried_again(self, job: _Job, content: Decoded | Rejection) -> bool:
        """Whether a request cost the process, for the first time."""
        if not isinstance(content, Rejection) or content.reason not in LOST:
            return False
        again = len(job.losses) + 1 < TRIES
        then = (
            "It is tried once more."
            if again
            else f"Row {job.request.row} is left out from here on."
        )
        job.losses.append(f"{job.request.path} {content.reason} ({content.detail}). {then}")
        if not again:
            self._quarantine[job.request.row] = content
        return again

    def _give(self, jobs: Sequence[_Job], work: _Pass) -> Worker:
        """The process, once it has the jobs."""
        while True:
            worker = self._worker or self._started(work)
            taken = {place for _, place in self._sent}
            free = (place for place in itertools.count() if place not in taken)
            new = [
                (job.request, next(free)) for job in itertools.islice(jobs, len(self._sent), None)
            ]
            try:
                if new:
                    worker.send([((request,), place) for request, place in new])
            except OSError:
                if not self._sent:  # it died between two requests, which is no file's fault
                    self.end()
                    continue
            else:
                if new and not self._sent:
                    worker.expect((new[0][0],), self._timeout_s)
                self._sent.extend(new)
            return worker

    def _started(self, work: _Pass) -> Worker:
        for _ in range(
            START_TRIES
        ):  # one that dies before it is ready is replaced: the machine may be short of memory
            worker = self._worker = Worker.start(_TASK, self._timeout_s, self._cache_gigabytes)
            ready = self._hear(worker, work, is_report=True)
            if not isinstance(ready, Rejection):
                return worker
            why = ready.detail
        raise worker.did_not_start(why)

    def _hear(
        self, worker: Worker, work: _Pass, *, is_report: bool = False
    ) -> Decoded | Rejection | None:
        """What the process says, or how it was lost; None if work has stopped (a report of
        readiness is waited for).
        """
        while True:
            try:
                if worker.has_spoken(_LOOK_UP_SECONDS):
                    content: Decoded | Rejection = worker.answer()
                elif work.is_stopped and not is_report:
                    return None
                elif time.monotonic() > worker.deadline:
                    self.end()
                    return worker.is_late(self._timeout_s)
                else:
                    continue
            except (EOFError, ConnectionError):
                how = worker.how_it_ended()
                self.end()
                return Rejection("crashed the decoder", how)
            if worker.has_fetched(content, self._timeout_s):
                continue
            if self._sent:
                self._sent.popleft()
                self._seconds += _NEWEST * (max(worker.seconds, 1e-3) - self._seconds)
            if self._sent:
                worker.expect((self._sent[0][0],), self._timeout_s)
            return content


def _serve(hand: _Hand, work: _Pass) -> None:
    """What the thread of one process does in one pass."""
    try:
        hand.serve(work)
    except BaseException as error:
        work.fail(error)


def _let_go(hands: Sequence[_Hand]) -> None:
    for hand in hands:
        hand.end()


def _unpacked(request: Request, content: Decoded | Rejection) -> Decoded | MediaError:
    if isinstance(content, Rejection):
        return MediaError(request.path, content.reason, content.detail)
    return content
