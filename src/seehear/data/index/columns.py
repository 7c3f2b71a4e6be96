"""Which columns has an index, and how do files with their segments become its rows?"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from seehear.data.index.info import FORMAT
from seehear.data.media import MediaInfo
from seehear.data.remote.addresses import relative
from seehear.data.stretches import Times

_GROUP_PATHS = 2**20  # are put into the digest together

PATHS = pa.dictionary(pa.int32(), pa.large_string())
WORDS = pa.dictionary(pa.int16(), pa.string())  # few, such as names of codecs

FACTS = {
    "fps": pa.float64(),  # mean frame rate; 0 if the file does not say
    "width": pa.int32(),  # as displayed
    "height": pa.int32(),
    "rotation_degrees": pa.int16(),  # clockwise, applied already in width and height
    "sample_rate_hz": pa.int32(),
    "channels": pa.int16(),
    "video_codec": WORDS,
    "audio_codec": WORDS,
    "audio_track": pa.int16(),  # which of the tracks of sound is heard, 0 up
    "audio_channel": pa.int16(),  # which of its channels, 0 up; -1: their mean
    # recordings in the file, each with a clock of its own; one of them is used
    "parts": pa.int32(),
    "file_bytes": pa.int64(),
    "modified_ns": pa.int64(),
}
"""What the table holds of each video, the same in all of its rows."""

SCHEMA = pa.schema(
    [
        ("path", PATHS),  # relative to the root in index.json; the index is the number of the file
        ("start_s", pa.float64()),  # since the container's start
        ("seconds", pa.float64()),
        *FACTS.items(),
    ]
)
CHOSEN = pa.schema(
    [
        ("recording", PATHS),  # by name, or the file
        ("split", WORDS),
        ("usable_start_s", pa.float64()),  # from when on the file has picture and sound
        ("usable_seconds", pa.float64()),
    ]
)
"""What an index may have beyond that, where somebody said what its segments are (`chosen`)."""

PLACES = pa.schema(
    [
        ("original_start_s", pa.float64()),
        ("source_row", pa.int64()),  # in the index that was packed
        ("shard", pa.int32()),
        ("offset", pa.int64()),
    ]
)
"""What a packed index (`packed`) has beyond the columns of an index."""


@dataclass(frozen=True, eq=False)  # equal is the same object: not looked at anew
class Video:
    """A usable file and its segments."""

    path: str  # absolute
    facts: Mapping[str, Any]  # the columns of FACTS, and of CHOSEN what is of the file
    start_s: Times
    seconds: Times
    words: Mapping[str, list[str]] = field(default_factory=dict)  # recording, split of segments

    @classmethod
    def of(
        cls, path: str, info: MediaInfo, start_s: Times, seconds: Times, stamp: tuple[int, int]
    ) -> Video:
        """The segments of a file that was opened; `stamp` is its size and its last change."""
        facts = {name: getattr(info, name, None) for name in FACTS}
        facts |= dict(zip(("file_bytes", "modified_ns"), stamp, strict=True))
        return cls(path, facts, start_s, seconds)


def table_of(videos: Sequence[Video], root: str) -> pa.RecordBatch:
    """A row for each segment; paths are relative to `root`."""
    counts = [len(video.start_s) for video in videos]
    number_N = np.repeat(np.arange(len(videos), dtype=np.int32), counts)
    nothing = [np.zeros(0)]  # np.concatenate wants at least one array
    columns: dict[str, Any] = {
        "start_s": np.concatenate(nothing + [video.start_s for video in videos]),
        "seconds": np.concatenate(nothing + [video.seconds for video in videos]),
    }
    words = videos[0].words if videos else ()
    facts = [*FACTS, *(name for name in CHOSEN.names if videos and name in videos[0].facts)]
    schema = pa.schema(
        [*SCHEMA, *(CHOSEN.field(name) for name in CHOSEN.names if name in (*words, *facts))]
    )
    for name in facts:
        values = pa.array([video.facts[name] for video in videos], schema.field(name).type)
        columns[name] = values.take(pa.array(number_N))
    for name in words:
        columns[name] = [word for video in videos for word in video.words[name]]
    paths = pa.array([relative(video.path, root) for video in videos], pa.large_string())
    return assemble(columns, paths, number_N, schema)


def digest_of_rows(table: pa.RecordBatch) -> str:
    """SHA-256 over what rows are: which stretch of which file, by relative path and size."""
    return digest_of(table, FORMAT, ("start_s", "seconds", "file_bytes"))


def assemble(
    columns: dict[str, Any], paths: pa.Array, video_N: NDArray[np.int32], schema: pa.Schema
) -> pa.RecordBatch:
    """The table of columns (N,), all of `schema` but `path`: `video_N` is the place in `paths`.

    Columns are taken out of `columns` one by one, so that none is in memory twice for long.
    """
    numbers = pa.array(video_N, pa.int32())
    arrays = {"path": pa.DictionaryArray.from_arrays(numbers, paths.cast(pa.large_string()))}
    for name, kind in zip(schema.names, schema.types, strict=True):
        if name != "path":
            arrays[name] = _as_kept(columns.pop(name), kind)
    return pa.record_batch([arrays[name] for name in schema.names], schema)


def _as_kept(values: Any, kind: pa.DataType) -> pa.Array:
    """A column in one piece, in the form that it is kept in."""
    if isinstance(values, pa.DictionaryArray) or not pa.types.is_dictionary(kind):
        array = values if isinstance(values, pa.Array | pa.ChunkedArray) else pa.array(values)
        array = array.cast(kind)
    else:
        is_arrow = isinstance(values, pa.Array | pa.ChunkedArray)
        array = (values if is_arrow else pa.array(values, pa.string())).dictionary_encode()
        if isinstance(array, pa.ChunkedArray):
            array = array.unify_dictionaries()
        array = array.cast(kind)
    return array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array


def digest_of(
    table: pa.RecordBatch, number: int, columns: Sequence[str], after: Sequence[str] = ()
) -> str:
    """SHA-256 over format, paths, what follows them, files of rows, columns, recordings."""
    digest = hashlib.sha256(f"seehear index {number}\n".encode())
    paths = table["path"].dictionary
    for start in range(0, len(paths), _GROUP_PATHS):
        part = paths.slice(start, _GROUP_PATHS)
        ended = pc.binary_join_element_wise(
            part, pa.scalar("", part.type), pa.scalar("\0", part.type)
        )
        data = memoryview(ended.buffers()[2])[: pc.sum(pc.binary_length(ended)).as_py()]
        # no zero byte after the last
        digest.update(data if start + _GROUP_PATHS < len(paths) else data[:-1])
    digest.update("".join(f"\0{text}" for text in after).encode())
    named = []
    if "recording" in table.schema.names:
        named = [table["recording"].indices]
        digest.update("\0".join(table["recording"].dictionary.to_pylist()).encode())
    for column in (table["path"].indices, *(table[name] for name in columns), *named):
        digest.update(column.to_numpy(zero_copy_only=False))
    return f"sha256:{digest.hexdigest()}"


def shard_name(number: int) -> str:
    """The file of a shard."""
    return f"shard-{number:05d}.tar"


def member_key(source_row: int) -> str:
    """The name of a segment's files in a shard, without ending, by its row in the source index."""
    return f"{source_row:09d}"
