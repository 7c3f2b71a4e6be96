"""Which files may be videos? A walk over folders of any depth, in the same order everywhere.

Names that begin with a dot are passed over. Links are followed; a folder or a file that is reached in several ways is
taken once, and a real file is preferred to a link to it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISDIR, S_ISREG

from seehear.errors import UsageError

VIDEO_ENDINGS = (
    *(".3g2", ".3gp", ".amv", ".asf", ".avi", ".divx", ".dv", ".f4v", ".flv", ".gxf", ".ivf", ".m2t", ".m2ts", ".m2v"),
    *(".m4v", ".mj2", ".mjpeg", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mxf", ".nut", ".ogm", ".ogv", ".qt", ".rm"),
    *(".rmvb", ".vob", ".webm", ".wmv", ".wtv", ".y4m"),
)
"""Names with these endings are promises: when such a file cannot be used, it is listed with the reason.

Endings that are also those of programmes, .ts and .mts, are no promises; such files are known by their content."""


_SPECIAL = "not a regular file"


@dataclass(frozen=True)
class Candidate:
    """A file that may be a video; all that is known of it without opening it."""

    path: str  # absolute, links not resolved
    file_bytes: int
    modified_ns: int
    failure: str = ""  # why it cannot even be looked at, otherwise empty

    @property
    def is_promised(self) -> bool:
        """Does the name say that it is a video?"""
        return self.path.lower().endswith(VIDEO_ENDINGS)


def absolute_paths(paths: Sequence[str | os.PathLike[str]]) -> list[str]:
    """The files and folders that a user named, absolute.

    Raises:
        UsageError: one of them does not exist, or there is none.
    """
    if not paths:
        raise UsageError("No video or folder was named. Type: seehear index VIDEOS --out INDEX")
    for path in paths:
        if not os.path.lexists(path) or not Path(path).exists():
            raise UsageError(f"{os.fspath(path)} does not exist. Name video files, or folders that hold them.")
    return sorted({os.path.abspath(path) for path in paths})  # noqa: PTH100 (links are kept)


def common_root(paths: Sequence[str]) -> str:
    """The folder below which all named paths are."""
    folders = [path if os.path.isdir(path) else os.path.dirname(path) for path in paths]  # noqa: PTH112, PTH120
    return os.path.commonpath(folders)


def find_candidates(paths: Sequence[str]) -> list[Candidate]:
    """All files at or below some absolute paths, sorted by path; each file once."""
    found: dict[tuple[int, int], tuple[bool, Candidate]] = {}
    failures: list[Candidate] = []
    for path, is_linked in _files(paths, failures):
        try:
            status = os.stat(path)  # noqa: PTH116 (a Path for each of 100,000 files is slow)
        except OSError as error:
            reason = "no permission" if isinstance(error, PermissionError) else "not found"
            failures.append(Candidate(path, 0, 0, reason))
            continue
        candidate = Candidate(path, status.st_size, status.st_mtime_ns, "" if S_ISREG(status.st_mode) else _SPECIAL)
        key = status.st_dev, status.st_ino
        if key not in found or (is_linked, path) < (found[key][0], found[key][1].path):
            found[key] = is_linked, candidate
    return sorted([*failures, *(candidate for _, candidate in found.values())], key=lambda candidate: candidate.path)


def _files(paths: Sequence[str], failures: list[Candidate]) -> Iterator[tuple[str, bool]]:
    """Whatever is no folder, with whether a link leads there.

    Folders come before links to folders, so that a link to what is seen anyway adds nothing.
    """
    folders = [(path, False) for path in reversed(paths)]
    links: list[str] = []
    seen: set[tuple[int, int]] = set()
    while folders or links:
        folder, is_linked = folders.pop() if folders else (links.pop(), True)
        try:
            status = os.stat(folder)  # noqa: PTH116
            if not S_ISDIR(status.st_mode):
                yield folder, is_linked
                continue
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            entries = sorted((e for e in os.scandir(folder) if e.name[0] != "."), key=lambda e: e.name, reverse=True)
        except OSError:
            failures.append(Candidate(folder, 0, 0, "no permission"))
            continue
        for entry in entries:
            if not entry.is_dir():
                yield entry.path, is_linked or entry.is_symlink()
            elif entry.is_symlink():
                links.append(entry.path)
            else:
                folders.append((entry.path, is_linked))
