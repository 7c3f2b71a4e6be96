"""How is an index kept on disk, and what does its reader see?

    index.arrow       a row for each segment (`mapped`); its number is its identity everywhere
    rejected.parquet  a row for each file left out, with the reason
    index.json        settings, the folder that paths are relative to, counts, format, a digest of
                      the rows, of the other two files' bytes, and of itself (`info`)

A new index is a folder that is renamed into place. An update is a folder `.update` inside it,
renamed into place, whose files are then moved over the old ones; readers prefer what is in there.
So a crash between any two lines leaves the old index or the new one, and other files stay.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from seehear.data.index.columns import (
    CHOSEN,
    FACTS,
    PLACES,
    SCHEMA,
    Video,
    assemble,
    digest_of_rows,
    member_key,
    shard_name,
    table_of,
)
from seehear.data.index.discovery import is_listed, stamps
from seehear.data.index.info import PACKED_FORMAT, command, damaged, open_newest, read_info
from seehear.data.index.mapped import first_of_each, open_mapped
from seehear.data.index.moved import at_its_videos, check_root
from seehear.data.index.rejected import Rejected, read_rejected
from seehear.data.media import Hearing, Member
from seehear.data.remote.addresses import joined, relative
from seehear.errors import IndexFileError, SettingsError
from seehear.machine.outputs import read_marker

_TRIES = 20  # to find the files of an index that others go on updating together
_EXAMPLES = 3  # of changed files in a message
_ASKED_AT_ONCE = 2**16  # files whose size and time are looked at


class Index:
    """An index as the other stages see it: one array a column, one entry a row.

    Attributes:
        folder: where it is.
        info: what is in index.json.
        digest: of the table; two indexes with the same digest have the same rows.
        video: int32 (N,), which file a row is from, 0 up; rows of one file are neighbours.
        recording: int32 (N,), which recording a row is of, 0 up: the file, unless it was named.
        start_s, seconds: float64 (N,), the segment, in seconds since the container's start.
        fps, width, height, rotation_degrees, sample_rate_hz, channels, file_bytes, modified_ns:
            (N,), of the file.
        original_start_s: float64 (N,), when the segment starts in its video: `start_s`, but where
            it was packed.
    """

    def __init__(self, folder: Path, info: dict[str, Any], table: pa.RecordBatch) -> None:
        self.folder = folder
        self.info = info
        self.digest: str = info["digest"]
        self._table = table
        self._names = table["path"].dictionary
        self.video: NDArray[np.int32] = table["path"].indices.to_numpy()
        self.recording: NDArray[np.int32] = (
            table["recording"].indices.to_numpy() if self._has("recording") else self.video
        )
        self.start_s: NDArray[np.float64] = self._column("start_s")
        self.seconds: NDArray[np.float64] = self._column("seconds")
        self.fps: NDArray[np.float64] = self._column("fps")
        self.width: NDArray[np.int32] = self._column("width")
        self.height: NDArray[np.int32] = self._column("height")
        self.rotation_degrees: NDArray[np.int16] = self._column("rotation_degrees")
        self.sample_rate_hz: NDArray[np.int32] = self._column("sample_rate_hz")
        self.channels: NDArray[np.int16] = self._column("channels")
        self.file_bytes: NDArray[np.int64] = self._column("file_bytes")
        self.modified_ns: NDArray[np.int64] = self._column("modified_ns")
        self.is_packed = "shard" in table.schema.names
        self.original_start_s: NDArray[np.float64] = (
            self._column("original_start_s") if self.is_packed else self.start_s
        )
        self._places = (
            [self._column(name) for name in ("shard", "source_row", "offset")]
            if self.is_packed
            else []
        )

    def __reduce__(self) -> tuple[Any, ...]:
        """One that is in a folder is opened there, instead of travelling."""
        if read_marker(self.folder / "index.json").get("digest") == self.digest:
            return Index.open, (self.folder,)
        return Index, (self.folder, self.info, self._table)

    @classmethod
    def open(cls, folder: str | os.PathLike[str]) -> Index:
        """Open the index in a folder, mapped into memory, after all of its table was read once.

        Raises:
            IndexFileError: there is none, or one of another format, or a damaged one.
        """
        folder = Path(folder)
        info = read_info(folder)
        for _ in range(_TRIES):
            try:
                table = _open_table(folder, info)
            except (OSError, ValueError) as error:
                before, info = info, read_info(folder)
                if info == before:  # else another process has just updated it
                    raise damaged(folder, f"index.arrow cannot be used: {error}") from None
            else:
                return cls(folder, at_its_videos(folder, info, table["path"].dictionary), table)
        raise IndexFileError(
            f"The index {folder} is updated again and again by others. Try again later."
        )

    @classmethod
    def in_memory(cls, videos: Sequence[Video], root: str) -> Index:
        """An index of these files that is in no folder; its digest has paths relative to `root`."""
        table = table_of(videos, root)
        return cls(
            Path(root), {"root": root, "paths": [root], "digest": digest_of_rows(table)}, table
        )

    def with_info(self, info: dict[str, Any]) -> Index:
        """The same rows, with another record: other paths perhaps."""
        return Index(self.folder, info, self._table)

    def __len__(self) -> int:
        return len(self.video)

    @property
    def num_videos(self) -> int:
        """How many files the rows are from."""
        return len(self._names)

    @property
    def names(self) -> pa.Array:
        """Of the files, relative to the root."""
        return self._names

    @property
    def rejected(self) -> pa.Table:
        """The files left out: path, reason, detail."""
        return read_rejected(self.folder, self.info).select(["path", "reason", "detail"])

    def path(self, row: int) -> str:
        """The file to read for a row, absolute or an address; if packed, a `media.Member`."""
        if not self.is_packed:
            return self.original_path(row)
        shard, key, offset = (int(column_N[row]) for column_N in self._places)
        place = self.info.get("shards_at") or os.path.abspath(self.folder)  # noqa: PTH100
        path = joined(place, shard_name(shard))
        return Member(path, f"{member_key(key)}.mp4", offset, int(self.file_bytes[row])).path

    def original_path(self, row: int) -> str:
        """The video that a row is a segment of, absolute or an address; gone perhaps if packed."""
        return joined(self.info["root"], self._names[int(self.video[row])].as_py())

    def hearing(self, row: int) -> Hearing | None:
        """Which sound of a row's file is heard; None where that is not known."""
        track, channel = (
            self._table[name][row].as_py() for name in ("audio_track", "audio_channel")
        )
        return None if track is None or channel is None else Hearing(track, channel)

    def original_names(self, rows: NDArray[np.int64]) -> pa.Array:
        """The videos that some rows are of, relative to the root."""
        return self._table["path"].take(pa.array(rows)).dictionary_decode().cast(pa.string())

    @property
    def names_recordings(self) -> bool:
        """Whether somebody said which recording each row is of; otherwise it is the file."""
        return self._has("recording")

    def recording_names(self, rows: NDArray[np.int64]) -> pa.Array:
        """What the recordings of some rows are called, where they were named."""
        return self._table["recording"].take(pa.array(rows)).dictionary_decode().cast(pa.string())

    def rows_of(self, path: str) -> NDArray[np.int64]:
        """The rows of a video, by its absolute path or address."""
        number = self._names.index(relative(path, self.info["root"])).as_py()  # -1: it has none
        return np.flatnonzero(self.video == number)

    def check(self, rows: Sequence[int] | NDArray[np.int64] | None = None) -> None:
        """See that the files of some rows, of all by default, are as they were.

        Raises:
            IndexFileError: files have vanished, or differ in size or time of last change.
        """
        if self.is_packed:
            self._check_shards()
            return
        check_root(self.folder, self.info)
        videos = slice(None) if rows is None else np.unique(self.video[np.asarray(rows)])
        first_rows = self.first_rows[videos]
        wrong: list[str] = []
        count = 0
        for what in self._what_is_wrong(first_rows, self.info["paths"] if rows is None else None):
            count += 1
            if len(wrong) < _EXAMPLES:
                wrong.append(what)
        if wrong:
            more = f", and {count - _EXAMPLES} more" if count > _EXAMPLES else ""
            update = command(self.info["paths"], self.folder, self.info.get("segments"))
            raise IndexFileError(
                f"{count} of {len(first_rows)} files of the index {self.folder} are not as they "
                f"were: {', '.join(wrong)}{more}. Bring them back, or update: {update}"
            )

    @cached_property
    def first_rows(self) -> NDArray[np.int64]:
        """The first row of each file."""
        return first_of_each(self.video)

    def splits(self) -> dict[str, int]:
        """How many rows each split has, where somebody said so."""
        if not self._has("split"):
            return {}
        counts = self._table["split"].value_counts().to_pylist()
        return dict(sorted((entry["values"], entry["counts"]) for entry in counts))

    def of_split(self, name: str) -> Index:
        """The rows of one split as an index of its own; of "" all rows.

        Raises:
            SettingsError: there is no such split.
        """
        if not name:
            return self
        splits = self.splits()
        if name not in splits:
            has = ", ".join(filter(None, splits)) or "no splits"
            raise SettingsError(f"The split is {name!r}, and {self.folder} has {has}.")
        if splits[name] == len(self):
            return self
        column = self._table["split"]
        word = column.dictionary.to_pylist().index(name)
        return self.only(np.flatnonzero(column.indices.to_numpy() == word))

    def only(self, rows: NDArray[np.int64]) -> Index:
        """Some rows, ascending, as an index of their own."""
        _, first, video_n = np.unique(self.video[rows], return_index=True, return_inverse=True)
        table = self._table.take(pa.array(rows))
        columns = {name: table[name] for name in table.schema.names}
        if self._has("recording"):  # numbered anew
            columns["recording"] = table["recording"].dictionary_decode()
        names = self.original_names(rows[first])
        table = assemble(columns, names, video_n.astype(np.int32), table.schema)
        digest = hashlib.sha256(self.digest.encode() + rows.tobytes())
        counts = {"rows": len(rows), "videos": len(first)}
        info = {**self.info, **counts, "digest": f"sha256:{digest.hexdigest()}"}
        return Index(self.folder, info, table)

    def _has(self, name: str) -> bool:
        return name in self._table.schema.names

    def _column(self, name: str) -> NDArray[Any]:
        # a view, where nothing is missing
        values: NDArray[Any] = self._table[name].to_numpy(zero_copy_only=False)
        return values

    def _what_is_wrong(
        self, first_rows: NDArray[np.int64], named: list[str] | None
    ) -> Iterator[str]:
        step = max(1, len(first_rows)) if any(map(is_listed, named or ())) else _ASKED_AT_ONCE
        for begin in range(0, len(first_rows), step):
            some = first_rows[begin : begin + step].tolist()
            paths = [self.path(row) for row in some]
            for row, path, found in zip(some, paths, stamps(paths, named), strict=True):
                if isinstance(found, str):
                    yield f"{path} {found}"
                elif found != (self.file_bytes[row], self.modified_ns[row]):
                    yield f"{path} has changed"

    def _check_shards(self) -> None:
        shards = self.info["shards"]
        paths = [
            joined(self.info.get("shards_at") or str(self.folder), shard["name"])
            for shard in shards
        ]
        wrong = []
        for path, shard, found in zip(paths, shards, stamps(paths, None), strict=True):
            if isinstance(found, str):
                wrong.append(f"{path} {found}")
            elif found[0] != shard["bytes"]:
                wrong.append(f"{path} has {found[0]} bytes, not {shard['bytes']}")
        if wrong:
            raise IndexFileError(
                f"{len(wrong)} of {len(self.info['shards'])} shards are not as they were packed: "
                f"{', '.join(wrong[:_EXAMPLES])}. Copy them again, or pack anew with --overwrite."
            )

    def videos(self) -> list[Video]:
        """The files with their segments."""
        bounds = np.append(self.first_rows, len(self))
        names = [*FACTS, *filter(self._has, ("usable_start_s", "usable_seconds"))]
        facts = self._table.select(names).take(self.first_rows).to_pylist()
        words = {
            name: self.chosen(name).to_pylist()
            for name in ("recording", "split")
            if self._has(name)
        }
        return [
            Video(
                self.path(a),
                fact,
                self.start_s[a:b],
                self.seconds[a:b],
                {name: column[a:b] for name, column in words.items()},
            )
            for a, b, fact in zip(bounds[:-1], bounds[1:], facts, strict=True)
        ]

    def chosen(self, name: str) -> pa.Array:
        """A column of `CHOSEN`, of an index that has it; words as text."""
        column = self._table[name]
        return column.dictionary_decode() if isinstance(column, pa.DictionaryArray) else column

    @property
    def table(self) -> pa.RecordBatch:
        """The table itself."""
        return self._table

    @property
    def schema(self) -> pa.Schema:
        """Of its table."""
        return self._table.schema

    def rejected_files(self) -> list[Rejected]:
        """The files left out, with all that an update needs to know of them."""
        rows = read_rejected(self.folder, self.info).to_pylist()
        root = self.info["root"]
        return [Rejected(**{**row, "path": joined(root, row["path"])}) for row in rows]


def _open_table(folder: Path, info: Mapping[str, Any]) -> pa.RecordBatch:
    """What is in `index.arrow`; OSError or ValueError where it is not what index.json says."""
    schema = pa.schema([*SCHEMA, *PLACES]) if info["format"] == PACKED_FORMAT else SCHEMA
    with open_newest(folder, "index.arrow") as file:
        table = open_mapped(file, schema, CHOSEN, info["files"]["index.arrow"])
    if (len(table), len(table["path"].dictionary)) != (info["rows"], info["videos"]):
        raise ValueError("it has not as many rows and videos as index.json says")
    if info["format"] == PACKED_FORMAT and table["shard"].to_numpy().max(initial=-1) >= len(
        info["shards"]
    ):
        raise ValueError("its rows are in more shards than index.json has")
    return table
