"""What does an index say of itself, in index.json, and how is it read as the data that it is?

Others name files by it and count by it, and it may have been damaged or tampered with: everything
in it has a form, and `check` is the SHA-256 of all the rest.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from io import BufferedReader
from pathlib import Path
from typing import Any

from seehear.data.remote.addresses import is_remote
from seehear.errors import IndexFileError
from seehear.machine.files import write_json
from seehear.machine.outputs import is_empty_folder

FORMAT = 3
"""Of the folder; raised when an older program could not read it any more."""

PACKED_FORMAT = 4
"""Of the folder of a packed index (`packed`), whose segments lie in shards beside its table."""

PACKING = ".packing"
"""The folder in a packed index that is there until all of it is packed."""

UPDATE = ".update"
"""The folder in an index that holds its next state, while files are moved into place."""


def _is_digest(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch("sha256:[0-9a-f]{64}", value) is not None


def _is_shard(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and isinstance(value.get("name"), str)
        and re.fullmatch(r"shard-\d{5,}\.tar", value["name"]) is not None
        and type(value.get("bytes")) is int
        and isinstance(value.get("sha256"), str)
    )


_FORM: dict[str, Callable[[Any], object]] = {
    "digest": _is_digest,
    "files": lambda value: (
        isinstance(value, dict)
        and value.keys() == {"index.arrow", "rejected.parquet"}
        and all(map(_is_digest, value.values()))
    ),
    "rows": lambda value: type(value) is int and value >= 0,
    "videos": lambda value: type(value) is int and value >= 0,
    "root": lambda value: (
        isinstance(value, str) and (os.path.isabs(value) or is_remote(value)) and "\0" not in value  # noqa: PTH117
    ),
    "paths": lambda value: isinstance(value, list) and all(isinstance(path, str) for path in value),
    "shards": lambda value: (
        value is None or (isinstance(value, list) and all(map(_is_shard, value)))
    ),
    "shards_at": lambda value: value is None or (isinstance(value, str) and is_remote(value)),
    "settings": lambda value: (
        value is None
        or (
            isinstance(value, dict)
            and value.keys() <= {"segment_seconds", "min_seconds", "stills"}
            and all(isinstance(x, float | int) for x in value.values())
        )
    ),
    "segments": lambda value: value is None or isinstance(value, str),
    "rejected": lambda value: (
        isinstance(value, dict) and all(type(count) is int for count in value.values())
    ),
}
"""What is in index.json, by which others name files and count: it is data, and may have been
tampered with."""


def _to_be_indexed(folder: Path) -> str:
    """What to index, and where to: what somebody took for an index may hold videos, or a run."""
    if not folder.exists() or is_empty_folder(folder):
        return f"VIDEOS --out {folder}"
    is_videos = folder.is_dir() and not (folder / "run.json").exists()
    return f"{shlex.quote(str(folder)) if is_videos else 'VIDEOS'} --out INDEX"


def read_info(folder: Path) -> dict[str, Any]:
    """What is in an index's index.json.

    Raises:
        IndexFileError: there is none, or one of another format, or a damaged one.
    """
    try:
        with open_newest(folder, "index.json") as file:
            info = json.loads(file.read())
    except (FileNotFoundError, NotADirectoryError):
        what = "does not exist" if not folder.exists() else "is no index: it has no index.json"
        if (folder / PACKING).exists():
            raise IndexFileError(
                f"{folder} is not packed to the end. Go on with the same `seehear pack`."
            ) from None
        raise IndexFileError(
            f"{folder} {what}. Make one: seehear index {_to_be_indexed(folder)}"
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise damaged(folder, f"index.json cannot be read: {error}") from None
    if not isinstance(info, dict) or info.get("format") not in (FORMAT, PACKED_FORMAT):
        found = info.get("format") if isinstance(info, dict) else None
        raise IndexFileError(
            f"{folder} has index format {found}; this seehear reads {FORMAT} and {PACKED_FORMAT}. "
            "Install the version that made it, or make the index anew: seehear index VIDEOS --out "
            f"{folder} --overwrite"
        )
    for name, is_right in _FORM.items():
        if not is_right(info.get(name)):
            raise damaged(folder, f"{name} in index.json is {str(info.get(name))[:40]!r}")
    if info["format"] == PACKED_FORMAT and info.get("shards") is None:
        raise damaged(folder, "index.json names no shards")
    if info.pop("check", None) != _check_of(info):
        raise damaged(folder, "index.json is not as it was written")
    return info


def write_info(path: Path, info: Mapping[str, Any]) -> None:
    """Write index.json."""
    write_json(path, {**info, "check": _check_of(info)})


def _check_of(info: Mapping[str, Any]) -> str:
    content = json.dumps(dict(info), sort_keys=True).encode()
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def command(paths: Sequence[str], folder: Path, segments: str | None = None) -> str:
    """What to type to make or update an index."""
    listed = ["--segments", segments] if segments else []
    return shlex.join(["seehear", "index", *paths, *listed, "--out", str(folder)])


def damaged(folder: Path, what: str) -> IndexFileError:
    """The error for an index whose files are not what they should be."""
    is_packed = next(folder.glob("shard-*.tar"), None) is not None
    how = f"seehear {'pack INDEX' if is_packed else 'index VIDEOS'} --out {folder} --overwrite"
    return IndexFileError(
        f"The index {folder} is damaged: {' '.join(what.split())}. Make it anew: {how}"
    )


def open_newest(folder: Path, name: str) -> BufferedReader:
    """A file of the index, of an update that is on its way if there is one."""
    try:
        return (folder / UPDATE / name).open("rb")
    except (FileNotFoundError, NotADirectoryError):
        return (folder / name).open("rb")
