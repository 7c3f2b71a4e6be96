"""How does a person see that work goes on? Bars with rate and time left, on stderr, only where it
is a terminal.

Elsewhere (a log file, a job's output) there are plain lines and no bars: for a stage that takes
long, one every `PLAIN_SECONDS` with rate and time left. Nothing here prints to stdout.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING

from seehear.errors import printable

if TYPE_CHECKING:
    from rich.progress import Progress

Count = Callable[[int], None]  # called with how many are done
Watch = Callable[[str, int], Count]  # called with what begins and how many there are


PLAIN_SECONDS = 60.0


def unwatched(what: str, total: int) -> Count:
    """A watch that shows nothing."""
    return lambda done: None


def counted(number: int, thing: str) -> str:
    """ "1 segment", "2 segments"."""
    return f"{number} {thing}{'' if number == 1 else 's'}"


class Console:
    """Bars and lines on stderr; use as a context manager.

    Args:
        quiet: show nothing at all.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self.quiet = quiet
        self._parent: Console | None = None
        self._label = ""
        self._progress: Progress | None = None
        if not quiet and sys.stderr.isatty():
            from rich.console import Console as RichConsole
            from rich.progress import (
                BarColumn,
                MofNCompleteColumn,
                Progress,
                TextColumn,
                TimeRemainingColumn,
            )

            self._progress = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[rate]}"),
                TimeRemainingColumn(compact=True),
                console=RichConsole(stderr=True),
                transient=True,
            )

    def __enter__(self) -> Console:
        if self._progress is not None:
            self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._progress is not None:
            self._progress.stop()

    def watch(self, what: str, total: int) -> Count:
        """Begin a stage of `total` things; the last stage's bar makes room for its own."""
        progress = self._progress
        if progress is None:
            return self._plainly(what, total)
        for task in progress.task_ids:
            progress.remove_task(task)
        task = progress.add_task(what, total=total, rate="")

        def count(done: int) -> None:
            speed = progress.tasks[0].speed if progress.tasks else None
            progress.update(task, completed=done, rate=rate(speed) if speed else "")

        return count

    def _plainly(self, what: str, total: int) -> Count:
        """A line now and then."""
        begin = last = time.monotonic()
        first: int | None = None  # what was done before, by an earlier call perhaps

        def count(done: int) -> None:
            nonlocal last, first
            first = done if first is None else first
            now = time.monotonic()
            if now - last < PLAIN_SECONDS or done <= first:
                return
            last, speed = now, (done - first) / (now - begin)
            self.say(
                f"{what}: {done}/{total}, {rate(speed)}, {duration((total - done) / speed)} left"
            )

        return count

    def labelled(self, label: str) -> Console:
        """A console for one of several things at once: lines begin with `label`, no bars."""
        part = Console(quiet=self.quiet)
        part._progress, part._parent, part._label = None, self, f"[{label}] "
        return part

    def say(self, line: str) -> None:
        """One line, above the bars."""
        if self._parent is not None:
            self._parent.say(self._label + line)
            return
        if self.quiet:
            return
        line = printable(line)
        if self._progress is not None:
            self._progress.console.print(line, highlight=False, markup=False, soft_wrap=True)
        else:
            print(line, file=sys.stderr, flush=True)


def rate(speed: float) -> str:
    """How many a second, or a minute where they are slow."""
    if speed >= 10:
        return f"{speed:.0f}/s"
    return f"{speed:.1f}/s" if speed >= 1 else f"{speed * 60:.1f}/min"


def duration(seconds: float) -> str:
    """A time as a person says it: "40 s", "12 min", "3.5 h"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
