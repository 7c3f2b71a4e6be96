"""Was a folder made by seehear? Then the videos in it are previews or copies of others, and no input.

Runs, indexes and packed indexes are known by the record in them, reports by their page, the cache of remote files by
its count of bytes.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from pathlib import Path

PREVIEWS = "previews"
"""The folder in runs and reports where their small films are."""

_RECORDS = ("run.json", "index.json")
_RECORD_BYTES = 2**16  # of a record are enough to know it
_PAIRS = (("run.json", "log.jsonl"), ("index.json", "index.arrow"), ("index.html", "data/report.js"))
_OURS = re.compile(rb'"format"\s*:.*("seehear"\s*:|"digest"\s*:\s*"sha256:)', re.DOTALL)


def is_ours(folder: str, names: Collection[str]) -> bool:
    """Did seehear make this folder?

    Args:
        folder: its path.
        names: what is in it.
    """
    if any(name in names and _OURS.search(_begin(folder, name)) for name in _RECORDS):
        return True
    if "lock" in names and "total" in names and _begin(folder, "total").isdigit():
        return True
    return "index.html" in names and "data" in names and Path(folder, "data", "report.js").is_file()


def ours_among(addresses: Iterable[str], named: str) -> set[str]:
    """The folders that seehear made, by the names of all files below a remote one; to look into them costs requests.

    Args:
        addresses: of the files.
        named: the folder that a user named, which is none, whatever is in it; but its previews are.
    """
    there = set(addresses)
    found = set()
    for first, second in _PAIRS:
        folders = (address.removesuffix(f"/{first}") for address in there if address.endswith(f"/{first}"))
        found |= {folder for folder in folders if f"{folder}/{second}" in there}
    named = named.rstrip("/")
    return found - {named} | ({f"{named}/{PREVIEWS}"} if named in found else set())


def folder_of(address: str, folders: Collection[str]) -> str | None:
    """Which of some folders an address is in."""
    while "/" in address:
        address = address.rsplit("/", 1)[0]
        if address in folders:
            return address
    return None


def _begin(folder: str, name: str) -> bytes:
    try:
        with Path(folder, name).open("rb") as file:
            return file.read(_RECORD_BYTES)
    except OSError:
        return b""
