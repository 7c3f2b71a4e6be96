"""How do the clusters of the training segments get into the tools that people have?

    csv, parquet   a file, a row a segment: row, path, start_s, seconds, and for each clustering
                   cluster and name
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
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

import numpy as np
import pyarrow as pa

from seehear.data.index import Index
from seehear.errors import SettingsError, UsageError
from seehear.library.assigning import columns_in, write_table
from seehear.library.trained import Trained, open_run
from seehear.machine.files import whole_folder, write_json
from seehear.machine.locks import one_writer
from seehear.machine.outputs import LABELS, check_file, check_folder
from seehear.models.model import Model
from seehear.runs.names import label_of

FORMATS = ("csv", "parquet", "fiftyone", "label-studio")
UNKNOWN_FPS = 25.0  # stands for the frame rate of files that do not tell theirs


@dataclass(frozen=True)
class Segment:
    """A training segment and its cluster in every clustering; -1 where it could not be read."""

    row: int
    path: str
    start_s: float
    seconds: float
    fps: float
    clusters: Mapping[str, int]


def export_labels(
    run: str | Path | Model | Trained,
    to: str,
    out: str | Path,
    *,
    overwrite: bool = False,
    root: str | Path | None = None,
    index: str | Path | None = None,
) -> dict[str, Any]:
    """Write the clusters of the segments that a run was trained on, with their names, for another
    program.

    Args:
        run: the folder of a finished run, or its loaded model.
        to: "csv", "parquet", "fiftyone" or "label-studio".
        out: the file (csv, parquet) or folder (fiftyone, label-studio) to write.
        overwrite: replace what an earlier export wrote there.
        root: label-studio: the folder that its local file server shows (LOCAL_FILES_DOCUMENT_ROOT);
            by default the one that the index's paths are relative to.
        index: the index that the run was trained on; by default where the run found it.
    Returns:
        "path", "segments", "videos", "clusterings".
    Raises:
        SettingsError: an unknown format.
        UsageError: `out` exists, or the videos are not below `root`.
        RunError: the run is unfinished, or the index it was trained on has vanished or changed.
    """
    if to not in FORMATS:
        raise SettingsError(f"There is no format {to!r}. Formats: {', '.join(FORMATS)}.")
    trained, out = open_run(run), Path(out)
    rows = trained.index(index)
    if to in ("csv", "parquet"):
        check_file(out, is_export, "labels", overwrite=overwrite, inputs=[trained.path])
        with one_writer(out):
            write_table(table_of(trained, rows), out, as_csv=to == "csv")
    else:
        check_folder(out, LABELS, overwrite=overwrite, inputs=[trained.path, rows.folder])
        with one_writer(out), whole_folder(out, replaces=LABELS) as folder:
            if to == "fiftyone":
                write_fiftyone(folder, trained, rows)
            else:
                write_label_studio(folder, trained, rows, Path(root or rows.info["root"]))
            files = sorted(
                str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()
            )
            write_json(
                folder / LABELS.marker, {"to": to, "labels": trained.model.digest, "files": files}
            )
    return {
        "path": str(out),
        "segments": len(rows),
        "videos": rows.num_videos,
        "clusterings": list(trained.clusterings),
    }


def is_export(path: Path) -> bool:
    """Whether a file is of an earlier export."""
    return columns_in(path)[:4] == ["row", "path", "start_s", "seconds"]


def segments(trained: Trained, index: Index) -> Iterator[Segment]:
    """All training segments, in the order of the index."""
    for row in range(len(index)):
        clusters = {name: int(labels_N[row]) for name, labels_N in trained.labels.items()}
        yield Segment(
            row,
            index.original_path(row),
            float(index.original_start_s[row]),
            float(index.seconds[row]),
            float(index.fps[row]),
            clusters,
        )


def table_of(trained: Trained, index: Index) -> pa.Table:
    """A row a segment; a cluster is null where the segment could not be read, a name where there is
    none.
    """
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


def by_video(trained: Trained, index: Index) -> dict[str, list[Segment]]:
    """The segments of each file."""
    files: dict[str, list[Segment]] = {}
    for segment in segments(trained, index):
        files.setdefault(segment.path, []).append(segment)
    return files


def write_fiftyone(folder: Path, trained: Trained, index: Index) -> None:
    """One `FiftyOneTemporalDetectionDataset` a clustering, with absolute paths instead of a folder
    `data`.
    """
    files = by_video(trained, index)
    for name in trained.clusterings:
        labels = {
            path: [
                {
                    "label": label_of(trained.names, name, s.clusters[name]),
                    "timestamps": [s.start_s, s.start_s + s.seconds],
                    "attributes": {"row": s.row, "cluster": s.clusters[name]},
                }
                for s in parts
                if s.clusters[name] >= 0
            ]
            for path, parts in files.items()
        }
        (folder / name).mkdir()
        write_json(folder / name / "labels.json", {"labels": labels})


def write_label_studio(folder: Path, trained: Trained, index: Index, root: Path) -> None:
    """tasks.json, a task a video with a prediction, and config.xml, a row of labels a
    clustering.
    """
    version = f"seehear {trained.model.digest}"
    tasks = []
    for path, parts in by_video(trained, index).items():
        fps = parts[0].fps or UNKNOWN_FPS
        result = [
            region(s, name, k, trained, fps)
            for s in parts
            for name, k in s.clusters.items()
            if k >= 0
        ]
        data = {"video": address(path, root), "fps": fps, "path": path}
        tasks.append({"data": data, "predictions": [{"model_version": version, "result": result}]})
    with (folder / "tasks.json").open("w", encoding="utf-8") as file:
        json.dump(tasks, file, ensure_ascii=False, indent=1)
    (folder / "config.xml").write_text(interface(trained), encoding="utf-8")


def region(
    segment: Segment, name: str, cluster: int, trained: Trained, fps: float
) -> dict[str, Any]:
    """A stretch of a timeline; frames are counted from 1."""
    first = math.floor(segment.start_s * fps) + 1
    last = max(first, round((segment.start_s + segment.seconds) * fps))
    return {
        "id": f"{name}-{segment.row}",
        "type": "timelinelabels",
        "from_name": f"{name}_clusters",
        "to_name": "video",
        "value": {
            "ranges": [{"start": first, "end": last}],
            "timelinelabels": [label_of(trained.names, name, cluster)],
        },
    }


def address(path: str, root: Path) -> str:
    """Where Label Studio's local file server has a file.

    Raises:
        UsageError: the file is not below the folder that it shows.
    """
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
