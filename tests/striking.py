"""Sudden death, for tests: signals to the process that is reading a file."""

from __future__ import annotations

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


@contextmanager
def strikes(path: Path, what: signal.Signals, times: int) -> Iterator[list[int]]:
    """While the block runs, send a signal to each child of this process that has a file open, so many in all.

    Yields:
        The processes that were struck so far.
    """
    struck: list[int] = []
    is_over = threading.Event()

    def hunt() -> None:
        while not is_over.is_set() and len(struck) < times:
            for process in children():
                if int(process.name) not in struck and holds(process, path):
                    os.kill(int(process.name), what)
                    struck.append(int(process.name))
                    break
            time.sleep(0.001)

    thread = threading.Thread(target=hunt)
    thread.start()
    try:
        yield struck
    finally:
        is_over.set()
        thread.join()
