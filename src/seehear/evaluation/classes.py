"""Which video is of which class, and is it for training or for testing? Reads `classes.csv`."""

from __future__ import annotations

import csv
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from seehear.errors import SettingsError
from seehear.indexing import Index
from seehear.remote import is_remote

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
        return np.array([self.of.get(real(index.original_path(row)), -1) for row in range(len(index))], dtype=np.int64)

    def is_test(self, paths: list[str], seed: int, share: float = 0.25) -> np.ndarray:
        """Which of some videos are for testing, (V,) bool.

        By the `split` column where there is one; else a share of each class, drawn from the seed.
        """
        if self.split:
            return np.array([self.split[path] == "test" for path in paths])
        generator = np.random.default_rng((seed, 0x7E57))
        classes_V, test_V = np.array([self.of[path] for path in paths]), np.zeros(len(paths), dtype=bool)
        for number in np.unique(classes_V):
            members = generator.permutation(np.flatnonzero(classes_V == number))
            test_V[members[: min(len(members) - 1, max(1, round(share * len(members))))]] = True
        return test_V


def read_classes(path: Path) -> Classes:
    """Read a CSV file with the columns `path`, `class` and, if wanted, `split` (train or test).

    Raises:
        SettingsError: the file is missing or malformed (names the line), or has fewer than two classes.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            missing = [name for name in ("path", "class") if name not in (reader.fieldnames or [])]
            if missing:
                raise SettingsError(f"{path} has no column {missing[0]!r}. Its first line must be: path,class[,split]")
            lines = [(reader.line_num, line) for line in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise SettingsError(f"{path} cannot be read as CSV ({error}).") from None
    named: dict[str, str] = {}
    split: dict[str, str] = {}
    for number, line in lines:
        if not line["path"] or not line["class"] or None in line:
            raise SettingsError(f"{path}, line {number}: every line must have a path and a class and no more columns.")
        try:
            video = real(line["path"] if is_remote(line["path"]) else path.parent / line["path"])
        except (ValueError, OSError) as error:  # what the file system refuses as a path, such as a zero byte
            raise SettingsError(f"{path}, line {number}: the path cannot be one ({error}).") from None
        if named.setdefault(video, line["class"]) != line["class"]:
            raise SettingsError(f"{path}, line {number}: {line['path']} already has the class {named[video]!r}.")
        if "split" in line:
            if line["split"] not in SPLITS:
                raise SettingsError(f"{path}, line {number}: split is {line['split']!r}. It must be train or test.")
            split[video] = line["split"]
    names = tuple(sorted(set(named.values())))
    if len(names) < 2:
        raise SettingsError(f"{path} has {len(names)} class(es). A classifier needs at least 2.")
    numbers = {name: i for i, name in enumerate(names)}
    return Classes(path, names, {video: numbers[name] for video, name in named.items()}, split)


def real(path: str | Path) -> str:
    """A path without links and dots, by which files are matched; an address as it is."""
    return str(path) if is_remote(path) else os.path.realpath(path)
