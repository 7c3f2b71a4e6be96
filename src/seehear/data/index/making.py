"""Making an index, or bringing one up to date: look at what is new or has changed, drop what has
vanished.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seehear.data.decoding.pool import Examined, examine_all
from seehear.data.decoding.worker import Job
from seehear.data.index.chosen import UNLISTED, UNUSABLE, Entry, SegmentList
from seehear.data.index.discovery import (
    Candidate,
    absolute_paths,
    but_for,
    common_root,
    find_candidates,
)
from seehear.data.index.examination import Rejection
from seehear.data.index.info import PACKING, command, read_info
from seehear.data.index.moved import told, way_to
from seehear.data.index.packed import copy_packed
from seehear.data.index.rejected import Rejected, write_rejected
from seehear.data.index.summary import IndexSummary, listing, tally
from seehear.data.index.table import (
    FACTS,
    Index,
    Video,
)
from seehear.data.index.writing import finish_update, write_index
from seehear.data.media import REASONS, MediaInfo
from seehear.data.remote import absolute, is_remote
from seehear.errors import IndexFileError, SettingsError, UsageError
from seehear.machine.console import Console
from seehear.machine.distributed import cores
from seehear.machine.files import now
from seehear.machine.locks import one_writer
from seehear.machine.outputs import INDEX, check_place, is_empty_folder, is_like_index

Paths = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]

Times = NDArray[np.float64]
Look = Callable[[list[Job]], Iterator[Examined]]

# may be the machine's fault
_TRY_AGAIN = frozenset(
    {"timed out", "crashed the decoder", "no permission", "not found", "unreachable"}
)


def index(
    paths: Paths,
    out: str | os.PathLike[str],
    *,
    segments: str | os.PathLike[str] | None = None,
    segment_seconds: float = 10.0,
    min_seconds: float = 1.0,
    workers: int | None = None,
    timeout_s: float = 30.0,
    progress: bool = True,
    overwrite: bool = False,
) -> IndexSummary:
    """List the usable segments of video files, and a reason for each file left out.

    Where `out` is an index already, what is new or has changed is looked at, what has vanished is
    dropped, and the rest is left alone: old files keep their order and new ones follow, sorted by
    path. Rows are numbered anew, so dropping a file moves the rows after it; the digest tells runs
    of the old index that this is another one.

    Args:
        paths: video files, or folders that hold them at any depth, here or at an address (s3://,
            gs://, hf://, https://), or text files that list addresses. Names that begin with a dot,
            and folders that seehear made (runs, reports, indexes), are passed over, but for folders
            that are named here. The address of a packed index makes an index here whose shards stay
            there.
        out: the folder to write.
        segments: a list of the segments to take, in place of the next two: path,start_s,end_s and,
            if wanted, class,split,recording (`chosen`); paths are relative to the folder of
            `paths`.
        segment_seconds: the longest segment a video is cut into.
        min_seconds: a shorter last segment is dropped; a video that is shorter as a whole is one
            segment.
        workers: processes; by default as many as there are cores for this process.
        timeout_s: a file that takes longer is left out as "timed out"; fetching a remote file does
            not count.
        progress: show a bar on stderr where that is a terminal.
        overwrite: look at everything anew, with other settings or paths than before perhaps.

    Returns:
        Counts, and what has changed.

    Raises:
        UsageError: a path does not exist, `out` is something else, or its settings or paths differ
            from these.
        SettingsError: a line of `segments` is wrong, or names a file that is not there.
        IndexFileError: no file can be used.
    """
    settings = _checked(segment_seconds, min_seconds, timeout_s, workers)
    chosen = SegmentList(segments) if segments is not None else None
    named = absolute_paths([paths] if isinstance(paths, str | os.PathLike) else list(paths))
    folder = Path(out)
    if (
        len(named) == 1
        and is_remote(named[0])
        and copy_packed(named[0], folder, overwrite=overwrite)
    ):
        return _summary_of_packed(Index.open(folder))
    _check_free(folder)
    with one_writer(folder, inside=folder.is_dir()):
        return _look_and_write(
            named,
            folder,
            {} if chosen else settings,
            chosen,
            lambda jobs: examine_all(jobs, workers or cores(), timeout_s),
            progress,
            overwrite,
        )


def _look_and_write(
    named: list[str],
    folder: Path,
    settings: dict[str, float],
    segments: SegmentList | None,
    look: Look,
    progress: bool,
    overwrite: bool,
) -> IndexSummary:
    """`index`, once nobody else writes to the folder."""
    old = None if overwrite else _open_old(folder, settings, segments, named)
    old_videos = old.videos() if old else []
    old_rejected = old.rejected_files() if old else []
    root = common_root(named)
    candidates, passed_over = find_candidates(named)
    candidates = _without(folder, candidates)
    passed_over = [path for path in passed_over if not _is_within(path, absolute(folder))]
    known = _what_is_known(candidates, old_videos, old_rejected)
    lines = segments.by_file(root, [file.path for file in candidates]) if segments else {}
    if segments:
        known |= _what_is_not_listed(candidates, lines)
        candidates = [file for file in candidates if file.path in lines or file.path in known]
    seen = _what_is_seen(candidates, known, settings, look, progress)
    found = _by_list(segments, (known | seen).values(), lines, root)
    order = {video.path: i for i, video in enumerate(old_videos)}
    videos = sorted(
        (file for file in found if isinstance(file, Video)),
        key=lambda video: (order.get(video.path, len(order)), video.path),
    )
    rejected = sorted(
        (file for file in found if isinstance(file, Rejected)), key=lambda file: file.path
    )
    if not videos:
        raise _nothing_usable(folder, named, rejected, root, passed_over)
    same = old is not None and (videos, rejected, named) == (
        old_videos,
        old_rejected,
        old.info["paths"],
    )
    ignored = segments.ignored if segments else []
    if old is not None and same and read_info(folder)["root"] == old.info["root"]:
        return replace(
            _summary(folder, old.info, videos, old_videos), passed_over=passed_over, ignored=ignored
        )
    info = {
        "root": root,
        "way_to_root": way_to(root, folder),
        "paths": named,
        "settings": settings,
        "segments": segments.file if segments else None,
        "rejected": tally(rejected),
        "created": old.info["created"] if old else now(),
        "updated": now(),
        "seehear": metadata.version("seehear"),
    }
    written = write_index(folder, videos, rejected, info)
    return replace(
        _summary(folder, written, videos, old_videos), passed_over=passed_over, ignored=ignored
    )


def _what_is_not_listed(
    candidates: Sequence[Candidate], lines: Mapping[str, object]
) -> dict[str, Video | Rejected]:
    """The videos that no line of a list of segments names."""
    return {
        file.path: _rejected(file, Rejection(UNLISTED))
        for file in candidates
        if file.is_promised and file.path not in lines
    }


def _by_list(
    segments: SegmentList | None,
    files: Iterable[Video | Rejected],
    lines: Mapping[str, Sequence[Entry]],
    root: str,
) -> list[Video | Rejected]:
    """The files, cut by the list where there is one."""
    found: list[Video | Rejected] = []
    for file in files:
        if segments is not None and isinstance(file, Video):
            found += segments.cut(file, lines[file.path], root)
        else:
            found.append(file)
    return found


def cut(
    start_s: float, seconds: float, segment_seconds: float, min_seconds: float
) -> tuple[Times, Times]:
    """Cut a stretch into segments of equal length; the last may be shorter, but not shorter than
    `min_seconds`.

    Returns:
        Starts and lengths, float64 (N,), to the microsecond.
    """
    whole = math.floor(seconds / segment_seconds + 1e-6)
    rest = seconds - whole * segment_seconds
    seconds_N = np.array([segment_seconds] * whole + [rest] * (rest >= min_seconds), np.float64)
    start_s_N = start_s + np.arange(len(seconds_N), dtype=np.float64) * segment_seconds
    return start_s_N.round(6), seconds_N.round(6)


def _checked(
    segment_seconds: float, min_seconds: float, timeout_s: float, workers: int | None
) -> dict[str, float]:
    """The settings that decide what is in an index."""
    for name, value in (
        ("segment_seconds", segment_seconds),
        ("min_seconds", min_seconds),
        ("timeout_s", timeout_s),
    ):
        if not 0 < value < math.inf:
            raise SettingsError(f"{name} is {value}. It must be positive.")
    if segment_seconds < min_seconds:
        raise SettingsError(
            f"segment_seconds is {segment_seconds:g}, less than min_seconds, {min_seconds:g}: "
            f"every segment would be "
            "dropped. Make one longer or the other shorter."
        )
    if workers is not None and workers < 1:
        raise SettingsError(f"workers is {workers}. It must be at least 1.")
    return {"segment_seconds": float(segment_seconds), "min_seconds": float(min_seconds)}


def _open_old(
    folder: Path, settings: dict[str, float], segments: SegmentList | None, named: list[str]
) -> Index | None:
    """The index that is to be updated, if there is one."""
    if not (folder / "index.json").exists():
        return None
    finish_update(folder)  # that an earlier process could not
    info = read_info(folder)
    if info.get("settings") is None:  # a copy of a packed one, whose shards are elsewhere
        raise UsageError(
            f"{folder} holds a packed index. Choose another --out; nothing was touched."
        )
    if (segments is None) != (info.get("segments") is None):
        was = f"with --segments {info['segments']}" if segments is None else "without --segments"
        raise UsageError(
            f"{folder} was made {was}. Do the same, take another --out, or --overwrite to make "
            "the index anew."
        )
    for name, value in settings.items():
        before = info["settings"][name]
        if before != value:
            raise UsageError(
                f"{folder} was made with {name} = {before:g}, now it is {value:g}. Take the same "
                f"value, another "
                "--out, or --overwrite to make the index anew."
            )
    old = Index.open(folder)
    info = told(old, named, common_root(named))
    missing = [path for path in info["paths"] if not any(_is_within(path, new) for new in named)]
    if missing:
        add = command(sorted({*info["paths"], *named}), folder, info.get("segments"))
        raise UsageError(
            f"{folder} holds videos of {', '.join(missing)}, which this command does not name, so "
            f"all of them would be dropped. To add to the index: {add}. To make it anew, add "
            "--overwrite."
        )
    return old.with_info(info)


def _check_free(folder: Path) -> None:
    if (folder / PACKING).exists() or next(folder.glob("shard-*.tar"), None) is not None:
        raise UsageError(
            f"{folder} holds a packed index. Choose another --out; nothing was touched."
        )
    check_place(folder, "Choose another --out; nothing was touched.")
    if not folder.exists() or is_empty_folder(folder):
        return
    if not INDEX.is_at(folder) and not is_like_index(folder):
        raise UsageError(
            f"{folder} exists and is no index. Choose another --out; nothing was touched."
        )
    for name in ("index.json", "index.arrow", "rejected.parquet"):
        if (folder / name).is_dir() or (folder / name).is_symlink():
            raise UsageError(
                f"{folder / name} is no file of an index. Move it away; nothing was touched."
            )


def _is_within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)


def _without(folder: Path, candidates: list[Candidate]) -> list[Candidate]:
    """The candidates that are not files of the index itself."""
    own = os.path.abspath(folder)  # noqa: PTH100
    return [candidate for candidate in candidates if not _is_within(candidate.path, own)]


def _what_is_known(
    candidates: Sequence[Candidate], old_videos: Sequence[Video], old_rejected: Sequence[Rejected]
) -> dict[str, Video | Rejected]:
    """What needs no look, by path: files that are as they were, and files that cannot be looked
    at.
    """
    again = _TRY_AGAIN | {UNLISTED, UNUSABLE}
    old: dict[tuple[str, int, int], Video | Rejected] = {
        (f.path, f.file_bytes, f.modified_ns): f for f in old_rejected if f.reason not in again
    }
    old |= {(v.path, v.facts["file_bytes"], v.facts["modified_ns"]): v for v in old_videos}
    known: dict[str, Video | Rejected] = {}
    for candidate in candidates:
        before = old.get((candidate.path, candidate.file_bytes, candidate.modified_ns))
        if candidate.failure:
            known[candidate.path] = _rejected(
                candidate, Rejection(candidate.failure, candidate.detail)
            )
        elif not _is_utf8(candidate.path):
            known[candidate.path] = _rejected(candidate, Rejection("unusable name"))
        elif before is not None:
            known[candidate.path] = before
    return known


def _what_is_seen(
    candidates: Sequence[Candidate],
    known: dict[str, Video | Rejected],
    settings: dict[str, float],
    look: Look,
    progress: bool,
) -> dict[str, Video | Rejected]:
    """What looking at all other files says, by path; with a bar on the way."""
    waiting = [candidate for candidate in candidates if candidate.path not in known]
    jobs: list[Job] = [(candidate.path, candidate.is_promised) for candidate in waiting]
    seen: dict[str, Video | Rejected] = {}
    with Console(quiet=not progress) as console:
        count = console.watch("looking at files", len(jobs))
        for done, (candidate, answer) in enumerate(zip(waiting, look(jobs), strict=True), 1):
            if isinstance(answer, MediaInfo):
                seen[candidate.path] = _video(candidate, answer, settings)
            elif answer is not None:
                seen[candidate.path] = _rejected(candidate, answer)
            count(done)
    return seen


def _video(candidate: Candidate, info: MediaInfo, settings: dict[str, float]) -> Video:
    facts = {name: getattr(info, name, None) for name in FACTS}
    facts |= {"file_bytes": candidate.file_bytes, "modified_ns": candidate.modified_ns}
    if not settings:  # to be cut by a list
        facts |= {"usable_start_s": info.start_s, "usable_seconds": info.seconds}
        return Video(candidate.path, facts, np.zeros(0), np.zeros(0))
    least = min(settings["min_seconds"], info.seconds)
    start_s, seconds = cut(info.start_s, info.seconds, settings["segment_seconds"], least)
    return Video(candidate.path, facts, start_s, seconds)


def _rejected(candidate: Candidate, rejection: Rejection) -> Rejected:
    path = os.fsencode(candidate.path).decode(errors="backslashreplace")
    return Rejected(
        path, rejection.reason, rejection.detail, candidate.file_bytes, candidate.modified_ns
    )


def _is_utf8(path: str) -> bool:
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def _summary(
    folder: Path, info: dict[str, Any], videos: Sequence[Video], old_videos: Sequence[Video]
) -> IndexSummary:
    before = {video.path: video for video in old_videos}
    now_there = {video.path for video in videos}
    return IndexSummary(
        folder=str(folder),
        rows=info["rows"],
        videos=info["videos"],
        seconds=float(sum(video.seconds.sum() for video in videos)),
        rejected=info["rejected"],
        added=sum(video.path not in before for video in videos),
        changed=sum(video.path in before and before[video.path] is not video for video in videos),
        dropped=sum(path not in now_there for path in before),
        digest=info["digest"],
        joined=[video.path for video in videos if (video.facts["parts"] or 1) > 1],
    )


def _summary_of_packed(index: Index) -> IndexSummary:
    rejected = index.info["rejected"]
    seconds, count = float(index.seconds.sum()), index.num_videos
    return IndexSummary(
        str(index.folder), len(index), count, seconds, rejected, count, 0, 0, index.digest
    )


def _nothing_usable(
    folder: Path,
    named: Sequence[str],
    rejected: Sequence[Rejected],
    root: str,
    passed_over: Sequence[str],
) -> IndexFileError:
    if not rejected:
        where = ", ".join(named) + but_for(passed_over)
        return IndexFileError(
            f"There is no video below {where}. Name files, or folders that hold them."
        )
    place = folder.with_name(f"{folder.name}-rejected.parquet")
    place.parent.mkdir(parents=True, exist_ok=True)
    write_rejected(place, rejected, root)
    first = rejected[0]
    return IndexFileError(
        f"None of {len(rejected)} files below {', '.join(named)} can be used: "
        f"{listing(tally(rejected))}. "
        f"For example {first.path}: {REASONS[first.reason]} All of them are listed in {place}. "
        f"No index was written."
    )
