"""An index of videos -> the same segments, small and quick to read: re-encoded to what training
reads, in shards.

Decoding is most of what training on videos costs, and most of that is decoding pictures that nobody
looks at: those between a key frame and the wanted frame, and pixels that are then scaled away. A
packed index is an index: whatever takes an index takes it (`index.packed` has its files).

`pack` first packs a few segments, spread over the index, and says what all will take. Then worker
processes write segments (`encoding`), and so many neighbours become a shard (`shards`). What is
done stays done: the same call goes on where a killed one stopped, and several may share the work
(`data.parts`).
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from seehear.data.decoding.pool import run
from seehear.data.index import Index
from seehear.data.index.columns import member_key, shard_name
from seehear.data.index.examination import Rejection
from seehear.data.index.info import PACKING
from seehear.data.index.packed import MEMBERS, write_packed
from seehear.data.index.rejected import Rejected
from seehear.data.packing.encoding import Recipe, sound_rate_hz
from seehear.data.packing.place import (
    is_begun,
    remove_packed,
    remove_unfinished,
    shards_in,
    what_is_there,
)
from seehear.data.packing.shards import PACKED, Segment, is_there, write_shard
from seehear.data.parts import Engine, Part, PartSummary, Work, begin, do, writer
from seehear.errors import IndexFileError, SettingsError, UsageError
from seehear.machine.console import Console, Count, counted, listing
from seehear.machine.files import TEMPORARY, now
from seehear.machine.outputs import real
from seehear.presets import preset_settings

__all__ = ["PackSummary", "pack"]

SAMPLED = 8  # segments that are packed first, to know what all will take
DISK_MARGIN = 1.1  # by which the disk must have more than is expected


@dataclass(frozen=True)
class PackSummary:
    """What is packed, or what packing will take."""

    folder: str
    rows: int  # segments in the packed index; while it is only estimated, those to pack
    seconds: float  # of these
    gigabytes: float  # 10^9 bytes
    shards: int
    rejected: dict[str, int]  # reason -> segments, the most frequent first
    digest: str  # empty while it is only estimated

    def to_dict(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)

    def describe(self) -> str:
        """A line or two for a person."""
        hours = self.seconds / 3600
        if not self.digest:
            return (
                f"{self.rows} segments, {hours:.1f} hours: about {_size(self.gigabytes * 1e9)} "
                f"when packed."
            )
        lines = [
            f"{self.folder}: {self.rows} segments, {_size(self.gigabytes * 1e9)} in "
            f"{counted(self.shards, 'shard')}."
        ]
        if self.rejected:
            lines.append(
                f"Not packed: {listing(self.rejected)}. Which: {self.folder}/rejected.parquet"
            )
        return "\n".join(lines)


@dataclass(frozen=True)
class Packing:
    """One call of `pack`: where from, where to, and how."""

    source: Index
    recipe: Recipe
    folder: Path
    shard_segments: int
    workers: int
    timeout_s: float

    @property
    def work(self) -> Path:
        return self.folder / PACKING

    def __call__(self, rows: range, count: Count = lambda done: None) -> pa.Table:
        """Pack some rows of the index into a shard; what is known of it, as `shards.PACKED`."""
        number = rows.start // self.shard_segments
        (self.work / "parts").mkdir(parents=True, exist_ok=True)
        packed = write_shard(self.folder, self.work, number, [*_parts(self, rows, count)])
        for key in map(member_key, rows):
            for ending in (".json", ".mp4"):
                (self.work / "parts" / f"{key}{ending}").unlink(missing_ok=True)
        return packed


def pack(
    index: str | os.PathLike[str] | Index,
    out: str | os.PathLike[str],
    *,
    preset: str = "small",
    short_side_pixels: int | None = None,
    frame_rate_hz: float | None = None,
    quality: int = 20,
    shard_segments: int = 4096,
    workers: int | None = None,
    timeout_s: float = 120.0,
    estimate: bool = False,
    overwrite: bool = False,
    part: str | None = None,
    engine: str = "local",
    console: Console | None = None,
) -> PackSummary | PartSummary:
    """Re-encode every segment of an index to what training reads, in shards, with a packed index
    beside them.

    Where `out` is partly packed with the same settings, the rest is packed; where it is packed,
    nothing is done.

    Args:
        index: the folder that `seehear.index` wrote; its videos must be as they were.
        out: the folder to write.
        preset: whose clips the segments are packed for: short side, frame rate, sample rate.
        short_side_pixels: another short side, even; smaller pictures keep theirs.
        frame_rate_hz: another frame rate. Frames are chosen as training chooses them: at each
            moment the last one.
        quality: x264's constant rate factor, 0 to 51; lower is better and larger.
        shard_segments: in each shard; those that cannot be packed count.
        workers: processes; by default as many as there are cores for this process.
        timeout_s: a segment that takes longer is left out as "timed out".
        estimate: only pack a few segments, and say what all will take.
        overwrite: remove what was packed to `out` before.
        part: "i/n" packs the i-th n-th of the shards and writes no index, "merge" writes the index
            of what all parts have packed (`data.parts`); by default both is done.
        engine: "local", "ray", or "ray:" and the address of a cluster; then `workers` is of each of
            its processes, one by default.
        console: where progress is shown; stderr by default.

    Returns:
        Counts and sizes.

    Raises:
        UsageError: `out` is something else, was packed with other settings, or the disk is too
            small.
        IndexFileError: the index is none, its videos have changed, or no segment can be packed.
    """
    source = index if isinstance(index, Index) else Index.open(index)
    recipe = _checked(
        preset, short_side_pixels, frame_rate_hz, quality, shard_segments, timeout_s, workers
    )
    folder, mine, by = Path(out), Part.parse(part), Engine.parse(engine)
    settings = {"source": source.digest, "recipe": asdict(recipe), "shard_segments": shard_segments}
    anew = overwrite and not (mine.number == 0 or (part and is_begun(folder, settings)))
    done = what_is_there(folder, settings, overwrite=anew)
    if done is not None:
        return _summary(folder, done)
    with console or Console() as shown, writer(folder, mine, inside=True):
        what_is_there(folder, settings, overwrite=anew)
        source.check()
        if anew:
            remove_packed(folder)
        if mine.makes_result:
            remove_unfinished(folder)
        pack_some = Packing(source, recipe, folder, shard_segments, by.workers(workers), timeout_s)
        call = {"index": str(real(source.folder)), "preset": preset, "quality": quality}
        call |= {"short_side_pixels": recipe.short_side_pixels, "shard_segments": shard_segments}
        call |= {"frame_rate_hz": recipe.frame_rate_hz}
        work = _work(pack_some, settings, call)
        begin(work, mine)  # by what it writes the folder is known, should this be killed
        if mine.number:
            expected = _estimate(pack_some, work, mine, shown)
            if estimate:
                return expected
        do(work, mine, shown, "packing segments", "segments", by, pack_some.workers)
        if not mine.makes_result:
            return PartSummary.of(work, mine)
        return _summary(folder, _finish(pack_some, work, settings))


def _work(pack_some: Packing, settings: Mapping[str, Any], call: Mapping[str, Any]) -> Work:
    """What is to be done to pack an index; a shard is a group."""
    return Work(
        "pack",
        pack_some.folder,
        pack_some.work,
        settings,
        call,
        len(pack_some.source),
        pack_some.shard_segments,
        pack_some,
        PACKED,
        is_kept=partial(is_there, pack_some.folder),
    )


def _checked(
    preset: str,
    side: int | None,
    rate_hz: float | None,
    quality: int,
    shard_segments: int,
    timeout_s: float,
    workers: int | None,
) -> Recipe:
    clip = preset_settings(preset).clip
    side = clip.short_side_pixels if side is None else side
    rate_hz = clip.frame_rate_hz if rate_hz is None else rate_hz
    if side < 8 or side % 2:
        raise SettingsError(
            f"short_side_pixels is {side}. It must be even and at least 8; 128 and 256 are usual."
        )
    if not 0.1 <= rate_hz <= 240:
        raise SettingsError(
            f"frame_rate_hz is {rate_hz:g}. It must be from 0.1 to 240; 15 and 30 are usual."
        )
    if not 0 <= quality <= 51:
        raise SettingsError(
            f"quality is {quality}. It must be from 0 to 51; 18 to 28 is usual, lower is better."
        )
    if not shard_segments > 0 or not timeout_s > 0:
        raise SettingsError(
            f"shard_segments is {shard_segments} and timeout_s {timeout_s:g}. They must be "
            "positive."
        )
    if workers is not None and workers < 1:
        raise SettingsError(f"workers is {workers}. It must be at least 1.")
    return Recipe(side, float(rate_hz), sound_rate_hz(clip.sample_rate_hz), quality)


def _estimate(job: Packing, work: Work, part: Part, console: Console) -> PackSummary:
    """Pack a few segments of a part and say what all of it will take.

    Raises:
        UsageError: more than the disk has.
    """
    source, mine = job.source, part.groups(len(work))
    tables = [work.table(number) for number in mine]
    size = sum(table["shard_bytes"][0].as_py() for table in tables if table is not None)
    rest = [work.range(n) for n, table in zip(mine, tables, strict=True) if table is None]
    rows = np.concatenate([np.zeros(0, np.int64), *map(np.asarray, rest)])
    spread = np.linspace(0, len(rows) - 1, SAMPLED).round().astype(np.int64)
    sampled = rows[np.unique(spread)].tolist() if len(rows) else []
    count, some_bytes, some_s = console.watch("trying some segments", len(sampled)), 0, 1e-9
    (job.work / "parts").mkdir(parents=True, exist_ok=True)
    for packed in _parts(job, sampled, count):
        if not isinstance(packed.answer, Rejection):
            some_bytes += packed.bytes_in_shard
            some_s += float(source.seconds[packed.row])
    left = float(source.seconds[rows].sum()) * some_bytes / some_s
    a_shard = left * job.shard_segments / max(1, len(rows))
    needed = (left + min(a_shard, left)) * DISK_MARGIN  # a shard is there twice for a while
    free = shutil.disk_usage(job.folder).free
    all_rows = range(work.range(mine[0]).start, work.range(mine[-1]).stop) if mine else range(0)
    seconds = float(source.seconds[all_rows.start : all_rows.stop].sum())
    console.say(
        f"{len(all_rows)} segments, {seconds / 3600:.1f} hours -> about {_size(size + left)} in "
        f"{job.folder} ({_size(needed)} needed on the way, {_size(free)} free)"
    )
    if needed > free:
        raise UsageError(
            f"Packing needs about {_size(needed)} more in {job.folder}, and {_size(free)} are "
            "free. Choose an --out on a larger disk, or a smaller --short-side or --fps."
        )
    gigabytes = (size + left) / 1e9
    return PackSummary(str(job.folder), len(all_rows), seconds, gigabytes, len(mine), {}, "")


def _parts(job: Packing, rows: Sequence[int], count: Count) -> Iterator[Segment]:
    """Some segments as they are packed, in order, or as an earlier process packed them."""
    known = {row: record for row in rows if (record := _known_part(job, row))}
    jobs = (_arguments(job, row) for row in rows if row not in known)
    answers = run("seehear.data.packing.encoding:encode", jobs, job.workers, job.timeout_s)
    with closing(answers):
        for done, row in enumerate(rows, 1):
            yield Segment(row, known[row] if row in known else next(answers))
            count(done)


def _known_part(job: Packing, row: int) -> dict[str, Any] | None:
    """What an earlier process noted of a segment, if all of it reached the disk."""
    stem = job.work / "parts" / member_key(row)
    try:
        record = json.loads(stem.with_suffix(".json").read_text(encoding="utf-8"))
        content = stem.with_suffix(".mp4").read_bytes()
        whole = hashlib.sha256(content).hexdigest() == record["sha256"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return record if whole else None


def _arguments(job: Packing, row: int) -> tuple[Any, ...]:
    """Those of `encode` for a row."""
    index, key = job.source, member_key(row)
    start_s, seconds = float(index.start_s[row]), float(index.seconds[row])
    note = {
        "row": row,
        "path": index.original_names(np.array([row]))[0].as_py(),
        "start_s": float(index.original_start_s[row]),
        "seconds": seconds,
    }
    size = int(index.width[row]), int(index.height[row])
    text = json.dumps(note, ensure_ascii=False)
    parts = str(job.work / "parts")
    return index.path(row), start_s, seconds, size, job.recipe, parts, key, text


def _size(count: float) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"


def _finish(job: Packing, work: Work, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Write the index over all shards, and remove what is needed no more."""
    tables = list(work.tables())
    packed = pa.concat_tables(tables)
    is_in = pc.is_null(packed["reason"])
    failures = packed.filter(pc.invert(is_in)).select(["source_row", "reason", "detail"])
    rejected = [_rejected(job.source, *row.values()) for row in failures.to_pylist()]
    reasons = dict(Counter(file.reason for file in rejected).most_common())
    if len(rejected) == len(packed):
        raise IndexFileError(
            f"None of {len(rejected)} segments can be packed: {reasons}. No index was written."
        )
    shards = [
        {
            "name": shard_name(number),
            "bytes": table["shard_bytes"][0].as_py(),
            "sha256": table["shard_sha256"][0].as_py(),
        }
        for number, table in enumerate(tables)
    ]
    info = {
        "packing": settings,
        "shards": shards,
        "rejected": reasons,
        "created": now(),
        "seehear": metadata.version("seehear"),
    }
    members = packed.filter(is_in).select(MEMBERS.names)
    full = write_packed(job.folder, job.source, members, rejected, info)
    for rest in shards_in(job.folder)[len(shards) :]:
        rest.unlink()  # of an earlier try whose shards were cut elsewhere
    for rest in job.folder.glob(f"{TEMPORARY}shard-*"):
        rest.unlink(missing_ok=True)  # of a part that was killed
    shutil.rmtree(job.work)
    return full


def _rejected(source: Index, row: int, reason: str, detail: str) -> Rejected:
    where = f"from {source.original_start_s[row]:g} s on" + (f": {detail}" if detail else "")
    return Rejected(
        source.original_path(row),
        reason,
        where,
        int(source.file_bytes[row]),
        int(source.modified_ns[row]),
    )


def _summary(folder: Path, info: dict[str, Any]) -> PackSummary:
    size = sum(shard["bytes"] for shard in info["shards"])
    index = Index.open(folder)
    return PackSummary(
        str(folder),
        len(index),
        float(index.seconds.sum()),
        size / 1e9,
        len(info["shards"]),
        info["rejected"],
        index.digest,
    )
