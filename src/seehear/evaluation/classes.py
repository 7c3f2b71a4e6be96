"""Which video is of which class, and is it for training or for testing? Reads `classes.csv`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from seehear.data.index import Index
from seehear.data.remote import is_remote
from seehear.errors import SettingsError
from seehear.machine.lists import Line, read_rows
from seehear.machine.spreadsheets import plain

SPLITS = ("train", "test")


@dataclass(frozen=True)
class Classes:
    """Human classes of video files.

    Args:
        file: where they were read.
        names: the classes, sorted.
        of: absolute path or address of a video -> index into `names`.
        split: absolute path -> "train" or "test"; empty where the file has no such column.
    """

    file: Path
    names: tuple[str, ...]
    of: dict[str, int]
    split: dict[str, str]

    def of_rows(self, index: Index) -> np.ndarray:
        """The class of every row of an index, (N,) int64; -1 for a video without one."""
        return np.array(
            [self.of.get(real(index.original_path(row)), -1) for row in range(len(index))],
            dtype=np.int64,
        )

    def is_test(self, paths: list[str], seed: int, share: float = 0.25) -> np.ndarray:
        """Which of some videos are for testing, (V,) bool.

        By the `split` column where there is one; else a share of each class, drawn from the seed.
        """
        if self.split:
            return np.array([self.split[path] == "test" for path in paths])
        generator = np.random.default_rng((seed, 0x7E57))
        classes_V, test_V = (
            np.array([self.of[path] for path in paths]),
            np.zeros(len(paths), dtype=bool),
        )
        for number in np.unique(classes_V):
            members = generator.permutation(np.flatnonzero(classes_V == number))
            test_V[members[: min(len(members) - 1, max(1, round(share * len(members))))]] = True
        return test_V


def read_classes(path: Path) -> Classes:
    """Read a CSV file with the columns `path`, `class` and, if wanted, `split` (train or test).

    Raises:
        SettingsError: the file is missing or malformed (names the line), or has fewer than two
            classes.
    """
    named: dict[str, str] = {}
    split: dict[str, str] = {}
    first: dict[str, int] = {}  # the line in which a video is named first
    for number, name, label, part in classes_written(path):
        try:
            video = real(name if is_remote(name) else path.parent / name)
        except (
            ValueError,
            OSError,
        ) as error:  # what the file system refuses as a path, such as a zero byte
            raise Line(str(path), number).wrong(f"the path cannot be one ({error}).") from None
        before = first.setdefault(video, number)
        for kind, value, known in (("class", label, named), ("split", part, split)):
            if value is not None and known.setdefault(video, value) != value:
                what = (
                    f"{name} already has the {kind} {known[video]!r} in line {before}, and "
                    f"{value!r} here"
                )
                raise Line(str(path), number).wrong(f"{what}. It must be one of them.")
    names = tuple(sorted(set(named.values())))
    if len(names) < 2:
        raise SettingsError(f"{path} has {len(names)} class(es). A classifier needs at least 2.")
    numbers = {name: i for i, name in enumerate(names)}
    return Classes(path, names, {video: numbers[name] for video, name in named.items()}, split)


def classes_written(path: Path) -> Iterator[tuple[int, str, str, str | None]]:
    """The lines of such a file as they are written: number of the line, path, class, and split, or
    None without one.

    Raises:
        SettingsError: a column is missing, or a line has too few fields or too many.
    """
    rows = read_rows(str(path))
    header = next(rows, Line(str(path), 1)).fields
    for name in ("path", "class", "split"):
        if header.count(name) != 1 and not (name == "split" and name not in header):
            found = "no column" if name not in header else "several columns"
            raise SettingsError(
                f"{path} has {found} {name!r}. Its first line must be: path,class[,split]"
            )
    for line in rows:
        fields = dict(zip(header, map(plain, line.fields), strict=False))
        if not fields.get("path") or not fields.get("class") or len(line.fields) > len(header):
            raise line.wrong("every line must have a path and a class and no more columns.")
        split = fields.get("split", "") if "split" in header else None
        if split not in (*SPLITS, None):
            raise line.wrong(f"split is {split!r}. It must be train or test.")
        yield line.number, fields["path"], fields["class"], split


def real(path: str | Path) -> str:
    """A path without links and dots, by which files are matched; an address as it is."""
    return str(path) if is_remote(path) else os.path.realpath(path)
