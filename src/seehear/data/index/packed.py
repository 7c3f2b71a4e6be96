"""How is an index kept whose segments were packed into shards?

    shard-00000.tar ...   a plain tar file each, WebDataset's layout: KEY.json and KEY.mp4 each
    index.arrow           the columns of an index, and four more; `path` is still the original video
    rejected.parquet      a line for each segment that could not be packed
    index.json            settings, counts, a digest, and the size and SHA-256 of each shard

`KEY` is the segment's row in the index it was packed from. `start_s` is within the packed file,
`original_start_s` in the video; `offset` is the packed file's first byte in its shard and
`file_bytes` its length.

The shards may lie on another machine: `copy_packed` brings the three other files here, and
index.json says `shards_at`.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from seehear.data.index.columns import CHOSEN, FACTS, PLACES, SCHEMA, WORDS, assemble, digest_of
from seehear.data.index.info import PACKED_FORMAT, read_info, write_info
from seehear.data.index.mapped import write_mapped
from seehear.data.index.rejected import Rejected, write_rejected
from seehear.data.index.table import Index
from seehear.data.index.writing import digests_of
from seehear.data.remote import local
from seehear.data.remote.storage import read_text
from seehear.errors import MediaError, UsageError
from seehear.machine.files import atomic_file, whole_folder, write_json
from seehear.machine.outputs import INDEX, is_empty_folder

_MOST_BYTES = 2**28  # of an index.json: a million shards have 150 MB of digests

MEMBERS = pa.schema(
    [PLACES.field(name) for name in ("source_row", "shard", "offset")]
    + [pa.field(name, pa.string() if kind == WORDS else kind) for name, kind in FACTS.items()]
)
"""What packing knows of a segment that was packed: where it is, and what the file holds."""


def write_packed(
    folder: Path,
    source: Index,
    members: pa.Table,
    rejected: Sequence[Rejected],
    info: Mapping[str, Any],
) -> dict[str, Any]:
    """Write the table of a packed index into the folder of its shards; index.json comes last.

    `members` has the columns of `MEMBERS`, ascending by `source_row`; `info` must have `shards`:
    name, bytes and sha256 of each. Returns what is in index.json now.
    """
    rows_N = members["source_row"].to_numpy()
    _, first_rows, video_N = np.unique(source.video[rows_N], return_index=True, return_inverse=True)
    root = source.info["root"]
    columns: dict[str, Any] = {
        "start_s": np.zeros(len(rows_N)),
        "seconds": source.seconds[rows_N],
        "original_start_s": source.original_start_s[rows_N],
    }
    columns |= {name: members[name] for name in MEMBERS.names}
    chosen = [field for field in CHOSEN if field.name in source.schema.names]
    columns |= {field.name: source.chosen(field.name).take(pa.array(rows_N)) for field in chosen}
    schema = pa.schema([*SCHEMA, *PLACES, *chosen])
    table = assemble(
        columns, source.original_names(rows_N[first_rows]), video_N.astype(np.int32), schema
    )
    digest = _digest(table, [shard["sha256"] for shard in info["shards"]])
    full = {
        "format": PACKED_FORMAT,
        "rows": len(table),
        "videos": len(first_rows),
        "digest": digest,
        "root": root,
        "paths": source.info["paths"],
        **info,
    }
    with atomic_file(folder / "index.arrow") as target:
        write_mapped(target, table)
    with atomic_file(folder / "rejected.parquet") as target:
        write_rejected(target, rejected, root)
    full["files"] = digests_of(folder)
    write_info(folder / "index.json", full)
    return full


def copy_packed(address: str, folder: Path, *, overwrite: bool) -> bool:
    """Make an index here of a packed folder at an address, whose shards stay there, if it is one.

    An older copy of the same packed index stays as it is; `overwrite` replaces that of another one.

    Raises:
        UsageError: `folder` holds something else, or a part of the packed index cannot be read.
    """
    place = address.rstrip("/")
    try:
        info = json.loads(read_text(f"{place}/index.json", _MOST_BYTES))
    except (MediaError, ValueError, RecursionError):
        return False
    if not isinstance(info, dict) or info.get("format") != PACKED_FORMAT:
        return False
    if folder.exists() and not is_empty_folder(folder):
        old = read_info(folder)
        if (old["digest"], old.get("shards_at")) == (info.get("digest"), place):
            return True
        if not overwrite or not old.get("shards_at"):
            raise UsageError(
                f"{folder} holds another index. Choose another --out, or replace a copy: "
                f"--overwrite."
            )
    try:
        with whole_folder(folder, replaces=INDEX) as target:
            for name in ("index.arrow", "rejected.parquet"):
                with local(f"{place}/{name}") as copy:
                    shutil.copyfile(copy, target / name)
            write_json(target / "index.json", info)
            write_info(target / "index.json", read_info(target) | {"shards_at": place})
            Index.open(target)
    except MediaError as error:
        raise UsageError(f"{error}. Is {address} packed to the end?") from None
    return True


def _digest(table: pa.RecordBatch, shards: Sequence[str]) -> str:
    """SHA-256 over which stretch of which video each row is, and over what is in the shards."""
    columns = ("original_start_s", "seconds", "shard", "offset", "file_bytes")
    return digest_of(table, PACKED_FORMAT, columns, shards)
