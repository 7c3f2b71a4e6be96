"""How does one file that crashes or hangs the decoder cost nothing but its own row?

Each worker is a process that does one job at a time (here: examine a file), in the order in which
it got them, so it is known which file it was. One that dies, or takes longer than the time limit
and is killed, is replaced by a new one; no process is started for each file.

Workers are programmes of their own, started by `subprocess`: nothing is forked from a process that
may have threads, and a script that calls seehear is not run again in each of them, as
`multiprocessing` would. They end themselves when their parent is gone, and may not take more than
`worker.WORKER_BYTES` of memory beyond what they start with.

Arrays in an answer travel by a file in memory that both have open: a pipe would cost as much as
decoding a small clip. Who sends a job says in which place of it they go.

The first argument of a task is the path of its file, or has it as `path`. Where that is an address,
the worker fetches the file first and the task gets the path of the copy; the time limit counts from
the moment when the copy is there, and fetching has a limit of its own, `remote.FETCH_SECONDS`.
"""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, Pipe, wait
from typing import Any

import numpy as np

from seehear.data.decoding.worker import ARRIVED, Job, path_of
from seehear.data.index.examination import Rejection
from seehear.data.media import MediaInfo
from seehear.data.remote import FETCH_SECONDS, is_remote
from seehear.data.remote import cache_gigabytes as default_gigabytes
from seehear.errors import SeehearError

START_SECONDS = 120.0
"""A worker that does not report for work within this time is a fault of the machine."""

START_TRIES = 3
"""So often a worker may be lost before it reports for work, one after the other: then it is no
accident."""

_PROGRAMME = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from seehear.data.decoding.worker import serve; "
    "serve(int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]), sys.argv[5], float(sys.argv[6]))"
)
_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    # Memory of one file is kept for the next: to give it back and fault it in again took a tenth of
    # a clip's time.
    "MALLOC_MMAP_THRESHOLD_": str(2**25),
    "MALLOC_TRIM_THRESHOLD_": str(2**28),
}
_END_SECONDS = 5.0  # a process that is about to end may take so long for it

Answer = MediaInfo | Rejection | None


