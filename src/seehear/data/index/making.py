"""Making an index, or bringing one up to date: look at what is new, drop what has vanished."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from seehear.data.index.chosen import UNLISTED, Entry, SegmentList
from seehear.data.index.columns import Video, digest_of_rows, table_of
from seehear.data.index.cutting import rejected_of, rows_of
from seehear.data.index.discovery import (
    absolute_paths,
    but_for,
    common_root,
    find_candidates,
    is_within,
)
from seehear.data.index.examination import Rejection
from seehear.data.index.files import Files
from seehear.data.index.info import read_info
from seehear.data.index.looking import SEEN, work_of
from seehear.data.index.merging import merged
from seehear.data.index.moved import way_to
from seehear.data.index.packed import copy_packed
from seehear.data.index.rejected import Rejected, beside, write_rejected
from seehear.data.index.summary import IndexSummary, listing, summary, summary_of_packed, tally
from seehear.data.index.table import Index
from seehear.data.index.updating import Before, check_free, open_old, what_is_known
from seehear.data.index.writing import write_table
from seehear.data.media import REASONS
from seehear.data.parts import (
    Engine,
    Part,
    PartSummary,
    Work,
    do,
    is_made,
    parts_of,
    remove_groups,
    writer,
)
from seehear.data.remote import absolute, is_remote
from seehear.errors import IndexFileError, SettingsError
from seehear.machine.console import Console
from seehear.machine.files import now

_DEFAULTS = {"segment_seconds": 10.0, "min_seconds": 1.0, "stills": 0.0}

Paths = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]


@dataclass(frozen=True)
class _Files:
    """What is below the paths of a command, before anything new is opened."""

    root: str
    waiting: Files  # to be opened
    kept: NDArray[np.int32]  # numbers of files of the index as it was, which are as they were
    rejected: list[Rejected]
    lines: dict[str, list[Entry]]  # of a list of segments, by path
    passed_over: list[str]  # folders that seehear made


def index(
    paths: Paths,
    out: str | os.PathLike[str],
    *,
    segments: str | os.PathLike[str] | None = None,
    segment_seconds: float | None = None,
    min_seconds: float | None = None,
    stills: bool | None = None,
    workers: int | None = None,
    timeout_s: float = 30.0,
    progress: bool = True,
    overwrite: bool = False,
    part: str | None = None,
    engine: str = "local",
) -> IndexSummary | PartSummary:
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
        segment_seconds: the longest segment a video is cut into; by default 10, or what the index
            was made with.
        min_seconds: a shorter last segment is dropped; a video that is shorter as a whole is one
            segment. By default 1, or what the index was made with.
        stills: keep files whose picture never changes, which are left out by default, or as the
            index was made.
        workers: processes; by default as many as there are cores for this process.
        timeout_s: a file that takes longer is left out as "timed out"; fetching a remote file does
            not count.
        progress: show a bar on stderr where that is a terminal.
        overwrite: look at everything anew, with other settings or paths than before perhaps.
        part: "i/n" looks at the i-th n-th of the files and writes no index, "merge" makes the index
            of what all parts have looked at (`data.parts`); by default both is done.
        engine: "local", "ray", or "ray:" and the address of a cluster; then `workers` is of each of
            its processes, one by default.

    Returns:
        Counts, and what has changed; of a part, how far the parts are.

    Raises:
        UsageError: a path does not exist, `out` is something else, or its settings or paths differ
            from these.
        SettingsError: a line of `segments` is wrong, or names a file that is not there.
        IndexFileError: no file can be used.
    """
    given = _checked(segment_seconds, min_seconds, timeout_s, workers)
    given |= {} if stills is None else {"stills": float(stills)}
    mine, by = Part.parse(part), Engine.parse(engine)
    chosen = SegmentList(segments) if segments is not None else None
    named = absolute_paths([paths] if isinstance(paths, str | os.PathLike) else list(paths))
    folder = Path(out)
    is_address = len(named) == 1 and is_remote(named[0])
    if is_address and part is None and copy_packed(named[0], folder, overwrite=overwrite):
        return summary_of_packed(Index.open(folder))
    check_free(folder)
    with writer(folder, mine, inside=folder.is_dir()):
        before = Before() if overwrite else open_old(folder, given, chosen, named)
        if is_made(parts_of(folder), before.info.get("digest")):
            remove_groups(parts_of(folder))
            mine = mine if mine.number else Part()  # as if it had been merged long ago
        settings = _settled(before.info.get("settings", {}), given)
        call = {"paths": named, "segments": chosen.file if chosen else None, **settings}
        files = _find(named, folder, chosen, before)
        if not (files.waiting or len(files.kept) or files.rejected):
            raise _nothing_usable(folder, named, [], files)
        work = work_of(
            folder, files.waiting, {**call, "overwrite": overwrite}, by.workers(workers), timeout_s
        )
        with Console(quiet=not progress) as console:
            do(work, mine, console, "looking at files", "files", by, by.workers(workers))
        if not mine.makes_result:
            return PartSummary.of(work, mine)
        # all are done: the list of them need not be in memory beside the rows
        work = replace(work, do=SEEN.empty_table)
        files = replace(files, waiting=Files.of(()))
        return _merge(folder, call, work, files, chosen, before)


