"""How is the table of an index kept, so that it is opened without being read into memory?

`index.arrow` is an Arrow IPC file, not compressed and in one piece: a mapped column is an array
(N,) as it stands, and memory holds what is looked at. What is the same for many rows is there once:
`path` is a dictionary of strings, one a file, whose indices say which file a row is from; a row's
number is its place.

Nothing in the file is believed before its SHA-256 is the one that index.json has, and nothing in
the table before it makes sense: a wrong offset in a mapped file ends a process by a signal, and a
wrong number trains on other rows without a word.
"""

from __future__ import annotations

import hashlib
import math
import mmap
from io import BufferedReader, BytesIO
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

_CHECKED_ROWS = 2**16  # are looked at together, where that takes a temporary array

_LONG_S = 1e10  # three centuries: beyond any recording, and exact to a microsecond in float64
_POSITIVE = (1, math.inf)
_RANGES = {
    "start_s": (-_LONG_S, _LONG_S),
    "original_start_s": (-_LONG_S, _LONG_S),
    "seconds": (1e-6, _LONG_S),
    "usable_start_s": (-_LONG_S, _LONG_S),
    "usable_seconds": (0, _LONG_S),
    "fps": (0, 1e9),
    "width": _POSITIVE,
    "height": _POSITIVE,
    "rotation_degrees": (-360, 360),
    "sample_rate_hz": _POSITIVE,
    "channels": _POSITIVE,
    "audio_track": (0, math.inf),
    "audio_channel": (-1, math.inf),
    "parts": _POSITIVE,
    "file_bytes": (0, math.inf),
    "source_row": (0, math.inf),
    "shard": (0, math.inf),
    "offset": (0, math.inf),
}
"""The smallest and the largest value of a column that makes sense."""


def write_mapped(path: Path, batch: pa.RecordBatch) -> None:
    """Write a table as Arrow's IPC file."""
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, batch.schema) as writer:
        writer.write_batch(batch)


def open_mapped(
    file: BufferedReader, schema: pa.Schema, more: pa.Schema, digest: str
) -> pa.RecordBatch:
    """The table in a file, mapped into memory, after all of the file was read once.

    It has the columns of `schema`, perhaps some of `more` beyond them, and this SHA-256; raises
    OSError where it cannot be read, ValueError where it is another file or makes no sense.
    """
    if sha256_of(file) != digest:
        raise ValueError("it is not as it was written, or another index's")
    # stays when the file is replaced
    content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    try:
        reader = pa.ipc.open_file(pa.py_buffer(content))
        found = reader.schema.remove_metadata()
        columns = [*schema, *(field for field in more if field.name in found.names)]
        if found != pa.schema(columns) or reader.num_record_batches != 1:
            raise ValueError("it has not the columns of an index")
        batch = reader.get_batch(0)
        batch.validate(full=True)
    except (OSError, pa.ArrowException, OverflowError) as error:
        raise ValueError(str(error)) from None
    check(batch)
    if hasattr(mmap, "MADV_DONTNEED"):
        content.madvise(mmap.MADV_DONTNEED)  # what was looked at once is not kept in memory
    return batch


def sha256_of(file: BufferedReader | BytesIO) -> str:
    """SHA-256 of an open file from where it is, in the form that index.json has."""
    return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def check(batch: pa.RecordBatch) -> None:
    """See that a table makes sense.

    Raises:
        ValueError: a value is missing or out of its range, or the rows of a file are no neighbours.
    """
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        words = [column.dictionary] if isinstance(column, pa.DictionaryArray) else []
        if any(array.null_count for array in (column, *words)):
            raise ValueError(f"{name} lacks values")
        low, high = _RANGES.get(name, (-math.inf, math.inf))
        if name in _RANGES and len(column):
            values_N = column.to_numpy()
            smallest, largest = values_N.min(), values_N.max()  # NaN where there is one
            if not (low <= smallest and largest <= high):
                raise ValueError(f"{name} goes from {smallest} to {largest}")
    video_N, files = batch["path"].indices.to_numpy(), len(batch["path"].dictionary)
    ends = (video_N[0], video_N[-1]) if len(video_N) else (0, -1)
    if ends != (0, files - 1):
        raise ValueError(f"its rows are of files {ends[0]} to {ends[1]}, and it has {files}")
    for start in range(0, len(video_N), _CHECKED_ROWS):
        steps = np.diff(video_N[start : start + _CHECKED_ROWS + 1])
        if ((steps < 0) | (steps > 1)).any():
            raise ValueError("the rows of a file are not next to each other")
    if pc.any(pc.match_substring(batch["path"].dictionary, "\0")).as_py():
        raise ValueError("a path has a zero byte")


def first_of_each(video_N: NDArray[np.int32]) -> NDArray[np.int64]:
    """The first row of each file."""
    changes_N = np.empty(len(video_N), dtype=np.bool_)
    changes_N[:1] = True
    np.not_equal(video_N[1:], video_N[:-1], out=changes_N[1:])
    return np.flatnonzero(changes_N)
