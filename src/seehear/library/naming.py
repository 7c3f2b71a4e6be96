"""What did a person call the clusters? `names.json` in the run's folder; without it clusters have numbers only.

{"format": 1, "names": {"video": {"3": "rain"}, "audio": {}, "joint": {}}}
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from seehear.errors import RunError

FILE = "names.json"
FORMAT = 1

Names = dict[str, dict[int, str]]  # clustering -> cluster -> name


def read_names(run: Path, sizes: Mapping[str, int]) -> Names:
    """The names of a run's clusters; a clustering or cluster without a name is not in it.

    Args:
        run: the run's folder.
        sizes: clustering -> how many clusters it has.
    Raises:
        RunError: the file is there and malformed, or names clusters that the run does not have.
    """
    path = run / FILE
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {name: {} for name in sizes}
    except (OSError, ValueError) as error:
        raise wrong(path, f"it cannot be read as JSON ({error})") from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        found = content.get("format") if isinstance(content, dict) else None
        raise wrong(path, f"its format is {found}; this seehear reads {FORMAT}")
    names = content.get("names")
    if not isinstance(names, dict):
        raise wrong(path, 'it has no object "names"')
    for name in names:
        if name not in sizes:
            raise wrong(path, f"the run has no clustering {name!r}, only {', '.join(sizes)}")
    return {name: names_of(path, name, names.get(name, {}), size) for name, size in sizes.items()}


def names_of(path: Path, clustering: str, found: Any, num_clusters: int) -> dict[int, str]:
    """The names of one clustering, checked."""
    if not isinstance(found, dict):
        raise wrong(path, f"{clustering} is no object of cluster numbers and names")
    checked = {}
    for key, value in found.items():
        if not key.isdecimal() or int(key) >= num_clusters:
            raise wrong(path, f"{clustering} names a cluster {key!r}; there are 0 to {num_clusters - 1}")
        if not isinstance(value, str):
            raise wrong(path, f"the name of {clustering} cluster {key} is {value!r}, which is no text")
        if value.strip():
            checked[int(key)] = value.strip()
    return checked


def label_of(names: Names, clustering: str, cluster: int) -> str:
    """What to call a cluster: its name, or "video 3"."""
    return names[clustering].get(cluster) or f"{clustering} {cluster}"


def wrong(path: Path, what: str) -> RunError:
    """The error to raise about a file of names."""
    return RunError(f"{path} is malformed: {what}. Correct it, or move it away to go on without names.")