def _merge(
    folder: Path,
    call: Mapping[str, Any],
    work: Work,
    files: _Files,
    chosen: SegmentList | None,
    before: Before,
) -> IndexSummary:
    """Write the index of files that were all looked at."""
    named, settings = call["paths"], {name: call[name] for name in _DEFAULTS}
    kept, new, lost = _rows(work, files, settings, chosen, before)
    rejected = sorted(files.rejected + lost, key=lambda file: file.path)
    table, changes = merged(before.index, kept, new, files.root)
    del new
    if not len(table):
        work.remove()
        raise _nothing_usable(folder, named, rejected, files)
    info = {
        "root": files.root,
        "way_to_root": way_to(files.root, folder),
        "paths": named,
        "settings": {"stills": settings["stills"]} if chosen else settings,
        "segments": chosen.file if chosen else None,
        "rejected": tally(rejected),
    }
    old, was = before.info, (before.rejected, before.info.get("paths"))
    if (
        not any(changes.values())
        and (rejected, named) == was
        and (read_info(folder)["root"] == old["root"])
    ):
        info = old  # it would be what is there
    else:
        made = {"created": old.get("created") or now(), "updated": now()}
        made["seehear"] = metadata.version("seehear")
        digest = digest_of_rows(table)
        work.note_result(digest)
        info = write_table(folder, table, rejected, info | made, digest)
    work.remove()
    ignored = chosen.ignored if chosen else []
    return summary(folder, info, table, changes, files.passed_over, ignored)


def _find(named: list[str], folder: Path, chosen: SegmentList | None, before: Before) -> _Files:
    files, passed_over = find_candidates(named)
    own = absolute(folder)
    if any(is_within(own, path) for path in named):
        files = files.only(np.array([not is_within(file.path, own) for file in files], np.bool_))
    root, lines = common_root(named), {}
    kept, rejected, is_waiting_N = what_is_known(files, before)
    if chosen is not None:
        lines = chosen.by_file(root, [file.path for file in files])
        is_listed_N = np.array([file.path in lines for file in files], np.bool_)
        by_path = {file.path: file for file in rejected}
        by_path |= {
            file.path: Rejected.of(file, Rejection(UNLISTED))
            for file in files.only(~is_listed_N)
            if file.is_promised
        }
        is_waiting_N, rejected = is_waiting_N & is_listed_N, list(by_path.values())
    passed_over = [path for path in passed_over if not is_within(path, own)]
    return _Files(root, files.only(is_waiting_N), kept, rejected, lines, passed_over)


def _rows(
    work: Work,
    files: _Files,
    settings: Mapping[str, float],
    chosen: SegmentList | None,
    before: Before,
) -> tuple[NDArray[np.int32], pa.RecordBatch, list[Rejected]]:
    """Which files of the old index keep their rows, the rows of others, and what cannot be used."""
    if chosen is None:
        return files.kept, *rows_of(work.tables(), settings, files.root)
    old = before.index.videos() if before.index else []
    numbers = {id(old[number]): number for number in files.kept if old[number].path in files.lines}
    videos, lost = [old[number] for number in numbers.values()], list[Rejected]()
    for table in work.tables():
        lost += rejected_of(table)
        usable = table.filter(table["reason"].is_null()).drop_columns(["reason", "detail"])
        nothing = np.zeros(0)
        videos += [Video(row.pop("path"), row, nothing, nothing) for row in usable.to_pylist()]
    cut = [
        part for video in videos for part in chosen.cut(video, files.lines[video.path], files.root)
    ]
    kept = [numbers[id(part)] for part in cut if id(part) in numbers]
    new = [part for part in cut if isinstance(part, Video) and id(part) not in numbers]
    new.sort(key=lambda video: video.path)
    lost += [part for part in cut if isinstance(part, Rejected)]
    return np.array(kept, np.int32), table_of(new, files.root), lost


def _checked(
    segment_seconds: float | None, min_seconds: float | None, timeout_s: float, workers: int | None
) -> dict[str, float]:
    """Those that are given of the settings that decide what is in an index."""
    wanted = {"segment_seconds": segment_seconds, "min_seconds": min_seconds}
    given = {name: float(value) for name, value in wanted.items() if value is not None}
    for name, value in {**given, "timeout_s": timeout_s}.items():
        if not 0 < value < math.inf:
            raise SettingsError(f"{name} is {value:g}. It must be positive.")
    _settled({}, given)
    if workers is not None and workers < 1:
        raise SettingsError(f"workers is {workers}. It must be at least 1.")
    return given


def _settled(before: Mapping[str, float], given: Mapping[str, float]) -> dict[str, float]:
    """What is given, else as the index was made, else the defaults."""
    settings = {**_DEFAULTS, **before, **given}
    longest, least = settings["segment_seconds"], settings["min_seconds"]
    if longest < least:
        raise SettingsError(
            f"segment_seconds is {longest:g}, less than min_seconds, {least:g}: every segment "
            "would be dropped. Make one longer or the other shorter."
        )
    return settings


def _nothing_usable(
    folder: Path, named: Sequence[str], rejected: Sequence[Rejected], files: _Files
) -> IndexFileError:
    if not rejected:
        where = ", ".join(named) + but_for(files.passed_over)
        return IndexFileError(
            f"There is no video below {where}. Name files, or folders that hold them."
        )
    place = beside(folder)
    place.parent.mkdir(parents=True, exist_ok=True)
    write_rejected(place, rejected, files.root)
    first = rejected[0]
    return IndexFileError(
        f"None of {len(rejected)} files below {', '.join(named)} can be used: "
        f"{listing(tally(rejected))}. For example {first.path}: {REASONS[first.reason]} "
        f"All of them are listed in {place}. No index was written."
    )
