"""Was a folder made by seehear? Then videos in it are previews or copies of others, and no input.

`outputs` knows its own folders; the cache of remote files is known by its count of bytes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path

from seehear.machine.outputs import EXPORT, FEATURES, FINETUNE, INDEX, LABELS, REPORT, RUN

PREVIEWS = "previews"
"""The folder in runs and reports where their small films are."""

_KINDS = (RUN, INDEX, REPORT, FINETUNE, EXPORT, LABELS, FEATURES)
_PAIRS = (
    ("run.json", "log.jsonl"),
    ("index.json", "index.arrow"),
    ("index.html", "data/report.js"),
)


def is_ours(folder: str, names: Collection[str]) -> bool:
    """Did seehear make this folder, which holds these names?"""
    if any(kind.marker.split("/")[0] in names and kind.is_at(Path(folder)) for kind in _KINDS):
        return True
    return "lock" in names and "total" in names and _is_count(Path(folder, "total"))


def ours_among(addresses: Iterable[str], named: str) -> set[str]:
    """The folders that seehear made below a remote one, by the names of its files alone.

    The folder that a user named is none, whatever is in it; but its previews are.
    """
    there = set(addresses)
    found = set()
    for first, second in _PAIRS:
        folders = (
            address.removesuffix(f"/{first}") for address in there if address.endswith(f"/{first}")
        )
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


def _is_count(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(32).isdigit()
    except OSError:
        return False
