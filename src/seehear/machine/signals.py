"""What happens when somebody asks the program to stop? It finishes the step, saves, and leaves with
exit code 75.

SIGTERM (torchrun, Kubernetes, `kill`), SIGINT (Ctrl-C) and SIGUSR1 (what SLURM is usually told to
send before a time limit) are the same request. They may reach every process of a job, so the
decoding processes do not heed them (`decoding.worker`): they end with their parent.
"""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

from seehear.errors import Interrupted, SeehearError

NAMES = ("SIGTERM", "SIGINT", "SIGUSR1")  # the last is not everywhere
REQUESTS = tuple(getattr(signal, name) for name in NAMES if hasattr(signal, name))


class Interruptions:
    """Notices requests to stop, between `with` and its end; does nothing outside the main thread.

    Args:
        advice: what ends the message of `Interrupted`: the command that goes on.

    While `patient` is set a request is only noted in `asked`, and the work at hand looks there by
    itself. Otherwise it raises `Interrupted` where the program is. A second Ctrl-C always is a
    `KeyboardInterrupt`.
    """

    def __init__(self, advice: str = "") -> None:
        self.advice = advice
        self.asked: str | None = None
        self.patient = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Interruptions:
        if threading.current_thread() is threading.main_thread():
            self._before = {request: signal.signal(request, self._notice) for request in REQUESTS}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for request, handler in self._before.items():
            signal.signal(request, handler)
        if self.asked and isinstance(error, SeehearError) and not isinstance(error, Interrupted):
            raise self.error(
                "The last checkpoint stays."
            ) from error  # others left first, and this is what it did to us

    def _notice(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self.asked:
            raise KeyboardInterrupt
        self.asked = signal.Signals(number).name
        if not self.patient:
            raise self.error("Nothing was to be saved since the last checkpoint.")

    def error(self, what: str) -> Interrupted:
        """The error to leave with; `what` says what was saved."""
        return Interrupted(
            f"Stopped by {self.asked or 'a signal to another rank'}. {what} Go on "
            f"with:\n{self.advice}"
        )
