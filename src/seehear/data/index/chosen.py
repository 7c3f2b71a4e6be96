"""Which parts of which files shall be segments? A list that somebody wrote: `--segments clips.csv`.

`path,start_s,end_s` and, if wanted, `class`, `split`, `recording`. Paths are absolute, or relative
to the folder of the videos. Segments may overlap and be short. Evaluation reads classes and splits
from the same list.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from seehear.data.index.columns import Video
from seehear.data.index.examination import LEAST_SECONDS
from seehear.data.index.rejected import Rejected
from seehear.data.remote.addresses import absolute, is_remote, joined, relative
from seehear.data.stretches import Stretch
from seehear.errors import SettingsError
from seehear.machine.lists import Line, check_length, read_table
from seehear.machine.spreadsheets import plain

UNLISTED, UNUSABLE = "not in the list", "unusable segment"  # keys of `media.REASONS`
NEEDED = ("path", "start_s", "end_s")
OPTIONAL = ("class", "split", "recording")

OUTSIDE_S = 0.1
"""A segment may reach so far beyond what its file has of picture and sound: these seldom begin and
end together, and times are rounded. The last frame is held for as long, and sound is zero."""


def times(start_s: float, end_s: float) -> str:
    """When a segment is, as reasons say it."""
    return f"{start_s:g} to {end_s:g} s"


@dataclass(frozen=True, kw_only=True)
class Entry(Stretch):
    """A segment as a line names it; an optional column that is not there is empty."""

    line: Line
    label: str
    split: str
    recording: str

    def why_not(self, first_s: float, last_s: float) -> str:
        """Why a file with both streams from `first_s` to `last_s` cannot give it, or nothing."""
        said = f"line {self.line.number}: {times(self.start_s, self.end_s)}"
        seconds = round(self.end_s - self.start_s, 6)
        if seconds < LEAST_SECONDS:
            return f"{said} {'ends before it starts' if seconds < 0 else 'is too short'}"
        if self.start_s < first_s - OUTSIDE_S or self.end_s > last_s + OUTSIDE_S:
            return f"{said}, and the file has picture and sound from {first_s:g} to {last_s:g} s"
        return ""


def _entry(line: Line, header: Line) -> Entry:
    check_length(line, header)
    field = dict(zip(header.fields, map(plain, line.fields), strict=True))
    if not field["path"] or "\0" in field["path"]:
        raise line.wrong(f"the path is {field['path']!r}. It must name a file.")
    start_s, end_s = (line.time_s(field[name], name) for name in NEEDED[1:])
    label, split, recording = (field.get(name, "") for name in OPTIONAL)
    seconds = round(end_s - start_s, 6)
    return Entry(
        field["path"], start_s, seconds, line=line, label=label, split=split, recording=recording
    )


class SegmentList:
    """A list as it is written.

    Attributes:
        file: where it is.
        entries: in its order.
        columns: that it has, of those that mean something.
        ignored: its other columns.

    Raises:
        SettingsError: it cannot be read, lacks a column, or a line of it is wrong.
    """

    def __init__(self, file: str | os.PathLike[str]) -> None:
        self.file = absolute(file)
        rows = read_table(self.file)
        header = next(rows, Line(self.file, 1))
        for name in (*NEEDED, *OPTIONAL):
            count = header.fields.count(name)
            if count > 1 or (name in NEEDED and not count):
                many = "several columns" if count else "no column"
                needed = f"{','.join(NEEDED)}[,{','.join(OPTIONAL)}]"
                raise header.wrong(f"there is {many} {name!r}. Needed: {needed}.")
        self.columns = {*NEEDED, *OPTIONAL} & {*header.fields}
        self.ignored = [name for name in header.fields if name not in self.columns]
        self.entries = [_entry(line, header) for line in rows]
        if not self.entries:
            raise SettingsError(f"{self.file} names no segment. Write a line for each.")

    def by_file(self, root: str, there: Sequence[str]) -> dict[str, list[Entry]]:
        """The segments of each file that is `there`, by start; paths are relative to `root`.

        Raises:
            SettingsError: a line names no file that was found, or the segment of another line.
        """
        paths = [_normal(joined(root, entry.path)) for entry in self.entries]
        places = {path: path for path in there}
        if not places.keys() >= set(paths):  # links may lead to what was found under another name
            places |= {real(path): path for path in there}
            paths = [path if path in places else real(path) for path in paths]
        found: dict[str, dict[str, Entry]] = {}
        for entry, path in zip(self.entries, paths, strict=True):
            if path not in places:
                what = f"{entry.path} is not among the videos. Paths are relative to {root}."
                raise entry.line.wrong(what)
            before = found.setdefault(places[path], {}).setdefault(entry.fragment, entry)
            if before is not entry:
                what = f"{entry.path}, {entry.start_s:g} to {entry.end_s:g} s, is already in line"
                raise entry.line.wrong(f"{what} {before.line.number}. Leave one out.")
        return {
            path: sorted(entries.values(), key=lambda entry: (entry.start_s, entry.end_s))
            for path, entries in found.items()
        }

    def cut(self, video: Video, entries: Sequence[Entry], root: str) -> list[Video | Rejected]:
        """A file cut into its segments (itself if it is already), and what it cannot give."""
        first_s = video.facts["usable_start_s"]
        last_s = first_s + video.facts["usable_seconds"]
        whys = [entry.why_not(first_s, last_s) for entry in entries]
        lines = sorted((entry.line.number, why) for entry, why in zip(entries, whys, strict=True))
        stamp = video.facts["file_bytes"], video.facts["modified_ns"]
        out = [Rejected(video.path, UNUSABLE, why, *stamp) for _, why in lines if why]
        good = [entry for entry, why in zip(entries, whys, strict=True) if not why]
        words = {
            "recording": [entry.recording or relative(video.path, root) for entry in good],
            "split": [entry.split for entry in good],
        }
        cut = Video(
            video.path,
            video.facts,
            np.array([entry.start_s for entry in good]),
            np.array([entry.seconds for entry in good]),
            {name: column for name, column in words.items() if name in self.columns},
        )
        is_same = cut.words == video.words and all(
            np.array_equal(getattr(cut, name), getattr(video, name))
            for name in ("start_s", "seconds")
        )
        return [*([video if is_same else cut] if good else []), *out]


def real(path: str | os.PathLike[str]) -> str:
    """A path without links and dots, by which files are matched; an address as it is."""
    return str(path) if is_remote(path) else os.path.realpath(path)


def _normal(path: str) -> str:
    return path if is_remote(path) else os.path.normpath(path)
