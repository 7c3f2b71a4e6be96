"""How does a file that crashes, hangs or starves the decoder cost a run nothing but its own row?

Files are decoded in processes that do one request at a time, so that it is known which file each was at. A process that
dies, or takes longer than the time limit and is killed, is replaced, and its request is tried once more; a file that
does it again is given up with a reason. The memory of each process is limited (`indexing.workers`).

Answers come in the order of the requests. Requests are drawn as they are needed and are small: no process holds an
index, and nothing here grows with its length. One thread of this process serves each of the others. Requests for one
file that follow each other go to one process, which opens it once for them.

Shapes: frames (T, H, W, 3) uint8, sound (L,) float32 in [-1, 1]; None for what was not asked for.
"""

from __future__ import annotations

import contextlib
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from seehear.errors import MediaError
from seehear.indexing.examination import Rejection
from seehear.indexing.workers import Worker
from seehear.media import Reader
from seehear.remote import local

TRIES = 2
"""So often a file may take a process with it: the first time, it may have been the machine."""

LOST = frozenset({"crashed the decoder", "timed out"})
"""Reasons for which the process is gone."""

LONGEST_RUN = 16
"""So many clips of a file, one after the other, are decoded by one process at most, before another goes on with it."""

_TASK = "seehear.decoding:decode"
_LOOK_UP_SECONDS = 0.1  # how soon a thread that waits for an answer sees that nobody wants it any more

Decoded = tuple[np.ndarray | None, np.ndarray | None]  # frames and sound


@dataclass(frozen=True)
class Request:
    """What is to be decoded of one file.

    Args:
        row: what is decoded, by number: it is given up when it has cost too many processes.
        path: of the file.
        times_s: (T,) float64, when frames are wanted, in seconds since the container's start; None: no frames.
        short_side_pixels: frames are scaled to this shorter side.
        sound_s: start and length of the stretch to be heard; None: no sound.
        sample_rate_hz: of the sound.
        place: where on the longer side a square is cut from the frames, a share in [0, 1) of the way; None: no square.
        stays_open: the next request is for the same file.
    """

    row: int
    path: str
    times_s: np.ndarray | None
    short_side_pixels: int
    sound_s: tuple[float, float] | None
    sample_rate_hz: int
    place: float | None = None
    stays_open: bool = False


class _LeftOpen(threading.local):
    """The file that this thread's last request has left open for the next."""

    path = ""
    reader: Reader | None = None

    def take(self, path: str) -> Reader | None:
        """The open file, if it is this one; another is closed."""
        reader, self.reader = self.reader, None
        if reader is not None and self.path != path:
            reader.close()
            return None
        return reader


_left_open = _LeftOpen()


def decode(request: Request, cache_gigabytes: float = -1.0) -> Decoded | Rejection:
    """Frames and sound of a file, or why they cannot be read; here, in the process that calls."""
    try:
        with local(request.path, cache_gigabytes) as path:
            frames, sound = _read(request, path)
    except MediaError as error:
        return Rejection(error.reason, error.detail)
    if frames is not None and request.place is not None:
        frames = np.ascontiguousarray(square(frames, request.place, request.short_side_pixels))
    return frames, sound


def _read(request: Request, path: str) -> Decoded:
    reader = _left_open.take(path)
    if reader is not None:
        with contextlib.suppress(MediaError):  # what a file says must not depend on what was read of it before
            return _read_from(reader, request, path)
    return _read_from(Reader(path), request, path)


def _read_from(reader: Reader, request: Request, path: str) -> Decoded:
    """Frames and sound; then the file is closed, or left open for the next request."""
    frames = sound = None
    stays_open = False
    try:
        if request.times_s is not None:
            frames = reader.frames(request.times_s.tolist(), short_side_pixels=request.short_side_pixels)
        if request.sound_s is not None:
            sound = reader.sound(*request.sound_s, sample_rate_hz=request.sample_rate_hz)
        stays_open = request.stays_open and reader.is_unchanged_by_reading
    finally:
        if stays_open:
            _left_open.path, _left_open.reader = path, reader
        else:
            reader.close()
    return frames, sound


