"""Where are the videos of an index that was moved? Where they were, or as far from the index as
they were then.

An index records the folder that its paths are relative to, and the way there from the index itself.
So index and videos may be moved together. Where the videos alone have moved, `seehear index` with
their new place is told where they are.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from seehear.data.remote import is_remote
from seehear.data.remote.addresses import joined
from seehear.errors import IndexFileError

if TYPE_CHECKING:
    from seehear.data.index.table import Index

ASKED = 3  # files that are looked for at a place


def way_to(root: str, folder: Path) -> str | None:
    """The way from an index to its videos' folder; None where only the root is in common."""
    here = os.path.abspath(folder)  # noqa: PTH100
    if is_remote(root) or os.path.commonpath([root, here]) == os.sep:
        return None
    return os.path.relpath(root, here)


def at_its_videos(folder: Path, info: dict[str, Any], names: pa.Array) -> dict[str, Any]:
    """What is in index.json, with root and paths as they are now; `names` are below the root."""
    way, root = info.get("way_to_root"), info["root"]
    if not isinstance(way, str) or is_remote(root) or are_there(root, names):
        return info
    now = os.path.normpath(os.path.join(os.path.abspath(folder), way))  # noqa: PTH100, PTH118
    return at_root(info, now) if are_there(now, names) else info


def at_root(info: Mapping[str, Any], root: str) -> dict[str, Any]:
    """What is in index.json, with its videos below another folder."""
    paths = [
        root + path.removeprefix(info["root"]) if path.startswith(info["root"]) else path
        for path in info["paths"]
    ]
    return {**info, "root": root, "paths": paths}


def told(old: Index, named: list[str], root: str) -> dict[str, Any]:
    """What is in index.json, with the videos below the `root` of paths named now, if there."""
    names = old.original_names(np.arange(0, len(old), max(1, len(old) // ASKED)))
    if (
        is_remote(old.info["root"])
        or os.path.lexists(old.info["root"])
        or not are_there(root, names)
    ):
        return old.info
    return at_root(old.info, root) | {"paths": named}


def are_there(root: str, names: pa.Array) -> bool:
    """Whether any of a few videos is below a folder."""
    chosen = {0, len(names) // 2, len(names) - 1} if len(names) else set()
    found = [names[i].as_py() for i in sorted(chosen)[:ASKED]]
    return any(
        os.path.lexists(joined(root, name))
        for name in found
        if "\0" not in name and not is_remote(name)
    )


def check_root(folder: Path, info: Mapping[str, Any]) -> None:
    """Raise IndexFileError where the folder of all videos is gone."""
    root = info["root"]
    if is_remote(root) or os.path.isdir(root):  # noqa: PTH112
        return
    raise IndexFileError(
        f"The videos of the index {folder} were in {root}, which is not there. Where are they now? "
        f"seehear index FOLDER --out {folder} takes their new folder, and keeps rows and digest."
    )
