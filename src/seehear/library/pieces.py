"""Which segments of which files are there to embed? Of an index, or of any files and folders.

Unlike for training, a file may have one stream only, and may be silent or still. One with both is
cut where both are there; one that is shorter than the least segment is a segment all the same.
Files are looked at in worker processes, a group at a time, so that a million of them takes no more
memory than their names.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from seehear.data.decoding.workers import examine_all
from seehear.data.index import Index, cut
from seehear.data.index.discovery import Candidate, absolute_paths, but_for, find_candidates
from seehear.data.index.examination import LEAST_SECONDS, Rejection
from seehear.data.media import Hearing, MediaInfo
from seehear.errors import SettingsError, UsageError

FILES_A_GROUP = 128
ROWS_A_GROUP = 1024  # of an index
AUDIO_ENDINGS = (
    ".aac",
    ".aif",
    ".aiff",
    ".flac",
    ".m4a",
    ".mp3",
    ".oga",
    ".ogg",
    ".opus",
    ".wav",
    ".wma",
)

Paths = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]


@dataclass(frozen=True)
class Piece:
    """A segment to embed, or a file that cannot be.

    Args:
        path: absolute.
        start_s, seconds: the stretch, since the container's start.
        modalities: the streams that are there; none where the file cannot be read.
        width, height: of the picture as displayed; 0 without.
        hearing: which of the file's sound; None has that found out.
        reason: a key of `seehear.data.media.REASONS` where the file cannot be read, otherwise
            empty.
        origin: the video and the start in it, where the segment was packed and is read from
            elsewhere.
    """

    path: str
    start_s: float
    seconds: float
    modalities: tuple[str, ...]
    width: int = 0
    height: int = 0
    hearing: Hearing | None = None
    reason: str = ""
    origin: tuple[str, float] | None = None

    @property
    def shown(self) -> tuple[str, float]:
        """The path and the start that a person knows the segment by."""
        return self.origin or (self.path, self.start_s)


@dataclass(frozen=True)
class Cutting:
    """How files are cut into segments.

    Args:
        segment_seconds: the longest segment; None takes each file whole.
        min_seconds: a shorter tail is dropped.
        modalities: streams of interest, those that there are encoders for.
        workers: processes that look at files.
        timeout_s: a file that takes longer has the reason "timed out".
    """

    segment_seconds: float | None
    min_seconds: float
    modalities: tuple[str, ...]
    workers: int
    timeout_s: float

    def check(self) -> None:
        """Raise SettingsError for lengths that cannot be."""
        longest = self.segment_seconds
        if longest is not None and not longest > 0:
            raise SettingsError(
                f"segment_seconds is {longest:g}. It must be positive; 10 is usual."
            )
        if self.min_seconds < 0 or (longest is not None and self.min_seconds > longest):
            raise SettingsError(
                f"min_seconds is {self.min_seconds:g}. It must be from 0 to segment_seconds."
            )


class IndexSource:
    """The rows of an index."""

    def __init__(self, index: Index, modalities: tuple[str, ...]) -> None:
        self.index, self.modalities = index, modalities
        self.digest, self.group_size = index.digest, ROWS_A_GROUP

    def __len__(self) -> int:
        return len(self.index)

    def pieces(self, rows: range) -> list[Piece]:
        """The segments of some rows."""
        index = self.index
        return [
            Piece(
                index.path(row),
                float(index.start_s[row]),
                float(index.seconds[row]),
                self.modalities,
                int(index.width[row]),
                int(index.height[row]),
                index.hearing(row),
                origin=(index.original_path(row), float(index.original_start_s[row]))
                if index.is_packed
                else None,
            )
            for row in rows
        ]


class FileSource:
    """Files, and folders of any depth."""

    def __init__(self, paths: Paths, cutting: Cutting) -> None:
        cutting.check()
        self.cutting, self.group_size = cutting, FILES_A_GROUP
        named = absolute_paths([paths] if isinstance(paths, str | os.PathLike) else list(paths))
        self.named = {path for path in named if not Path(path).is_dir()}
        self.files, passed_over = find_candidates(named)
        if not self.files:
            where = ", ".join(named) + but_for(passed_over)
            raise UsageError(
                f"There is no file below {where}. Name files, or folders that hold them."
            )
        digest = hashlib.sha256()
        for file in self.files:
            digest.update(
                os.fsencode(file.path) + f"\0{file.file_bytes}\0{file.modified_ns}\n".encode()
            )
        self.digest = f"sha256:{digest.hexdigest()}"

    def __len__(self) -> int:
        return len(self.files)

    def pieces(self, files: range) -> list[Piece]:
        """The segments of some files, and a piece with a reason for each that cannot be read.

        Files that nobody would take for media, such as notes beside the videos, are in it only
        where they were named.
        """
        found: dict[int, list[Piece]] = {}
        jobs, at = [], []
        for number in files:
            file = self.files[number]
            if failure := file.failure or ("" if usable_name(file.path) else "unusable name"):
                found[number] = [Piece(printable_name(file.path), 0.0, 0.0, (), reason=failure)]
            else:
                jobs.append((file.path, self.is_promised(file), self.cutting.modalities, True))
                at.append(number)
        for job, answer in examine_all(jobs, self.cutting.workers, self.cutting.timeout_s):
            if answer is not None:
                found[at[job]] = self.cut(jobs[job][0], answer)
        return [piece for number in sorted(found) for piece in found[number]]

    def is_promised(self, file: Candidate) -> bool:
        """Whether a file that cannot be read deserves a reason."""
        return (
            file.is_promised or file.path in self.named or file.path.lower().endswith(AUDIO_ENDINGS)
        )

    def cut(self, path: str, info: MediaInfo | Rejection) -> list[Piece]:
        """The segments of one file."""
        if isinstance(info, Rejection):
            return [Piece(path, 0.0, 0.0, (), reason=info.reason)]
        codecs = {"video": info.video_codec, "audio": info.audio_codec}
        there = tuple(m for m in self.cutting.modalities if codecs[m] and extent(info, (m,))[1] > 0)
        if (
            len(there) > 1 and extent(info, there)[1] <= 0
        ):  # never at the same time: the longer one counts
            there = (max(there, key=lambda m: extent(info, (m,))[1]),)
        if not there:
            return [Piece(path, 0.0, 0.0, (), reason="past the end")]
        start_s, seconds = extent(info, there)
        longest = self.cutting.segment_seconds or seconds
        least = min(max(self.cutting.min_seconds, LEAST_SECONDS), seconds)
        starts_N, seconds_N = cut(start_s, seconds, longest, least)
        size = (info.width, info.height) if "video" in there else (0, 0)
        hearing = Hearing(info.audio_track, info.audio_channel) if "audio" in there else None
        spans = zip(starts_N, seconds_N, strict=True)
        return [Piece(path, float(a), float(b), there, *size, hearing) for a, b in spans]


Source = IndexSource | FileSource


def num_groups(source: Source) -> int:
    """In how many parts a source is done."""
    return -(-len(source) // source.group_size)


def group_of(source: Source, number: int) -> range:
    """The things of one part."""
    return range(number * source.group_size, min((number + 1) * source.group_size, len(source)))


def extent(info: MediaInfo, modalities: tuple[str, ...]) -> tuple[float, float]:
    """From when on, and how long, all of these streams are there."""
    first_s, last_s = info.extent_s(modalities)
    return first_s, last_s - first_s


def usable_name(path: str) -> bool:
    """Whether a table can hold the name."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def printable_name(path: str) -> str:
    """The name with backslashes for what no table can hold."""
    return os.fsencode(path).decode(errors="backslashreplace")


def source_of(videos: Paths | Index, cutting: Cutting) -> Source:
    """Where segments come from: an index, the folder of one, or files and folders.

    Raises:
        UsageError: nothing is there.
    """
    if isinstance(videos, Index):
        return IndexSource(videos, cutting.modalities)
    if isinstance(videos, str | os.PathLike) and (Path(videos) / "index.json").exists():
        index = Index.open(videos)
        index.check()
        return IndexSource(index, cutting.modalities)
    return FileSource(videos, cutting)
