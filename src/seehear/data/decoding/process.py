"""One worker process as its parent sees it: jobs go in, answers come out, in the same order.

A worker is a program of its own, started by `subprocess`: nothing is forked from a process that may
have threads, and a script that calls seehear is not run again in each worker, as `multiprocessing`
would. It ends when its parent is gone, and its memory is limited (`worker.WORKER_BYTES`).

Arrays travel through a file in memory that both have open: a pipe would cost as much as decoding a
small clip. Each job names the slot of that file for the arrays of its answer.

Where the file of a job is remote, the worker fetches it first. That has a time limit of its own,
`remote.FETCH_SECONDS`; the limit for the job counts from when the copy is here.
"""

from __future__ import annotations

import contextlib
import itertools
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
from collections.abc import Callable, Sequence
from multiprocessing.connection import Pipe
from typing import Any

import numpy as np

from seehear.data.decoding.worker import ARRIVED, READY, Job, path_of
from seehear.data.index.examination import Rejection
from seehear.data.remote import FETCH_SECONDS, cache_gigabytes, is_remote
from seehear.errors import SeehearError

START_SECONDS = 120.0
"""A worker that is not ready within this time is a fault of the machine."""

START_TRIES = 3
"""A start is tried so often: the machine may be short of memory for a moment."""

_PROGRAM = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from seehear.data.decoding.worker "
    "import serve; serve(int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]), sys.argv[5], "
    "float(sys.argv[6]))"
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
_POLL_SECONDS = 0.1  # how soon a thread that waits for an answer notices that nobody wants it
_END_SECONDS = 5.0  # a process whose pipe has closed may take so long to end
_NEWEST = 0.2  # weight of the last job in the mean of what one takes


class Stopped(Exception):
    """Nobody wants the answer any more."""


class Process:
    """A worker process. It starts when it gets its first job, and anew after it was lost.

    Attributes:
        job_seconds: what a job takes, a moving mean.
    """

    def __init__(self, task: str, timeout_s: float, gigabytes: float) -> None:
        limit = gigabytes if gigabytes >= 0 else cache_gigabytes()
        self._timeout_s = timeout_s
        self._arguments = [str(timeout_s), task, str(limit)]
        self._process: subprocess.Popen[bytes] | None = None
        self._sent: deque[tuple[Job, int]] = deque()  # jobs without an answer yet, and their slots
        self.job_seconds = 1.0  # a guess: a new process gets one job at a time

    @property
    def num_sent(self) -> int:
        """Jobs that it has not answered yet."""
        return len(self._sent)

    def send(self, jobs: Sequence[Job]) -> None:
        """Send jobs, to be done after those that it has.

        Raises:
            SeehearError: no process can be started.
        """
        taken = {slot for _, slot in self._sent}
        free = (slot for slot in itertools.count() if slot not in taken)
        new = list(zip(jobs, free, strict=False))
        while new:
            if self._process is None:
                self._start()
            try:
                self._connection.send(new)
            except OSError:
                if self._sent:
                    return  # the next answer tells of its death
                self.end()  # it died between two jobs, which is no file's fault
                continue
            if not self._sent:
                self._set_deadline(new[0][0])
            self._sent.extend(new)
            return

    def receive(self, is_stopped: Callable[[], bool] = lambda: False) -> Any:
        """The answer to the oldest job, or how the process was lost with it; waits for it.

        Raises:
            Stopped: `is_stopped` became true first.
        """
        while True:
            try:
                if self.has_answer(_POLL_SECONDS):
                    message = self._connection.recv()
                    if message == READY:
                        return None
                    if message != ARRIVED:
                        return self._unpacked(*message)
                    self._is_fetching = False
                    self._deadline = time.monotonic() + self._timeout_s
                elif is_stopped():
                    raise Stopped
                elif time.monotonic() > self._deadline:
                    self.end()
                    limit = f"not fetched in {FETCH_SECONDS:g}" if self._is_fetching else ""
                    return Rejection("timed out", f"{limit or f'after {self._timeout_s:g}'} s")
            except (EOFError, ConnectionError):
                how = self._how_it_ended()
                self.end()
                return Rejection("crashed the decoder", how)

    def has_answer(self, within_s: float = 0.0) -> bool:
        """Whether there is something to receive, or it has ended; waits so long for that."""
        return bool(self._poll.poll(within_s * 1000))  # `Connection.poll` makes a selector a call

    def end(self) -> None:
        """End it, whatever it does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._connection.close()
            os.close(self._arrays)
        self._process = None
        self._sent.clear()

    def _start(self) -> None:
        if not hasattr(select, "poll"):
            raise SeehearError(
                "Videos are read in processes of their own, which needs Linux or macOS. On "
                "Windows, run seehear in WSL."
            )
        for _ in range(START_TRIES):
            self._connection, theirs = Pipe()
            self._arrays = _file_in_memory()
            descriptors = theirs.fileno(), self._arrays
            path = json.dumps(sys.path)
            self._process = subprocess.Popen(
                [sys.executable, "-c", _PROGRAM, path, *map(str, descriptors), *self._arguments],
                pass_fds=descriptors,
                stdin=subprocess.DEVNULL,
                env=os.environ | _ENVIRONMENT,
                start_new_session=True,  # Ctrl-C is the parent's business
            )
            theirs.close()  # so that its end is noticed here
            self._poll = select.poll()
            self._poll.register(self._connection.fileno(), select.POLLIN)
            self._is_fetching, self._deadline = False, time.monotonic() + START_SECONDS
            lost = self.receive()
            if lost is None:
                return
        raise SeehearError(
            f"A worker process did not start ({lost.detail}). What does this say: "
            f"{sys.executable} -c 'import seehear.data.index'"
        )

    def _set_deadline(self, job: Job) -> None:
        self._is_fetching = is_remote(path_of(job))
        fetching_s = FETCH_SECONDS if self._is_fetching else 0.0
        self._deadline = time.monotonic() + self._timeout_s + fetching_s

    def _unpacked(self, content: bytes, sizes: Sequence[int], offset: int, seconds: float) -> Any:
        """An answer, with its arrays copied from the file in memory."""
        buffers = []
        for size in sizes:
            buffer = np.empty(size, np.uint8).data
            os.preadv(self._arrays, [buffer], offset)
            buffers.append(buffer)
            offset += size
        self._sent.popleft()
        self.job_seconds += _NEWEST * (max(seconds, 1e-3) - self.job_seconds)
        if self._sent:
            self._set_deadline(self._sent[0][0])
        return pickle.loads(content, buffers=buffers)  # from our own process

    def _how_it_ended(self) -> str:
        """After its pipe has closed: "ended by SIGKILL"."""
        assert self._process is not None
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_END_SECONDS)
        code = self._process.returncode or 0
        with contextlib.suppress(ValueError):
            return f"ended by {signal.Signals(-code).name}"
        return f"ended with exit code {code}"


def _file_in_memory() -> int:
    """The descriptor of a file without a name, in memory where the system has that."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("seehear")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