def square(frames_THWC: np.ndarray, place: float, side_pixels: int) -> np.ndarray:
    """A view of a square out of frames that are longer on one side, at a share in [0, 1) of the way along it."""
    height, width = frames_THWC.shape[1:3]
    top, left = int(place * (height - side_pixels + 1)), int(place * (width - side_pixels + 1))
    return frames_THWC[:, top : top + side_pixels, left : left + side_pixels]


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
        """End all processes; they are also ended with the last use of this object and with this process."""
        self._close()

    def run(
        self, requests: Iterable[Request], *, ahead: int, say: Callable[[str], None] = lambda line: None
    ) -> Iterator[Decoded | MediaError]:
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
        work = _Pass(requests, max(ahead, len(self._hands)), len(self._hands))
        threads = [threading.Thread(target=_serve, args=(hand, work), daemon=True) for hand in self._hands]
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
    """What the threads of one pass share: requests that are still to be done, and answers that nobody took yet."""

    def __init__(self, requests: Iterable[Request], ahead: int, hands: int) -> None:
        self._requests = iter(requests)
        self._ahead = ahead
        self._run = min(ahead // hands, LONGEST_RUN)  # so that there is something to do for all
        self._changed = threading.Condition()
        self._answers: dict[int, _Answer] = {}
        self._given = self._taken = 0
        self._is_drawn = self.is_stopped = False
        self._error: BaseException | None = None

    def next_requests(self) -> list[tuple[int, Request]]:
        """The next requests for one file, and their numbers; waits while too many answers lie about; [] at the end."""
        run: list[tuple[int, Request]] = []
        with self._changed:
            self._changed.wait_for(lambda: self._is_over() or self._given < self._taken + self._ahead)
            try:
                while not self._is_over() and (not run or (run[-1][1].stays_open and len(run) < self._run)):
                    request = next(self._requests, None)
                    self._is_drawn = request is None
                    if request is not None:
                        run.append((self._given, request))
                        self._given += 1
            except Exception as error:
                self._error = error
            self._changed.notify_all()
        return run

    def put(self, number: int, answer: _Answer) -> None:
        """Hand in the answer to a request."""
        with self._changed:
            self._answers[number] = answer
            self._changed.notify_all()

    def fail(self, error: BaseException) -> None:
        """Have the pass end with an error."""
        with self._changed:
            self._error = error
            self._changed.notify_all()

    def next_answer(self) -> _Answer | None:
        """The answer to the next request, in their order; None after the last."""
        with self._changed:
            self._changed.wait_for(lambda: self._taken in self._answers or self._error or self._is_at_end())
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

    def _is_over(self) -> bool:
        return self._is_drawn or self.is_stopped or self._error is not None

    def _is_at_end(self) -> bool:
        return self._is_drawn and self._taken == self._given


class _Hand:
    """One process, or the place of one; used by one thread at a time."""

    def __init__(self, timeout_s: float, quarantine: dict[int, Rejection], cache_gigabytes: float) -> None:
        self._timeout_s = timeout_s
        self._cache_gigabytes = cache_gigabytes
        self._quarantine = quarantine
        self._worker: Worker | None = None
        self._is_busy = False  # with a request whose answer nobody waited for

    def decode(self, request: Request, work: _Pass) -> _Answer | None:
        """The answer to a request, after a second try where the first cost the process; None if work has stopped."""
        losses: list[str] = []
        if request.row in self._quarantine:
            return _Answer(request, self._quarantine[request.row], losses)
        while True:
            content = self._try(request, work)
            if content is None:
                return None
            if not isinstance(content, Rejection) or content.reason not in LOST:
                return _Answer(request, content, losses)
            again = len(losses) + 1 < TRIES
            then = "It is tried once more." if again else f"Row {request.row} is left out from here on."
            losses.append(f"{request.path} {content.reason} ({content.detail}). {then}")
            if not again:
                self._quarantine[request.row] = content
                return _Answer(request, content, losses)

    def end(self) -> None:
        """End the process, if there is one."""
        if self._worker is not None:
            self._worker.end()
        self._worker, self._is_busy = None, False

    def _try(self, request: Request, work: _Pass) -> Decoded | Rejection | None:
        worker = self._ready_worker(work)
        if worker is None:
            return None
        try:
            worker.give((request,), self._timeout_s)
        except OSError:  # it died between two requests, which is no file's fault
            self.end()
            return self._try(request, work)
        self._is_busy = True
        return self._hear(worker, work)

    def _ready_worker(self, work: _Pass) -> Worker | None:
        """A process that waits for a request; None if work has stopped."""
        # An earlier pass may not have waited for its answer.
        if self._worker is not None and self._is_busy and self._hear(self._worker, work) is None:
            return None
        if self._worker is None:
            worker = self._worker = Worker.start(_TASK, self._timeout_s, self._cache_gigabytes)
            ready = self._hear(worker, work, is_report=True)
            if isinstance(ready, Rejection):
                raise worker.did_not_start(ready.detail)
        return self._worker

    def _hear(self, worker: Worker, work: _Pass, *, is_report: bool = False) -> Decoded | Rejection | None:
        """What the process says, or how it was lost; None if work has stopped (a report of readiness is waited for)."""
        while True:
            try:
                if worker.connection.poll(_LOOK_UP_SECONDS):
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
            if not worker.has_fetched(content, self._timeout_s):
                self._is_busy = False
                return content


def _serve(hand: _Hand, work: _Pass) -> None:
    """What the thread of one process does in one pass."""
    try:
        while run := work.next_requests():
            for number, request in run:
                answer = hand.decode(request, work)
                if answer is not None:
                    work.put(number, answer)
    except BaseException as error:
        work.fail(error)


def _let_go(hands: Sequence[_Hand]) -> None:
    for hand in hands:
        hand.end()


def _unpacked(request: Request, content: Decoded | Rejection) -> Decoded | MediaError:
    if isinstance(content, Rejection):
        return MediaError(request.path, content.reason, content.detail)
    return content
