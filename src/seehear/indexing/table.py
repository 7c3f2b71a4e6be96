"""How is an index kept on disk, and what does its reader see?

    index.parquet     a line for each segment; its number, `row`, is the segment's identity everywhere
    rejected.parquet  a line for each file left out, with the reason
    index.json        settings, the folder that paths are relative to, counts, format, and a digest of the table

A new index is a folder that is renamed into place. An update is a folder `.update` inside it, renamed into place, whose
files are then moved over the old ones; readers prefer what is in there. So a crash between any two lines leaves the old
index or the new one, and other files in the folder stay.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from seehear.errors import IndexFileError
from seehear.indexing.discovery import stamps
from seehear.indexing.info import FORMAT, UPDATE, command, damaged, read_info
from seehear.media import Member
from seehear.remote.addresses import joined, relative
from seehear.runs import TEMPORARY, sync, whole_folder, write_json

FACTS = {
    "fps": pa.float64(),  # mean frame rate; 0 if the file does not say
    "width": pa.int32(),  # as displayed
    "height": pa.int32(),
    "rotation_degrees": pa.int16(),  # clockwise, applied already in width and height
    "sample_rate_hz": pa.int32(),
    "channels": pa.int16(),
    "video_codec": pa.string(),
    "audio_codec": pa.string(),
    "file_bytes": pa.int64(),
    "modified_ns": pa.int64(),
}
"""What the table holds of each video, the same in all of its rows."""

SCHEMA = pa.schema(
    [
        ("row", pa.int64()),
        ("path", pa.string()),  # relative to the root in index.json
        ("video", pa.int32()),  # number of the file in this index
        ("start_s", pa.float64()),  # since the container's start
        ("seconds", pa.float64()),
        *FACTS.items(),
    ]
)
_REJECTED_SCHEMA = pa.schema(
    [
        ("path", pa.string()),
        ("reason", pa.string()),  # a key of seehear.media.REASONS
        ("detail", pa.string()),
        ("file_bytes", pa.int64()),
        ("modified_ns", pa.int64()),
    ]
)
_NAMES = ("index.parquet", "rejected.parquet", "index.json")
_EXAMPLES = 3  # of changed files in a message


@dataclass(frozen=True, eq=False)  # equal is the same object: not looked at anew
class Video:
    """A usable file and its segments."""

    path: str  # absolute
    facts: Mapping[str, Any]  # the columns of FACTS
    start_s: NDArray[np.float64]
    seconds: NDArray[np.float64]


@dataclass(frozen=True)
class Rejected:
    """A file left out."""

    path: str  # absolute
    reason: str
    detail: str
    file_bytes: int
    modified_ns: int


class Index:
    """An index as the other stages see it: one array a column, one entry a row.

    Attributes:
        folder: where it is.
        info: what is in index.json.
        digest: of the table; two indexes with the same digest have the same rows.
        video: int32 (N,), which file a row is from, 0 up; rows of one file are neighbours.
        start_s, seconds: float64 (N,), the segment, in seconds since the container's start.
        fps, width, height, rotation_degrees, sample_rate_hz, channels, file_bytes, modified_ns: (N,), of the file.
        original_start_s: float64 (N,), when the segment starts in its video: `start_s`, but where it was packed.
    """

    def __init__(self, folder: Path, info: dict[str, Any], table: pa.Table) -> None:
        self.folder = folder
        self.info = info
        self.digest: str = info["digest"]
        self._table = table
        self.video: NDArray[np.int32] = table["video"].to_numpy()
        self.start_s: NDArray[np.float64] = table["start_s"].to_numpy()
        self.seconds: NDArray[np.float64] = table["seconds"].to_numpy()
        self.fps: NDArray[np.float64] = table["fps"].to_numpy()
        self.width: NDArray[np.int32] = table["width"].to_numpy()
        self.height: NDArray[np.int32] = table["height"].to_numpy()
        self.rotation_degrees: NDArray[np.int16] = table["rotation_degrees"].to_numpy()
        self.sample_rate_hz: NDArray[np.int32] = table["sample_rate_hz"].to_numpy()
        self.channels: NDArray[np.int16] = table["channels"].to_numpy()
        self.file_bytes: NDArray[np.int64] = table["file_bytes"].to_numpy()
        self.modified_ns: NDArray[np.int64] = table["modified_ns"].to_numpy()
        self.is_packed = "shard" in table.column_names
        self.original_start_s: NDArray[np.float64] = (
            table["original_start_s"].to_numpy() if self.is_packed else self.start_s
        )
        self._places = [table[name].to_numpy() for name in ("shard", "source_row", "offset")] if self.is_packed else []
        self._first_rows = np.flatnonzero(np.diff(self.video, prepend=-1))  # of each video
        self._paths: list[str] = table["path"].take(self._first_rows).to_pylist()

    @classmethod
    def open(cls, folder: str | os.PathLike[str]) -> Index:
        """Open the index in a folder.

        Raises:
            IndexFileError: there is none, or one of another format, or a damaged one.
        """
        folder = Path(folder)
        info = read_info(folder)
        try:
            table = _read_table(folder, "index.parquet")
        except (OSError, pa.ArrowException) as error:
            raise damaged(folder, f"index.parquet cannot be read: {error}") from None
        wrong = (
            [field.name for field in SCHEMA if table.schema.field(field.name).type != field.type]
            if set(SCHEMA.names) <= set(table.schema.names)
            else []
        )
        if wrong or not set(SCHEMA.names) <= set(table.schema.names) or len(table) != info["rows"]:
            raise damaged(folder, "index.parquet has not the columns or the rows of an index")
        if (table.schema.metadata or {}).get(b"digest", b"").decode() != info["digest"]:
            raise damaged(folder, "index.parquet and index.json do not belong together")
        return cls(folder, info, table)

    @classmethod
    def in_memory(cls, videos: Sequence[Video], root: str) -> Index:
        """An index of these files that is in no folder; `root` is what its paths are relative to in the digest."""
        table = _table(videos, root)
        return cls(Path(root), {"root": root, "paths": [root], "digest": _digest(table)}, table)

    def __len__(self) -> int:
        return len(self.video)

    @property
    def num_videos(self) -> int:
        """How many files the rows are from."""
        return len(self._paths)

    @property
    def rejected(self) -> pa.Table:
        """The files left out: path, reason, detail."""
        return _read_table(self.folder, "rejected.parquet").select(["path", "reason", "detail"])

    def path(self, row: int) -> str:
        """The file to read for a row, absolute or an address; of a packed one the place in a shard (`media.Member`)."""
        if not self.is_packed:
            return self.original_path(row)
        shard, key, offset = (int(column_N[row]) for column_N in self._places)
        place = self.info.get("shards_at") or os.path.abspath(self.folder)  # noqa: PTH100
        path = joined(place, shard_name(shard))
        return Member(path, f"{member_key(key)}.mp4", offset, int(self.file_bytes[row])).path

    def original_path(self, row: int) -> str:
        """The video that a row is a segment of, absolute or an address; it may be gone where the segment was packed."""
        root: str = self.info["root"]
        return joined(root, self._paths[self.video[row]])

    def original_names(self, rows: NDArray[np.int64]) -> pa.Array:
        """The videos that some rows are of, relative to the root."""
        return pa.array(self._paths, pa.string()).take(pa.array(self.video[rows]))

    def check(self, rows: Sequence[int] | NDArray[np.int64] | None = None) -> None:
        """See that the files of some rows, of all by default, are as they were.

        Raises:
            IndexFileError: files have vanished, or differ in size or in the time of their last change.
        """
        if self.is_packed:
            self._check_shards()
            return
        videos = range(self.num_videos) if rows is None else np.unique(self.video[np.asarray(rows)])
        first_rows = self._first_rows[videos].tolist()
        paths = [self.path(row) for row in first_rows]
        named = self.info["paths"] if rows is None else None
        wrong = []
        for row, path, found in zip(first_rows, paths, stamps(paths, named), strict=True):
            if isinstance(found, str):
                wrong.append(f"{path} {found}")
            elif found != (self.file_bytes[row], self.modified_ns[row]):
                wrong.append(f"{path} has changed")
        if wrong:
            more = f", and {len(wrong) - _EXAMPLES} more" if len(wrong) > _EXAMPLES else ""
            update = command(self.info["paths"], self.folder)
            raise IndexFileError(
                f"{len(wrong)} of {len(videos)} files of the index {self.folder} are not as they were: "
                f"{', '.join(wrong[:_EXAMPLES])}{more}. Bring them back, or update: {update}"
            )

    def _check_shards(self) -> None:
        shards = self.info["shards"]
        paths = [joined(self.info.get("shards_at") or str(self.folder), shard["name"]) for shard in shards]
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
        bounds = np.append(self._first_rows, len(self))
        facts = self._table.select(list(FACTS)).take(self._first_rows).to_pylist()
        return [
            Video(self.path(a), fact, self.start_s[a:b], self.seconds[a:b])
            for a, b, fact in zip(bounds[:-1], bounds[1:], facts, strict=True)
        ]

    def rejected_files(self) -> list[Rejected]:
        """The files left out, with all that an update needs to know of them."""
        rows = _read_table(self.folder, "rejected.parquet").to_pylist()
        root = self.info["root"]
        return [Rejected(**{**row, "path": joined(root, row["path"])}) for row in rows]


def shard_name(number: int) -> str:
    """The file of a shard."""
    return f"shard-{number:05d}.tar"


def member_key(source_row: int) -> str:
    """What the files of a segment in a shard are called, without their endings, by its row in the index it is from."""
    return f"{source_row:09d}"


def write_index(
    folder: Path, videos: Sequence[Video], rejected: Sequence[Rejected], info: Mapping[str, Any]
) -> dict[str, Any]:
    """Write an index, or replace the one that is there, whole or not at all.

    Args:
        folder: of the index.
        videos: in the order of their rows.
        rejected: the files left out.
        info: for index.json; must have `root`, which paths are written relative to.

    Returns:
        What is in index.json now.
    """
    table = _table(videos, info["root"])
    digest = _digest(table)
    table = table.replace_schema_metadata({"digest": digest})
    full = {"format": FORMAT, "rows": len(table), "videos": len(videos), "digest": digest, **info}

    def write(target: Path) -> None:
        pq.write_table(table, target / "index.parquet", compression="zstd")
        write_rejected(target / "rejected.parquet", rejected, info["root"])
        write_json(target / "index.json", full)

    if (folder / "index.json").exists():
        finish_update(folder)  # that an earlier process could not
        for rest in folder.glob(f"{TEMPORARY}*"):  # of a process that died
            shutil.rmtree(rest, ignore_errors=True)
        with whole_folder(folder / UPDATE) as target:
            write(target)
        finish_update(folder)
    else:
        with whole_folder(folder) as target:
            write(target)
    return full


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


def write_rejected(path: Path, rejected: Sequence[Rejected], root: str) -> None:
    """Write the list of files left out."""
    columns = {name: [getattr(entry, name) for entry in rejected] for name in _REJECTED_SCHEMA.names}
    columns["path"] = [relative(path, root) for path in columns["path"]]
    pq.write_table(pa.table(columns, _REJECTED_SCHEMA), path, compression="zstd")


def _read_table(folder: Path, name: str) -> pa.Table:
    path = folder / UPDATE / name
    return pq.read_table(path if path.exists() else folder / name, memory_map=True)


def _table(videos: Sequence[Video], root: str) -> pa.Table:
    counts = [len(video.start_s) for video in videos]
    number_N = np.repeat(np.arange(len(videos), dtype=np.int32), counts)
    nothing = [np.zeros(0)]  # np.concatenate wants at least one array
    columns: dict[str, Any] = {
        "row": np.arange(len(number_N), dtype=np.int64),
        "path": _repeated([relative(video.path, root) for video in videos], pa.string(), number_N),
        "video": number_N,
        "start_s": np.concatenate(nothing + [video.start_s for video in videos]),
        "seconds": np.concatenate(nothing + [video.seconds for video in videos]),
    }
    for name, kind in FACTS.items():
        columns[name] = _repeated([video.facts[name] for video in videos], kind, number_N)
    return pa.table(columns, SCHEMA)


def _repeated(values: list[Any], kind: pa.DataType, number_N: NDArray[np.int32]) -> pa.Array:
    return pa.array(values, kind).take(pa.array(number_N))


def _digest(table: pa.Table) -> str:
    """SHA-256 over what rows are: which stretch of which file, by relative path and size."""
    first_rows = np.flatnonzero(np.diff(table["video"].to_numpy(), prepend=-1))
    digest = hashlib.sha256(f"seehear index {FORMAT}\n".encode())
    digest.update("\0".join(table["path"].take(first_rows).to_pylist()).encode())
    for name in ("video", "start_s", "seconds", "file_bytes"):
        digest.update(table[name].to_numpy().tobytes())
    return f"sha256:{digest.hexdigest()}"
