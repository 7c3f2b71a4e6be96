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
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from seehear.data.index import Index
from seehear.data.remote.addresses import is_remote
from seehear.library.embedding import embed
from seehear.library.gallery import PLACE, TableGallery
from seehear.library.parts import is_features
from seehear.library.sources import Paths
from seehear.library.trained import Trained, open_run
from seehear.machine.console import Console
from seehear.machine.files import atomic_file
from seehear.machine.locks import one_writer
from seehear.machine.outputs import check_file
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
    recording (its file, or what an index names) over the segments that are given here; one that is
    alone of its recording with the mean of all training segments.

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
    columns = [*PLACE.names, "reason", *gallery.modalities]
    if console and (recordings := gallery.recordings):
        console.say(say_of_alone(recordings))
    batches, start = [], 0
    for batch in gallery.batches(columns):
        rows_N = np.arange(start, start + len(batch))
        batches.append(assign_batch(gallery, batch, rows_N))
        start += len(batch)
    return pa.Table.from_batches(batches, label_schema(trained))


def assign_to_file(
    run: str | Path | Model | Trained,
    videos: Any,
    out: str | Path,
    *,
    overwrite: bool = False,
    **how: Any,
) -> dict[str, Any]:
    """Write the clusters of new segments to a Parquet file, or to CSV where its name ends so.

    Args:
        run, videos, how: as for `assign`.
        out: the file to write.
        overwrite: replace it.
    Returns:
        "path", "rows" (segments), "far" (clustering -> segments that are far from everything seen
        in training), "unreadable" (reason -> rows).
    Raises:
        UsageError: `out` exists, or has another ending than .parquet or .csv.
    """
    out, inputs = Path(out), local_paths(videos)
    endings = (".parquet", ".csv")
    check_file(out, is_labels, "labels", overwrite=overwrite, inputs=inputs, endings=endings)
    with one_writer(out):
        table = assign(run, videos, **how)
        save_labels(table, out, as_csv=out.suffix == ".csv")
    names = [name.removesuffix("_far") for name in table.column_names if name.endswith("_far")]
    reasons = Counter(table["reason"].drop_null().to_pylist())
    return {
        "path": str(out),
        "rows": len(table) - table["start_s"].null_count,
        "far": {name: table[f"{name}_far"].to_pylist().count(True) for name in names},
        "unreadable": dict(sorted(reasons.items())),
    }


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


def say_of_alone(recordings: Recordings) -> str:
    """What rows are compared with, in a run that takes from them what is their recordings'."""
    alone, rows = int((recordings.number_N < 0).sum()), len(recordings.number_N)
    return (
        f"Each segment is compared with the mean of its recording, as in training; {alone} of "
        f"{rows} are alone of theirs, and compared with the mean of all training segments."
    )


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


def save_labels(table: pa.Table, out: Path, *, as_csv: bool) -> None:
    """Write a table as Parquet or CSV, whole or not at all."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(out) as temporary:
        if as_csv:
            write_csv(temporary, table.to_pydict())
        else:
            pq.write_table(table, temporary, compression="zstd")
