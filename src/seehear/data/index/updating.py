"""Is there an index already, may this command update it, and what of it can be kept?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seehear.data.index.chosen import UNLISTED, UNUSABLE, SegmentList
from seehear.data.index.discovery import common_root, is_within
from seehear.data.index.examination import Rejection
from seehear.data.index.files import Files
from seehear.data.index.info import PACKING, command, read_info
from seehear.data.index.merging import numbers_of
from seehear.data.index.moved import told
from seehear.data.index.rejected import Rejected, unusable
from seehear.data.index.table import Index
from seehear.data.index.writing import finish_update
from seehear.errors import UsageError
from seehear.machine.outputs import INDEX, check_place, is_empty_folder, is_like_index

_LOOK_AGAIN = {"timed out", "crashed the decoder", "no permission", "not found", "unreachable"}
_LOOK_AGAIN |= {UNLISTED, UNUSABLE}
"""Reasons that may be the machine's fault, or that another list of segments does away with."""


@dataclass(frozen=True)
class Before:
    """An index as it was; without `info` where there is none."""

    info: dict[str, Any] = field(default_factory=dict)
    index: Index | None = None
    rejected: list[Rejected] = field(default_factory=list)


def open_old(
    folder: Path, settings: Mapping[str, float], segments: SegmentList | None, named: list[str]
) -> Before:
    """The index that is to be updated, if there is one; `settings` are those that are given.

    Raises:
        UsageError: it was made in another way, or of paths that are not named now.
    """
    if not (folder / "index.json").exists():
        return Before()
    finish_update(folder)  # that an earlier process could not
    info = read_info(folder)
    if info.get("settings") is None:  # a copy of a packed one, whose shards are elsewhere
        raise UsageError(
            f"{folder} holds a packed index. Choose another --out; nothing was touched."
        )
    if (segments is None) != (info.get("segments") is None):
        was = f"with --segments {info['segments']}" if segments is None else "without --segments"
        raise UsageError(
            f"{folder} was made {was}. Do the same, take another --out, or --overwrite to make "
            "the index anew."
        )
    for name, before in info["settings"].items():
        value = settings.get(name, before)
        if before != value:
            raise UsageError(
                f"{folder} was made with {name} = {before:g}, now it is {value:g}. Take the same "
                "value, another --out, or --overwrite to make the index anew."
            )
    old = Index.open(folder)
    info = told(old, named, common_root(named))
    missing = [path for path in info["paths"] if not any(is_within(path, new) for new in named)]
    if missing:
        add = command(sorted({*info["paths"], *named}), folder, info.get("segments"))
        raise UsageError(
            f"{folder} holds videos of {', '.join(missing)}, which this command does not name, so "
            f"all of them would be dropped. To add to the index: {add}. To make it anew, add "
            "--overwrite."
        )
    old = old.with_info(info)
    return Before(info, old, old.rejected_files())


def check_free(folder: Path) -> None:
    """Raise UsageError where something lies in the way of an index."""
    if (folder / PACKING).exists() or next(folder.glob("shard-*.tar"), None) is not None:
        raise UsageError(
            f"{folder} holds a packed index. Choose another --out; nothing was touched."
        )
    check_place(folder, "Choose another --out; nothing was touched.")
    if not folder.exists() or is_empty_folder(folder):
        return
    if not INDEX.is_at(folder) and not is_like_index(folder):
        raise UsageError(
            f"{folder} exists and is no index. Choose another --out; nothing was touched."
        )
    for name in ("index.json", "index.arrow", "rejected.parquet"):
        if (folder / name).is_dir() or (folder / name).is_symlink():
            raise UsageError(
                f"{folder / name} is no file of an index. Move it away; nothing was touched."
            )


def what_is_known(
    files: Files, before: Before
) -> tuple[NDArray[np.int32], list[Rejected], NDArray[np.bool_]]:
    """Old files that are as they were, by number; what cannot be used; which are to be opened."""
    is_waiting_N = np.ones(len(files), np.bool_)
    rejected: list[Rejected] = []
    old = {(f.path, f.file_bytes, f.modified_ns): f for f in before.rejected}
    for number, file in enumerate(files):
        again = old.get((file.path, file.file_bytes, file.modified_ns))
        if reason := file.failure or unusable(file.path):
            rejected.append(Rejected.of(file, Rejection(reason, file.detail)))
        elif again is not None and again.reason not in _LOOK_AGAIN:
            rejected.append(again)
        else:
            continue
        is_waiting_N[number] = False
    if before.index is None:
        return np.zeros(0, np.int32), rejected, is_waiting_N
    number_N = numbers_of(files.table["path"], before.index)
    number_N[~is_waiting_N] = -1
    for name in ("file_bytes", "modified_ns"):
        was_V = getattr(before.index, name)[before.index.first_rows]
        number_N[was_V[number_N] != files.table[name].to_numpy()] = -1
    return number_N[number_N >= 0], rejected, is_waiting_N & (number_N < 0)
