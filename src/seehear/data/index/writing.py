"""How is an index written, or brought up to date, whole or not at all? `table` says how."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from seehear.data.index.columns import Video, digest_of_rows, table_of
from seehear.data.index.info import FORMAT, UPDATE, write_info
from seehear.data.index.mapped import sha256_of, write_mapped
from seehear.data.index.moved import way_to
from seehear.data.index.rejected import Rejected, write_rejected
from seehear.data.index.table import Index
from seehear.machine.files import TEMPORARY, now, sync, whole_folder

_NAMES = ("index.arrow", "rejected.parquet", "index.json")


def write_index(
    folder: Path, videos: Sequence[Video], rejected: Sequence[Rejected], info: Mapping[str, Any]
) -> dict[str, Any]:
    """Write an index, or replace the one that is there, whole or not at all.

    `info` must have `root`, which paths are written relative to; returns what index.json has now.
    """
    return write_table(folder, table_of(videos, info["root"]), rejected, info)


def write_table(
    folder: Path,
    table: pa.RecordBatch,
    rejected: Sequence[Rejected],
    info: Mapping[str, Any],
    digest: str | None = None,
) -> dict[str, Any]:
    """`write_index` of a table that is made already, by `mapped.assemble` with `SCHEMA`.

    digest: of its rows, where it is known.
    """
    videos = len(table["path"].dictionary)
    full = {
        **info,
        "format": FORMAT,
        "rows": len(table),
        "videos": videos,
        "digest": digest or digest_of_rows(table),
    }

    def write(target: Path) -> None:
        write_mapped(target / "index.arrow", table)
        write_rejected(target / "rejected.parquet", rejected, info["root"])
        full["files"] = digests_of(target)
        write_info(target / "index.json", full)

    if (folder / "index.json").exists():
        finish_update(folder)  # that an earlier process could not
        for rest in folder.glob(f"{TEMPORARY}*"):  # of a process that died
            shutil.rmtree(rest, ignore_errors=True) if rest.is_dir() else rest.unlink(
                missing_ok=True
            )
        with whole_folder(folder / UPDATE) as target:
            write(target)
        finish_update(folder)
    else:
        with whole_folder(folder) as target:
            write(target)
    return full


def write_part(folder: Path, index: Index, rows: NDArray[np.int64]) -> dict[str, Any]:
    """Write an index of some rows of another, ascending, which is not packed."""
    info: dict[str, Any] = {
        **{key: index.info.get(key) for key in ("root", "paths", "settings", "segments")},
        "way_to_root": way_to(index.info["root"], folder),
        "rejected": {},
        "created": now(),
        "updated": now(),
        "seehear": metadata.version("seehear"),
    }
    return write_table(folder, index.only(rows).table, [], info)


def finish_update(folder: Path) -> None:
    """Move the files of an update, if there is one, to where they belong."""
    update = folder / UPDATE
    if not update.is_dir():
        return
    for name in _NAMES:
        if (update / name).exists():
            (update / name).replace(folder / name)
    sync(folder)
    shutil.rmtree(update)


def digests_of(folder: Path) -> dict[str, str]:
    """SHA-256 of the tables of an index, for its index.json."""
    digests = {}
    for name in ("index.arrow", "rejected.parquet"):
        with (folder / name).open("rb") as file:
            digests[name] = sha256_of(file)
    return digests
