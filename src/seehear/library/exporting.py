"""How do the clusters of the training segments get into the tools that people have?

    csv, parquet   a file, a row a segment: row, path, start_s, seconds, and for each clustering
                   cluster and name
    classes        a CSV of the segments that people have said what they are, by ticks or by the
                   name of their cluster: path,start_s,end_s,class, as `evaluate --classes` takes it
    features       a Parquet file, a row a segment: id, path, start_s, seconds, embedding_video,
                   embedding_audio, and for each clustering cluster and name; or one `embedding`
    jsonl          a line a segment, as in metadata.jsonl beside videos: file_name, and the same
    fiftyone       a folder with, for each clustering, FiftyOne's documented
                   `FiftyOneTemporalDetectionDataset`: a labels.json with absolute paths and time
                   ranges in seconds
    label-studio   a folder with tasks.json, pre-annotated tasks with frame ranges for the Video and
                   TimelineLabels tags, and config.xml, the labelling interface that shows them

Nothing is copied: exports point to the videos where they are.
"""

from __future__ import annotations

import json
import math
import os
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from seehear.data.index import Index
from seehear.data.remote.addresses import is_remote
from seehear.data.stretches import fragment
from seehear.errors import SettingsError, UsageError
from seehear.library.assigning import columns_in, save_labels
from seehear.library.gallery import PLACE
from seehear.library.trained import BLOCK_ROWS, Trained, blocks_of, open_run, without_recordings
from seehear.machine.files import atomic_file, whole_folder, write_json
from seehear.machine.locks import one_writer
from seehear.machine.outputs import LABELS, begins_with, check_file, check_folder, real
from seehear.method.clusters import MEMBERS, space_of
from seehear.models.model import Model
from seehear.runs.names import label_of, read_ticks

FORMATS = ("csv", "parquet", "features", "jsonl", "classes", "fiftyone", "label-studio")
FOLDERS = ("fiftyone", "label-studio")
ENDINGS = {
    "csv": (".csv",),
    "classes": (".csv",),
    "parquet": (".parquet",),
    "features": (".parquet", ".features"),
    "jsonl": (".jsonl",),
}
CLASSES = ("path", "start_s", "end_s", "class")
UNKNOWN_FPS = 25.0  # stands for the frame rate of files that do not tell theirs


def export_labels(
    run: str | Path | Model | Trained,
    to: str,
    out: str | Path,
    *,
    overwrite: bool = False,
    root: str | Path | None = None,
    index: str | Path | None = None,
    embedding: str | None = None,
) -> dict[str, Any]:
    """Write the clusters of the segments that a run was trained on, for another program.

    Args:
        run: the folder of a finished run, or its loaded model.
        to: "csv", "parquet", "features", "jsonl", "classes", "fiftyone" or "label-studio".
        out: the file to write, or for fiftyone and label-studio the folder.
        overwrite: replace what an earlier export wrote there.
        root: label-studio: the folder that its local file server shows (LOCAL_FILES_DOCUMENT_ROOT);
            by default the one that the index's paths are relative to.
        index: the index that the run was trained on; by default where the run found it.
        embedding: features: "video", "audio" or "joint" writes that as the one column `embedding`,
            of the rows that have it.
    Returns:
        "path", "segments", "videos", "clusterings"; of classes "classes": how many of each.
    Raises:
        SettingsError: an unknown format.
        UsageError: `out` exists, or the videos are not below `root`.
        RunError: the run is unfinished, or the index it was trained on has vanished or changed.
    """
    if to not in FORMATS:
        raise SettingsError(f"There is no format {to!r}. Formats: {', '.join(FORMATS)}.")
    trained, out = open_run(run), Path(out)
    check_embedding(trained, to, embedding)
    rows = trained.index(index)
    classes: dict[str, int] = {}
    if to not in FOLDERS:
        how: dict[str, Any] = {"inputs": [trained.path], "endings": ENDINGS[to]}
        check_file(out, is_export, "labels", overwrite=overwrite, **how)
        table = (table_of_classes if to == "classes" else table_of_labels)(trained, rows)
        if to == "classes":
            classes = dict(Counter(table["class"].to_pylist()).most_common())
        with one_writer(out):
            if to == "features":
                save_features(trained, rows, out, embedding)
            elif to == "jsonl":
                save_lines(table, out)
            else:
                save_labels(table, out, as_csv=to != "parquet")
    else:
        check_folder(out, LABELS, overwrite=overwrite, inputs=[trained.path, rows.folder])
        with one_writer(out), whole_folder(out, replaces=LABELS) as folder:
            if to == "fiftyone":
                write_fiftyone(folder, trained, rows)
            else:
                write_label_studio(folder, trained, rows, Path(root or rows.info["root"]))
            files = sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())
            marker = {"to": to, "labels": trained.model.digest, "files": files}
            write_json(folder / LABELS.marker, marker)
    return {
        "path": str(out),
        "segments": len(rows),
        "videos": rows.num_videos,
        "clusterings": list(trained.clusterings),
        **({"classes": classes} if classes else {}),
    }


