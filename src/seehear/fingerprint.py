"""Is this the index that a run began with, and if not, what changed?

A digest says that two indexes differ, and not in what. So a run records a few facts of each aspect of its index; a copy
would be as long as the list of files.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from seehear.indexing import Index

ASPECTS = {
    "files": "the list of files",
    "sizes": "the sizes of files",
    "segments": "the segments that files are cut into",
}


def fingerprint(index: Index) -> dict[str, Any]:
    """What a run records of its index, beside its place: digest, counts, settings, and a digest of each aspect."""
    first_rows = np.flatnonzero(np.diff(index.video, prepend=-1))
    names = hashlib.sha256("\0".join(index.original_names(first_rows).to_pylist()).encode())
    return {
        "digest": index.digest,
        "rows": len(index),
        "videos": index.num_videos,
        "settings": index.info.get("settings"),
        "root": index.info["root"],
        "files": names.hexdigest(),
        "sizes": _digest(index.file_bytes),
        "segments": _digest(index.start_s, index.seconds),
    }


def what_changed(before: Mapping[str, Any], index: Index) -> str:
    """In words, what differs between the index that `fingerprint` gave `before` and this one; never empty."""
    now = fingerprint(index)
    then = {**now, **before}  # of a run by an older program, what it did not record
    found = [f"{then[name]} {name} then, {now[name]} now" for name in ("rows", "videos") if then[name] != now[name]]
    old, new = then["settings"] or {}, now["settings"] or {}
    both = sorted(name for name in old.keys() & new.keys() if old[name] != new[name])
    found += [f"{name} was {old[name]:g} and is {new[name]:g}" for name in both]
    if then["root"] != now["root"]:
        found.append(f"its folder of videos was {then['root']} and is {now['root']}")
    found += [f"other than then: {words}" for name, words in ASPECTS.items() if then[name] != now[name]]
    return "; ".join(found) or f"its digest was {before['digest'][:19]}... and is {now['digest'][:19]}..."


def _digest(*columns: np.ndarray) -> str:
    digest = hashlib.sha256()
    for column in columns:
        digest.update(np.ascontiguousarray(column).tobytes())
    return digest.hexdigest()
