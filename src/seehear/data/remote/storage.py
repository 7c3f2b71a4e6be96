"""What is known of a file on another machine, what is in a folder there, and how do its bytes come
here? By fsspec.

fsspec and what it needs for each kind of address are the extra `remote`; they are imported when an
address is used.
"""

from __future__ import annotations

import email.utils
import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from seehear.data.remote.addresses import checked
from seehear.data.remote.retrying import persist
from seehear.errors import MediaError, UsageError

THREADS = 16
"""So many questions to other machines at once, where nothing but their answers is waited for."""

CONNECT_SECONDS, SILENT_SECONDS = 10, 30
"""A connection that takes longer to come about, or is silent for longer, has failed."""

_TIMES = (
    "LastModified",
    "Last-Modified",
    "updated",
    "mtime",
    "last_modified",
    "timeLastModified",
    "modified",
)
_TAGS = ("ETag", "etag", "md5Hash", "generation", "blob_id", "Content-MD5")
_MAX_FOLDERS = 100_000  # of one http folder: pages may link without an end

T = TypeVar("T")


@dataclass(frozen=True)
class Facts:
    """A file on another machine."""

    address: str  # of the file
    size: int | None  # in bytes; None where the server does not say
    # when it was changed last; a number made of its tag where the server does not say; otherwise 0
    modified_ns: int
    tag: str = ""  # changes with the content, where the server has such a thing


def facts_of(address: str) -> Facts:
    """What is known of one file.

    Raises:
        MediaError: it is not there, may not be read, cannot be reached, or is a folder.
    """
    system = file_system(address)
    info = persist(address, lambda: system.info(address))
    if info.get("type") == "directory":
        raise MediaError(address, "not a regular file", "a folder")
    return _facts(address, info)


def all_facts(addresses: Sequence[str]) -> Iterator[Facts | MediaError]:
    """What is known of many files, in their order, or why nothing is."""
    return in_threads(_facts_or_error, addresses)


def in_threads(function: Callable[[str], T], addresses: Iterable[str]) -> Iterator[T]:
    """What a function says of each address, in their order."""
    with ThreadPoolExecutor(THREADS, thread_name_prefix="remote") as pool:
        yield from pool.map(function, addresses)


def is_folder(address: str) -> bool:
    """Is there a folder and not a file? Of http addresses, those that end with a slash.

    Raises:
        MediaError: neither is there, or nothing can be known.
    """
    if address.startswith(("http://", "https://")):
        return address.endswith("/")
    system = file_system(address)
    return bool(persist(address, lambda: system.info(address))["type"] == "directory")


def files_below(folder: str) -> Iterator[tuple[str, Facts | None]]:
    """The files of a folder at any depth, in any order, with what the listing says of each.

    Nothing outside of the folder is among them, whatever a page links to.

    Raises:
        MediaError: the folder cannot be listed.
    """
    system = file_system(folder)
    if folder.startswith(("http://", "https://")):
        yield from ((address, None) for address in _linked_below(system, folder))
        return
    found: dict[str, Any] = persist(folder, lambda: system.find(folder, detail=True))
    scheme = folder.split("://", 1)[0]
    for name, info in found.items():
        address = f"{scheme}://{name}"
        if info.get("type") == "file" and _is_below(address, folder):
            yield address, _facts(address, info)


def read_text(address: str, limit_bytes: int) -> str:
    """A small text.

    Raises:
        MediaError: it cannot be had, is larger, or no UTF-8.
    """
    size = facts_of(address).size
    if size is not None and size > limit_bytes:
        raise MediaError(address, "absurd size", f"{size} bytes; the limit is {limit_bytes}")
    system = file_system(address)
    content: bytes = persist(address, lambda: system.cat_file(address))
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise MediaError(address, "unreadable", str(error)) from None


def download(facts: Facts, target: Path) -> None:
    """Write a whole file to a local path.

    Raises:
        MediaError: it cannot be had.
    """
    system = file_system(facts.address)

    def once() -> None:
        system.get_file(facts.address, str(target))
        found = target.stat().st_size
        if facts.size is not None and found != facts.size:
            raise ConnectionError(f"{found} of {facts.size} bytes came")

    persist(facts.address, once)


