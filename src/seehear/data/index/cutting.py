"""How do files that were looked at become rows? A few thousand at a time; each column grows in
place, so that memory holds the rows once, and no object for any.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from seehear.data.index.columns import FACTS, SCHEMA, WORDS, assemble
from seehear.data.index.rejected import Rejected
from seehear.data.remote.addresses import relative
from seehear.data.stretches import cut_all

_FILES_A_CHUNK = 2**14  # are cut together


def rows_of(
    tables: Iterable[pa.Table], settings: Mapping[str, float], root: str
) -> tuple[pa.RecordBatch, list[Rejected]]:
    """The rows of files that were looked at (`looking.SEEN`), in order, and the files left out."""
    kinds = {name: SCHEMA.field(name).type for name in SCHEMA.names[1:]}
    columns = {name: (_Words if kind == WORDS else _Column)(kind) for name, kind in kinds.items()}
    names, video, rejected = _Texts(), _Column(pa.int32()), list[Rejected]()
    for seen in _larger(tables):
        rejected += rejected_of(seen)
        usable = seen.filter(pc.is_null(seen["reason"])).combine_chunks()
        first_s_V, seconds_V = (usable[n].to_numpy() for n in ("usable_start_s", "usable_seconds"))
        least_s_V = np.minimum(settings["min_seconds"], seconds_V)
        number_N, start_s_N, seconds_N = cut_all(
            first_s_V, seconds_V, settings["segment_seconds"], least_s_V
        )
        video.add(number_N + len(names))
        columns["start_s"].add(start_s_N)
        columns["seconds"].add(seconds_N)
        for name in FACTS:
            columns[name].add(usable[name].take(pa.array(number_N)).combine_chunks())
        below = [relative(path, root) for path in usable["path"].to_pylist()]
        names.add(pa.array(below, pa.large_string()))
    kept = {name: column.array() for name, column in columns.items()}
    del columns
    return assemble(kept, names.array(), video.values(), SCHEMA), rejected


def rejected_of(seen: pa.Table) -> list[Rejected]:
    """Those of some files that were looked at which cannot be used."""
    lost = seen.filter(pc.is_valid(seen["reason"]))
    names = ["path", "reason", "detail", "file_bytes", "modified_ns"]
    return [Rejected(**row) for row in lost.select(names).to_pylist()]


def _larger(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """The same rows in larger tables, which take less time a row."""
    waiting: list[pa.Table] = []
    for table in tables:
        waiting.append(table)
        if sum(map(len, waiting)) >= _FILES_A_CHUNK:
            yield pa.concat_tables(waiting)
            waiting = []
    if waiting:
        yield pa.concat_tables(waiting)


class _Column:
    """A column that grows."""

    def __init__(self, kind: pa.DataType) -> None:
        self._values: NDArray[Any] = np.empty(0, kind.to_pandas_dtype())
        self._used = 0

    def add(self, values: Any) -> None:
        end = self._used + len(values)
        if end > len(self._values):
            self._values.resize(end + end // 8, refcheck=False)  # moved by the system, not copied
        self._values[self._used : end] = values
        self._used = end

    def values(self) -> NDArray[Any]:
        """All values, when the last was added."""
        self._values.resize(self._used, refcheck=False)
        return self._values

    def array(self) -> pa.Array:
        return pa.array(self.values())


class _Words(_Column):
    """A column of few words, in the order in which they first come."""

    def __init__(self, kind: pa.DataType) -> None:
        super().__init__(kind.index_type)
        self._numbers: dict[str, int] = {}

    def add(self, values: pa.Array) -> None:
        coded = values.dictionary_encode()
        words = coded.dictionary.to_pylist()
        numbers = [self._numbers.setdefault(word, len(self._numbers)) for word in words]
        super().add(np.array(numbers, np.int16)[coded.indices.to_numpy()])

    def array(self) -> pa.Array:
        words = pa.array(list(self._numbers), pa.string())
        return pa.DictionaryArray.from_arrays(super().array(), words)


class _Texts:
    """Texts of any length, such as paths."""

    def __init__(self) -> None:
        self._bytes, self._ends = _Column(pa.uint8()), _Column(pa.int64())
        self._ends.add(np.zeros(1, np.int64))
        self._size = 0

    def __len__(self) -> int:
        return self._ends._used - 1

    def add(self, texts: pa.LargeStringArray) -> None:
        _, ends, content = texts.buffers()
        end_V = np.frombuffer(ends, np.int64)[texts.offset : texts.offset + len(texts) + 1]
        self._ends.add(end_V[1:] - end_V[0] + self._size)
        self._bytes.add(np.frombuffer(content or b"", np.uint8)[end_V[0] : end_V[-1]])
        self._size += int(end_V[-1] - end_V[0])

    def array(self) -> pa.Array:
        ends, content = (pa.py_buffer(column.values()) for column in (self._ends, self._bytes))
        return pa.Array.from_buffers(pa.large_string(), len(self), [None, ends, content])
