"""What do people call the clusters, and which segments? `names.json` in a run's folder, which the
report writes.

    {"format": 1, "names": {"video": {"3": "rain"}, "audio": {"0": "dog"}},
     "ticks": {"rain": {"12": true, "40": false}}}

Clusterings by name (video, audio, joint), in each the cluster's number as text, and its name: 1 to
80 characters. Ticks are of single segments, by row: true for what is called so, false for what is
not; a file need not have any.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from seehear.machine.files import digest_of, write_json
from seehear.machine.reading import CLUSTERING, readable

FILE, CORRECT = "names.json", "Correct it, or move it away."
FORMAT = 1
LONGEST = 80  # characters of one name

Names = dict[str, dict[int, str]]
Ticks = dict[str, dict[int, bool]]  # name -> row -> whether it is called so


def read_names(run: Path, sizes: Mapping[str, int] | None = None) -> Names:
    """The names given to a run's clusters: clustering -> cluster -> name; empty if none.

    They are checked against the number of clusters by clustering, if given. Raises RunError where
    the file is not what it should be, or names clusters that the run does not have.
    """
    with readable(run / FILE, CORRECT):
        names = checked_names(_read(run / FILE))
        if sizes is not None:
            check_clusters(names, sizes)
    return {
        clustering: names.get(clustering, {}) for clustering in (names if sizes is None else sizes)
    }


def read_ticks(run: Path) -> Ticks:
    """The segments that were said to be something, or not: name -> row -> which.

    Raises:
        RunError: the file is there and is not what it should be.
    """
    with readable(run / FILE, CORRECT):
        return checked_ticks(_read(run / FILE))


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return as_json({}, {})


def version_of(run: Path) -> str:
    """By what a file of names is told from another one; empty where there is none."""
    return digest_of(run / FILE) if (run / FILE).is_file() else ""


def check_clusters(names: Names, sizes: Mapping[str, int]) -> None:
    """Raise ValueError for the name of a cluster that is not there."""
    for clustering, of in names.items():
        if clustering not in sizes:
            raise ValueError(f"the run has no clustering {clustering}, only {', '.join(sizes)}")
        if of and max(of) >= sizes[clustering]:
            raise ValueError(
                f"{clustering} has clusters 0 to {sizes[clustering] - 1}, and {max(of)} is named"
            )


def label_of(names: Names, clustering: str, cluster: int) -> str:
    """What to call a cluster: its name, or "video 3"."""
    return names[clustering].get(cluster) or f"{clustering} {cluster}"


def write_names(run: Path, names: Names, ticks: Ticks | None = None) -> Path:
    """Write `names.json`, whole or not at all; names of no characters are left out."""
    path = run / FILE
    write_json(path, as_json(names, ticks or {}))
    return path


def as_json(names: Names, ticks: Ticks) -> dict[str, Any]:
    """Names and ticks as the file holds them."""
    some = {
        name: {str(row): of[row] for row in sorted(of)} for name, of in sorted(ticks.items()) if of
    }
    return {
        "format": FORMAT,
        **({"ticks": some} if some else {}),
        "names": {
            clustering: {str(number): name for number, name in sorted(of.items()) if name}
            for clustering, of in sorted(names.items())
        },
    }


def checked_names(data: Any) -> Names:
    """Names out of what was read from JSON.

    Raises:
        ValueError: it is not in the format.
    """
    is_ours = isinstance(data, Mapping) and data.get("format") == FORMAT
    if not is_ours or not isinstance(data.get("names"), Mapping):
        raise ValueError(f'it is not {{"format": {FORMAT}, "names": ...}}')
    names: Names = {}
    for clustering, of in data["names"].items():
        if not isinstance(of, Mapping):
            raise ValueError(f"the names of {clustering!r} are no object")
        if not re.fullmatch(CLUSTERING, clustering):
            raise ValueError(f"{clustering!r} is no clustering")
        names[clustering] = {}
        for number, name in of.items():
            if not (number.isascii() and number.isdigit() and len(number) < 9):
                raise ValueError(f"{number!r} is no number of a cluster")
            if text := _text(name, f"the name of {clustering} {number}"):
                names[clustering][int(number)] = text
    return names


def checked_ticks(data: Any) -> Ticks:
    """Ticks out of what was read from JSON, which need not have any.

    Raises:
        ValueError: they are not in the format.
    """
    found = data.get("ticks", {}) if isinstance(data, Mapping) else None
    if not isinstance(found, Mapping):
        raise ValueError("the ticks are no object")
    ticks: Ticks = {}
    for name, of in found.items():
        if not isinstance(of, Mapping) or not all(isinstance(value, bool) for value in of.values()):
            raise ValueError(f"the ticks of {name!r} are not true or false by row")
        if not all(row.isascii() and row.isdigit() and len(row) < 12 for row in of):
            raise ValueError(f"the ticks of {name!r} are not by the numbers of rows")
        if text := _text(name, "what is ticked"):
            ticks.setdefault(text, {}).update({int(row): value for row, value in of.items()})
    return ticks


def _text(name: Any, what: str) -> str:
    """A name in one line; ValueError where it cannot be one."""
    if not isinstance(name, str) or len(name) > LONGEST:
        raise ValueError(f"{what} is not a text of at most {LONGEST} characters")
    name.encode()  # half of a surrogate pair is no text; UnicodeEncodeError is a ValueError
    return " ".join(name.split())
