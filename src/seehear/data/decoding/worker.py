"""The whole life of a worker process: it says that it is ready, then does one job after the other.

`process.py` is its parent's side.
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
from importlib import import_module
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from seehear.data.index.examination import Rejection
from seehear.data.remote import FETCH_SECONDS, is_remote, local
from seehear.errors import MediaError, StorageError
from seehear.machine.signals import REQUESTS

WORKER_BYTES = 4 * 2**30
"""Address space of one worker; 8K video takes about 1 GiB."""

READY, ARRIVED = "ready", "arrived"
"""Messages that are no answer: it can take jobs; the remote file of its job is here."""

SLOT_BYTES = 2 * WORKER_BYTES
"""Of the file in memory, for the arrays of one answer; what is not written takes no room."""

_GRACE_SECONDS = 10  # beyond the time limit, after which a worker without a parent ends itself

Job = tuple[Any, ...]  # the arguments of the task


def serve(
    descriptor: int, arrays: int, timeout_s: float, task: str, cache_gigabytes: float
) -> None:
    """Do one job of `task` ("module:function") after the other, until the parent is gone.

    `descriptor` is this process's end of the pipe, `arrays` the file in memory by which arrays
    travel; after `timeout_s` the parent, if it is still there, ends this process.
    """
    # A signal to all processes of a job (preemption) is the parent's business; the pipe's end is
    # this one's.
    for request in REQUESTS:
        if request != signal.SIGINT:
            signal.signal(request, signal.SIG_IGN)
    connection = Connection(descriptor)
    module, name = task.split(":")
    function = getattr(import_module(module), name)
    _silence()
    _limit_memory()
    # should the parent not be there any more to end this process
    most_s = math.ceil(timeout_s) + _GRACE_SECONDS

    def arrived() -> None:
        connection.send(ARRIVED)
        signal.alarm(most_s)

    connection.send(READY)
    with contextlib.suppress(EOFError, OSError):  # the parent is gone
        while True:
            for job, slot in connection.recv():
                fetching_s = math.ceil(FETCH_SECONDS) if is_remote(path_of(job)) else 0
                signal.alarm(most_s + fetching_s)
                begin = time.monotonic()
                answer = _do_safely(function, job, cache_gigabytes, arrived)
                packed = _packed(answer, arrays, slot * SLOT_BYTES)
                connection.send((*packed, time.monotonic() - begin))
                signal.alarm(0)


def path_of(job: Job) -> str:
    """The file of a job."""
    return str(getattr(job[0], "path", job[0]))


def _packed(answer: Any, arrays: int, start: int) -> tuple[bytes, list[int], int]:
    """An answer as bytes, and the sizes and start of its arrays in the file in memory."""
    buffers: list[pickle.PickleBuffer] = []
    content, offset = pickle.dumps(answer, 5, buffer_callback=buffers.append), start
    try:
        for buffer in buffers:
            data = buffer.raw()
            while data:  # a write may be short
                written = os.pwrite(arrays, data, offset)
                data, offset = data[written:], offset + written
    except OSError:  # no such room, or a limit on the size of files
        return pickle.dumps(answer, 5), [], start
    return content, [buffer.raw().nbytes for buffer in buffers], start


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
    except StorageError as error:
        return error  # no fault of the file
    except MediaError as error:
        return Rejection(error.reason, error.detail)
    except MemoryError:
        return Rejection(
            "absurd size", f"it takes more than {WORKER_BYTES / 2**30:g} GiB of memory"
        )
    except (
        Exception
    ) as error:  # whatever a file does to the decoder's wrapper, it costs its own row
        return Rejection("unreadable", f"{type(error).__name__}: {error}")


def _silence() -> None:
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
