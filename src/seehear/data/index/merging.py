"""How do an index as it was and files that were looked at become one table?

Old files keep their order, new ones follow by path. All is done on columns, one at a time, so that
it takes little more than the table.
"""

from __future__ import annotations

import os
from bisect import bisect_left, bisect_right
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from seehear.data.index.columns import assemble
from seehear.data.index.mapped import first_of_each
from seehear.data.index.table import Index
from seehear.data.remote.addresses import joined, relative

_NAMES_AT_ONCE = 2**18  # are Python objects


def numbers_of(paths: pa.ChunkedArray, old: Index) -> NDArray[np.int32]:
    """Which file of an index each of some ascending paths (large_binary) is; -1 where none."""
    number_N = np.full(len(paths), -1, np.int32)
    for start in range(0, old.num_videos, _NAMES_AT_ONCE):
        names = old.names.slice(start, _NAMES_AT_ONCE).to_pylist()
        some = [os.fsencode(joined(old.info["root"], name)) for name in names]
        begin = bisect_left(paths, min(some), key=lambda path: path.as_py())
        end = bisect_right(paths, max(some), key=lambda path: path.as_py())
        found = pc.index_in(paths.slice(begin, end - begin), pa.array(some, pa.large_binary()))
        found_n = found.fill_null(-1).to_numpy()
        number_N[begin:end][found_n >= 0] = found_n[found_n >= 0] + start
    return number_N


def merged(
    old: Index | None, kept: NDArray[np.int32], new: pa.RecordBatch, root: str
) -> tuple[pa.RecordBatch, dict[str, int]]:
    """The rows of some files of an index, by number, and of others in a table, which are by path.

    Names in `new` and in what is returned are relative to `root`. Also how many files were added
    to the index, changed and dropped.
    """
    names = new["path"].dictionary
    if old is None:
        return new, {"added": len(names), "changed": 0, "dropped": 0}
    paths = [os.fsencode(joined(root, name)) for name in names.to_pylist()]
    number_M = numbers_of(pa.chunked_array([pa.array(paths, pa.large_binary())]), old)
    changed = int(np.count_nonzero(number_M >= 0))
    dropped = old.num_videos - len(kept) - changed
    changes = {"added": len(names) - changed, "changed": changed, "dropped": dropped}
    if not any(changes.values()) and root == old.info["root"]:
        return old.table, changes
    last_M = old.num_videos + np.arange(len(names))
    order_F = np.argsort(np.concatenate([kept, np.where(number_M < 0, last_M, number_M)]))
    tables = [table for table, count in ((old.table, len(kept)), (new, len(names))) if count]
    (begin_V, count_V), (begin_M, count_M) = _spans(old.table), _spans(new)
    begin_M = begin_M + (len(old) if len(kept) else 0)
    begin_F, count_F = (
        np.concatenate([was_V[kept], now_M])[order_F]
        for was_V, now_M in ((begin_V, begin_M), (count_V, count_M))
    )
    rows_N = np.repeat(begin_F - (np.cumsum(count_F) - count_F), count_F)
    rows_N += np.arange(len(rows_N))
    schema = (tables or [new])[0].schema
    columns = {
        name: _plain(pa.chunked_array([table[name] for table in tables or [new]]), rows_N)
        for name in schema.names[1:]
    }
    old_names = old.names.take(pa.array(kept))
    if root != old.info["root"]:
        whole = (joined(old.info["root"], name) for name in old_names.to_pylist())
        old_names = pa.array([relative(path, root) for path in whole], names.type)
    all_names = pa.concat_arrays([old_names, names]).take(pa.array(order_F))
    number_N = np.repeat(np.arange(len(order_F), dtype=np.int32), count_F)
    return assemble(columns, all_names, number_N, schema), changes


def _spans(table: pa.RecordBatch) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The first row of each file, and how many it has."""
    first_V = first_of_each(table["path"].indices.to_numpy())
    return first_V, np.diff(first_V, append=len(table))


def _plain(column: pa.ChunkedArray, rows_N: NDArray[np.int64]) -> Any:
    """Some rows; of words their text: which words there are, and in which order, is seen anew."""
    rows = column.unify_dictionaries().take(pa.array(rows_N))
    is_words = pa.types.is_dictionary(column.type)
    return rows.cast(column.type.value_type) if is_words else rows
