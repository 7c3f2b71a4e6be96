"""Which files were found? A list with room for a hundred million: columns in place of objects."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import astuple, dataclass
from itertools import islice

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from seehear.data.remote.addresses import file_name

_ENDINGS = (
    "3g2 3gp amv asf avi divx dv f4v flv gxf ivf m2t m2ts m2v m4v mj2 mjpeg mkv mov mp4 mpeg mpg "
    "mxf nut ogm ogv qt rm rmvb vob webm wmv wtv y4m"
)
VIDEO_ENDINGS = tuple(f".{ending}" for ending in _ENDINGS.split())
"""Names with these endings are promises: such a file that cannot be used is listed with the reason.

Endings that are also those of programmes, .ts and .mts, are no promises; such files are known by
their content."""

_AT_ONCE = 2**13  # files that are Python objects at a time

_COLUMNS = pa.schema(
    [
        ("path", pa.large_binary()),  # as the file system has it: not every name is text
        ("file_bytes", pa.int64()),
        ("modified_ns", pa.int64()),
        ("failure", pa.string()),
        ("detail", pa.string()),
    ]
)


@dataclass(frozen=True)
class Candidate:
    """A file that may be a video; all that is known of it without opening it."""

    path: str  # absolute, links not resolved
    file_bytes: int
    modified_ns: int
    failure: str = ""  # why it cannot even be looked at, otherwise empty
    detail: str = ""  # what is known beyond it

    @property
    def is_promised(self) -> bool:
        """Does the name say that it is a video?"""
        return file_name(self.path).lower().endswith(VIDEO_ENDINGS)


class Files:
    """Files that were found, as columns: each takes its path and 32 bytes, and no object."""

    def __init__(self, table: pa.Table) -> None:
        self.table = table

    @classmethod
    def of(cls, found: Iterable[Candidate]) -> Files:
        """These, in their order."""
        batches, rest = [], iter(found)
        while some := list(islice(rest, _AT_ONCE)):
            rows = ((os.fsencode(file.path), *astuple(file)[1:]) for file in some)
            columns = map(pa.array, zip(*rows, strict=True), _COLUMNS.types)
            batches.append(pa.record_batch(list(columns), _COLUMNS))
        return cls(pa.Table.from_batches(batches, _COLUMNS))

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def __getitem__(self, some: slice) -> Files:
        return Files(self.table.slice(some.start, some.stop - some.start))

    def __iter__(self) -> Iterator[Candidate]:
        for batch in self.table.to_batches(max_chunksize=_AT_ONCE):
            for path, *rest in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                yield Candidate(os.fsdecode(path), *rest)

    def only(self, is_wanted_N: NDArray[np.bool_]) -> Files:
        """Some of them, in their order."""
        return self if is_wanted_N.all() else Files(self.table.filter(pa.array(is_wanted_N)))

    def digest(self) -> str:
        """SHA-256 over paths, sizes and times of the last change."""
        digest = hashlib.sha256()
        for file in self:
            line = f"\0{file.file_bytes}\0{file.modified_ns}\n"
            digest.update(os.fsencode(file.path) + line.encode())
        return f"sha256:{digest.hexdigest()}"
