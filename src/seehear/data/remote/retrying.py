"""What is to be done when something on another machine fails: try again, or give up, and with which
reason?

What is not there, or may not be read, is not asked for again. Everything else may pass: up to
`tries()` tries, with pauses of 0.5, 1, 2, 4 s ..., each lengthened or shortened by up to a half, so
that many processes do not come back at the same moment.
"""

from __future__ import annotations

import errno
import os
import random
import time
from collections.abc import Callable
from typing import TypeVar

from seehear.errors import MediaError, SettingsError

TRIES = 5
FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 30.0
TOTAL_S = 900.0
"""After so long, no further try begins."""

_MISSING = frozenset({404, 410})
_FORBIDDEN = frozenset({401, 403, 407, 451})
_PASSING = frozenset({408, 423, 425, 429})  # of 400 to 499
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS})

T = TypeVar("T")


def tries() -> int:
    """How often one thing is asked for: $SEEHEAR_REMOTE_TRIES, or 5.

    Raises:
        SettingsError: it is no positive number.
    """
    text = os.environ.get("SEEHEAR_REMOTE_TRIES", "") or str(TRIES)
    if not text.isdecimal() or not 1 <= int(text) <= 100:
        raise SettingsError(
            f"SEEHEAR_REMOTE_TRIES is {text!r}. It must be a whole number from 1 to 100."
        )
    return int(text)


def persist(
    path: str, action: Callable[[], T], *, pause: Callable[[float], None] = time.sleep
) -> T:
    """Do something with a file on another machine, again where that may help.

    `pause` waits so many seconds.

    Raises:
        MediaError: it cannot be done; the reason is "not found", "no permission" or "unreachable".
    """
    most, begin = tries(), time.monotonic()
    number = 0
    while True:
        number += 1
        try:
            return action()
        except MediaError:
            raise
        except Exception as error:  # whatever a client library raises
            reason, detail, is_final = judge(error)
            if is_final:
                raise MediaError(path, reason, detail) from None
            if number >= most or time.monotonic() - begin > TOTAL_S:
                raise MediaError(path, reason, f"{detail}; tried {number} times") from None
        pause(pause_seconds(number, random.random()))


def pause_seconds(number: int, luck: float) -> float:
    """How long to wait after a failed try, 1 up; luck in [0, 1) makes it 0.5 to 1.5 times that."""
    return min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** (number - 1)) * (0.5 + luck)


def judge(error: Exception) -> tuple[str, str, bool]:
    """A key of `REASONS`, what is known beyond it, and whether another try is useless."""
    cause = error.__cause__
    if isinstance(error, FileNotFoundError) and isinstance(cause, Exception):
        is_of_network = isinstance(cause, OSError) or type(cause).__module__.startswith("aiohttp")
        # fsspec says so whatever goes wrong with an http address
        error = cause if is_of_network else error
    status = _status(error)
    detail = f"HTTP {status}" if status else _in_words(error)
    if isinstance(error, OSError) and error.errno in _FULL:
        return "unreachable", f"the cache cannot be written: {os.strerror(error.errno)}", True
    if status in _MISSING or (status is None and isinstance(error, FileNotFoundError)):
        return "not found", detail, True
    if (
        status in _FORBIDDEN
        or isinstance(error, PermissionError)
        or "Credentials" in type(error).__name__
    ):
        return "no permission", detail, True
    return (
        "unreachable",
        detail,
        status is not None and 400 <= status < 500 and status not in _PASSING,
    )


def _status(error: Exception) -> int | None:
    """The HTTP status that an error of a client library carries."""
    for holder in (error, getattr(error, "response", None)):
        for name in ("status", "status_code", "code"):
            value = getattr(holder, name, None)
            if type(value) is int and 100 <= value < 600:
                return value
    return None


def _in_words(error: Exception) -> str:
    """One line, without what may be secret in an address."""
    text = " ".join(str(error).split()).split("?", 1)[0][:200]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
