"""The signatures of all segments, by picture and by sound: read once, a group at a time.

Reading decodes every segment, which is nearly all the work of finding copies: a group that was read
waits beside the result until this is written (`data.parts`), so that a kill costs little.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from seehear.data.decoding.pool import run
from seehear.data.index import Index
from seehear.data.index.examination import Rejection
from seehear.data.media.signature import BANDS, BLOCKS, Signature
from seehear.data.parts import Work, parts_of
from seehear.errors import UsageError
from seehear.library.gallery import PLACE
from seehear.machine.console import Tell
from seehear.machine.reading import readable
from seehear.runs.fingerprint import index_of_run
from seehear.runs.folder import Run

SEGMENTS_A_GROUP = 256  # whose signatures a kill may cost


@dataclass(frozen=True)
class Listed:
    """The segments of a source: where they are, and how each is read (`signatures`)."""

    rows: NDArray[np.int64]
    paths: list[str]
    start_s: NDArray[np.float64]
    seconds: NDArray[np.float64]
    file_bytes: NDArray[np.int64]
    index: Index | None

    @property
    def digest(self) -> str:
        """Of what decides the signatures."""
        if self.index is not None:
            return self.index.digest
        columns = (self.start_s, self.seconds, self.file_bytes)
        found = hashlib.sha256(json.dumps(self.paths).encode())
        for column in columns:
            found.update(column.tobytes())
        return f"sha256:{found.hexdigest()}"

    def jobs(self, numbers: range) -> Iterator[tuple[Any, ...]]:
        """What workers are asked for, of some segments."""
        for i in numbers:
            if self.index is None:
                yield self.paths[i], float(self.start_s[i]), float(self.seconds[i]), None
                continue
            start_s, seconds = float(self.index.start_s[i]), float(self.index.seconds[i])
            yield self.index.path(i), start_s, seconds, self.index.hearing(i)


def segments_of(source: str | Path | Index, index: str | Path | None = None) -> Listed:
    """The segments of a run, of an index, or of a file of features."""
    path = Path() if isinstance(source, Index) else Path(source)
    if isinstance(source, Index) or (path / "index.json").exists():
        found = source if isinstance(source, Index) else Index.open(path)
    elif path.is_file():
        with readable(path, "Make it anew with `seehear embed`.", UsageError):
            table = pq.read_table(path, columns=PLACE.names).cast(PLACE)
        there_N = table["start_s"].is_valid().to_numpy() & table["path"].is_valid().to_numpy()
        table = table.filter(pa.array(there_N))
        paths, start_s, seconds = (table[name] for name in PLACE.names)
        names = paths.to_pylist()
        size = {name: file.stat().st_size for name in set(names) if (file := Path(name)).is_file()}
        sizes = np.array([size.get(name, 0) for name in names], np.int64)
        times = (start_s.to_numpy(), seconds.to_numpy())
        return Listed(np.flatnonzero(there_N), names, *times, sizes, None)
    else:
        found = index_of_run(Run.open(path), index)
    return Listed(
        np.arange(len(found)),
        [found.original_path(row) for row in range(len(found))],
        found.original_start_s,
        found.seconds,
        found.file_bytes,
        found,
    )


SIGNATURES = pa.schema(
    [(name, pa.binary()) for name in ("picture", "sound", "still")] + [("reason", pa.string())]
)
"""Arrays as bytes, (T, 16) and (T, 16) int8 and (16,) float32; or why there are none."""


@dataclass(frozen=True)
class Reading:
    """Segments, and how their signatures are read."""

    listed: Listed
    workers: int
    timeout_s: float

    def __call__(self, numbers: range, tell: Tell) -> pa.Table:
        """The signatures of some segments, with the columns of `SIGNATURES`."""
        lines: list[dict[str, Any]] = []
        failed: Counter[str] = Counter()
        task, jobs = "seehear.data.media.signature:signatures", self.listed.jobs(numbers)
        for done, answer in enumerate(run(task, jobs, self.workers, self.timeout_s), 1):
            if isinstance(answer, Rejection):
                failed[answer.reason] += 1
                lines.append({"reason": answer.reason})
            else:
                found = (array.tobytes() for array in answer)
                lines.append(dict(zip(SIGNATURES.names[:3], found, strict=True)))
            tell(done, failed)
        return pa.Table.from_pylist(lines, SIGNATURES)


def work_of(listed: Listed, out: Path, workers: int, timeout_s: float) -> Work:
    """Reading the signatures of all segments."""
    return Work(
        "signatures",
        out,
        parts_of(out),
        {"segments": listed.digest},
        {},
        len(listed.paths),
        SEGMENTS_A_GROUP,
        Reading(listed, workers, timeout_s),
        SIGNATURES,
        gives_way=True,
    )


@dataclass(frozen=True)
class Known:
    """The signatures of all segments, by picture and by sound; stills; what could not be read."""

    signatures: tuple[list[Signature], list[Signature]] = field(default_factory=lambda: ([], []))
    stills: list[NDArray[np.float32]] = field(default_factory=list)
    unreadable: dict[int, str] = field(default_factory=dict)

    @classmethod
    def of(cls, tables: Iterable[pa.Table]) -> Known:
        """What was read of all segments."""
        known = cls()
        for line in (line for table in tables for line in table.to_pylist()):
            if line["reason"] is not None:
                known.unreadable[len(known.stills)] = line["reason"]
            for signatures, name, width in zip(
                known.signatures, SIGNATURES.names, (BLOCKS**2, BANDS), strict=False
            ):
                signatures.append(np.frombuffer(line[name] or b"", np.int8).reshape(-1, width))
            known.stills.append(np.frombuffer(line["still"] or bytes(4), np.float32))
        return known