def is_export(path: Path) -> bool:
    """Whether a file is of an earlier export."""
    columns = columns_in(path)
    is_table = columns[:4] in (["row", *PLACE.names], ["id", *PLACE.names])
    is_lines = begins_with(path, b'{"file_name": ')
    return is_table or is_lines or columns == list(CLASSES)


def table_of_classes(trained: Trained, index: Index) -> pa.Table:
    """A row for each segment that has one class and no other.

    A tick says what a segment is, whatever its clusters are called. Without one it is what its
    clusters are called, but for names that it was crossed out of; with two of these it has none.

    Raises:
        UsageError: fewer than two classes, of which nothing can be learned.
    """
    ticks, found = read_ticks(trained.path), []
    for row in range(len(index)):
        ticked = {name for name, of in ticks.items() if of.get(row)}
        called = {
            trained.names[name].get(int(labels_N[row]), "")
            for name, labels_N in trained.labels.items()
        }
        crossed = {name for name, of in ticks.items() if of.get(row) is False}
        classes = ticked or called - crossed - {""}
        if len(classes) == 1:
            found.append((row, classes.pop()))
    if len({name for _, name in found}) < 2:
        raise UsageError(
            f"{trained.path} has names for fewer than two kinds of segments. Name clusters, or "
            f"tick segments: seehear report {trained.path} --serve --open"
        )
    rows = [row for row, _ in found]
    start_s = index.original_start_s[rows]
    paths = [index.original_path(row) for row in rows]
    columns = (
        paths,
        start_s,
        (start_s + index.seconds[rows]).round(6),
        [name for _, name in found],
    )
    return pa.table(dict(zip(CLASSES, columns, strict=True)))


def check_embedding(trained: Trained, to: str, embedding: str | None) -> None:
    """Raise UsageError for an embedding that is not there or not asked for."""
    if embedding is None:
        return
    there = list(dict.fromkeys(map(space_of, trained.clusterings)))
    if embedding not in there:
        raise UsageError(f"embedding is {embedding!r}. It must be one of {', '.join(there)}.")
    if to != "features":
        raise UsageError(f"embedding is {embedding!r}, and to {to!r}. It is for --to features.")


def save_features(trained: Trained, index: Index, out: Path, embedding: str | None) -> None:
    """Features and clusters of all rows, some at a time; all of the rows that can be read.

    `id` names a segment by its file, relative to the folder of the videos, and when it is.
    """
    labels = table_of_labels(trained, index)
    root = str(index.info["root"])
    ids = [
        relative_name(path, root) + fragment(start_s, seconds)
        for path, start_s, seconds in zip(
            *(labels[name].to_pylist() for name in PLACE.names), strict=True
        )
    ]
    labels = labels.set_column(0, "id", pa.array(ids, pa.string()))
    of = MEMBERS[embedding] if embedding else tuple(trained.features)
    out.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(out) as temporary, ExitStack() as held:
        writer: pq.ParquetWriter | None = None
        for rows, found in blocks_of(trained.features, of):
            named = {f"embedding_{modality}": part for modality, part in found.items()}
            if embedding == "joint":
                centred = without_recordings(trained.recordings, rows, found)
                named = {"embedding": trained.unit_vectors("joint", centred)}
            elif embedding:
                named = {"embedding": found[embedding]}
            table = labels.take(pa.array(rows))
            for name, part_nD in named.items():
                flat, width = pa.array(part_nD.numpy().reshape(-1)), part_nD.shape[1]
                column = pa.FixedSizeListArray.from_arrays(flat, width)
                table = table.append_column(name, column)
            if writer is None:
                writer = held.enter_context(
                    pq.ParquetWriter(temporary, table.schema, compression="zstd")
                )
            writer.write_table(table)


