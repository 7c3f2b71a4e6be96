"""How do files and folders appear whole or not at all, and what is noted of where they were made?

Files and folders are written under a temporary name in the same folder, synced to disk, and
renamed, so that a crash between any two lines leaves either what was there or what was meant.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import itertools
import json
import math
import os
import platform
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from seehear.errors import StorageError
from seehear.machine import outputs
from seehear.machine.outputs import LOCK, real

_CANNOT_STORE = ["ENOSPC", "EDQUOT", "EFBIG", "EROFS", "EACCES", "EPERM", "EIO", "ENAMETOOLONG"]

TEMPORARY = outputs.TEMPORARY
_number = itertools.count()  # of what this process writes: threads of it may write the same file


@contextlib.contextmanager
def whole_folder(path: Path, *, replaces: outputs.Kind | None = None) -> Iterator[Path]:
    """A temporary folder that becomes `path` when the block ends well, and else vanishes.

    Where `path` is a link, what it points to is meant.

    Args:
        replaces: what may stand at `path` and is removed after it was moved aside, by the names
            that seehear gives; what others have put there is in the new folder, too. Without it,
            only an empty folder may be there.
    """
    path = real(path)
    temporary = path.parent / temporary_name(path.name)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(temporary, ignore_errors=True)  # of a process that died and had our number
        temporary.mkdir()
        yield temporary
        if replaces is not None and path.is_dir():
            outputs.carry_over(path, temporary, replaces)
        mode = temporary.stat().st_mode & 0o666  # as the umask wants it; safetensors leaves 0600
        for file in [p for p in temporary.rglob("*") if p.is_file() and not p.is_symlink()]:
            file.chmod(mode)
            sync(file)
        sync(temporary)
        old = path.parent / temporary_name(f"old-{path.name}")
        if path.exists() and (replaces is not None or outputs.is_empty_folder(path)):
            path.rename(old)
        temporary.rename(path)
        sync(path.parent)
        shutil.rmtree(old, ignore_errors=True)
    except BaseException as error:
        shutil.rmtree(temporary, ignore_errors=True)
        if cannot_store(error):
            raise unwritten(path, error) from error
        raise


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """A temporary path that replaces `path`, or what it is a link to, when the block ends well."""
    path = real(path)
    with unfinished(path) as temporary:
        temporary.touch()
        mode = temporary.stat().st_mode  # as the umask wants it; safetensors leaves 0600
        yield temporary
        temporary.chmod(mode & 0o777)
        sync(temporary)
        temporary.replace(path)
        sync(path.parent)


@contextlib.contextmanager
def unfinished(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`; a file that is still there when the block ends is removed."""
    temporary = path.parent / temporary_name(path.name)
    try:
        yield temporary
    except Exception as error:
        if cannot_store(error):
            raise unwritten(path, error) from error
        raise
    finally:
        with contextlib.suppress(OSError):  # a folder that may not be written
            temporary.unlink(missing_ok=True)


def temporary_name(name: str) -> str:
    """A name for what is not finished, which no other process and no other thread takes."""
    return f"{TEMPORARY}{name}-{os.getpid()}-{next(_number)}"


def write_anew(folder: Path, name: str, data: Mapping[str, Any]) -> None:
    """Make a folder, or empty the one there but for its lock, and write its first record."""
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_file(folder / name) as temporary:
        temporary.write_text(as_text(data), encoding="utf-8")
        old = folder / temporary_name("old")
        old.mkdir()  # only now, when what is to come is on disk, does the old make room for it
        for path in list(folder.iterdir()):
            if path.name != LOCK and not path.name.startswith(TEMPORARY):
                path.rename(old / path.name)
    for left in folder.glob(f"{TEMPORARY}old-*"):
        shutil.rmtree(left, ignore_errors=True)


def cannot_store(error: BaseException) -> bool:
    """Whether an error says that something cannot be written for want of space or permission.

    Libraries that write files themselves say it in words of their own.
    """
    if isinstance(error, OSError):
        return (
            not isinstance(error, StorageError)
            and errno.errorcode.get(error.errno or 0) in _CANNOT_STORE
        )
    if isinstance(error, RuntimeError) and error.__context__ is not None:
        return cannot_store(error.__context__)  # PyTorch stumbles once more as it leaves
    return isinstance(error, Exception) and bool(
        re.search(r"os error (27|28|122)\b|StorageFull", str(error))
    )


def unwritten(path: Path, error: BaseException) -> StorageError:
    """The error for what could not be written."""
    if isinstance(error, RuntimeError) and error.__context__ is not None:
        error = error.__context__
    why = error.strerror if isinstance(error, OSError) else os.strerror(errno.ENOSPC)
    return StorageError(
        f"{path} cannot be written ({why}). What was there before is untouched. Make room or "
        f"choose another place, then run the same command again."
    )


def kept_at_home(name: str) -> Path:
    """A folder for what may be made again: in `$SEEHEAR_HOME`, or below the user's `.cache`.

    A user without a home, or with one where nothing can be written, as in many containers, gets a
    folder among the system's temporary ones, which is nobody else's.
    """
    if os.environ.get("SEEHEAR_HOME"):
        return Path(os.environ["SEEHEAR_HOME"]) / name
    with contextlib.suppress(RuntimeError, OSError):  # RuntimeError: the system knows of no home
        folder = Path.home() / ".cache" / "seehear"
        there = next(place for place in (folder, *folder.parents) if place.exists())
        if there.is_dir() and os.access(there, os.W_OK | os.X_OK):
            return folder / name
    folder = Path(tempfile.gettempdir()) / f"seehear-{os.getuid()}"
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    if folder.is_symlink() or not folder.is_dir() or folder.stat().st_uid != os.getuid():
        raise StorageError(
            f"{folder} is somebody else's. Set SEEHEAR_HOME to a folder that you may write."
        )
    return folder / name


def write_json(path: Path, data: Mapping[str, Any]) -> None:
    """Write data as indented JSON, atomically."""
    with atomic_file(path) as temporary:
        temporary.write_text(as_text(data), encoding="utf-8")


def as_text(data: Mapping[str, Any]) -> str:
    """Data as indented JSON."""
    return json.dumps(strict(data), indent=1, ensure_ascii=False) + "\n"


def strict(data: Any) -> Any:
    """Data with null for what is NaN or infinite, which JSON has no numbers for."""
    if isinstance(data, Mapping):
        return {key: strict(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [strict(value) for value in data]
    return None if isinstance(data, float) and not math.isfinite(data) else data


def sync(path: Path) -> None:
    """Have the operating system put a file or folder on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def versions() -> dict[str, Any]:
    """What a result may depend on: versions, commit, processor."""
    packages = {
        name: metadata.version(name) for name in ("torch", "numpy", "av", "pyarrow", "scikit-learn")
    }
    return {
        "seehear": metadata.version("seehear"),
        "commit": commit(),
        "python": platform.python_version(),
        "packages": packages,
        "machine": {
            "platform": platform.platform(),
            "processor": processor(),
            "cores": os.cpu_count(),
        },
    }


def commit() -> str | None:
    """The git commit of the source, with "+" if files differ from it; None without a checkout."""
    checkout = Path(__file__).parents[3]
    if not (checkout / ".git").exists():
        return None

    def git(*words: str) -> str:
        command, quiet = ["git", *words], subprocess.DEVNULL
        return subprocess.check_output(command, cwd=checkout, text=True, stderr=quiet).strip()

    try:
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def processor() -> str:
    """The processor's name where the system tells it."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def now() -> str:
    """The time in UTC, to the second."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def digest_of(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
