"""What does an index hold, and what was new in it this time? In words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from seehear.data.index.copies import same_bytes
from seehear.data.index.mapped import first_of_each
from seehear.data.index.rejected import Rejected
from seehear.data.index.table import Index
from seehear.data.remote.addresses import joined
from seehear.errors import printable
from seehear.machine.console import counted

_EXAMPLES = 3  # of passed-over folders


@dataclass(frozen=True)
class IndexSummary:
    """What an index holds, and what was new in it this time."""

    folder: str
    rows: int
    videos: int
    seconds: float  # of all segments
    rejected: dict[str, int]  # reason -> files, the most frequent first
    added: int  # usable files that were not in the index before
    changed: int  # usable files that are not as they were before
    dropped: int  # files that have vanished, or cannot be used any more
    digest: str
    # folders that seehear made: runs, reports, other indexes
    passed_over: list[str] = field(default_factory=list)
    # files of several recordings, of which the first is used
    joined: list[str] = field(default_factory=list)
    # groups of files that are the same byte for byte
    same_bytes: list[list[str]] = field(default_factory=list)
    # columns of the list of segments that mean nothing here
    ignored: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)

    def describe(self) -> str:
        """A few lines for a person."""
        what = f"{counted(self.rows, 'segment')} of {counted(self.videos, 'video')}"
        lines = [f"{self.folder}: {what}, {_duration(self.seconds)} in all."]
        if self.dropped or self.changed or self.added != self.videos:
            lines.append(
                f"Videos: {self.added} new, {self.changed} changed, {self.dropped} dropped."
            )
        if self.rejected:
            total = sum(self.rejected.values())
            lines.append(
                f"Left out: {total} ({listing(self.rejected)}). Which: seehear "
                f"rejected {self.folder}"
            )
        if self.same_bytes:
            count = sum(len(group) - 1 for group in self.same_bytes)
            pairs = [f"{group[1]} and {group[0]}" for group in self.same_bytes]
            lines.append(f"The same bytes as another file: {count} ({_some(pairs)}).")
        if self.passed_over:
            folders = (
                "1 folder" if len(self.passed_over) == 1 else f"{len(self.passed_over)} folders"
            )
            lines.append(f"Passed over {folders} that seehear made: {_some(self.passed_over)}")
        if self.ignored:
            lines.append(f"Columns of the segments that are not used: {', '.join(self.ignored)}")
        if self.joined:
            lines.append(
                f"Used only in part, since their clock starts again: {len(self.joined)} files "
                f"({_some(self.joined)}). docs/files.md says more."
            )
        return "\n".join(map(printable, lines))


def summary(
    folder: Path,
    info: Mapping[str, Any],
    table: pa.RecordBatch,
    changes: Mapping[str, int],
    passed_over: list[str],
    ignored: list[str],
) -> IndexSummary:
    """Of an index that has been written; `info` is in its index.json."""
    names, first_V = table["path"].dictionary, first_of_each(table["path"].indices.to_numpy())
    bytes_V = table["file_bytes"].to_numpy()[first_V]
    parts_V = table["parts"].fill_null(1).to_numpy()[first_V]
    # the same bytes are of one size and, if cut alike, end with one segment: others are not read
    key_V = bytes_V * 0x9E3779B1
    if not info.get("segments"):
        last_V = np.append(first_V[1:], len(table)) - 1
        for name in ("start_s", "seconds"):
            key_V ^= table[name].to_numpy()[last_V].view(np.int64)
    _, places_V, counts = np.unique(key_V, return_inverse=True, return_counts=True)
    is_alike_V = counts[places_V] > 1

    def paths(files_V: NDArray[np.bool_]) -> list[str]:
        some = names.filter(pa.array(files_V)).to_pylist()
        return [joined(info["root"], name) for name in some]

    return IndexSummary(
        folder=str(folder),
        rows=info["rows"],
        videos=info["videos"],
        seconds=float(table["seconds"].to_numpy().sum()),
        rejected=info["rejected"],
        **changes,
        digest=info["digest"],
        passed_over=passed_over,
        joined=paths(parts_V > 1),
        same_bytes=same_bytes(
            dict(zip(paths(is_alike_V), bytes_V[is_alike_V].tolist(), strict=True))
        ),
        ignored=ignored,
    )


def summary_of_packed(index: Index) -> IndexSummary:
    """Of a copy of a packed index; all of it is new."""
    rejected = index.info["rejected"]
    seconds, count = float(index.seconds.sum()), index.num_videos
    return IndexSummary(
        str(index.folder), len(index), count, seconds, rejected, count, 0, 0, index.digest
    )


def tally(rejected: Sequence[Rejected]) -> dict[str, int]:
    """How many files were left out for each reason, the most frequent first."""
    counts = Counter(file.reason for file in rejected)
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _some(paths: Sequence[str]) -> str:
    return ", ".join(paths[:_EXAMPLES]) + ", ..." * (len(paths) > _EXAMPLES)


def listing(reasons: dict[str, int]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in reasons.items())


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 7200 else f"{seconds / 3600:.1f} hours"