@dataclass
class Worker:
    """A process that does one job at a time, and the pipe to it.

    seconds: what its last job took, fetching included.
    """

    process: subprocess.Popen[bytes]
    connection: Connection
    arrays: int  # the descriptor of the file in memory
    deadline: float  # by time.monotonic(); for a report at first, then for an answer
    job: int | None = None  # which job it is at
    is_ready: bool = False
    is_fetching: bool = False
    seconds: float = 0.0
    _ears: select.poll = field(default_factory=select.poll)

    def __post_init__(self) -> None:
        self._ears.register(self.connection.fileno(), select.POLLIN)

    @classmethod
    def start(cls, task: str, timeout_s: float, cache_gigabytes: float = -1.0) -> Worker:
        """Start a process for "module:function"; the first thing that it sends is None, when it is
        ready.
        """
        limit = cache_gigabytes if cache_gigabytes >= 0 else default_gigabytes()
        ours, theirs = Pipe()
        arrays = _file_in_memory()
        places = [str(theirs.fileno()), str(arrays)]
        arguments = [json.dumps(sys.path), *places, str(timeout_s), task, str(limit)]
        process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAMME, *arguments],
            pass_fds=[theirs.fileno(), arrays],
            stdin=subprocess.DEVNULL,
            env=os.environ | _ENVIRONMENT,
            start_new_session=True,  # Ctrl-C is the parent's business
        )
        theirs.close()  # so that its end is noticed here
        return cls(process, ours, arrays, time.monotonic() + START_SECONDS)

    def has_spoken(self, within_s: float) -> bool:
        """Whether there is something to hear, or it has ended; waits so long for that.

        As `Connection.poll` says it, which makes a selector anew for each call.
        """
        return bool(self._ears.poll(within_s * 1000))

    def answer(self) -> Any:
        """What it sends; waits for it.

        Raises:
            EOFError, ConnectionError: it has ended.
        """
        content, sizes, offset, self.seconds = self.connection.recv()
        buffers = []
        for size in sizes:
            buffer = np.empty(size, np.uint8).data
            os.preadv(self.arrays, [buffer], offset)
            buffers.append(buffer)
            offset += size
        return pickle.loads(content, buffers=buffers)  # from our own process

    def give(self, job: Job, timeout_s: float) -> None:
        """Send a job to a process that has none; raises `OSError` where it is gone."""
        self.send([(job, 0)])
        self.expect(job, timeout_s)

    def send(self, jobs: Sequence[tuple[Job, int]]) -> None:
        """Send jobs, to be done after those that it has, each with the place for the arrays of its
        answer: a number, of no other job that was not answered yet. Raises `OSError` where the
        process is gone.
        """
        self.connection.send(jobs)

    def expect(self, job: Job, timeout_s: float) -> None:
        """From now on it has so long for the job that it is at, and longer to fetch its file."""
        self.is_fetching = is_remote(path_of(job))
        self.deadline = time.monotonic() + timeout_s + (FETCH_SECONDS if self.is_fetching else 0.0)

    def has_fetched(self, message: object, timeout_s: float) -> bool:
        """Whether a message only says that the file of the job is here; if so, the time for
        decoding begins.
        """
        if not (isinstance(message, str) and message == ARRIVED):
            return False
        self.is_fetching, self.deadline = False, time.monotonic() + timeout_s
        return True

    def is_late(self, timeout_s: float) -> Rejection:
        """The answer in the place of the one that did not come in time."""
        return Rejection(
            "timed out",
            f"not fetched in {FETCH_SECONDS:g} s" if self.is_fetching else f"after {timeout_s:g} s",
        )

    def how_it_ended(self) -> str:
        """After its pipe has closed: "ended by SIGKILL"."""
        self.wait()
        code = self.process.returncode or 0
        with contextlib.suppress(ValueError):
            return f"ended by {signal.Signals(-code).name}"
        return f"ended with exit code {code}"

    def wait(self) -> None:
        """Give a process that is about to end the time for it."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(_END_SECONDS)

    def end(self) -> None:
        """End it, whatever it does."""
        self.process.kill()
        self.process.wait()
        self.connection.close()
        if self.arrays >= 0:
            os.close(self.arrays)
            self.arrays = -1

    def did_not_start(self, detail: str) -> SeehearError:
        """The error to raise when it was lost before it was ready."""
        return SeehearError(
            f"A worker process did not start ({detail}). What does this say: {sys.executable} -c "
            f"'import "
            f"seehear.data.index'"
        )


def examine_all(
    jobs: Sequence[Job], workers: int, timeout_s: float
) -> Iterator[tuple[int, Answer]]:
    """Examine files in parallel processes; `jobs` are arguments of `examine`. See `in_workers`."""
    return in_workers("seehear.data.index.examination:examine", jobs, workers, timeout_s)


def in_workers(
    task: str, jobs: Sequence[Job], workers: int, timeout_s: float
) -> Iterator[tuple[int, Any]]:
    """Do one thing with many files in parallel processes.

    Args:
        task: "module:function" of what is done; its arguments and answers travel between processes.
        jobs: arguments of the function, one tuple a file.
        workers: processes.
        timeout_s: a file that takes longer counts as one that hangs the decoder.

    Yields:
        The number of a job and its answer, in the order in which they come. Where the function
        raised, hung or crashed, the answer is a `Rejection`.
    """
    pool = _Pool(task, jobs, timeout_s)
    try:
        for _ in range(min(workers, len(jobs))):
            pool.start_worker()
        while pool.workers:
            yield from pool.step()
    finally:
        pool.stop()


class _Pool:
    """Workers and the jobs that are still to be done."""

    def __init__(self, task: str, jobs: Sequence[Job], timeout_s: float) -> None:
        self._task = task
        self._jobs = jobs
        self._waiting = deque(range(len(jobs)))
        self._timeout_s = timeout_s
        self._lost_starts = 0  # since a worker was ready
        self.workers: list[Worker] = []

    def start_worker(self) -> None:
        """Start one more process."""
        self.workers.append(Worker.start(self._task, self._timeout_s))

    def step(self) -> Iterator[tuple[int, Any]]:
        """Wait until something happens, and hand out what came of it."""
        first_deadline = min(worker.deadline for worker in self.workers)
        ready = wait(
            [worker.connection for worker in self.workers],
            max(0.0, first_deadline - time.monotonic()),
        )
        for worker in list(self.workers):
            if worker.connection in ready:
                yield from self._hear(worker)
            elif time.monotonic() > worker.deadline:
                yield from self._lose(worker, worker.is_late(self._timeout_s))

    def stop(self) -> None:
        """End all workers, whatever they do."""
        for worker in self.workers:
            worker.process.kill()
        for worker in self.workers:
            worker.end()
        self.workers.clear()

    def _hear(self, worker: Worker) -> Iterator[tuple[int, Any]]:
        try:
            answer = worker.answer()
        except (EOFError, ConnectionError):
            yield from self._lose(worker, Rejection("crashed the decoder", worker.how_it_ended()))
            return
        if worker.has_fetched(answer, self._timeout_s):
            return
        if worker.job is not None:
            yield worker.job, answer
        worker.is_ready, worker.job, self._lost_starts = True, None, 0
        self._give_work(worker)

    def _give_work(self, worker: Worker) -> None:
        """The next job, or leave to go."""
        number = self._waiting.popleft() if self._waiting else None
        try:
            if number is not None:
                worker.give(self._jobs[number], self._timeout_s)
            else:
                worker.connection.send(None)
        except OSError:  # it died after its answer, which is no file's fault
            if number is not None:
                self._waiting.appendleft(number)
            self._remove(worker)
            return
        worker.job = number
        if number is None:
            self._remove(worker)

    def _lose(self, worker: Worker, rejection: Rejection) -> Iterator[tuple[int, Any]]:
        """Give up a worker, and with it the file it was at."""
        if worker.job is None:
            self._lost_starts += 1
            if self._lost_starts >= START_TRIES:
                raise worker.did_not_start(rejection.detail)
        self._remove(worker)
        if worker.job is not None:
            yield worker.job, rejection

    def _remove(self, worker: Worker) -> None:
        """End a worker; another takes its place while there are more jobs than workers."""
        self.workers.remove(worker)
        worker.connection.close()  # which tells it to go
        if worker.job is None and worker.is_ready:
            worker.wait()
        worker.end()
        if self._waiting:
            self.start_worker()


def _file_in_memory() -> int:
    """The descriptor of a file without a name, in memory where the system has that."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("seehear")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
