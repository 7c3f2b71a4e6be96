"""Who writes here? One process at a time; a second one is told at once who the first is.

The lock is the operating system's (flock) on a small file, and ends with the process that holds it,
however it ends: a number that another process has got since says nothing. The file says who holds
it, for messages:

    {"host": "gpu7", "pid": 4242, "since": "2026-01-31T12:00:00Z", "command": "seehear pretrain
    ..."}

On file systems of several machines flock may be missing, or hold for one machine alone. So the
holder also touches the file every `BEAT_SECONDS`, and a lock of another machine counts until it was
silent for `SILENT_SECONDS`, by the file system's own clock. Forked children do not hold it.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import shlex
import shutil
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from seehear.errors import RunError, StorageError, printable
from seehear.machine.outputs import LOCK, TEMPORARY, read_marker, real

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

BEAT_SECONDS = 20.0
SILENT_SECONDS = 120.0
_NOT_SUPPORTED = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK, errno.EINVAL, errno.EBADF)
_NO_LINKS = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
_held: set[int] = set()  # descriptors, which a forked child closes


@contextlib.contextmanager
def one_writer(path: Path, *, inside: bool = False) -> Iterator[None]:
    """Be the only one who writes a file or folder, which need not be there, in this block.

    With `inside` the lock lies in the folder, which stays, and is made where there is none. Raises
    RunError where another process writes it; the message says which.
    """
    try:
        place, was_there = lock_file(path, inside=inside)
        descriptor = take(place, path)
    except OSError as error:
        why = error.strerror or error
        raise StorageError(
            f"{path} cannot be written ({why}). Choose another place; nothing was touched."
        ) from error
    _held.add(descriptor)
    remove_leftovers(real(path))
    stop = threading.Event()
    beat = threading.Thread(target=_beat, args=(descriptor, stop), daemon=True)
    beat.start()
    try:
        yield
    finally:
        stop.set()
        beat.join()
        with contextlib.suppress(OSError):
            # before it is let go of, so that nobody gets hold of what is removed
            place.unlink(missing_ok=True)
            if not was_there:
                place.parent.rmdir()  # unless something was written
        _held.discard(descriptor)
        os.close(descriptor)


def remove_leftovers(place: Path) -> None:
    """Remove what processes that died while they wrote `place` left beside it; its lock is held.

    What was moved aside stays until something stands in its place again: it is all there is.
    """
    aside = "(old-)?" if os.path.lexists(place) else ""
    name = re.compile(rf"{re.escape(TEMPORARY)}{aside}{re.escape(place.name)}-[0-9]+-[0-9]+")
    for left in [entry for entry in place.parent.iterdir() if name.fullmatch(entry.name)]:
        with contextlib.suppress(OSError):
            shutil.rmtree(left) if left.is_dir() and not left.is_symlink() else left.unlink()


def flock(descriptor: int, *, shared: bool = False, waits: bool = True) -> None:
    """The operating system's lock on an open file, until that is closed.

    Raises:
        BlockingIOError: somebody else has it, and this does not wait.
        OSError: ENOSYS, ...: there is no such lock here.
    """
    if fcntl is None:
        raise OSError(errno.ENOSYS, "this system has no such locks")
    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    fcntl.flock(descriptor, kind if waits else kind | fcntl.LOCK_NB)


def lock_file(path: Path, *, inside: bool = False) -> tuple[Path, bool]:
    """Where the lock lies, hidden beside what is written or in it, and if its folder was there."""
    place = real(path)
    folder = place if inside else place.parent
    was_there = folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    return folder / (LOCK if inside else f".{place.name[:200]}{LOCK}"), was_there


def take(place: Path, path: Path) -> int:
    """Lock a file, and say in it who did; returns its descriptor."""
    while True:
        descriptor = os.open(place, os.O_RDWR | os.O_CREAT | _NO_LINKS, 0o666)
        try:
            check(descriptor, place, path)
            if is_still(descriptor, place):
                try:
                    os.truncate(descriptor, 0)
                    os.pwrite(descriptor, json.dumps(myself()).encode(), 0)
                except OSError:  # a full disk
                    place.unlink(missing_ok=True)
                    raise
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # the one who held it has removed it


def check(descriptor: int, place: Path, path: Path) -> None:
    """Get the lock of an open file, or raise RunError."""
    works = True
    try:
        flock(descriptor, waits=False)
    except OSError as error:
        if error.errno not in _NOT_SUPPORTED:
            raise RunError(
                told(path, holder_of(place), "Wait for it, or choose another --out.")
            ) from None
        works = False
    holder = holder_of(place)
    here = holder.get("host") == socket.gethostname()
    if not holder or (here and (works or not is_running(holder.get("pid")))):
        return  # flock is certain about the processes of this machine
    silent_s = now_at(place) - os.fstat(descriptor).st_mtime
    if silent_s < SILENT_SECONDS:
        wait = (
            f"If it has ended there, wait {SILENT_SECONDS - silent_s:.0f} s and try again, or "
            f"remove {place}."
        )
        raise RunError(told(path, holder, wait))


def holder_of(place: Path) -> dict[str, Any]:
    """What a lock file says of who holds it; nothing where that makes no sense."""
    record = read_marker(place)
    is_ours = isinstance(record.get("pid"), int) and isinstance(record.get("host"), str)
    return record if is_ours else {}


def told(path: Path, holder: dict[str, Any], advice: str) -> str:
    """Who writes, and what to do."""
    who = "another process"
    if holder:
        command = printable(str(holder.get("command", "")))[:300]
        since = f"since {holder.get('since')} ({command})"
        who = f"process {holder.get('pid')} on {holder.get('host')} {since}"
    return f"{path} is being written by {printable(who)}. {advice} Nothing was touched."


def myself() -> dict[str, Any]:
    """Who holds a lock."""
    since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    command = shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
    return {"host": socket.gethostname(), "pid": os.getpid(), "since": since, "command": command}


def is_running(pid: Any) -> bool:
    """Whether this machine has a process of that number."""
    try:
        os.kill(int(pid), 0)
    except (ProcessLookupError, ValueError, TypeError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def now_at(place: Path) -> float:
    """The time by the clock of the file system that a file is on, in seconds."""
    probe = place.with_name(f"{TEMPORARY}clock-{os.getpid()}")
    try:
        probe.touch()
        return probe.stat().st_mtime
    except OSError:
        return time.time()
    finally:
        with contextlib.suppress(OSError):
            probe.unlink(missing_ok=True)


def is_still(descriptor: int, path: Path) -> bool:
    """Whether an open file is still the one of that name."""
    try:
        found, ours = path.stat(), os.fstat(descriptor)
    except FileNotFoundError:
        return False
    return (found.st_dev, found.st_ino) == (ours.st_dev, ours.st_ino)


def _beat(descriptor: int, stop: threading.Event) -> None:
    while not stop.wait(BEAT_SECONDS):
        with contextlib.suppress(OSError):
            os.utime(descriptor)


def _let_go() -> None:
    while _held:
        os.close(_held.pop())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)
