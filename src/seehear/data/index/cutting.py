"""How do files that were looked at become rows? Some thousands at a time, as columns."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from seehear.data.index.columns import FACTS, SCHEMA, WORDS, assemble
from seehear.data.index.looking import SEEN
from seehear.data.index.rejected import Rejected
from seehear.data.remote.addresses import relative
from seehear.data.stretches import cut_all

_FILES_A_CHUNK = 2**13  # are cut together


def rows_of(
    tables: Iterable[pa.Table], settings: Mapping[str, float], root: str
) -> tuple[pa.RecordBatch, list[Rejected]]:
    """The rows of files that were looked at (`looking.SEEN`), in order, and the files left out."""
    chunks: defaultdict[str, list[Any]] = defaultdict(list)
    rejected: list[Rejected] = []
    for seen in _larger(tables):
        rejected += rejected_of(seen)
        usable = seen.filter(pc.is_null(seen["reason"])).combine_chunks()
        first_s_V, seconds_V = (usable[n].to_numpy() for n in ("usable_start_s", "usable_seconds"))
        least_s_V = np.minimum(settings["min_seconds"], seconds_V)
        cut = cut_all(first_s_V, seconds_V, settings["segment_seconds"], least_s_V)
        files = sum(map(len, chunks["names"]))
        chunks["video"].append((cut[0] + files).astype(np.int32))
        names = [relative(path, root) for path in usable["path"].to_pylist()]
        chunks["names"].append(pa.array(names, pa.large_string()))
        for name, values in zip(("start_s", "seconds"), cut[1:], strict=True):
            chunks[name].append(pa.array(values))
        rows = usable.take(pa.array(cut[0]))
        for name, kind in FACTS.items():
            fact = rows[name].combine_chunks()
            chunks[name].append(fact.dictionary_encode() if kind == WORDS else fact)
    video_N = np.concatenate(chunks.pop("video"))
    columns = {name: pa.chunked_array(chunks.pop(name)) for name in ("names", *SCHEMA.names[1:])}
    return assemble(columns, columns.pop("names").combine_chunks(), video_N, SCHEMA), rejected


def rejected_of(seen: pa.Table) -> list[Rejected]:
    """Those of some files that were looked at which cannot be used."""
    lost = seen.filter(pc.is_valid(seen["reason"]))
    names = ["path", "reason", "detail", "file_bytes", "modified_ns"]
    return [Rejected(**row) for row in lost.select(names).to_pylist()]


def _larger(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """The same rows in larger tables: a small column takes much beyond its rows."""
    waiting = [SEEN.empty_table()]
    for table in tables:
        waiting.append(table)
        if sum(map(len, waiting)) >= _FILES_A_CHUNK:
            yield pa.concat_tables(waiting)
            waiting = [SEEN.empty_table()]
    yield pa.concat_tables(waiting)
