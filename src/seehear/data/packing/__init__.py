"""An index of videos -> the same segments, small and quick to read: re-encoded to what training
reads, in shards.

Decoding is most of what training on videos costs, and most of that is decoding pictures that nobody
looks at: those between a key frame and the wanted frame, and pixels that are then scaled away. A
packed index is an index: whatever takes an index takes it (`index.packed` has its files).

`pack` first packs a few segments, spread over the index, and says what all will take. Then worker
processes write segments (`encoding`), and as soon as there are enough of them they become a shard
(`shards`). What is done stays done: the same call goes on where a killed one stopped.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from seehear.data.decoding.pool import run
from seehear.data.index import Index
from seehear.data.index.columns import member_key
from seehear.data.index.examination import Rejection
from seehear.data.index.info import PACKING
from seehear.data.index.packed import write_packed
from seehear.data.index.rejected import Rejected
from seehear.data.packing.encoding import Recipe, sound_rate_hz
from seehear.data.packing.place import begin, remove_packed, shards_in, what_is_there
from seehear.data.packing.shards import Part, finished_shards, members_of, write_shard
from seehear.errors import IndexFileError, SettingsError, UsageError
from seehear.machine.console import Console, counted, listing
from seehear.machine.distributed import cores
from seehear.machine.files import now
from seehear.machine.locks import one_writer
from seehear.machine.outputs import read_marker
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
            listing = ", ".join(f"{count} {reason}" for reason, count in self.rejected.items())
            lines.append(f"Not packed: {listing}. Which: {self.folder}/rejected.parquet")
        return "\n".join(lines)


@dataclass(frozen=True)
class _Job:
    """One call of `pack`: where from, where to, and how."""

    source: Index
    recipe: Recipe
    folder: Path
    shard_bytes: int
    workers: int
    timeout_s: float
    console: Console

    @property
    def work(self) -> Path:
        return self.folder / PACKING


def pack(
    index: str | os.PathLike[str] | Index,
    out: str | os.PathLike[str],
    *,
    preset: str = "small",
    short_side_pixels: int | None = None,
    frame_rate_hz: float | None = None,
    quality: int = 20,
    shard_gigabytes: float = 1.0,
    workers: int | None = None,
    timeout_s: float = 120.0,
    estimate: bool = False,
    overwrite: bool = False,
    console: Console | None = None,
) -> PackSummary:
    """Re-encode every segment of an index to what training reads, in shards with an index.

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
        shard_gigabytes: a shard is finished when it has so many.
        workers: processes; by default as many as there are cores for this process.
        timeout_s: a segment that takes longer is left out as "timed out".
        estimate: only pack a few segments, and say what all will take.
        overwrite: remove what was packed to `out` before.
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
        preset, short_side_pixels, frame_rate_hz, quality, shard_gigabytes, timeout_s, workers
    )
    folder = Path(out)
    settings = {
        "source": source.digest,
        "recipe": asdict(recipe),
        "shard_gigabytes": shard_gigabytes,
    }
    done = what_is_there(folder, settings, overwrite=overwrite)
    if done is not None:
        return _summary(folder, done)
    with (
        contextlib.nullcontext(console) if console else Console() as console,
        one_writer(folder, inside=True),
    ):
        what_is_there(folder, settings, overwrite=overwrite)
        source.check()
        if overwrite:
            remove_packed(folder)
        begin(folder, settings)
        job = _Job(
            source,
            recipe,
            folder,
            round(shard_gigabytes * 1e9),
            workers or cores(),
            timeout_s,
            console,
        )
        expected = _estimate(job)
        if estimate:
            return expected
        _pack_rest(job)
        return _summary(folder, _finish(job))