def read_range(address: str, start: int, end: int) -> bytes:
    """Some bytes of a file.

    Raises:
        MediaError: they cannot be had.
    """
    system = file_system(address)

    def once() -> bytes:
        content: bytes = system.cat_file(address, start=start, end=end)
        if len(content) > end - start:
            raise MediaError(
                address,
                "unreachable",
                "the server gives no parts of files; shards are read by parts",
            )
        if len(content) != end - start:
            raise ConnectionError(f"{len(content)} of {end - start} bytes came")
        return content

    return persist(address, once)


def file_system(address: str) -> Any:
    """What fsspec has for an address.

    Raises:
        UsageError: fsspec, or what it needs for this kind of address, is not installed.
    """
    scheme = address.split("://", 1)[0]
    try:
        import fsspec

        system = fsspec.filesystem(scheme, use_listings_cache=False, **_options(scheme))
    except ImportError as error:
        raise UsageError(
            f"{address} is on another machine, and what reads from there is not installed "
            f"({error}). Type: pip install 'seehear[remote]'"
        ) from None
    if scheme == "s3":
        system.retries = 1  # tries are counted here
    return system


def _options(scheme: str) -> dict[str, Any]:
    if scheme == "s3":
        patience = {"connect_timeout": CONNECT_SECONDS, "read_timeout": SILENT_SECONDS}
        return {"config_kwargs": {**patience, "retries": {"max_attempts": 1}}, "max_concurrency": 4}
    if scheme in ("http", "https"):
        import aiohttp

        patience_of = aiohttp.ClientTimeout(
            total=None, sock_connect=CONNECT_SECONDS, sock_read=SILENT_SECONDS
        )
        # "identity": the size that the server says is that of what comes.
        headers = {"Accept-Encoding": "identity", "User-Agent": "seehear"}
        return {"client_kwargs": {"timeout": patience_of, "trust_env": True, "headers": headers}}
    return {}


def _facts_or_error(address: str) -> Facts | MediaError:
    try:
        return facts_of(address)
    except MediaError as error:
        return error


def _facts(address: str, info: dict[str, Any]) -> Facts:
    size = info.get("size")
    tag = next((str(info[name]) for name in _TAGS if info.get(name)), "")
    moments = (_nanoseconds(info[name]) for name in _TIMES if info.get(name))
    modified_ns = next((moment for moment in moments if moment is not None), None)
    if modified_ns is None:
        modified_ns = int.from_bytes(hashlib.sha256(tag.encode()).digest()[:7], "big") if tag else 0
    return Facts(address, size if isinstance(size, int) else None, modified_ns, tag)


def _nanoseconds(moment: Any) -> int | None:
    """A moment, however a storage writes it, in ns since 1970."""
    if isinstance(moment, str):
        try:
            moment = datetime.fromisoformat(moment)
        except ValueError:
            try:
                moment = email.utils.parsedate_to_datetime(moment)
            except ValueError:
                return None
    if isinstance(moment, datetime):
        since = moment.replace(tzinfo=moment.tzinfo or UTC) - datetime(1970, 1, 1, tzinfo=UTC)
        return (since.days * 86400 + since.seconds) * 10**9 + since.microseconds * 1000
    return int(moment * 1e9) if isinstance(moment, int | float) else None


def _linked_below(system: Any, folder: str) -> Iterator[str]:
    """The files that the pages of an http folder link to."""
    waiting, seen = [folder], {folder}
    while waiting:
        page = waiting.pop()
        entries: list[dict[str, Any]] = persist(page, partial(system.ls, page, detail=True))
        for entry in entries:
            address = entry["name"]
            if address in seen or not _is_below(address, folder):
                continue
            if entry["type"] != "directory":
                seen.add(address)
                yield address
            elif len(seen) < _MAX_FOLDERS:
                seen.add(address)
                waiting.append(address)


def _is_below(address: str, folder: str) -> bool:
    """Whether an address that a listing gave is really in the folder."""
    try:
        return checked(address).startswith(folder.rstrip("/") + "/")
    except UsageError:
        return False
