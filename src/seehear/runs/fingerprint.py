"""Is this the index that a run began with, and if not, what changed?

A digest says that two indexes differ, and not in what. So a run records a few facts of each aspect
of its index; a copy would be as long as the list of files.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from seehear.data.index import Index
from seehear.errors import IndexFileError, RunError
from seehear.machine.outputs import real
from seehear.runs.folder import Run

ASPECTS = {
    "files": "the list of files",
    "sizes": "the sizes of files",
    "segments": "the segments that files are cut into",
}


def fingerprint(index: Index) -> dict[str, Any]:
    """What a run records of its index: digest, counts, settings, a digest of each aspect."""
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


def place_of(index: Index, run: Path) -> dict[str, str]:
    """Where an index is, for the record of a run: the way there from the run, and the place itself.

    So either may be moved alone, or both together. Where they have only the root in common, there
    is no such way.
    """
    here, there = real(run), real(index.folder)
    shared = os.path.commonpath([here, there]) != os.sep
    return {"path": os.path.relpath(there, here) if shared else str(there), "absolute": str(there)}


def index_of_run(run: Run, given: str | os.PathLike[str] | None = None) -> Index:
    """The index that a run was trained on: the one given, or where the record says it is.

    Raises:
        RunError: it is not there.
        IndexFileError: it is, and is another one, or damaged.
    """
    digest = run.field("index", "digest")
    places = [Path(given)] if given is not None else places_of(run)
    there = [place for place in places if (place / "index.json").exists()]
    if not there and given is None:
        raise RunError(
            f"{places[0]}, the index that {run.path} was trained on, is not there. Name it with "
            "--index (of search: --in), or bring it back."
        )
    opened = [Index.open(place).of_split(split_of(run)) for place in there or places]
    fitting = [index for index in opened if index.digest == digest]
    if not fitting:
        rows = run.record["index"].get("rows")
        raise IndexFileError(
            f"{opened[0].folder} has changed since {run.path} was trained on it, or is another "
            f"index ({rows} rows then, {len(opened[0])} now). Name the run's with --index (of "
            "search: --in), or search another gallery."
        )
    return fitting[0]


def split_of(run: Run) -> str:
    """The split of its index that a run trains on alone; empty for all rows."""
    split = (run.record.get("settings") or {}).get("data", {}).get("split", "")
    return split if isinstance(split, str) else ""


def places_of(run: Run) -> list[Path]:
    """Where the index of a run may be, the likeliest first."""
    record = run.field("index")
    texts = [
        text
        for text in (record.get("path"), record.get("absolute"))
        if isinstance(text, str) and text
    ]
    if not texts:
        run.field("index", "path")
    return [run.path / texts[0], *(Path(text) for text in texts)]


def what_changed(before: Mapping[str, Any], index: Index) -> str:
    """What differs between the index that `fingerprint` gave `before` and this; never empty."""
    now = fingerprint(index)
    then = {**now, **before}  # of a run by an older program, what it did not record
    found = [
        f"{then[name]} {name} then, {now[name]} now"
        for name in ("rows", "videos")
        if then[name] != now[name]
    ]
    old, new = then["settings"] or {}, now["settings"] or {}
    both = sorted(name for name in old.keys() & new.keys() if old[name] != new[name])
    found += [f"{name} was {old[name]:g} and is {new[name]:g}" for name in both]
    if then["root"] != now["root"]:
        found.append(f"its folder of videos was {then['root']} and is {now['root']}")
    found += [
        f"other than then: {words}" for name, words in ASPECTS.items() if then[name] != now[name]
    ]
    return (
        "; ".join(found)
        or f"its digest was {before['digest'][:19]}... and is {now['digest'][:19]}..."
    )


def _digest(*columns: np.ndarray) -> str:
    digest = hashlib.sha256()
    for column in columns:
        digest.update(np.ascontiguousarray(column).tobytes())
    return digest.hexdigest()
