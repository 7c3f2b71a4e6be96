"""Where are copies of remote files kept, so that the disk does not fill and no half of a file is
ever read?

    FOLDER/KEY             a whole copy; its access time is that of its last use, its time of change
                           the original's
    FOLDER/KEY-BYTES.part  a copy on its way; who fetches it locks it, so that others wait for it
    FOLDER/KEY.once        a copy that is too large to be kept, until it is read
    FOLDER/total           at most so many bytes are there or on their way; counted anew when room
                           is made
    FOLDER/lock            held while room is made, and while a copy gets its name or is taken into
                           use: otherwise one renamed meanwhile would not be counted, or all would
                           seem to be in use at once

Any number of processes share a folder. Locks are those of the operating system (flock), which end
with the process that holds them: what a killed one left is known by having none, and is removed
when room is made. Whoever reads a copy holds a shared lock on it, and only copies without a lock
are removed, the least recently used first. (On Linux a file that is removed stays for those who
have it open, but a reader may open its file again.)
"""

from __future__ import annotations

import contextlib
import itertools
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from seehear.machine.locks import flock, is_still

ROOM_SHARE = 0.1
"""So much of a full cache is cleared at least, so that not every file means a look at all."""

_PART, _ONCE = ".part", ".once"
_number = itertools.count()

Fetch = Callable[[Path], None]


class Cache:
    """Copies of files in a folder, of no more than so many bytes.

    The bound holds for all that is kept. Only what is being read at this moment is never removed;
    where that alone is more, it stays until it is read.

    Args:
        folder: for nothing else; made when it is needed.
        limit_bytes: of all copies together, those on their way included.
    """

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        self.folder, self.limit_bytes = folder, limit_bytes

    @contextlib.contextmanager
    def copy(self, key: str, size: int | None, modified_ns: int, fetch: Fetch) -> Iterator[Path]:
        """The copy of a file, fetched if it is not there; it stays at least as long as the block.

        `key` is its name in the folder, another one for each version of a file. A file larger than
        the cache, or of unknown size (None), is removed after the block. `fetch` writes it to a
        path, and is not called by two processes at once for one key.
        """
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if size is None or size > self.limit_bytes:
            with self._once(key, modified_ns, fetch) as path:
                yield path
            return
        path = self.folder / key
        while True:
            with self._alone():
                held = _hold(path, size)
            if held is not None:
                break
            self._bring(path, size, modified_ns, fetch)
        try:
            os.utime(held, ns=(time.time_ns(), modified_ns))
            yield path
        finally:
            os.close(held)

    @contextlib.contextmanager
    def _once(self, key: str, modified_ns: int, fetch: Fetch) -> Iterator[Path]:
        path = self.folder / f"{key}-{os.getpid()}-{next(_number)}{_ONCE}"
        held = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            flock(held, shared=True)
            fetch(path)
            os.utime(path, ns=(time.time_ns(), modified_ns))
            yield path
        finally:
            path.unlink(missing_ok=True)
            os.close(held)

    def _bring(self, path: Path, size: int, modified_ns: int, fetch: Fetch) -> None:
        """Fetch a copy, or wait until another process has done so."""
        part = self.folder / f"{path.name}-{size}{_PART}"
        with _locked(part):
            if path.exists():
                part.unlink()
                return
            try:
                self._count(size, part)
                fetch(part)
                os.utime(part, ns=(time.time_ns(), modified_ns))
                with self._alone():
                    part.replace(path)
            except BaseException:
                part.unlink(missing_ok=True)
                self._count(-size, part)
                raise

    def _count(self, size: int, part: Path) -> None:
        """Count a copy that is to come, once there is room for it; or one that does not come."""
        note = self.folder / "total"
        with self._alone():
            try:
                total = int(note.read_text(encoding="ascii"))
            except (OSError, ValueError):
                total = self._clear(self.limit_bytes - size, part)
            if total + size > self.limit_bytes:
                total = self._clear(
                    min(self.limit_bytes - size, int(self.limit_bytes * (1 - ROOM_SHARE))), part
                )
            note.write_text(str(max(0, total + size)), encoding="ascii")

    def _alone(self) -> contextlib.AbstractContextManager[None]:
        """In this block no copy gets its name, is taken into use or removed by others."""
        return _locked(self.folder / "lock")

    def _clear(self, goal_bytes: int, part: Path) -> int:
        """Remove leftovers of killed processes, then copies not used for longest, but for `part`.

        Returns how many bytes are there or on their way: more than `goal_bytes` only where the
        rest is in use.
        """
        total, kept = 0, []
        for entry in os.scandir(self.folder):
            with contextlib.suppress(FileNotFoundError):
                if entry.name.endswith(_PART):
                    is_other = entry.name != part.name and not _remove_unused(Path(entry.path))
                    total += _expected_bytes(entry.name) if is_other else 0
                elif entry.name.endswith(_ONCE):
                    _remove_unused(Path(entry.path))
                elif entry.name not in ("lock", "total"):
                    status = entry.stat()
                    total += status.st_size
                    kept.append((status.st_atime_ns, status.st_size, entry.path))
        for _, size, path in sorted(kept):
            if total <= goal_bytes:
                break
            if _remove_unused(Path(path)):
                total -= size
        return total


def _hold(path: Path, size: int) -> int | None:
    """A descriptor that holds a copy by a shared lock; None where there is no whole copy."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    flock(descriptor, shared=True)
    if is_still(descriptor, path):
        if os.fstat(descriptor).st_size == size:
            return descriptor
        path.unlink(missing_ok=True)  # the machine went down before all of it was on disk
    os.close(descriptor)
    return None


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Make a file if there is none, and be the only one who holds it."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            flock(descriptor)
            if is_still(descriptor, path):
                yield
                return
        finally:
            os.close(descriptor)


def _remove_unused(path: Path) -> bool:
    """Remove a file that nobody holds; False for one that somebody does."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        flock(descriptor, waits=False)
        if is_still(descriptor, path):
            path.unlink()
        return True
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)


def _expected_bytes(name: str) -> int:
    digits = name.removesuffix(_PART).rsplit("-", 1)[-1]
    return int(digits) if digits.isdigit() else 0
