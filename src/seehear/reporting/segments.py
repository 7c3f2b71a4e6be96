"""What does the page say of a row? Its file, class, labels and preview, as columns of plain data.

An index may be missing (moved, or made anew since): rows are then known by number alone.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from seehear.data.index import Index
from seehear.data.remote import is_remote
from seehear.data.remote.addresses import relative
from seehear.errors import IndexFileError, RunError, SettingsError
from seehear.evaluation.classes import Classes, read_classes
from seehear.reporting.cards import Grouping
from seehear.reporting.previews import Previews
from seehear.runs.fingerprint import index_of_run, split_of
from seehear.runs.folder import Run


@dataclass(frozen=True)
class Rows:
    """Everything about the rows of a run that is not a distance.

    class_N: (N,) int64, -1 without a class, or None where no classes were given.
    """

    index: Index | None
    groupings: Sequence[Grouping]
    class_N: np.ndarray | None
    previews: Previews

    def columns(self, rows: np.ndarray, grouping: Grouping | None = None) -> dict[str, Any]:
        """Some rows as columns of plain data.

        Keys: row, key ("" without a preview), failed (the reason, "" if none), labels {clustering:
        [...]}; with an index path (relative to its root), start, seconds; with classes class; with
        a grouping distance.
        """
        numbers = rows.tolist()
        found: dict[str, Any] = {
            "row": numbers,
            "key": [self.previews.keys.get(row, "") for row in numbers],
            "failed": [self.previews.failed.get(row, "") for row in numbers],
            "labels": {g.name: g.labels_N[rows].tolist() for g in self.groupings},
        }
        if not any(found["failed"]):
            del found["failed"]
        if self.index is not None:
            found["path"] = [self.path(row) for row in numbers]
            found["start"] = self.index.original_start_s[rows].round(2).tolist()
            found["seconds"] = self.index.seconds[rows].round(2).tolist()
        if self.class_N is not None:
            found["class"] = self.class_N[rows].tolist()
        if grouping is not None:
            found["distance"] = [round(float(d), 4) for d in grouping.distance_N[rows]]
        return found

    def path(self, row: int) -> str:
        """The file of a row, relative to the root of the index."""
        assert self.index is not None
        path = self.index.original_path(row)
        name = relative(path, str(self.index.info["root"]))
        return name if is_remote(path) else os.path.relpath(path, str(self.index.info["root"]))


def find_index(run: Run, given: str | Path | None) -> tuple[Index | None, str]:
    """The index of a run and, where there is none, what a person should know about it.

    Raises:
        IndexFileError: the index that was given is none, or is not the run's.
    """
    if given is not None:
        index = Index.open(given).of_split(split_of(run))
        if index.digest != run.field("index", "digest"):
            raise IndexFileError(
                f"{given} is not the index that {run.path} was trained on ({len(index)} rows; the "
                f"run has "
                f"{run.field('index', 'rows')}, and another digest). Give that one, or leave "
                f"--index out."
            )
        return index, ""
    path, missing = (
        run.field("index", "path"),
        "so files, previews and classes are missing. Name it with --index.",
    )
    try:
        return index_of_run(run), ""
    except RunError:
        return None, f"The index of this run was not found at {path}, {missing}"
    except IndexFileError:
        return (
            None,
            f"The index at {path} has changed since the run began, or is damaged, {missing}",
        )


def find_classes(
    index: Index | None, given: str | Path | None
) -> tuple[Classes, np.ndarray] | None:
    """Classes, and that of every row (N,) int64, -1 without one; None where no file or no index is
    there.

    Raises:
        SettingsError: the file cannot be read, is malformed, or has a class for no row.
    """
    if given is None:
        return None
    classes = read_classes(Path(given), index.info["root"] if index else None)
    if index is None:
        return None
    class_N = classes.of_rows(index)
    if (class_N < 0).all():
        raise SettingsError(
            f"{given} has a class for none of the segments, such as {index.original_path(0)}. "
            "Its paths are relative to its own folder."
        )
    return classes, class_N
