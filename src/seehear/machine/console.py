"""How does a person see that work goes on? Bars with rate and time left, on stderr, only where it
is a terminal.

Elsewhere (a log file, a job's output) there are plain lines and no bars: for a stage that takes
long, one every `PLAIN_SECONDS` with rate and time left. Nothing here prints to stdout.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Protocol

from seehear.errors import printable

if TYPE_CHECKING:
    from rich.progress import Progress

Count = Callable[[int], None]  # called with how many are done
More = Callable[[], str]  # what else is worth showing now
Watch = Callable[[str, int], Count]  # called with what begins and how many there are


PLAIN_SECONDS = 60.0


class Tell(Protocol):
    """Called with how many of a group are done, and how many of them failed for each reason."""

    def __call__(self, done: int, failed: Mapping[str, int] = {}, /) -> None: ...


def untold(done: int, failed: Mapping[str, int] = {}, /) -> None:
    """Nobody wants to know."""


def counting_from(first: int, count: Count) -> Tell:
    """Counts what is done of a group, where so many were done before it."""
    return lambda done, failed={}, /: count(first + done)


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
                TextColumn("{task.fields[more]}"),
                console=RichConsole(stderr=True),
                transient=True,
            )

    def __enter__(self) -> Console:
        if self._progress is not None:
            self._progress.start()
        return self

    def __exit__(self, *raised: object) -> None:
        if self._progress is not None:
            self._progress.stop()

    def watch(
        self, what: str, total: int | None, more: More = lambda: "", *, unit: str = ""
    ) -> Count:
        """Begin a stage of `total` things; the last stage's bar makes room for its own.

        Args:
            total: None where nobody can count them.
            more: asked for what else is worth showing, whenever something is shown.
            unit: what is counted, such as "clips".
        """
        progress = self._progress
        if progress is None:
            return self._plainly(what, total or 0, more, unit)
        for task in progress.task_ids:
            progress.remove_task(task)
        task = progress.add_task(what, total=total, rate="", more="")

        def count(done: int) -> None:
            speed = progress.tasks[0].speed if progress.tasks else None
            shown = rate(speed, unit) if speed else ""
            progress.update(task, completed=done, rate=shown, more=more())

        return count

    def _plainly(self, what: str, total: int, more: More, unit: str) -> Count:
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
            left = duration((total - done) / speed)
            parts = [f"{what}: {done}/{total}", rate(speed, unit), f"{left} left", more()]
            self.say(", ".join(filter(None, parts)))

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


def rate(speed: float, unit: str = "") -> str:
    """How many a second, or a minute where they are slow: "12 clips/s"."""
    many, of = (f"{speed:.0f}" if speed >= 10 else f"{speed:.1f}"), f" {unit}" * bool(unit)
    return f"{many}{of}/s" if speed >= 1 else f"{speed * 60:.1f}{of}/min"


def duration(seconds: float) -> str:
    """A time as a person says it: "40 s", "12 min", "3.5 h", "4 days"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 172_800 else f"{seconds / 86_400:.0f} days"


def listing(counts: Mapping[str, int]) -> str:
    """Reasons and how often: "4 silent audio, 3 no file"."""
    return ", ".join(f"{count} {reason}" for reason, count in counts.items())
