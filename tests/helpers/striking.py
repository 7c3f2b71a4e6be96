"""Sudden death, for tests: signals to the process that is reading a file."""

from __future__ import annotations

import fcntl
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def holds(process: Path, path: Path) -> bool:
    """Whether a process, by its folder in /proc, has a file open."""
    try:
        return any(entry.readlink() == path for entry in (process / "fd").iterdir())
    except OSError:
        return False


def children() -> Iterator[Path]:
    """The folders in /proc of the processes that this one has started, from any of its threads."""
    for thread in Path("/proc/self/task").iterdir():
        try:
            yield from (Path("/proc") / pid for pid in (thread / "children").read_text().split())
        except OSError:
            continue


def waits_at_a_lease(process: Path) -> bool:
    """Whether a process waits for a file that somebody has a lease on."""
    try:
        return any(
            (task / "wchan").read_text() == "__break_lease" for task in (process / "task").iterdir()
        )
    except OSError:
        return False


@contextmanager
def leased(path: Path) -> Iterator[bool]:
    """While the block runs, whoever opens a file waits. Yields whether there is such a lease: most
    file systems give them.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        # told of those who wait by a signal that is ignored
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_WRLCK)
    except OSError:
        os.close(descriptor)
        yield False
        return
    try:
        yield True
    finally:
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
        os.close(descriptor)


@contextmanager
def strikes(path: Path, what: signal.Signals, times: int) -> Iterator[list[int]]:
    """While the block runs, send a signal to each child of this process that opens a file, so many
    in all.

    Nobody gets past opening the file until all have been struck: however busy the machine, none
    escapes by being quick.

    Yields:
        The processes that were struck so far.
    """
    struck: list[int] = []
    is_over = threading.Event()

    def hunt() -> None:
        with leased(path) as is_leased:
            # Not both: until a child runs its programme, it has this process's own descriptor open.
            is_at_it = waits_at_a_lease if is_leased else lambda process: holds(process, path)
            is_ready.set()
            while not is_over.is_set() and len(struck) < times:
                for process in children():
                    if int(process.name) not in struck and is_at_it(process):
                        os.kill(int(process.name), what)
                        struck.append(int(process.name))
                        break
                time.sleep(0.001)

    is_ready = threading.Event()
    thread = threading.Thread(target=hunt)
    thread.start()
    is_ready.wait()
    try:
        yield struck
    finally:
        is_over.set()
        thread.join()
