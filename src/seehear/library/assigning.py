"""To which cluster does a new segment belong, and is it like anything seen before?

A row a segment: path, start_s, seconds, reason, and for each clustering, such as `video`,

    video_cluster    int32, the nearest centroid; null where the segment lacks what the space needs
    video_distance   float32, to it, after the preparation that was clustered with (see `trained`)
    video_margin     float32, by how much the second nearest is farther
    video_name       what a person called the cluster; null without a name
    video_far        whether the distance is beyond that of 99 % of the cluster's training rows
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from seehear.data.index import Index
from seehear.data.parts import Part, PartSummary, Work, do, parts_of, writer
from seehear.data.remote.addresses import is_remote
from seehear.library.embedding import call_of, embed, is_features, place_of, write_table
from seehear.library.gallery import PLACE, TableGallery
from seehear.library.sources import Paths
from seehear.library.trained import BLOCK_ROWS, Trained, open_run
from seehear.machine.console import Console, Count
from seehear.machine.files import atomic_file
from seehear.machine.outputs import check_file, real
from seehear.machine.spreadsheets import write_csv
from seehear.method.recordings import Recordings
from seehear.models.model import Model

_OF_EACH = [
    ("cluster", pa.int32()),
    ("distance", pa.float32()),
    ("margin", pa.float32()),
    ("name", pa.string()),
    ("far", pa.bool_()),
]


def assign(
    run: str | Path | Model | Trained,
    videos: Paths | Index | pa.Table,
    *,
    device: str = "auto",
    console: Console | None = None,
    **how: Any,
) -> pa.Table:
    """The clusters of new segments.

    Where a run was trained with `cluster.centre`, each segment is compared with the mean of its
    recording (its file, or what an index names) over the segments that are given here; one of a
    recording with too few of them with the mean of all training segments.

    Args:
        run: the folder of a finished run, or its loaded model.
        videos: a table of features, a Parquet file of them (`embed_to_file`), an index, or files
            and folders.
        device: where encoders run that are not.
        console: where progress is shown.
        how: as for `embed`: segment_seconds, min_seconds, num_clips, workers, timeout_s.
    Returns:
        One row a segment, and one for each file that cannot be read; the columns are above.
    Raises:
        UsageError: features of other encoders, or nothing there.
        RunError: the run is missing or unfinished, or its names are malformed.
    """
    trained = open_run(run, device=device)
    source: Any = videos
    if not are_features(videos):
        source = embed(trained.model, source, console=console, **how)
    gallery = TableGallery(source if isinstance(source, pa.Table) else Path(source), trained)
    if console and (recordings := gallery.recordings):
        console.say(say_of_few(recordings))
    return labels_in(gallery, range(len(gallery)))


def assign_to_file(
    run: str | Path | Model | Trained,
    videos: Any,
    out: str | Path,
    *,
    overwrite: bool = False,
    device: str = "auto",
    part: str | None = None,
    console: Console | None = None,
    **how: Any,
) -> dict[str, Any]:
    """Write the clusters of new segments to a Parquet file, or to CSV where its name ends so.

    Args:
        run, videos, device, console, how: as for `assign`.
        out: the file to write; the same call after a kill goes on.
        overwrite: replace it.
        part: "i/n" does the i-th n-th of the files or rows and writes no result, "merge" writes the
            result of all parts (`data.parts`); by default both is done.
    Returns:
        "path", "rows" (segments), "far" (clustering -> segments that are far from everything seen
        in training), "unreadable" (reason -> rows); of a part what `data.parts.PartSummary` has.
    Raises:
        UsageError: `out` exists, or has another ending than .parquet or .csv.
    """
    out, inputs, mine = Path(out), local_paths(videos), Part.parse(part)
    endings = (".parquet", ".csv")
    again = overwrite or mine.number == 0  # what is there is of a merge that was killed
    check_file(out, is_labels, "labels", overwrite=again, inputs=inputs, endings=endings)
    trained = open_run(run, device=device)
    asked = {"run": str(real(trained.path)), "videos": place_of(videos), "device": device}
    work, gallery = work_of(trained, videos, out, {**asked, **how, "overwrite": overwrite})
    with console or Console() as shown, writer(out, mine):
        do(work, mine, shown, "assigning", "files or rows")
        if not mine.makes_result:
            return PartSummary.of(work, mine).to_dict()
        if gallery is None:  # a recording may be in several groups of what was embedded
            gallery = TableGallery(pa.concat_tables(work.tables()), trained)
            rows, blocks = range(len(gallery)), range(0, len(gallery), BLOCK_ROWS)
            tables = (labels_in(gallery, rows[i : i + BLOCK_ROWS]) for i in blocks)
        else:
            tables = (table for table in work.tables())
        if recordings := gallery.recordings:
            shown.say(say_of_few(recordings))
        summary = write_labels(tables, out, label_schema(trained))
        work.remove()
    return summary


def work_of(
    trained: Trained, videos: Any, out: Path, asked: Mapping[str, Any]
) -> tuple[Work, TableGallery | None]:
    """What is to be done to write labels: to assign rows of a gallery, or to embed files first."""
    run, again = {"run": trained.digest}, bool(asked["overwrite"])
    if not are_features(videos):
        how = {name: asked[name] for name in asked.keys() - {"run", "videos", "overwrite"}}
        work = call_of(trained.model, videos, **how).work(out, asked)
        return replace(work, kind="labels", of={**work.of, **run}), None
    gallery = TableGallery(videos if isinstance(videos, pa.Table) else Path(videos), trained)
    some = partial(_some_labels, gallery)
    of, schema, count = {**gallery.plan, **run}, label_schema(trained), len(gallery)
    folder = parts_of(out)
    work = Work("labels", out, folder, of, asked, count, BLOCK_ROWS, some, schema, overwrite=again)
    return work, gallery


def _some_labels(gallery: TableGallery, rows: range, count: Count) -> pa.Table:
    """What a group of rows of features comes to."""
    return labels_in(gallery, rows)


def are_features(videos: Any) -> bool:
    """Whether this is a table of features, or the file of one."""
    if isinstance(videos, pa.Table):
        return True
    if not isinstance(videos, str | Path) or is_remote(str(videos)):
        return False
    path = Path(videos)
    return path.suffix == ".parquet" or (path.is_file() and is_features(path))


def label_schema(trained: Trained) -> pa.Schema:
    """The columns of labels."""
    fields = [(f"{name}_{what}", kind) for name in trained.clusterings for what, kind in _OF_EACH]
    return pa.schema([*PLACE, ("reason", pa.string()), *fields])


def say_of_few(recordings: Recordings) -> str:
    """What rows are compared with, in a run that takes from them what is their recordings'."""
    few, rows = int((recordings.number_N < 0).sum()), len(recordings.number_N)
    return (
        f"Segments are compared with the mean of their recording, as in training; {few} of {rows} "
        f"are of recordings with too few to have one here (fewer than {recordings.least}), and are "
        f"compared with the mean of all training segments."
    )


