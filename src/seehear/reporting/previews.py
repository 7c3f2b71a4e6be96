"""Which segments are shown as pictures and sound, and how are they cut, once, from the original
files?

A preview is three small files (`media/previews.py`), named by a key: a digest of which stretch of
which file it is, with size and time of change, so a file that changed gets new previews. They are
kept in RUN/previews, and a later report cuts only what is not there. Worker processes cut, so a
file that crashes or hangs the decoder costs only its own preview.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from seehear.data.decoding.pool import run
from seehear.data.index import Index
from seehear.data.index.examination import Rejection
from seehear.data.media.previews import SECONDS, SUFFIXES
from seehear.machine.console import Console, listing

RECIPE = (
    1  # raised when previews are made in another way, so that old ones are not taken for new ones
)
TIMEOUT_S = 30.0


@dataclass
class Previews:
    """What could be cut.

    keys: row -> key; failed: row -> reason; wanted: how many were asked for; cut: how many were not
    there already.
    """

    keys: dict[int, str] = field(default_factory=dict)
    failed: dict[int, str] = field(default_factory=dict)
    wanted: int = 0
    cut: int = 0

    @property
    def reasons(self) -> dict[str, int]:
        """Reason -> how many failed for it."""
        return dict(Counter(self.failed.values()).most_common())


def choose(ranks: Mapping[str, np.ndarray], cells: np.ndarray, budget: int) -> np.ndarray:
    """The rows that get a preview, in the order in which they matter.

    First the row nearest to each centroid of each space, then the second nearest, and so on to the
    sixth; then the rows that stand for the cells of the matrix; then further neighbours; then rows
    spread evenly over the rest.

    Args:
        ranks: space -> (N,) int, 0 for the row nearest to its centroid; negative for rows without a
            label.
        cells: rows that stand for cells of the matrix.
        budget: so many at most.
    """
    num_rows = len(next(iter(ranks.values())))
    near = [np.flatnonzero(rank_N == r) for r in range(6) for rank_N in ranks.values()]
    further = [np.flatnonzero(rank_N == r) for r in range(6, 24) for rank_N in ranks.values()]
    rest = np.random.default_rng(0).permutation(num_rows)[: 2 * budget]
    rows = np.concatenate([*near, cells, *further, rest]).astype(np.int64)
    first = np.sort(np.unique(rows, return_index=True)[1])
    return rows[first][:budget]


def make(
    index: Index, rows: Sequence[int] | np.ndarray, cache: Path, workers: int, console: Console
) -> Previews:
    """Cut the previews of some rows that are not in `cache` yet."""
    previews = Previews(wanted=len(rows))
    cache.mkdir(parents=True, exist_ok=True)
    root = str(index.info["root"])
    jobs, missing = [], []
    for row in map(int, rows):
        begin_s = float(index.start_s[row] + max(0.0, (index.seconds[row] - SECONDS) / 2))
        begin_s = round(begin_s, 3)
        seconds = round(min(SECONDS, float(index.seconds[row])), 3)
        path, stamp = index.path(row), (int(index.file_bytes[row]), int(index.modified_ns[row]))
        key = key_of(os.path.relpath(path, root), stamp, begin_s, seconds)
        previews.keys[row] = key
        if not (cache / f"{key}.mp4").exists():
            missing.append(row)
            size = (int(index.width[row]), int(index.height[row]))
            jobs.append((path, stamp, size, begin_s, seconds, str(cache), key))
    count = console.watch("previews", len(jobs), lambda: listing(previews.reasons))
    answers = run("seehear.data.media.previews:cut", jobs, workers, TIMEOUT_S)
    for done, (row, answer) in enumerate(zip(missing, answers, strict=True), 1):
        if isinstance(answer, Rejection):
            previews.failed[row] = answer.reason
            del previews.keys[row]
        count(done)
    previews.cut = len(jobs) - len(previews.failed)
    return previews


def key_of(path: str, stamp: tuple[int, int], begin_s: float, seconds: float) -> str:
    """The name of a preview, from what it is of: 16 hexadecimal digits."""
    what = json.dumps([RECIPE, path, *stamp, begin_s, seconds])
    return hashlib.sha256(what.encode()).hexdigest()[:16]


def link(keys: Sequence[str], cache: Path, folder: Path) -> int:
    """Put previews into a report, by hard links where the file system can; returns their bytes."""
    folder.mkdir(exist_ok=True)
    total = 0
    for key in sorted(set(keys)):
        for suffix in SUFFIXES:
            source, target = cache / f"{key}{suffix}", folder / f"{key}{suffix}"
            try:
                os.link(source, target)
            except FileExistsError:
                pass
            except OSError:
                shutil.copyfile(source, target)
            total += target.stat().st_size
    return total
