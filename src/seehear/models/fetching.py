"""How does a released file come here? Downloaded once, resumed where it broke off, then checked.

The bytes go to `NAME.part`, which a later call goes on with (HTTP Range), whoever made it. Only
when the SHA-256 is right does the file get its name, so that what is in the cache is whole. A lock
keeps processes from writing at once.
"""

from __future__ import annotations

import errno
import http.client
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from seehear.errors import CheckpointError, SeehearError
from seehear.machine.console import Console
from seehear.machine.files import digest_of, kept_at_home, sync
from seehear.machine.locks import flock
from seehear.models.released import Released, find

CHUNK_BYTES = 1 << 20
AGENT = "seehear"
FINAL_STATUSES = frozenset({400, 401, 403, 404, 410, 451})  # asking again would not help

# no fault of the network
OUR_DISK = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS})


class _Passing(Exception):
    """Something that may go better next time."""


def weights_folder() -> Path:
    """Where downloads are kept: `weights` in `$SEEHEAR_HOME` or `~/.cache/seehear`."""
    return kept_at_home("weights")


def fetch(
    name: str | Released,
    cache: str | Path | None = None,
    *,
    console: Console | None = None,
    tries: int = 4,
    pause_s: float = 1.0,
    timeout_s: float = 30.0,
) -> Path:
    """The file of released weights, downloaded if it is not in the cache.

    Args:
        name: of released weights (`seehear weights list`), or an entry of your own.
        cache: the folder; `weights_folder()` by default.
        console: where progress is shown; stderr by default.
        tries: so many connections may fail in a row without a byte having come.
        pause_s: before the second of them; doubled each time.
        timeout_s: a connection that is silent for so long has failed.
    Raises:
        UsageError: there are no such weights.
        SeehearError: no network, or the server does not have the file; what was loaded stays for
            the next call.
        CheckpointError: the file came whole, but is another one than was published.
    """
    released = name if isinstance(name, Released) else find(name)
    folder = Path(cache) if cache is not None else weights_folder()
    path, part = folder / released.file, folder / f"{released.file}.part"
    if path.exists():
        return path
    folder.mkdir(parents=True, exist_ok=True)
    with console or Console() as shown, locked(folder / f"{released.file}.lock", shown):
        if not path.exists():  # another process may have been faster
            shown.say(f"downloading {released.url} -> {folder}")
            try:
                fill(part, released.url, shown, tries, pause_s, timeout_s)
            except _Passing as error:
                raise SeehearError(
                    f"{released.url} could not be downloaded ({error}). What came so far is kept; "
                    f"try again, or load the file elsewhere and give its path instead of "
                    f"{released.name}."
                ) from None
            check_hash(part, released)
            sync(part)
            part.replace(path)
    return path


def fill(
    part: Path, url: str, console: Console, tries: int, pause_s: float, timeout_s: float
) -> None:
    """Download to `part`, going on from what it has; only tries that brought no byte count."""
    failed = 0
    while True:
        before = bytes_in(part)
        try:
            return transfer(url, part, console, timeout_s)
        except (_Passing, OSError, http.client.HTTPException) as error:
            if isinstance(error, OSError) and error.errno in OUR_DISK:
                raise
            failed = 0 if bytes_in(part) > before else failed + 1
            if failed >= tries:
                raise _Passing(reason_of(error)) from None
            time.sleep(pause_s * 2 ** max(0, failed - 1))


def bytes_in(part: Path) -> int:
    """How much of a file has come."""
    return part.stat().st_size if part.exists() else 0


def transfer(url: str, part: Path, console: Console, timeout_s: float) -> None:
    """One connection: append to `part` what it lacks; _Passing where another may help."""
    have = bytes_in(part)
    headers = {"User-Agent": AGENT, **({"Range": f"bytes={have}-"} if have else {})}
    request = urllib.request.Request(url, headers=headers)
    try:
        response = urllib.request.urlopen(request, timeout=timeout_s)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416 and have:  # nothing comes after what we have
            if error.headers.get("Content-Range", "").endswith(f"/{have}"):
                return
            part.unlink()
            raise _Passing("the part file was of another length; starting again") from None
        if error.code in FINAL_STATUSES:
            raise SeehearError(
                f"{url} could not be downloaded: the server says {error.code} {error.reason}. "
                f"Load the file elsewhere and give its path."
            ) from None
        raise _Passing(f"the server says {error.code} {error.reason}") from None
    with response:
        span = response.headers.get("Content-Range", "")
        goes_on = response.status == 206 and span.startswith(f"bytes {have}-")
        receive(response, part, have if goes_on else 0, console)


def receive(response: Any, part: Path, have: int, console: Console) -> None:
    """Write a response's body to `part` from byte `have` on; it must be as long as announced."""
    announced = response.headers.get("Content-Length")
    total = have + int(announced) if announced is not None else 0
    count = console.watch("downloading (MB)", total // 1_000_000)
    with part.open("ab" if have else "wb") as file:
        while chunk := response.read(CHUNK_BYTES):
            file.write(chunk)
            have += len(chunk)
            count(have // 1_000_000)
    if total and have < total:
        raise _Passing(f"the connection broke off after {have} of {total} bytes")


def check_hash(part: Path, released: Released) -> None:
    """Raise CheckpointError, and remove the file, if it is not the one that was published."""
    found = digest_of(part)
    if not found.startswith(released.sha256):
        part.unlink()
        raise CheckpointError(
            f"{released.url} gave a file whose SHA-256 begins with {found[:8]}, not "
            f"{released.sha256}: it is not what was published (a proxy's page, perhaps). It was "
            f"removed."
        )


def reason_of(error: BaseException) -> str:
    """Why a connection failed, in a few words."""
    if isinstance(error, urllib.error.URLError):
        error = error.reason if isinstance(error.reason, BaseException) else error
    if isinstance(error, http.client.IncompleteRead):
        return "the connection broke off"
    return str(error) or type(error).__name__


@contextmanager
def locked(path: Path, console: Console) -> Iterator[None]:
    """Hold a lock file, waiting for another process that holds it."""
    with path.open("w") as file:
        try:
            flock(file.fileno(), waits=False)
        except BlockingIOError:
            console.say(f"waiting for another process that downloads {path.stem}")
            flock(file.fileno())
        yield
