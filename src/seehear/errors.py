"""What can go wrong, as a tree: catch `SeehearError` to catch all that seehear raises on purpose.

    SeehearError            exit code 1
    ├── UsageError          exit code 2: it cannot work as typed; the message says what to type
    │   ├── SettingsError   a setting that is unknown, of the wrong type, or contradicts another
    │   ├── IndexFileError  an index that is missing, empty, of another format, or has changed
    │   └── RunError        a run's folder that exists, is missing, or has other settings
    ├── MediaError          one file that cannot be decoded as wanted; has `path` and `reason`
    ├── StorageError        what was to be written does not fit, or may not; also an OSError
    ├── CheckpointError     a checkpoint that is damaged or of another kind
    ├── TrainingError       training that cannot go on: loss not finite, too many rows unreadable
    ├── RankError           another process of the same job is gone, or does not answer
    └── Interrupted         exit code 75: stopped by a signal and saved; run it again

Every message says what happened, with the value and the path, and then what to do. A bug of ours is
an `AssertionError`, never one of these.
"""

from __future__ import annotations

import os


def printable(text: str) -> str:
    """A text of one line that moves nothing on a terminal, whatever the names of files in it hold.

    Control characters, line ends, directional marks and bytes that are no text are written out:
    \\x1b, \\n, \\udcff.
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class SeehearError(Exception):
    """The base of every error that seehear raises on purpose; its text is safe to print."""

    exit_code = 1

    def __str__(self) -> str:
        return "\n".join(map(printable, super().__str__().split("\n")))


class UsageError(SeehearError):
    """What was asked for cannot work as typed."""

    exit_code = 2


class SettingsError(UsageError):
    """A setting that does not exist, has the wrong type, or contradicts another."""


class IndexFileError(UsageError):
    """An index that is missing, empty, of another format, or whose videos changed or vanished."""


class RunError(UsageError):
    """A run folder that exists already, is missing, or was made with other settings."""


class MediaError(SeehearError):
    """One media file that cannot be decoded as wanted.

    Args:
        path: the file.
        reason: a key of `seehear.data.media.REASONS`.
        detail: what the decoder said, for a person.
    """

    def __init__(self, path: str | os.PathLike[str], reason: str, detail: str = "") -> None:
        # all of them, so that the error survives pickling between processes
        super().__init__(path, reason, detail)
        self.path = os.fspath(path)
        self.reason = reason
        self.detail = detail

    def __str__(self) -> str:
        return printable(
            f"{self.path}: {self.reason}" + (f" ({self.detail})" if self.detail else "")
        )


class StorageError(SeehearError, OSError):
    """A file or folder that cannot be written; what was there before still is."""


class CheckpointError(SeehearError):
    """A checkpoint that is damaged, truncated or of another kind."""


class TrainingError(SeehearError):
    """Training that cannot go on: a non-finite loss, or too many rows that cannot be read."""


class NotFiniteError(TrainingError):
    """Too many steps whose loss or gradient was not finite."""


class RankError(SeehearError):
    """Another process of the same job is gone, or did not answer in time."""


class Interrupted(SeehearError):
    """A signal asked to stop; all is saved, and the message ends with the command that goes on."""

    exit_code = 75  # EX_TEMPFAIL of sysexits.h: try again later
