"""Which files hold the same bytes? Only those of one size are read, of most only the beginning."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from seehear.data.remote.addresses import is_remote
from seehear.machine.files import digest_of

_BEGINNING_BYTES = 2**16


def same_bytes(sizes: Mapping[str, int]) -> list[list[str]]:
    """Groups of files on this machine that are the same byte for byte, sorted; none is alone.

    `sizes` has path -> bytes. What is elsewhere, or cannot be read, is like no other.
    """
    keys: list[Callable[[str], Hashable]] = [sizes.__getitem__, _beginning, _whole]
    groups: Iterable[list[str]] = [[path for path in sizes if not is_remote(path)]]
    for key in keys:
        groups = [part for group in groups for part in _parted(group, key)]
    return sorted(map(sorted, groups))


def _parted(paths: list[str], key: Callable[[str], Hashable]) -> list[list[str]]:
    found: dict[Hashable, list[str]] = defaultdict(list)
    for path in paths:
        with suppress(OSError):
            found[key(path)].append(path)
    return [group for group in found.values() if len(group) > 1]


def _beginning(path: str) -> bytes:
    with Path(path).open("rb") as file:
        return hashlib.sha256(file.read(_BEGINNING_BYTES)).digest()


def _whole(path: str) -> str:
    return digest_of(Path(path))
