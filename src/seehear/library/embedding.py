"""What do the encoders say of new files? A row a segment, with the features of its streams.

    path, start_s, seconds   the segment; null times for a file that cannot be read
    recording                of an index that names them, which recording the segment is of
    video, audio             fixed-size lists of float16, null where the segment has no such stream
    reason                   why something could not be read, a key of
                             `seehear.data.media.REASONS`; otherwise null

Work goes on group by group, so that memory does not grow with the number of files, and each
finished group is kept beside the output until all are there: the same call after a kill goes on
where it stopped, and several may share the work (`data.parts`).
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from seehear.config import Data
from seehear.data.clips import Clips
from seehear.data.index import Index
from seehear.data.parts import Engine, Part, PartSummary, Work, do, parts_of, writer
from seehear.data.placing import MODALITIES
from seehear.data.remote.addresses import absolute
from seehear.errors import MediaError, UsageError
from seehear.library.sources import Cutting, Group, Paths, Source, group_of_file, groups, source_of
from seehear.machine.console import Console, Tell, Watch, counting_from, untold, unwatched
from seehear.machine.distributed import cores
from seehear.machine.files import atomic_file
from seehear.machine.outputs import check_file, real
from seehear.machine.spreadsheets import write_csv
from seehear.method.features import extract
from seehear.models.model import Model, load

FORMAT = "seehear features 1"
FEW_SEGMENTS = 16  # are read in this process: starting others would take longer
_LARGEST = float(np.finfo(np.float16).max)


def embed(
    model: Model | str | Path,
    videos: Paths | Index,
    *,
    segment_seconds: float = 10.0,
    min_seconds: float = 1.0,
    num_clips: int = 1,
    workers: int | None = None,
    timeout_s: float = 30.0,
    device: str = "auto",
    console: Console | None = None,
) -> pa.Table:
    """The features of new files, as a table in memory; for many files see `embed_to_file`.

    Args:
        model: encoders, or the folder of a run.
        videos: an index or its folder; or video and audio files, or folders that hold them at any
            depth.
        segment_seconds: the longest segment that a file is cut into; an index keeps its own
            segments.
        min_seconds: a shorter tail is dropped; a shorter file is one segment.
        num_clips: so many clips of a segment, evenly spread, are averaged; runs cluster the feature
            of one, the middle.
        workers: processes; by default one a core.
        timeout_s: a file that takes longer to open has the reason "timed out".
        device: where the encoders of a run are put.
        console: where progress is shown.
    Returns:
        path, start_s, seconds, (recording,) video, audio, reason; in the order of the index, or of
        the paths.
    Raises:
        UsageError: there is nothing at a path, or settings that cannot be.
        RunError: `model` is no run with encoders.
    """
    call = call_of(
        model, videos, segment_seconds, min_seconds, num_clips, workers, timeout_s, device
    )
    tables = call.tables(console.watch if console else unwatched)
    return pa.concat_tables([call.schema.empty_table(), *tables])


def embed_to_file(
    model: Model | str | Path,
    videos: Paths | Index,
    out: str | Path,
    *,
    segment_seconds: float = 10.0,
    min_seconds: float = 1.0,
    num_clips: int = 1,
    workers: int | None = None,
    timeout_s: float = 30.0,
    overwrite: bool = False,
    device: str = "auto",
    part: str | None = None,
    engine: str = "local",
    console: Console | None = None,
) -> dict[str, Any]:
    """Write the features of new files to a Parquet file; the same call after a kill goes on.

    Args:
        out: the file to write. Until it is complete there is a hidden folder of its name beside it.
        overwrite: replace `out`, and forget what an unfinished call with other settings left.
        part: "i/n" embeds the i-th n-th of the files or rows and writes no result, "merge" writes
            the result of all parts (`data.parts`); by default both is done.
        engine: "local", "ray", or "ray:" and the address of a cluster; then `workers` is of each of
            its processes, one by default, and each has a GPU where there are any.
        model, videos, segment_seconds, min_seconds, num_clips, workers, timeout_s, device, console:
            as for `embed`. Memory does not grow with the number of files.
    Returns:
        "path", "rows" (segments), "video" and "audio" (segments that have the feature),
        "unreadable" (reason -> rows); of a part what `data.parts.PartSummary` has.
    Raises:
        UsageError: `out` exists or has another ending than .parquet, or what is unfinished was
            begun with other encoders, files or settings.
    """
    out, mine, by = Path(out), Part.parse(part), Engine.parse(engine)
    again = overwrite or mine.number == 0  # what is there is of a merge that was killed
    check_file(out, is_features, "features", overwrite=again, endings=(".parquet",))
    many = by.workers(workers)
    call = call_of(model, videos, segment_seconds, min_seconds, num_clips, many, timeout_s, device)
    asked = {"model": place_of(model), "videos": place_of(videos), "overwrite": overwrite}
    asked |= {"device": device, "segment_seconds": segment_seconds, "min_seconds": min_seconds}
    work = call.work(out, {**asked, "num_clips": num_clips})
    with console or Console() as shown, writer(out, mine):
        check_file(out, is_features, "features", overwrite=again)
        do(work, mine, shown, "embedding", "files or rows", by, many)
        if not mine.makes_result:
            return PartSummary.of(work, mine).to_dict()
        summary = write_table(out, work.tables(), call.schema)
        work.remove()
    return summary


def place_of(given: Any) -> Any:
    """How models and videos can be named again, as plain data; None where they have no place."""
    if isinstance(given, Model):
        return str(real(given.run)) if given.run else None
    if isinstance(given, str | os.PathLike):  # released weights have a name and no place
        return absolute(given) if os.path.lexists(given) else os.fspath(given)
    if isinstance(given, Index):
        return str(real(given.folder))
    return [absolute(path) for path in given] if isinstance(given, list | tuple) else None


def write_table(
    out: Path, tables: Iterable[pa.Table], schema: pa.Schema, *, as_csv: bool = False
) -> dict[str, Any]:
    """Write tables of features or labels into one file, and count what they hold."""
    counts = Counter(dict.fromkeys(("rows", *(m for m in MODALITIES if m in schema.names)), 0))
    reasons: Counter[str] = Counter()
    tables = list(tables) if as_csv else tables  # CSV is written line by line, of all columns
    with atomic_file(out) as temporary, ExitStack() as opened:
        if not as_csv:
            file = opened.enter_context(pq.ParquetWriter(temporary, schema, compression="zstd"))
        for table in tables:
            if not as_csv:
                file.write_table(table.cast(schema))
            for what in counts:
                column = table["start_s" if what == "rows" else what]
                counts[what] += len(table) - column.null_count
            reasons.update(table["reason"].drop_null().to_pylist())
        if as_csv:
            cells = {name: chain(*(t[name].to_pylist() for t in tables)) for name in schema.names}
            write_csv(temporary, cells)
    return {"path": str(out), **counts, "unreadable": dict(reasons.most_common())}


def metadata_of(schema: pa.Schema) -> dict[str, str]:
    """What a table of features says of itself."""
    pairs = (schema.metadata or {}).items()
    return {key.decode(errors="replace"): value.decode(errors="replace") for key, value in pairs}


def is_features(path: Path) -> bool:
    """Whether a file holds what `embed_to_file` wrote."""
    try:
        return metadata_of(pq.read_schema(path)).get("format", "").startswith("seehear features")
    except (OSError, ValueError, pa.ArrowException):
        return False


def embed_file(
    model: Model, path: str | os.PathLike[str], *, num_clips: int = 10
) -> dict[str, np.ndarray]:
    """One feature a modality, of a file: modality -> (D,) float32; what both file and model have.

    A file with picture and sound is one segment from the moment when both are there to the moment
    when one ends, as in an index; a file with one stream is one segment of that stream.

    Args:
        model: from `seehear.load`.
        path: a video or audio file.
        num_clips: so many clips, spread evenly, are averaged.
    Raises:
        MediaError: the file cannot be read, or has no stream that the model has an encoder for.
        UsageError: `num_clips` is not positive.
    """
    found, reasons = features_of(model, group_of_file(path, model.modalities), num_clips)
    there = {m: part_1D[0] for m, part_1D in found.items() if not np.isnan(part_1D[0, 0])}
    if not there:
        raise MediaError(path, reasons[0])
    return there


@dataclass(frozen=True)
class Call:
    """What one call embeds, and how."""

    model: Model
    source: Source
    settings: dict[str, float]
    workers: int

    def __reduce__(self) -> tuple[Any, ...]:
        """Encoders travel as the place that they are loaded from, to whatever device is there."""
        place = place_of(self.model)
        if place is None:
            raise UsageError("Encoders go to other processes by their folder. Load them from one.")
        return _loaded, (place, self.model.digest, self.source, self.settings, self.workers)

    @cached_property
    def schema(self) -> pa.Schema:
        """The columns; a modality without an encoder is not there.

        Its metadata say what the features are of; two tables with the same have the same rows.
        """
        widths = {m: self.model.pair.feature_dim(m) for m in self.model.modalities}
        columns = [("path", pa.string()), ("start_s", pa.float64()), ("seconds", pa.float64())]
        columns += [("recording", pa.string())] if self.source.names_recordings else []
        columns += [(m, pa.list_(pa.float16(), width)) for m, width in widths.items()]
        metadata = {
            "format": FORMAT,
            "model": self.model.digest,
            "source": self.source.digest,
            "settings": json.dumps(self.settings),
        }
        return pa.schema([*columns, ("reason", pa.string())], metadata)

    def __call__(self, items: range, tell: Tell = untold) -> pa.Table:
        """The features of some files of the source, or rows of it, as a table."""
        group = self.source.group(items)

        def step(segments: float, reasons: Iterable[str]) -> None:
            tell(int(segments / len(group.rows) * len(items)), Counter(reasons))

        num_clips = int(self.settings["num_clips"])
        found = features_of(self.model, group, num_clips, self.workers, step)
        return features_table(group, *found, self.schema)

    def work(self, out: Path, asked: Mapping[str, Any]) -> Work:
        """What is to be done to write all features to a file."""
        return Work(
            "features",
            out,
            parts_of(out),
            metadata_of(self.schema),
            asked,
            len(self.source),
            self.source.group_size,
            self,
            self.schema,
            overwrite=bool(asked["overwrite"]),
        )

    def tables(self, watch: Watch) -> Iterator[pa.Table]:
        """The features of the source, a table a group."""
        count = watch("embedding", len(self.source))
        for items in groups(self.source):
            yield self(items, counting_from(items.start, count))
            count(items.stop)


def call_of(
    model: Model | str | Path,
    videos: Paths | Index,
    segment_seconds: float = 10.0,
    min_seconds: float = 1.0,
    num_clips: int = 1,
    workers: int | None = None,
    timeout_s: float = 30.0,
    device: str = "auto",
) -> Call:
    """The arguments of `embed` as what is to be done."""
    model = model if isinstance(model, Model) else load(model, device=device)
    workers = workers or cores()
    cutting = Cutting(model.modalities, segment_seconds, min_seconds, timeout_s)
    source = source_of(videos, cutting, workers)
    settings = {
        "segment_seconds": segment_seconds,
        "min_seconds": min_seconds,
        "num_clips": num_clips,
        "group_size": source.group_size,
    }
    return Call(model, source, settings, workers)


def _loaded(place: str, digest: str, *rest: Any) -> Call:
    """A call in another process."""
    model = load(place)
    if model.digest != digest:
        raise UsageError(f"{place} has other encoders now. Start again, or restore them.")
    return Call(model, *rest)


def features_of(
    model: Model,
    group: Group,
    num_clips: int,
    workers: int = 0,
    progress: Callable[[float, Iterable[str]], None] = lambda segments, reasons: None,
) -> tuple[dict[str, np.ndarray], dict[int, str]]:
    """Features of a group, (N, D) by modality, NaN where there are none, and number -> the reason.

    Where one stream of a segment fails, the other is still read. `progress` is called with how many
    are done, and why some could not be read.
    """
    if num_clips < 1:
        raise UsageError(f"num_clips is {num_clips}. It must be at least 1.")
    first, reasons = group.rows.start, dict(group.unreadable)
    found = {
        m: np.full((len(group.rows), model.pair.feature_dim(m)), np.nan, np.float32)
        for m in model.modalities
    }

    def read(rows: np.ndarray, streams: tuple[str, ...], before: int) -> dict[int, str]:
        data = Data(workers=0 if len(rows) < FEW_SEGMENTS else workers, max_failed_share=1.0)
        clips = Clips(group.index, model.clip, data, 0, streams)
        extracted = extract(
            model.pair,
            clips,
            model.numerics,
            rows=rows,
            num_clips=num_clips,
            progress=lambda done: progress(
                before + done / num_clips, [*reasons.values(), *clips.reasons.values()]
            ),
        )
        for modality, part_nD in extracted.of.items():
            found[modality][extracted.rows - first] = part_nD.numpy()
        return {row: clips.reasons[row] for row in np.setdiff1d(rows, extracted.rows).tolist()}

    done = len(reasons)
    for streams, rows in sorted(group.rows_of.items(), key=lambda item: -len(item[0])):
        failed = read(np.array(rows), streams, done)
        reasons |= {row - first: reason for row, reason in failed.items()}
        done += len(rows)
        if failed and len(streams) > 1:  # perhaps one of the streams is well
            for modality in streams:
                read(np.array(list(failed)), (modality,), done - len(failed))
    return found, reasons


def features_table(
    group: Group, features: dict[str, np.ndarray], reasons: dict[int, str], schema: pa.Schema
) -> pa.Table:
    """Segments and their features as a table."""
    index, rows = group.index, group.rows
    unknown = np.isin(rows, list(group.unreadable))
    columns: dict[str, Any] = {
        "path": [index.original_path(row) for row in rows],
        "start_s": pa.array(index.original_start_s[rows.start : rows.stop], mask=unknown),
        "seconds": pa.array(index.seconds[rows.start : rows.stop], mask=unknown),
        "reason": [reasons.get(i) for i in range(len(rows))],
    }
    if "recording" in schema.names:
        columns["recording"] = index.recording_names(np.arange(rows.start, rows.stop))
    for modality, part_ND in features.items():
        absent_N = np.isnan(part_ND[:, 0])
        numbers = np.clip(np.nan_to_num(part_ND), -_LARGEST, _LARGEST).astype(np.float16)
        columns[modality] = pa.FixedSizeListArray.from_arrays(
            pa.array(numbers.reshape(-1)), part_ND.shape[1], mask=pa.array(absent_N)
        )
    return pa.table({name: columns[name] for name in schema.names}, schema)
