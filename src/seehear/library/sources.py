"""Which segments are there to embed? Rows of an index, or whatever files and folders hold.

Unlike for training, a file may have one stream only, and may be silent or still. One with both is
cut where both are there; one that is shorter than the least segment is a segment all the same.
Files are opened in worker processes, a group at a time, so that a million of them takes no more
memory than their names.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa

from seehear.data.decoding.pool import examine_all
from seehear.data.index import Index
from seehear.data.index.columns import FACTS, WORDS, Video
from seehear.data.index.discovery import absolute_paths, but_for, find_candidates
from seehear.data.index.examination import LEAST_SECONDS, Rejection, examine
from seehear.data.index.files import Candidate
from seehear.data.index.rejected import printable_name, unusable
from seehear.data.media import MediaInfo
from seehear.data.remote import absolute, local
from seehear.data.stretches import cut
from seehear.errors import MediaError, SettingsError, UsageError

FILES_A_GROUP = 128
ROWS_A_GROUP = 1024  # of an index
AUDIO_ENDING = re.compile(r"\.(aac|aiff?|flac|m4a|mp3|oga|ogg|opus|wav|wma)$", re.IGNORECASE)
_NO_FACTS = {name: "" if kind in (pa.string(), WORDS) else 0 for name, kind in FACTS.items()}

Paths = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]


@dataclass(frozen=True)
class Cutting:
    """How files are cut into segments.

    Args:
        modalities: streams of interest, those that there are encoders for.
        segment_seconds: the longest segment; None takes each file whole.
        min_seconds: a shorter tail is dropped.
        timeout_s: a file that takes longer to open has the reason "timed out".
    """

    modalities: tuple[str, ...]
    segment_seconds: float | None = None
    min_seconds: float = 0.0
    timeout_s: float = 30.0

    def __post_init__(self) -> None:
        longest = self.segment_seconds
        if longest is not None and not longest > 0:
            raise SettingsError(
                f"segment_seconds is {longest:g}. It must be positive; 10 is usual."
            )
        if not 0 < self.timeout_s < math.inf:
            raise SettingsError(f"timeout_s is {self.timeout_s:g}. It must be positive.")
        if self.min_seconds < 0 or (longest is not None and self.min_seconds > longest):
            raise SettingsError(
                f"min_seconds is {self.min_seconds:g}. It must be from 0 to segment_seconds."
            )


@dataclass(frozen=True)
class Group:
    """Some segments to embed.

    Args:
        index: where they are; that of files is in memory, and has a row for an unreadable file too.
        rows: those of the group, one after the other.
        rows_of: streams -> the rows that have these and no others that there are encoders for.
        unreadable: row -> why its file cannot be read, a key of `seehear.data.media.REASONS`.
    """

    index: Index
    rows: range
    rows_of: dict[tuple[str, ...], list[int]] = field(default_factory=dict)
    unreadable: dict[int, str] = field(default_factory=dict)


class IndexSource:
    """The rows of an index."""

    def __init__(self, index: Index, modalities: tuple[str, ...]) -> None:
        self.index, self.modalities = index, modalities
        self.digest, self.group_size = index.digest, ROWS_A_GROUP
        self.names_recordings = index.names_recordings

    def __len__(self) -> int:
        return len(self.index)

    def group(self, rows: range) -> Group:
        """Some rows."""
        return Group(self.index, rows, {self.modalities: list(rows)})


class FileSource:
    """Files, and folders of any depth."""

    names_recordings = False  # each file is one

    def __init__(self, paths: Paths, cutting: Cutting, workers: int = 1) -> None:
        self.cutting, self.workers, self.group_size = cutting, workers, FILES_A_GROUP
        named = absolute_paths([paths] if isinstance(paths, str | os.PathLike) else list(paths))
        self.named = {path for path in named if not Path(path).is_dir()}
        self.files, passed_over = find_candidates(named)
        if not self.files:
            where = ", ".join(named) + but_for(passed_over)
            raise UsageError(
                f"There is no file below {where}. Name files, or folders that hold them."
            )
        self.digest = self.files.digest()

    def __len__(self) -> int:
        return len(self.files)

    def group(self, numbers: range) -> Group:
        """The segments of some files, and a row for each that cannot be read.

        Files that nobody would take for media, such as notes beside the videos, are in it only
        where they were named.
        """
        found: dict[str, MediaInfo | Rejection] = {}
        jobs = []
        for file in self.files[numbers.start : numbers.stop]:
            if reason := file.failure or unusable(file.path):
                found[file.path] = Rejection(reason)
            else:
                jobs.append((file.path, self.is_promised(file), self.cutting.modalities, True))
        answers = examine_all(jobs, self.workers, self.cutting.timeout_s)
        for (path, *_), answer in zip(jobs, answers, strict=True):
            if answer is not None:
                found[path] = answer
        return group_of(sorted(found.items()), self.cutting)

    def is_promised(self, file: Candidate) -> bool:
        """Whether a file that cannot be read deserves a reason."""
        named = file.path in self.named
        return named or file.is_promised or bool(AUDIO_ENDING.search(file.path))


Source = IndexSource | FileSource


def source_of(videos: Paths | Index, cutting: Cutting, workers: int) -> Source:
    """Where segments come from: an index, the folder of one, or files and folders."""
    if isinstance(videos, Index):
        return IndexSource(videos, cutting.modalities)
    if isinstance(videos, str | os.PathLike) and (Path(videos) / "index.json").exists():
        index = Index.open(videos)
        index.check()
        return IndexSource(index, cutting.modalities)
    return FileSource(videos, cutting, workers)


def groups(source: Source) -> list[range]:
    """In which parts a source is done."""
    size = source.group_size
    return [range(i, min(i + size, len(source))) for i in range(0, len(source), size)]


def group_of_file(path: str | os.PathLike[str], modalities: tuple[str, ...]) -> Group:
    """One file as one segment, opened in this process; MediaError where it cannot be read."""
    with local(path) as copy:
        info = examine(copy, True, modalities, any_of_them=True)
    if isinstance(info, Rejection):
        raise MediaError(path, info.reason, info.detail)
    if reason := unusable(os.fspath(path)):
        raise MediaError(path, reason)
    assert info is not None, "a promised file"
    group = group_of([(absolute(path), info)], Cutting(modalities))
    if group.unreadable:
        raise MediaError(path, group.unreadable[0])
    return group


def group_of(files: Iterable[tuple[str, MediaInfo | Rejection]], cutting: Cutting) -> Group:
    """The segments of files as an index in memory."""
    videos: list[Video] = []
    rows_of: dict[tuple[str, ...], list[int]] = {}
    unreadable, rows = {}, 0
    for path, info in files:
        streams = () if isinstance(info, Rejection) else streams_read(info, cutting.modalities)
        if isinstance(info, Rejection) or not streams:
            unreadable[rows] = info.reason if isinstance(info, Rejection) else "past the end"
            videos.append(Video(printable_name(path), _NO_FACTS, np.zeros(1), np.zeros(1)))
        else:
            videos.append(Video.of(path, info, *segments_of(info, streams, cutting), (0, 0)))
            here = range(rows, rows + len(videos[-1].start_s))
            rows_of.setdefault(streams, []).extend(here)
        rows += len(videos[-1].start_s)
    return Group(Index.in_memory(videos, os.sep), range(rows), rows_of, unreadable)


def streams_read(info: MediaInfo, wanted: Sequence[str]) -> tuple[str, ...]:
    """Which streams of a file are read: those that are there at once, else the longest."""
    codecs = {"video": info.video_codec, "audio": info.audio_codec}
    there = tuple(m for m in wanted if codecs[m] and extent(info, (m,))[1] > 0)
    if len(there) > 1 and extent(info, there)[1] <= 0:
        return (max(there, key=lambda m: extent(info, (m,))[1]),)
    return there


def segments_of(
    info: MediaInfo, streams: tuple[str, ...], cutting: Cutting
) -> tuple[np.ndarray, np.ndarray]:
    """Starts and lengths of a file's segments, in seconds."""
    start_s, seconds = extent(info, streams)
    least = min(max(cutting.min_seconds, LEAST_SECONDS), seconds)
    return cut(start_s, seconds, cutting.segment_seconds or seconds, least)


def extent(info: MediaInfo, modalities: tuple[str, ...]) -> tuple[float, float]:
    """From when on, and how long, all of these streams are there."""
    first_s, last_s = info.extent_s(modalities)
    return first_s, last_s - first_s