def _checked(
    preset: str,
    side: int | None,
    rate_hz: float | None,
    quality: int,
    shard: float,
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
    if not shard > 0 or not timeout_s > 0:
        raise SettingsError(
            f"shard_gigabytes is {shard:g} and timeout_s {timeout_s:g}. They must be positive."
        )
    if workers is not None and workers < 1:
        raise SettingsError(f"workers is {workers}. It must be at least 1.")
    return Recipe(side, float(rate_hz), sound_rate_hz(clip.sample_rate_hz), quality)


def _estimate(job: _Job) -> PackSummary:
    """Pack a few segments and say what all will take.

    Raises:
        UsageError: more than the disk has.
    """
    source, packed = job.source, finished_shards(job.folder, job.work)
    rows = np.unique(np.linspace(0, len(source) - 1, SAMPLED).round().astype(np.int64)).tolist()
    first = packed[-1]["end_row"] if packed else 0
    size = sum(done["shard"]["bytes"] for done in packed)
    seconds = float(source.seconds[:first].sum())
    for part in _parts(job, [row for row in rows if row >= first], "trying some segments"):
        if not isinstance(part.answer, Rejection):
            size, seconds = size + part.bytes_in_shard, seconds + float(source.seconds[part.row])
    share = float(source.seconds[first:].sum()) / max(seconds, 1e-9)
    left = size * share
    total = sum(done["shard"]["bytes"] for done in packed) + left
    job.folder.mkdir(parents=True, exist_ok=True)
    needed = (left + min(job.shard_bytes, left)) * DISK_MARGIN  # a shard is there twice for a while
    free = shutil.disk_usage(job.folder).free
    hours = float(source.seconds.sum()) / 3600
    job.console.say(
        f"{len(source)} segments, {hours:.1f} hours -> about {_size(total)} in {job.folder} "
        f"({_size(needed)} needed on the way, {_size(free)} free)"
    )
    if needed > free:
        raise UsageError(
            f"Packing needs about {_size(needed)} more in {job.folder}, and {_size(free)} are "
            "free. Choose an --out on a larger disk, or a smaller --short-side or --fps."
        )
    count = max(1, round(total / job.shard_bytes))
    return PackSummary(str(job.folder), len(source), hours * 3600, total / 1e9, count, {}, "")


def _pack_rest(job: _Job) -> None:
    """Pack what is in no shard yet."""
    packed = finished_shards(job.folder, job.work)
    number = len(packed)
    next_row = packed[-1]["end_row"] if packed else 0
    gathered: list[Part] = []
    size = 0
    for part in _parts(job, range(next_row, len(job.source)), "packing segments"):
        gathered.append(part)
        size += part.bytes_in_shard
        if size >= job.shard_bytes:
            write_shard(job.folder, job.work, number, gathered)
            number, gathered, size = number + 1, [], 0
    if gathered:
        write_shard(job.folder, job.work, number, gathered)


def _parts(job: _Job, rows: Sequence[int], what: str) -> Iterator[Part]:
    """Some segments as they are packed, in order, or as an earlier process packed them."""
    known = {row: record for row in rows if (record := _known_part(job, row))}
    jobs = (_arguments(job, row) for row in rows if row not in known)
    answers = run("seehear.data.packing.encoding:encode", jobs, job.workers, job.timeout_s)
    failed: Counter[str] = Counter()
    count = job.console.watch(what, len(rows), lambda: listing(failed), unit="segments")
    with contextlib.closing(answers):
        for done, row in enumerate(rows, 1):
            part = Part(row, known[row] if row in known else next(answers))
            if isinstance(part.answer, Rejection):
                failed[part.answer.reason] += 1
            yield part
            count(done)


def _known_part(job: _Job, row: int) -> dict[str, Any] | None:
    """What an earlier process noted of a segment, if all of it reached the disk."""
    stem = job.work / "parts" / member_key(row)
    try:
        record = json.loads(stem.with_suffix(".json").read_text(encoding="utf-8"))
        content = stem.with_suffix(".mp4").read_bytes()
        whole = hashlib.sha256(content).hexdigest() == record["sha256"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return record if whole else None


def _arguments(job: _Job, row: int) -> tuple[Any, ...]:
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


def _finish(job: _Job) -> dict[str, Any]:
    """Write the index over all shards, and remove what is needed no more."""
    packed = finished_shards(job.folder, job.work)
    failures = [failure for done in packed for failure in done["failures"]]
    members = members_of(job.work, len(packed))
    if len(members) == 0:
        reasons = Counter(reason for _, reason, _ in failures)
        raise IndexFileError(
            f"None of {len(failures)} segments can be packed: {dict(reasons)}. No index was "
            f"written."
        )
    rejected = [_rejected(job.source, *failure) for failure in failures]
    shards = [done["shard"] for done in packed if done["shard"]["bytes"]]
    info = {
        "packing": read_marker(job.work / "settings.json"),
        "shards": shards,
        "rejected": dict(Counter(file.reason for file in rejected).most_common()),
        "created": now(),
        "seehear": metadata.version("seehear"),
    }
    full = write_packed(job.folder, job.source, members, rejected, info)
    for rest in shards_in(job.folder)[len(packed) :]:
        rest.unlink()  # of an earlier try whose shards were cut elsewhere
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
