"""How is the table of an index opened at once, however long it is?

`index.arrow` holds the columns of `index.parquet` again, in Arrow's IPC format, not compressed and in one piece, so
that a mapped column is an array (N,) as it stands: opening reads a few pages, and memory holds what is looked at. What
is the same for many rows is there once: `path` is a dictionary of strings, one a file, and its indices are the column
`video`; `row` is the position. It names the SHA-256 of the Parquet file's footer, so that it is never taken for the
table of another index; `index.parquet` stays the record, from which it can be made again.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from seehear.errors import StorageError
from seehear.indexing.info import damaged
from seehear.runs import atomic_file

GROUP_ROWS = 2**20
"""So many rows at a time are compressed, or read from Parquet."""

PLACES = pa.schema(
    [
        ("original_start_s", pa.float64()),
        ("source_row", pa.int64()),  # in the index that was packed
        ("shard", pa.int32()),
        ("offset", pa.int64()),
    ]
)
"""What a packed index (`packed`) has beyond the columns of an index."""

_PATHS = pa.dictionary(pa.int32(), pa.large_string())
_WORDS = pa.dictionary(pa.int16(), pa.string())  # few, such as names of codecs
_FOOTER_END = 8  # bytes: the length of the footer, and b"PAR1"


def mapped_schema(schema: pa.Schema) -> pa.Schema:
    """How the columns of a Parquet table are kept in the mapped one."""
    kinds = {"path": _PATHS}
    return pa.schema(
        (field.name, kinds.get(field.name, _WORDS if field.type == pa.string() else field.type))
        for field in schema
        if field.name not in ("row", "video")
    )


def assemble(
    columns: Mapping[str, Any], paths: pa.Array, video_N: NDArray[np.int32], schema: pa.Schema
) -> pa.RecordBatch:
    """The mapped table of columns in memory.

    Args:
        columns: all columns of `schema` but `row`, `path` and `video`, as arrays (N,).
        paths: one a file.
        video_N: which file each row is from.
        schema: of the Parquet table.
    """
    wanted = mapped_schema(schema)
    arrays = {"path": pa.DictionaryArray.from_arrays(pa.array(video_N, pa.int32()), paths.cast(pa.large_string()))}
    for name in wanted.names:
        if name != "path":
            arrays[name] = _as_kept(columns[name], wanted.field(name).type)
    return pa.record_batch([arrays[name] for name in wanted.names], wanted)


def write_parquet(path: Path, batch: pa.RecordBatch, schema: pa.Schema, digest: str) -> None:
    """Write the mapped table as Parquet with the columns of `schema`, some rows at a time."""
    with pq.ParquetWriter(path, schema.with_metadata({"digest": digest}), compression="zstd") as writer:
        for start in range(0, max(len(batch), 1), GROUP_ROWS):
            part = batch.slice(start, GROUP_ROWS)
            columns = {name: _decoded(part[name], schema.field(name).type) for name in part.schema.names}
            columns["row"] = pa.array(np.arange(start, start + len(part)), pa.int64())
            columns["video"] = part["path"].indices
            writer.write_table(pa.table([columns[name] for name in schema.names], schema))


def read_and_keep(folder: Path, path: Path, schema: pa.Schema, footer: str) -> pa.RecordBatch:
    """What is in an index's Parquet file; and, where that can be, keep it to be mapped the next time.

    Raises:
        IndexFileError: the file is damaged.
    """
    try:
        table = read_parquet(path, schema)
    except (OSError, pa.ArrowException, ValueError, OverflowError) as error:
        raise damaged(folder, f"index.parquet cannot be read: {error}") from None
    if path.parent == folder:  # what an update left is moved, by whoever updates next
        with contextlib.suppress(OSError, StorageError), atomic_file(folder / "index.arrow") as target:
            write_mapped(target, table, footer)
    return table


def read_parquet(path: Path, schema: pa.Schema) -> pa.RecordBatch:
    """The mapped table of what is in a Parquet file; it takes memory, a row-group at a time for what is text."""
    file = pq.ParquetFile(path, memory_map=True)
    video_N = file.read(["video"])["video"].to_numpy()
    first_rows = first_of_each(video_N)
    names, start = [pa.array([], pa.large_string())], 0
    columns: dict[str, list[Any]] = {name: [] for name in mapped_schema(schema).names if name != "path"}
    for number in range(file.num_row_groups):
        part = file.read_row_group(number, [*columns, "path"])
        here = first_rows[(first_rows >= start) & (first_rows < start + len(part))] - start
        names.append(part["path"].take(pa.array(here)).combine_chunks().cast(pa.large_string()))
        for name, pieces in columns.items():
            pieces += part[name].chunks
        start += len(part)
    found = {name: pa.chunked_array(pieces, schema.field(name).type) for name, pieces in columns.items()}
    return assemble(found, pa.concat_arrays(names), np.ascontiguousarray(video_N), schema)


def write_mapped(path: Path, batch: pa.RecordBatch, footer: str) -> None:
    """Write `index.arrow`; `footer` is that of the Parquet file it goes with."""
    schema = batch.schema.with_metadata({"footer": footer})
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        writer.write_batch(pa.RecordBatch.from_arrays(batch.columns, schema=schema))


def open_mapped(path: Path, schema: pa.Schema, footer: str) -> pa.RecordBatch | None:
    """The table in `index.arrow`, mapped; None where there is none, or another Parquet file's, or a damaged one."""
    try:
        reader = pa.ipc.open_file(pa.memory_map(str(path)))
        if (reader.schema.metadata or {}).get(b"footer", b"").decode("ascii", "replace") != footer:
            return None
        if reader.schema.remove_metadata() != mapped_schema(schema) or reader.num_record_batches != 1:
            return None
        batch = reader.get_batch(0)
        batch.validate()  # of lengths alone: what is in the columns is looked at when it is used
    except (OSError, pa.ArrowException, ValueError):
        return None
    return batch if batch["path"].null_count == 0 else None


