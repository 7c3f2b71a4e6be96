"""Which files were left out of an index, and why? `rejected.parquet`."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from seehear.data.index.examination import Rejection
from seehear.data.index.files import Candidate
from seehear.data.index.info import damaged, open_newest, read_info
from seehear.data.index.mapped import sha256_of
from seehear.data.remote.addresses import relative
from seehear.errors import IndexFileError

_SCHEMA = pa.schema(
    [
        ("path", pa.string()),
        ("reason", pa.string()),  # a key of seehear.data.media.REASONS
        ("detail", pa.string()),
        ("file_bytes", pa.int64()),
        ("modified_ns", pa.int64()),
    ]
)


@dataclass(frozen=True)
class Rejected:
    """A file left out."""

    path: str  # absolute
    reason: str
    detail: str
    file_bytes: int
    modified_ns: int

    @classmethod
    def of(cls, file: Candidate, why: Rejection) -> Rejected:
        """A file that was found, and why it is left out."""
        stamp = file.file_bytes, file.modified_ns
        return cls(printable_name(file.path), why.reason, why.detail, *stamp)


def unusable(path: str) -> str:
    """The reason where no table can hold the name of a file, otherwise nothing."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return "unusable name"
    return ""


def printable_name(path: str) -> str:
    """The name with backslashes for what no table can hold."""
    return os.fsencode(path).decode(errors="backslashreplace")


def write_rejected(path: Path, rejected: Sequence[Rejected], root: str) -> None:
    """Write the list of files left out."""
    columns = {name: [getattr(entry, name) for entry in rejected] for name in _SCHEMA.names}
    columns["path"] = [relative(path, root) for path in columns["path"]]
    pq.write_table(pa.table(columns, _SCHEMA), path, compression="zstd")


def left_out(folder: Path) -> pa.Table:
    """What was left out of an index, also of one that was not made: path, reason, detail."""
    if folder.exists() or not beside(folder).exists():
        return read_rejected(folder, read_info(folder)).select(["path", "reason", "detail"])
    try:
        return _parsed(beside(folder).read_bytes()).select(["path", "reason", "detail"])
    except (OSError, ValueError, pa.ArrowException) as error:
        raise IndexFileError(f"{beside(folder)} cannot be used: {error}") from None


def beside(folder: Path) -> Path:
    """The list of an index that was not made."""
    return folder.with_name(f"{folder.name}-rejected.parquet")


def read_rejected(folder: Path, info: Mapping[str, Any]) -> pa.Table:
    """The list of an index whose index.json holds `info`.

    Raises:
        IndexFileError: it is damaged, or was replaced since.
    """
    try:
        with open_newest(folder, "rejected.parquet") as file:
            content = file.read()
        if sha256_of(BytesIO(content)) != info["files"]["rejected.parquet"]:
            raise ValueError(
                "it is not as it was written, or the index was updated since it was opened"
            )
        return _parsed(content)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise damaged(folder, f"rejected.parquet cannot be used: {error}") from None


def _parsed(content: bytes) -> pa.Table:
    table = pq.read_table(pa.BufferReader(content))
    table.validate(full=True)
    is_whole = not any(column.null_count for column in table.columns)
    if table.schema.remove_metadata() != _SCHEMA or not is_whole:
        raise ValueError("it has not the columns and values of a list of files")
    return table