def labels_in(gallery: TableGallery, rows: range) -> pa.Table:
    """The clusters of some rows of features."""
    columns, start = [*PLACE.names, "reason", *gallery.modalities], rows.start
    batches = []
    for batch in gallery.batches(columns, rows):
        batches.append(assign_batch(gallery, batch, np.arange(start, start + len(batch))))
        start += len(batch)
    return pa.Table.from_batches(batches, label_schema(gallery.trained))


def assign_batch(
    gallery: TableGallery, batch: pa.RecordBatch, rows_N: NDArray[np.int64]
) -> pa.RecordBatch:
    """The clusters of some rows of features."""
    trained, columns = gallery.trained, [batch[name] for name in (*PLACE.names, "reason")]
    for name, clustering in trained.clusterings.items():
        there_N, cluster_N, distance_N, margin_N = gallery.nearest(batch, rows_N, clustering)
        names = trained.names[name]
        far_N = distance_N > trained.radii[name].numpy()[cluster_N]
        labels_N = [names.get(k) for k in cluster_N.tolist()]
        for values_N in (cluster_N, distance_N, margin_N, labels_N, far_N):
            kind = pa.string() if values_N is labels_N else None
            columns.append(pa.array(values_N, kind, mask=~there_N))
    return pa.record_batch(columns, schema=label_schema(trained))


def is_labels(path: Path) -> bool:
    """Whether a file holds what `assign_to_file` wrote."""
    names = columns_in(path)
    return names[:4] == [*PLACE.names, "reason"] and any(n.endswith("_cluster") for n in names[4:])


def columns_in(path: Path) -> list[str]:
    """The names of the columns of a Parquet or CSV file; none where it is something else."""
    import csv

    with contextlib.suppress(OSError, ValueError, pa.ArrowException):
        return list(pq.read_schema(path).names)
    with contextlib.suppress(OSError, ValueError, csv.Error), path.open(encoding="utf-8") as file:
        return next(csv.reader([file.readline(10_000)]), [])
    return []


def local_paths(videos: Any) -> list[Path]:
    """Those paths that a command was given to read that are of this machine."""
    several = videos if isinstance(videos, list | tuple) else [videos]
    return [Path(v) for v in several if isinstance(v, str | os.PathLike) and not is_remote(v)]


def write_labels(tables: Iterable[pa.Table], out: Path, schema: pa.Schema) -> dict[str, Any]:
    """Write labels, whole or not at all; returns the summary."""
    out.parent.mkdir(parents=True, exist_ok=True)
    far = {name.removesuffix("_far"): 0 for name in schema.names if name.endswith("_far")}

    def counted() -> Iterator[pa.Table]:
        for table in tables:
            for name in far:
                far[name] += pc.sum(table[f"{name}_far"]).as_py() or 0
            yield table

    summary = write_table(out, counted(), schema, as_csv=out.suffix == ".csv")
    return {"path": str(out), "rows": summary["rows"], "far": far, **summary}


def save_labels(table: pa.Table, out: Path, *, as_csv: bool) -> None:
    """Write a table as Parquet or CSV, whole or not at all."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(out) as temporary:
        if as_csv:
            write_csv(temporary, table.to_pydict())
        else:
            pq.write_table(table, temporary, compression="zstd")
