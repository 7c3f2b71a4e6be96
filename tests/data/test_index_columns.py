"""The columns that an index is made of, against plain Python: what was found, cut and merged."""

from __future__ import annotations

import hashlib
import os
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from seehear.data.index import Index, merging
from seehear.data.index.columns import FACTS, Video, table_of
from seehear.data.index.cutting import rows_of
from seehear.data.index.files import Candidate, Files
from seehear.data.index.looking import SEEN
from seehear.data.index.merging import merged, numbers_of
from seehear.data.index.writing import write_index
from seehear.data.stretches import cut

SETTINGS = {"segment_seconds": 2.5, "min_seconds": 0.7}
NUMBERS = dict.fromkeys(FACTS, 1) | {"video_codec": "h264", "audio_codec": "aac"}


def test_files_are_listed_and_digested_as_their_bytes_are():
    names = ["/v/a-b.mp4", "/v/a/b.mp4", os.fsdecode(b"/v/odd-\xff.mp4"), "/v/ü.mp4", "/v/z.mp4"]
    given = [Candidate(name, 3 * i, 10**18 - i) for i, name in enumerate(names)]
    given[2] = Candidate(names[2], 0, 0, "not found", "No such file")
    files = Files.of(given)
    assert list(files) == given
    assert [list(files[i : i + 2]) for i in range(5)] == [given[i : i + 2] for i in range(5)]
    assert list(files.only(np.array([True, False, True, False, False]))) == [given[0], given[2]]
    digest = hashlib.sha256()
    for file in given:
        stamp = f"\0{file.file_bytes}\0{file.modified_ns}\n".encode()
        digest.update(os.fsencode(file.path) + stamp)
    assert files.digest() == f"sha256:{digest.hexdigest()}"
    assert not Files.of([])


def looked_at(count: int, rng: np.random.Generator) -> pa.Table:
    rows = []
    for i in range(count):
        seconds = float(rng.choice([0.2, 2.5, 5.0, rng.uniform(0.1, 20)]))
        row = {**NUMBERS, "path": f"/v/{i:05d}.mp4", "usable_start_s": float(rng.uniform(0, 3))}
        row |= {"usable_seconds": seconds, "video_codec": str(rng.choice(["h264", "vp9", "av1"]))}
        is_lost = {"path": row["path"], "reason": "truncated", "detail": "x", "file_bytes": 1}
        rows.append({**is_lost, "modified_ns": 1} if rng.uniform() < 0.2 else row)
    return pa.Table.from_pylist(rows, SEEN)


def test_rows_are_those_of_one_file_after_the_other(monkeypatch):
    monkeypatch.setattr("seehear.data.index.cutting._FILES_A_CHUNK", 7)
    seen = looked_at(60, np.random.default_rng(0))
    table, rejected = rows_of(groups(seen), SETTINGS, "/v")
    videos = []
    for row in seen.to_pylist():
        if row["reason"] is None:
            seconds = row["usable_seconds"]
            least = min(SETTINGS["min_seconds"], seconds)
            segments = cut(row["usable_start_s"], seconds, SETTINGS["segment_seconds"], least)
            videos.append(Video(row["path"], {name: row[name] for name in FACTS}, *segments))
    assert table.equals(table_of(videos, "/v"))
    lost = [row["path"] for row in seen.to_pylist() if row["reason"]]
    assert [file.path for file in rejected] == lost
    assert 0 < len(lost) < len(seen)


def groups(seen: pa.Table, size: int = 3) -> Iterator[pa.Table]:
    for start in range(0, len(seen), size):
        yield seen.slice(start, size)


def test_rows_take_no_object_for_a_file():
    one = looked_at(1000, np.random.default_rng(0))
    one = one.filter(one["reason"].is_null())

    def tables() -> Iterator[pa.Table]:
        for _ in range(100):
            yield one

    tracemalloc.start()
    begin = pa.total_allocated_bytes()
    table, _ = rows_of(tables(), {**SETTINGS, "segment_seconds": 60.0}, "/v")
    used = tracemalloc.get_traced_memory()[1] + pa.total_allocated_bytes() - begin
    tracemalloc.stop()
    assert used / len(table) < 170, "76 of the row, 13 of the path, and chunks"


def video(name: str, segments: int, **facts: Any) -> Video:
    start_s = np.arange(segments, dtype=np.float64)
    return Video(f"/v/{name}", NUMBERS | facts, start_s, np.ones(segments))


@pytest.mark.parametrize("at_once", [2, 1000])
def test_an_update_keeps_old_files_in_their_order(tmp_path: Path, monkeypatch, at_once):
    monkeypatch.setattr(merging, "_NAMES_AT_ONCE", at_once)
    rng = np.random.default_rng(1)
    for trial in range(30):
        names = [f"{i:02d}.mp4" for i in range(12)]
        there = [n for n in rng.permutation(names) if rng.uniform() < 0.6] or names[:1]
        old = [video(n, int(rng.integers(1, 4)), video_codec=f"c{n[1]}") for n in there]
        folder = tmp_path / f"{trial}"
        info = {"root": "/v", "paths": ["/v"], "settings": None, "rejected": {}}
        write_index(folder, old, [], info)
        index = Index.open(folder)
        paths = pa.chunked_array([pa.array([f"/v/{n}".encode() for n in names], pa.large_binary())])
        number_N = numbers_of(paths, index)
        assert number_N.tolist() == [there.index(n) if n in there else -1 for n in names]
        fate = {n: str(rng.choice(["kept", "again", "gone", "changed"])) for n in names}
        kept = np.array([i for i, n in enumerate(there) if fate[n] == "kept"], np.int32)
        before = dict(zip(there, old, strict=True))
        new = {n: video(n, 2, file_bytes=9) for n in names if fate[n] == "changed"}
        new |= {n: before[n] for n in there if fate[n] == "again"}
        given = table_of([new[n] for n in sorted(new)], "/v")
        table, changes = merged(index, rng.permutation(kept), given, "/v")
        after = {n: before[n] for n in there if fate[n] == "kept"} | new
        ordered = sorted(after, key=lambda n: (there.index(n) if n in there else 99, n))
        assert table.to_pylist() == table_of([after[n] for n in ordered], "/v").to_pylist()
        if after:
            wanted = table_of([after[n] for n in ordered], "/v")
            assert table["video_codec"].dictionary.equals(wanted["video_codec"].dictionary)
        dropped = len([n for n in there if n not in after])
        changed = len([n for n in new if n in before])
        added = len([n for n in new if n not in before])
        assert changes == {"added": added, "changed": changed, "dropped": dropped}
