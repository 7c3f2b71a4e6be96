"""How does a person see that work goes on? Bars with rate and time left, on stderr, only where it
is a terminal.

Elsewhere (a log file, a job's output) there are plain lines and no bars: for a stage that takes
long, one every `PLAIN_SECONDS` with rate and time left, or with how long it has been at work where
nothing was counted meanwhile. Nothing here prints to stdout.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

from seehear.errors import Interrupted, printable

if TYPE_CHECKING:
    from rich.progress import Progress

Count = Callable[[int], None]  # called with how many are done
More = Callable[[], str]  # what else is worth showing now
Watch = Callable[[str, int], Count]  # called with what begins and how many there are


PLAIN_SECONDS = 60.0
SILENT_SECONDS = 60.0  # after so long without a line a stage is said to be at work


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
    """Bars and lines on stderr; use as a context manager, within its own block too.

    Args:
        quiet: show nothing at all.

    Once `stopped` is set, whoever counts next is left by `Interrupted`.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self.quiet, self.stopped = quiet, threading.Event()
        self._depth, self._over = 0, threading.Event()
        self._stage, self._began, self._said = "", 0.0, 0.0
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
        self._depth += 1
        if self._depth > 1 or self.quiet:
            return self
        if self._progress is not None:
            self._progress.start()
        elif self._parent is None:
            self._over.clear()
            threading.Thread(target=self._tell_of_silence, daemon=True).start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._depth -= 1
        if not self._depth:
            self._over.set()
            if self._progress is not None:
                self._progress.stop()

    def _tell_of_silence(self) -> None:
        """A line where a stage has said nothing for long, as one does that counts nothing."""
        while not self._over.wait(SILENT_SECONDS / 12):
            now = time.monotonic()
            if self._stage and now - max(self._said, self._began) >= SILENT_SECONDS:
                with suppress(OSError, ValueError):  # stderr is closed, which its owner finds out
                    self.say(f"{self._stage}: at work for {duration(now - self._began)}")

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
            self._check()
            speed = progress.tasks[0].speed if progress.tasks else None
            shown = rate(speed, unit) if speed else ""
            progress.update(task, completed=done, rate=shown, more=more())

        return count

    def _plainly(self, what: str, total: int, more: More, unit: str) -> Count:
        """A line now and then."""
        begin = last = time.monotonic()
        root = self._parent or self
        root._stage, root._began = self._label + what, begin
        first: int | None = None  # what was done before, by an earlier call perhaps

        def count(done: int) -> None:
            nonlocal last, first
            self._check()
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
        part.stopped = self.stopped
        return part

    def _check(self) -> None:
        if self.stopped.is_set():
            raise Interrupted("Stopped, as what ran beside this ended.")

    def say(self, line: str) -> None:
        """One line, above the bars."""
        if self._parent is not None:
            self._parent.say(self._label + line)
            return
        if self.quiet:
            return
        line, self._said = printable(line), time.monotonic()
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
