"""How is a file on another machine read like one on this disk? By a copy in a bounded cache.

    with local("s3://bucket/videos/a.mp4") as path:     # of a copy, or the path itself
        ...

Only `addresses.SCHEMES` are remote, and only where a path itself is such an address: nothing inside
a media file is followed (`seehear.data.media`). A copy has the size and the time of change of its
original. Of a shard (`media.members`) only the wanted member is fetched.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from seehear.data.media import Member
from seehear.data.media import stamp as local_stamp
from seehear.data.media.members import HEADER_BYTES, parse
from seehear.data.remote.addresses import SCHEMES, absolute, file_name, is_remote
from seehear.data.remote.cache import Cache
from seehear.data.remote.storage import Facts, download, facts_of, read_range
from seehear.errors import MediaError, SettingsError
from seehear.machine.files import kept_at_home

__all__ = [
    "CACHE_GIGABYTES",
    "FETCH_SECONDS",
    "SCHEMES",
    "absolute",
    "cache_folder",
    "cache_gigabytes",
    "is_remote",
    "local",
    "stamp",
]

CACHE_GIGABYTES = 20.0

FETCH_SECONDS = 1800.0
"""So long may fetching one file take, on top of the time limit for decoding it."""

KNOWN_SECONDS = 600.0
"""A process asks again after so long whether an original is still as it was."""

_MOST_KNOWN = 100_000
_known: dict[str, tuple[float, Facts]] = {}  # address -> when it was asked about, and the answer
_knowing = threading.Lock()


@contextlib.contextmanager
def local(path: str | os.PathLike[str], gigabytes: float = -1.0) -> Iterator[str]:
    """A local path with the content of a path or an address, for as long as the block lasts.

    The cache may hold so many `gigabytes`; -1 is `cache_gigabytes()`.

    Raises:
        MediaError: it cannot be fetched. One that the block raises is about the original.
    """
    path = os.fspath(path)
    if not is_remote(path):
        yield path
        return
    with _copy(path, gigabytes) as copy:
        try:
            yield str(copy)
        except MediaError as error:
            if error.path != str(copy):
                raise
            raise MediaError(path, error.reason, error.detail) from None


def stamp(path: str | os.PathLike[str]) -> tuple[int, int]:
    """Size in bytes and last change in ns, as `seehear.data.media.stamp`, of an address too.

    Raises:
        OSError: there is no such local file.
        MediaError: there is no such remote file, or it cannot be reached; or a member is not where
            its path says.
    """
    path = os.fspath(path)
    if not is_remote(path):
        return local_stamp(path)
    member = parse(path)
    if member is not None:
        return member.size, 0
    facts = _facts(path)
    return facts.size or 0, facts.modified_ns


def cache_folder() -> Path:
    """Where copies are: `$SEEHEAR_CACHE`, or `remote` in `$SEEHEAR_HOME` (~/.cache/seehear)."""
    folder = os.environ.get("SEEHEAR_CACHE")
    return Path(folder) if folder else kept_at_home("remote")


def cache_gigabytes() -> float:
    """How much the cache may hold, in 10^9 bytes: `$SEEHEAR_CACHE_GIGABYTES`, or 20.

    Raises:
        SettingsError: it is no number, or negative.
    """
    text = os.environ.get("SEEHEAR_CACHE_GIGABYTES", "") or str(CACHE_GIGABYTES)
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1e9:
        raise SettingsError(
            f"SEEHEAR_CACHE_GIGABYTES is {text!r}. It must be a number of at least 0; 20 is usual."
        )
    return value


@contextlib.contextmanager
def _copy(path: str, gigabytes: float) -> Iterator[Path]:
    cache, member = _cache(gigabytes), parse(path)
    facts = _facts(member.shard if member else path)
    if member is None and facts.size == 0:
        raise MediaError(path, "empty file")
    size, modified_ns = (member.size, 0) if member else (facts.size, facts.modified_ns)
    fetch = partial(_fetch_member, member, facts) if member else partial(download, facts)
    with contextlib.ExitStack() as stack:
        try:
            copy = stack.enter_context(cache.copy(_key(path, facts), size, modified_ns, fetch))
        except MediaError:
            _known.pop(facts.address, None)  # it is not as it was known
            raise
        except OSError as error:
            why = f"the cache {cache.folder} cannot be used: {error.strerror or error}"
            raise MediaError(path, "unreachable", why) from None
        yield copy


def _cache(gigabytes: float) -> Cache:
    return Cache(cache_folder(), int((cache_gigabytes() if gigabytes < 0 else gigabytes) * 1e9))


def _facts(address: str) -> Facts:
    """What is known of a file, asked for once in a while."""
    then, old = _known.get(address, (0.0, None))
    if old is not None and time.monotonic() - then < KNOWN_SECONDS:
        return old
    try:
        new = facts_of(address)
    except MediaError as error:
        if error.reason == "unreachable" and old is not None:
            return old  # the copy in the cache serves as well
        raise
    with _knowing:
        if len(_known) >= _MOST_KNOWN:
            _known.clear()
        _known[address] = (time.monotonic(), new)
    return new


def _key(path: str, facts: Facts) -> str:
    """The name of a copy, new for each version of the original, with its ending for decoders."""
    version = f"{path}\n{facts.size}\n{facts.modified_ns}\n{facts.tag}"
    name = parse(path)
    ending = re.fullmatch(
        r".*(\.[A-Za-z0-9]{1,8})", name.name if name else file_name(path), re.DOTALL
    )
    return hashlib.sha256(version.encode()).hexdigest()[:40] + (ending[1].lower() if ending else "")


def _fetch_member(member: Member, shard: Facts, target: Path) -> None:
    """Write one member of a shard to a local path, once the header in front of it is checked."""
    end = member.offset + member.size
    if shard.size is not None and shard.size < end:
        raise MediaError(member.path, "truncated", f"the shard has {shard.size} bytes")
    first = max(0, member.offset - HEADER_BYTES)
    content = read_range(shard.address, first, end)
    member.check_header(content[: member.offset - first])
    target.write_bytes(content[member.offset - first :])
