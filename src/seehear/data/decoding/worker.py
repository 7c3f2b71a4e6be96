"""What does a worker do? Its jobs, one after the other; the first thing that it says is that it is
ready.

What it is for, and who gives it jobs, says `workers`.
"""

from __future__ import annotations

import contextlib
import math
import os
import pickle
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from importlib import import_module
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from seehear.data.index.examination import Rejection
from seehear.data.remote import FETCH_SECONDS, is_remote, local
from seehear.errors import MediaError

WORKER_BYTES = 4 * 2**30
"""Address space of one worker; 8K video takes about 1 GiB."""

ARRIVED = "arrived"
"""What a worker says when the remote file of its job is here; no answer is a text."""

# of the file in memory, for one answer; what is not written takes no room
PLACE_BYTES = 2 * WORKER_BYTES
_GRACE_SECONDS = 10  # beyond the time limit, after which a worker without a parent ends itself

Job = tuple[Any, ...]  # the arguments of the task


def serve(
    descriptor: int, arrays: int, timeout_s: float, task: str, cache_gigabytes: float
) -> None:
    """Do one job after the other; the whole life of a worker.

    Args:
        descriptor: of the pipe's end for this process.
        arrays: of the file in memory by which arrays travel.
        timeout_s: after which the parent, if it is still there, ends this process.
        task: "module:function".
        cache_gigabytes: what copies of remote files may take.
    """
    # A signal to all processes of a job (preemption) is the parent's business; the pipe's end is
    # this one's.
    for request in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(request, signal.SIG_IGN)
    connection = Connection(descriptor)
    reply = _Reply(connection, arrays)
    module, name = task.split(":")
    function = getattr(import_module(module), name)
    _be_silent()
    _limit_memory()
    # should the parent not be there any more to end this process
    patience_s = math.ceil(timeout_s) + _GRACE_SECONDS
    fetching_s = patience_s + math.ceil(FETCH_SECONDS)
    arrived = partial(_tell_of_arrival, reply, patience_s)
    reply.send(None)  # ready
    with contextlib.suppress(EOFError, OSError):  # the parent is gone
        while (jobs := connection.recv()) is not None:
            for job, place in jobs:
                signal.alarm(fetching_s if is_remote(path_of(job)) else patience_s)
                begin = time.monotonic()
                answer = _do_safely(function, job, cache_gigabytes, arrived)
                reply.send(answer, place, time.monotonic() - begin)
                signal.alarm(0)


def path_of(job: Job) -> str:
    """The file of a job."""
    return str(getattr(job[0], "path", job[0]))


def _tell_of_arrival(reply: _Reply, patience_s: int) -> None:
    reply.send(ARRIVED)
    signal.alarm(patience_s)


class _Reply:
    """How the parent gets answers: by the pipe, and their arrays by a place of the file in
    memory.
    """

    def __init__(self, connection: Connection, arrays: int) -> None:
        self._connection, self._arrays = connection, arrays

    def send(self, answer: Any, place: int = 0, seconds: float = 0.0) -> None:
        """Have the parent get an answer, and what it took."""
        buffers: list[pickle.PickleBuffer] = []
        start = offset = place * PLACE_BYTES
        content, sizes = pickle.dumps(answer, 5, buffer_callback=buffers.append), []
        try:
            for buffer in buffers:
                data = buffer.raw()
                while data:  # a write may be short
                    written = os.pwrite(self._arrays, data, offset)
                    data, offset = data[written:], offset + written
                sizes.append(buffer.raw().nbytes)
        except OSError:  # no such room, or a limit on the size of files
            content, sizes = pickle.dumps(answer, 5), []
        self._connection.send((content, sizes, start, seconds))


def _do_safely(
    function: Callable[..., Any], job: Job, cache_gigabytes: float, arrived: Callable[[], None]
) -> Any:
    try:
        path = path_of(job)
        if not is_remote(path):
            return function(*job)
        with local(path, cache_gigabytes) as copy:
            arrived()
            return function(
                copy if isinstance(job[0], str) else replace(job[0], path=copy), *job[1:]
            )
    except MediaError as error:
        return Rejection(error.reason, error.detail)
    except MemoryError:
        return Rejection(
            "absurd size", f"it takes more than {WORKER_BYTES / 2**30:g} GiB of memory"
        )
    except (
        Exception
    ) as error:  # one file costs its own row, whatever it does to the decoder's wrapper
        return Rejection("unreadable", f"{type(error).__name__}: {error}")


def _be_silent() -> None:
    """Nothing that a decoder prints reaches the terminal."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (1, 2):
        os.dup2(nowhere, descriptor)
    os.close(nowhere)


def _limit_memory() -> None:
    try:
        import resource

        used = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * os.sysconf(
            "SC_PAGE_SIZE"
        )
    except (ImportError, OSError):  # another system than Linux
        return
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = used + WORKER_BYTES
    if hard == resource.RLIM_INFINITY or limit < hard:
        resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