def save_lines(labels: pa.Table, out: Path) -> None:
    """JSON, a line a segment; file names are relative to the file's own folder."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(out) as temporary, temporary.open("w", encoding="utf-8") as file:
        for batch in labels.to_batches(BLOCK_ROWS):
            for line in batch.to_pylist():
                named = {"file_name": relative_name(line.pop("path"), str(real(out).parent))}
                file.write(json.dumps(named | line, ensure_ascii=False) + "\n")


def relative_name(path: str, folder: str) -> str:
    """A file as seen from a folder, an address as it is."""
    return path if is_remote(path) else os.path.relpath(path, folder)


def table_of_labels(trained: Trained, index: Index) -> pa.Table:
    """A row a segment; a cluster is null where it could not be read, a name where there is none."""
    columns: dict[str, Any] = {
        "row": np.arange(len(index), dtype=np.int64),
        "path": [index.original_path(row) for row in range(len(index))],
        "start_s": index.original_start_s,
        "seconds": index.seconds,
    }
    for name, labels_N in trained.labels.items():
        names = trained.names[name]
        columns[f"{name}_cluster"] = pa.array(labels_N, pa.int32(), mask=labels_N < 0)
        columns[f"{name}_name"] = pa.array([names.get(int(k)) for k in labels_N], pa.string())
    return pa.table(columns)


def by_video(index: Index) -> dict[str, list[int]]:
    """The rows of each file."""
    files: dict[str, list[int]] = {}
    for row in range(len(index)):
        files.setdefault(index.original_path(row), []).append(row)
    return files


def write_fiftyone(folder: Path, trained: Trained, index: Index) -> None:
    """A `FiftyOneTemporalDetectionDataset` a clustering; absolute paths, no folder `data`."""
    start_s, end_s = index.original_start_s, index.original_start_s + index.seconds
    for name, labels_N in trained.labels.items():
        labels = {
            path: [
                {
                    "label": label_of(trained.names, name, int(labels_N[row])),
                    "timestamps": [float(start_s[row]), float(end_s[row])],
                    "attributes": {"row": row, "cluster": int(labels_N[row])},
                }
                for row in rows
                if labels_N[row] >= 0
            ]
            for path, rows in by_video(index).items()
        }
        (folder / name).mkdir()
        write_json(folder / name / "labels.json", {"labels": labels})


def write_label_studio(folder: Path, trained: Trained, index: Index, root: Path) -> None:
    """tasks.json, a task a video with a prediction; config.xml, a row of labels a clustering."""
    version, tasks = f"seehear {trained.model.digest}", []
    for path, rows in by_video(index).items():
        fps = float(index.fps[rows[0]]) or UNKNOWN_FPS
        result = [
            {
                "id": f"{name}-{row}",
                "type": "timelinelabels",
                "from_name": f"{name}_clusters",
                "to_name": "video",
                "value": {
                    "ranges": [frame_range(index, row, fps)],
                    "timelinelabels": [label_of(trained.names, name, int(labels_N[row]))],
                },
            }
            for row in rows
            for name, labels_N in trained.labels.items()
            if labels_N[row] >= 0
        ]
        data = {"video": address(path, root), "fps": fps, "path": path}
        tasks.append({"data": data, "predictions": [{"model_version": version, "result": result}]})
    with (folder / "tasks.json").open("w", encoding="utf-8") as file:
        json.dump(tasks, file, ensure_ascii=False, indent=1)
    (folder / "config.xml").write_text(interface(trained), encoding="utf-8")


def frame_range(index: Index, row: int, fps: float) -> dict[str, int]:
    """The frames of a segment, counted from 1."""
    start_s, seconds = float(index.original_start_s[row]), float(index.seconds[row])
    first = math.floor(start_s * fps) + 1
    return {"start": first, "end": max(first, round((start_s + seconds) * fps))}


def address(path: str, root: Path) -> str:
    """Where Label Studio's local file server, which shows the folder `root`, has a file."""
    relative = os.path.relpath(path, os.path.abspath(root))  # noqa: PTH100 (links are kept)
    if relative.startswith(os.pardir + os.sep):
        raise UsageError(
            f"{path} is not below {root}. Give a folder that holds all videos as --root."
        )
    return f"/data/local-files/?d={quote(relative)}"


def interface(trained: Trained) -> str:
    """The labelling interface: the video, and a timeline of labels for each clustering."""
    lines = ["<View>", '  <Video name="video" value="$video" frameRate="$fps"/>']
    for name, clustering in trained.clusterings.items():
        lines.append(f'  <Header value="Clusters: {name}"/>')
        lines.append(f'  <TimelineLabels name="{name}_clusters" toName="video">')
        labels = dict.fromkeys(
            label_of(trained.names, name, k) for k in range(len(clustering.centroids_KD))
        )
        lines += [f"    <Label value={quoteattr(label)}/>" for label in labels]
        lines.append("  </TimelineLabels>")
    return "\n".join([*lines, "</View>", ""])