def digest_of(table: pa.RecordBatch, number: int, columns: Sequence[str], after: Sequence[str] = ()) -> str:
    """SHA-256 over a format's number, the paths and what follows them, the column `video` and some others."""
    digest = hashlib.sha256(f"seehear index {number}\n".encode())
    paths = table["path"].dictionary
    for start in range(0, len(paths), GROUP_ROWS):
        part = paths.slice(start, GROUP_ROWS)
        ended = pc.binary_join_element_wise(part, pa.scalar("", part.type), pa.scalar("\0", part.type))
        data = memoryview(ended.buffers()[2])[: pc.sum(pc.binary_length(ended)).as_py()]
        digest.update(data if start + GROUP_ROWS < len(paths) else data[:-1])  # no zero byte after the last
    digest.update("".join(f"\0{text}" for text in after).encode())
    for column in (table["path"].indices, *(table[name] for name in columns)):
        digest.update(column.to_numpy(zero_copy_only=False))
    return f"sha256:{digest.hexdigest()}"


def footer_of(path: Path) -> str:
    """SHA-256 of the last part of a Parquet file, which says where and how large all its pieces are, in hexadecimal."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - _FOOTER_END))
        length = int.from_bytes(file.read(4), "little")
        file.seek(max(0, size - _FOOTER_END - length))
        return hashlib.sha256(file.read()).hexdigest()


def first_of_each(video_N: NDArray[np.int32]) -> NDArray[np.int64]:
    """The first row of each file."""
    changes_N = np.empty(len(video_N), dtype=np.bool_)
    changes_N[:1] = True
    np.not_equal(video_N[1:], video_N[:-1], out=changes_N[1:])
    return np.flatnonzero(changes_N)


class Names:
    """Strings in one buffer, each made when it is asked for."""

    def __init__(self, strings: pa.LargeStringArray) -> None:
        _, offsets, data = strings.buffers()
        self.strings = strings
        self._offsets = np.frombuffer(offsets, np.int64)[strings.offset :] if offsets else np.zeros(1, np.int64)
        self._data = memoryview(data) if data else memoryview(b"")

    def __len__(self) -> int:
        return len(self.strings)

    def __getitem__(self, number: int) -> str:
        """One of them; ValueError where the buffer is damaged."""
        if not 0 <= number < len(self):
            raise ValueError(f"there is no string {number}")
        start, stop = int(self._offsets[number]), int(self._offsets[number + 1])
        if not 0 <= start <= stop <= len(self._data):
            raise ValueError(f"string {number} is outside of its buffer")
        return str(self._data[start:stop], "utf-8")


def _as_kept(values: Any, kind: pa.DataType) -> pa.Array:
    """A column in one piece, in the form that it is kept in."""
    if isinstance(values, pa.DictionaryArray) or not pa.types.is_dictionary(kind):
        array = values if isinstance(values, pa.Array | pa.ChunkedArray) else pa.array(values)
        array = array.cast(kind)
    else:
        words = values if isinstance(values, pa.Array | pa.ChunkedArray) else pa.array(values, pa.string())
        array = words.dictionary_encode()
        if isinstance(array, pa.ChunkedArray):
            array = array.unify_dictionaries()
        array = array.cast(kind)
    return array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array


def _decoded(column: pa.Array, kind: pa.DataType) -> pa.Array:
    """A part of a column, in the form that it has in Parquet."""
    return column.dictionary_decode().cast(kind) if isinstance(column, pa.DictionaryArray) else column
