"""What does an index say of itself, in index.json, and how is it read as the data that it is?

Others name files by it and count by it, and it may have been tampered with: everything in it has a form.
"""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from seehear.errors import IndexFileError
from seehear.remote.addresses import is_remote

FORMAT = 1
"""Of the folder; raised when an older program could not read it any more."""

PACKED_FORMAT = 2
"""Of the folder of a packed index (`packed`), whose segments lie in shards beside its table."""

PACKING = ".packing"
"""The folder in a packed index that is there until all of it is packed."""

UPDATE = ".update"
"""The folder in an index that holds its next state, while files are moved into place."""

_FORM: dict[str, Callable[[Any], object]] = {
    "digest": lambda value: isinstance(value, str) and re.fullmatch("sha256:[0-9a-f]{64}", value),
    "rows": lambda value: type(value) is int and value >= 0,
    "videos": lambda value: type(value) is int and value >= 0,
    "root": lambda value: (
        isinstance(value, str) and (os.path.isabs(value) or is_remote(value)) and "\0" not in value  # noqa: PTH117
    ),
    "paths": lambda value: value is None or (isinstance(value, list) and all(isinstance(path, str) for path in value)),
    "shards_at": lambda value: value is None or (isinstance(value, str) and is_remote(value)),
    "settings": lambda value: (
        value is None
        or (
            isinstance(value, dict)
            and {"segment_seconds", "min_seconds"} <= value.keys()
            and all(isinstance(x, float | int) for x in value.values())
        )
    ),
    "rejected": lambda value: (
        value is None or (isinstance(value, dict) and all(type(count) is int for count in value.values()))
    ),
}
"""What is in index.json, by which others name files and count: it is data, and may have been tampered with."""


def read_info(folder: Path) -> dict[str, Any]:
    """What is in an index's index.json.

    Raises:
        IndexFileError: there is none, or one of another format, or a damaged one.
    """
    try:
        info = json.loads(read_bytes(folder, "index.json"))
    except (FileNotFoundError, NotADirectoryError):
        what = "does not exist" if not folder.exists() else "is no index: it has no index.json"
        if (folder / PACKING).exists():
            raise IndexFileError(f"{folder} is not packed to the end. Go on with the same `seehear pack`.") from None
        raise IndexFileError(f"{folder} {what}. Make one: seehear index VIDEOS --out {folder}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise damaged(folder, f"index.json cannot be read: {error}") from None
    if not isinstance(info, dict) or info.get("format") not in (FORMAT, PACKED_FORMAT):
        found = info.get("format") if isinstance(info, dict) else None
        raise IndexFileError(
            f"{folder} has index format {found}; this seehear reads {FORMAT} and {PACKED_FORMAT}. Install the version "
            f"that made it, or make the index anew: seehear index VIDEOS --out {folder} --overwrite"
        )
    for name, is_right in _FORM.items():
        if not is_right(info.get(name)):
            raise damaged(folder, f"{name} in index.json is {str(info.get(name))[:40]!r}")
    return info


def command(paths: Sequence[str], folder: Path) -> str:
    """What to type to make or update an index."""
    return shlex.join(["seehear", "index", *paths, "--out", str(folder)])


def damaged(folder: Path, what: str) -> IndexFileError:
    """The error for an index whose files are not what they should be."""
    return IndexFileError(
        f"The index {folder} is damaged: {what}. Make it anew: seehear index VIDEOS --out {folder} --overwrite"
    )


def read_bytes(folder: Path, name: str) -> bytes:
    """A file of the index, from an update that is on its way if there is one."""
    try:
        return (folder / UPDATE / name).read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return (folder / name).read_bytes()
