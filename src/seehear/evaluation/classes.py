"""Which video, or which segment of it, is of which class, and is it for training or for testing?

Reads `classes.csv`, or the list of segments that an index was cut by. A segment is named by its
file and when it is: `film.mp4#t=1.5,2.25`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from seehear.data.index import Index
from seehear.data.index.chosen import real
from seehear.data.index.mapped import first_of_each
from seehear.data.remote.addresses import joined
from seehear.data.stretches import Stretch, fragment
from seehear.errors import SettingsError
from seehear.machine.lists import Line, read_table
from seehear.machine.spreadsheets import plain

SPLITS = ("train", "test")
TIMES = ("start_s", "end_s")


@dataclass(frozen=True, kw_only=True)
class Written(Stretch):
    """A line as written: a video or a segment, its class, its split if any, and its recording."""

    line: Line
    label: str
    split: str | None
    recording: str = ""


@dataclass(frozen=True)
class Classes:
    """Human classes of video files, or of segments."""

    file: Path  # where they were read
    names: tuple[str, ...]  # the classes, sorted
    # absolute path or address of a video, or name of a segment -> index into `names`
    of: dict[str, int]
    split: dict[str, str]  # the same -> "train" or "test"; empty where the file has no such column
    # name of a segment -> what it was recorded with, which a drawn split keeps whole; empty where
    # items are videos
    recordings: dict[str, str] = field(default_factory=dict)

    def names_of(self, index: Index) -> list[str]:
        """The name of every row of an index, by which classes are found."""
        first = first_of_each(index.video)
        videos = [real(index.original_path(row)) for row in first.tolist()]
        if not self.recordings:
            return [videos[video] for video in index.video]
        times = zip(index.video, index.original_start_s, index.seconds, strict=True)
        return [videos[video] + fragment(start_s, seconds) for video, start_s, seconds in times]

    def of_rows(self, index: Index) -> np.ndarray:
        """The class of every row of an index, (N,) int64; -1 for one without."""
        return np.array([self.of.get(name, -1) for name in self.names_of(index)], dtype=np.int64)

    def is_test(self, paths: list[str], seed: int, share: float = 0.25) -> np.ndarray:
        """Which of some videos are for testing, (V,) bool.

        By the `split` column where there is one; else a share of each class, or of segments a share
        of their recordings, drawn from the seed.
        """
        if self.split:
            return np.array([self.split[path] == "test" for path in paths])
        generator = np.random.default_rng((seed, 0x7E57))
        if self.recordings:
            of_V = np.array([self.recordings[path] for path in paths])
            drawn = generator.permutation(np.unique(of_V))
            return np.isin(of_V, drawn[: min(len(drawn) - 1, max(1, round(share * len(drawn))))])
        classes_V = np.array([self.of[path] for path in paths])
        test_V = np.zeros(len(paths), dtype=bool)
        for number in np.unique(classes_V):
            members = generator.permutation(np.flatnonzero(classes_V == number))
            test_V[members[: min(len(members) - 1, max(1, round(share * len(members))))]] = True
        return test_V


def read_classes(path: Path, root: str | None = None) -> Classes:
    """Read a list with path, class and perhaps split, or a list of segments with these.

    It is CSV, or by its ending JSON lines (.jsonl) or Parquet; `file_name` and `label` serve, too.
    Paths are relative to its own folder, those of a list of segments to `root` if there is one.
    Raises SettingsError where it is missing or malformed (names the line), or has one class only.
    """
    named: dict[str, str] = {}
    split: dict[str, str] = {}
    recordings: dict[str, str] = {}
    first: dict[str, int] = {}  # the line in which a video is named first
    for written in classes_written(path):
        line, name, is_segment = written.line, written.path, written.seconds is not None
        place = root if is_segment and root is not None else path.parent
        try:
            video = real(joined(str(place), name))
        except (ValueError, OSError) as error:  # no path to the file system: a zero byte in it
            raise line.wrong(f"the path cannot be one ({error}).") from None
        if is_segment:
            recordings[video + written.fragment] = written.recording or video
            video += written.fragment
        before = first.setdefault(video, line.number)
        said = ("class", written.label, named), ("split", written.split, split)
        for kind, value, known in said:
            if value is not None and known.setdefault(video, value) != value:
                what = (
                    f"{name} already has the {kind} {known[video]!r} in line {before}, and "
                    f"{value!r} here"
                )
                raise line.wrong(f"{what}. It must be one of them.")
    names = tuple(sorted(set(named.values())))
    if len(names) < 2:
        raise SettingsError(f"{path} has {len(names)} class(es). A classifier needs at least 2.")
    numbers = {name: i for i, name in enumerate(names)}
    of = {video: numbers[name] for video, name in named.items()}
    return Classes(path, names, of, split, recordings)


def classes_written(path: Path) -> Iterator[Written]:
    """The lines of such a file as they are written.

    Raises:
        SettingsError: a column is missing, or a line has too few fields or too many.
    """
    rows = read_table(str(path))
    header = next(rows, Line(str(path), 1)).fields
    for name in ("path", "class", "split", "start_s", "end_s"):
        is_needed = name in ("path", "class") or (name in TIMES and not {*TIMES}.isdisjoint(header))
        if header.count(name) > 1 or (is_needed and name not in header):
            found = "no column" if name not in header else "several columns"
            raise SettingsError(
                f"{path} has {found} {name!r}. Its first line must be: path,class[,split], or "
                "path,start_s,end_s,class[,split]"
            )
    for line in rows:
        fields = dict(zip(header, map(plain, line.fields), strict=False))
        if not fields.get("path") or not fields.get("class") or len(line.fields) > len(header):
            raise line.wrong("every line must have a path and a class and no more columns.")
        split = fields.get("split", "") if "split" in header else None
        if split not in (*SPLITS, None):
            raise line.wrong(f"split is {split!r}. It must be train or test.")
        written = Written(fields["path"], line=line, label=fields["class"], split=split)
        if "start_s" in header:
            start_s, end_s = (line.time_s(fields.get(name, ""), name) for name in TIMES)
            recording, seconds = fields.get("recording", ""), end_s - start_s
            written = replace(written, start_s=start_s, seconds=seconds, recording=recording)
        yield written
