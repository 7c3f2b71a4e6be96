"""To which cluster does a new segment belong, by sight, by sound and by both, and is it like
anything seen before?

A row a segment: path, start_s, seconds, reason, and for each clustering, such as `video`,

    video_cluster    int32, the nearest centroid; null where the segment lacks what the space needs
    video_distance   float32, to it, after the preparation that was clustered with (see `trained`)
    video_margin     float32, by how much the second nearest is farther
    video_name       what a person called the cluster; null without a name
    video_far        whether the distance is beyond that of 99 % of the cluster's training rows
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from seehear.data.index import Index
from seehear.data.remote.addresses import is_remote
from seehear.library import parts
from seehear.library.clusters import Clustering
from seehear.library.embedding import embed
from seehear.library.gallery import TableGallery, matrix
from seehear.library.sources import Paths
from seehear.library.trained import Trained, open_run
from seehear.machine.console import Console
from seehear.machine.files import atomic_file
from seehear.machine.locks import one_writer
from seehear.machine.outputs import check_file
from seehear.machine.spreadsheets import write_csv
from seehear.models.model import Model


def assign(
    run: str | Path | Model | Trained,
    videos: Paths | Index | pa.Table,
    *,
    device: str = "auto",
    console: Console | None = None,
    **how: Any,
) -> pa.Table:
    """The clusters of new segments.

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
    if is_features(videos):
        gallery = TableGallery(videos if isinstance(videos, pa.Table) else Path(videos), trained)  # type: ignore[arg-type]
    else:
        gallery = TableGallery(embed(trained.model, videos, console=console, **how), trained)
    columns = ["path", "start_s", "seconds", "reason", *gallery.modalities]
    batches = [assign_batch(trained, batch) for batch in gallery.batches(columns)]
    return pa.Table.from_batches(batches, schema_of(trained))


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
    out = Path(out)
    check_file(
        out,
        is_labels,
        "labels",
        overwrite=overwrite,
        inputs=named(videos),
        endings=(".parquet", ".csv"),
    )
    with one_writer(out):
        table = assign(run, videos, **how)
        write_table(table, out, as_csv=out.suffix == ".csv")
    names = [name.removesuffix("_far") for name in table.column_names if name.endswith("_far")]
    reasons = [reason for reason in table["reason"].to_pylist() if reason is not None]
    return {
        "path": str(out),
        "rows": len(table) - table["start_s"].null_count,
        "far": {name: sum(bool(far) for far in table[f"{name}_far"].to_pylist()) for name in names},
        "unreadable": {reason: reasons.count(reason) for reason in sorted(set(reasons))},
    }


def is_features(videos: Any) -> bool:
    """Whether this is a table of features, or the file of one."""
    if isinstance(videos, pa.Table):
        return True
    if not isinstance(videos, str | Path) or is_remote(str(videos)):
        return False
    return Path(videos).suffix == ".parquet" or (
        Path(videos).is_file() and parts.is_features(Path(videos))
    )


def schema_of(trained: Trained) -> pa.Schema:
    """The columns of labels."""
    fields = [
        ("path", pa.string()),
        ("start_s", pa.float64()),
        ("seconds", pa.float64()),
        ("reason", pa.string()),
    ]
    kinds = {
        "cluster": pa.int32(),
        "distance": pa.float32(),
        "margin": pa.float32(),
        "name": pa.string(),
    }
    kinds["far"] = pa.bool_()
    fields += [
        (f"{name}_{what}", kind) for name in trained.clusterings for what, kind in kinds.items()
    ]
    return pa.schema(fields)


def assign_batch(trained: Trained, batch: pa.RecordBatch) -> pa.RecordBatch:
    """The clusters of some rows of features."""
    columns = {name: batch[name] for name in ("path", "start_s", "seconds", "reason")}
    for clustering in trained.clusterings.values():
        columns |= columns_of(trained, clustering, batch)
    schema = schema_of(trained)
    return pa.record_batch([columns[name] for name in schema.names], schema=schema)


def columns_of(
    trained: Trained, clustering: Clustering, batch: pa.RecordBatch
) -> dict[str, pa.Array]:
    """What one clustering says of some rows."""
    import torch

    there = np.ones(len(batch), dtype=bool)
    for modality in clustering.modalities:
        known = (
            batch[modality].is_valid().to_numpy(zero_copy_only=False)
            if modality in batch.schema.names
            else False
        )
        there &= known
    cluster_N = np.zeros(len(batch), np.int32)
    distance_N, margin_N = np.zeros(len(batch), np.float32), np.zeros(len(batch), np.float32)
    if there.any():
        features = {
            m: torch.from_numpy(matrix(batch[m])[there].astype(np.float32))
            for m in clustering.modalities
        }
        for array, found in zip(
            (cluster_N, distance_N, margin_N), clustering.nearest(features), strict=True
        ):
            array[there] = found.numpy()
    names = trained.names[clustering.name]
    far_N = distance_N > trained.radii[clustering.name].numpy()[cluster_N]
    name, absent = clustering.name, ~there
    labels = [
        names.get(int(k)) if known else None for k, known in zip(cluster_N, there, strict=True)
    ]
    return {
        f"{name}_cluster": pa.array(cluster_N, mask=absent),
        f"{name}_distance": pa.array(distance_N, mask=absent),
        f"{name}_margin": pa.array(margin_N, mask=absent),
        f"{name}_name": pa.array(labels, pa.string()),
        f"{name}_far": pa.array(far_N, mask=absent),
    }


def is_labels(path: Path) -> bool:
    """Whether a file holds what `assign_to_file` wrote."""
    names = columns_in(path)
    return names[:4] == ["path", "start_s", "seconds", "reason"] and any(
        n.endswith("_cluster") for n in names[4:]
    )


def columns_in(path: Path) -> list[str]:
    """The names of the columns of a Parquet or CSV file; none where it is something else."""
    import csv

    try:
        return list(pq.read_schema(path).names)
    except (OSError, ValueError, pa.ArrowException):
        pass
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return next(csv.reader([file.readline(10_000)]), [])
    except (OSError, ValueError, csv.Error):
        return []


def named(videos: Any) -> list[Path]:
    """The local paths that a command was given to read."""
    several = videos if isinstance(videos, list | tuple) else [videos]
    return [Path(v) for v in several if isinstance(v, str | os.PathLike) and not is_remote(v)]


def write_table(table: pa.Table, out: Path, *, as_csv: bool) -> None:
    """Write a table as Parquet or CSV, whole or not at all."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(out) as temporary:
        if as_csv:
            write_csv(temporary, {name: table[name].to_pylist() for name in table.column_names})
        else:
            pq.write_table(table, temporary, compression="zstd")
