"""What lies in folders of videos beside videos: one entry costs its own row, and what seehear made
is no input.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyarrow import parquet

import seehear
from media_files import write_media
from remote_servers import serving
from seehear.cli.base import say
from seehear.data.index import Index, IndexSummary
from seehear.data.index.discovery import find_candidates
from seehear.errors import MediaError, SettingsError, UsageError, printable
from seehear.evaluation.datasets.tree import Tree
from seehear.library.sources import Cutting, FileSource
from seehear.machine.console import Console
from seehear.machine.files import write_json

YEAR_2400_S = 13_569_465_600


@pytest.fixture(scope="module")
def good_bytes(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write_media(tmp_path_factory.mktemp("good") / "v.mp4", seconds=2.0).read_bytes()


def build(videos: Path, out: Path) -> IndexSummary:
    return seehear.index(videos, out, progress=False, workers=1)


def paths_in(folder: Path) -> list[str]:
    index = Index.open(folder)
    return sorted({index.original_path(row) for row in range(len(index))})


def reasons(folder: Path) -> dict[str, str]:
    lines = parquet.read_table(folder / "rejected.parquet").to_pylist()
    return {line["path"]: line["reason"] for line in lines}


@contextlib.contextmanager
def nobody() -> Iterator[None]:
    """In this block the process is a user without any rights, whatever it was before."""
    if os.geteuid() != 0:
        yield
        return
    os.setegid(65534)
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


def test_links_that_lead_nowhere_cost_their_own_rows(tmp_path: Path, good_bytes: bytes) -> None:
    videos = tmp_path / "videos"
    (videos / "deep").mkdir(parents=True)
    (videos / "v.mp4").write_bytes(good_bytes)
    (videos / "deep" / "w.mp4").write_bytes(good_bytes + b"0")
    (videos / "a.mp4").symlink_to("a.mp4")  # to itself
    (videos / "a-ring").symlink_to("b-ring")
    (videos / "b-ring").symlink_to("a-ring")
    (videos / "gone.mp4").symlink_to("nowhere.mp4")
    (videos / "deep" / "up").symlink_to("..")
    (videos / ("n" * 250 + ".mp4")).symlink_to("x" * 300)  # longer than any name may be
    assert build(videos, tmp_path / "index").videos == 2
    lost = {"a.mp4", "a-ring", "b-ring", "gone.mp4", "n" * 250 + ".mp4"}
    assert reasons(tmp_path / "index") == dict.fromkeys(lost, "not found")
    assert sorted(Tree(videos).media) == sorted(
        map(str, (videos / "v.mp4", videos / "deep" / "w.mp4"))
    )


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that any user may enter; pytest's own are closed to others."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


def test_closed_folders_and_links_into_them_cost_their_own_rows(open_folder: Path) -> None:
    videos = open_folder / "videos"
    for name in ("open", "closed", "closed/inner", "unlisted"):
        (videos / name).mkdir(parents=True, exist_ok=True)
    for name in ("v.mp4", "open/w.mp4", "closed/x.mp4", "closed/inner/y.mp4", "unlisted/z.mp4"):
        (videos / name).write_bytes(b"0")
    (videos / "a-link").symlink_to(videos / "closed" / "inner")
    (videos / "b-link.mp4").symlink_to(videos / "closed" / "x.mp4")
    (videos / "closed").chmod(0)
    (videos / "unlisted").chmod(0o311)
    try:
        with nobody():
            found, _ = find_candidates([str(videos)])
            named = [str(videos / "a-link")]
            with pytest.raises(UsageError, match="a-link cannot be looked at: Permission denied"):
                FileSource(named, Cutting(("video",), timeout_s=10.0))
            media = Tree(videos).media
    finally:
        (videos / "closed").chmod(0o755)
    failures = {os.path.relpath(file.path, videos): file.failure for file in found}
    lost = dict.fromkeys(("a-link", "b-link.mp4", "closed", "unlisted"), "no permission")
    assert failures == {"open/w.mp4": "", "v.mp4": ""} | lost
    assert {os.path.relpath(path, videos) for path in media} == {"v.mp4", "open/w.mp4"}


def test_pipes_sockets_and_devices_are_not_waited_for(tmp_path: Path, good_bytes: bytes) -> None:
    videos = tmp_path / "videos"
    videos.mkdir()
    (videos / "v.mp4").write_bytes(good_bytes)
    os.mkfifo(videos / "pipe.mp4")
    (videos / "device.mp4").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as one, contextlib.chdir(videos):
        one.bind("socket.mp4")
    assert build(videos, tmp_path / "index").videos == 1
    lost = ("pipe.mp4", "device.mp4", "socket.mp4")
    assert reasons(tmp_path / "index") == dict.fromkeys(lost, "not a regular file")


@pytest.mark.parametrize("time_s", [YEAR_2400_S, -86_400 * 365 * 60, -(2**31)])
def test_any_date_can_be_kept(tmp_path: Path, good_bytes: bytes, time_s: int) -> None:
    videos = tmp_path / "videos"
    videos.mkdir()
    for name, content in (("v.mp4", good_bytes), ("bad.mp4", b"no video")):
        (videos / name).write_bytes(content)
        os.utime(videos / name, (time_s, time_s))
    if (videos / "v.mp4").stat().st_mtime_ns != time_s * 10**9:
        pytest.skip("this file system has no such date")
    assert build(videos, tmp_path / "index").videos == 1
    Index.open(tmp_path / "index").check()
    summary = build(videos, tmp_path / "index")
    assert (summary.added, summary.changed, summary.dropped) == (0, 0, 0)


def test_names_reach_no_terminal_raw(tmp_path: Path, good_bytes: bytes) -> None:
    wild = "a\x1b[31m\x07\n\r\u202e\x9b.mp4"
    videos = tmp_path / "videos"
    (videos / "run\x1b[1m").mkdir(parents=True)
    write_json(videos / "run\x1b[1m" / "run.json", {"format": 1, "created": "now"})
    (videos / wild).write_bytes(b"no video")
    (videos / os.fsdecode(b"odd-\xff\x1b.mp4")).write_bytes(b"no video")
    said = []
    for more in ([], ["v.mp4"]):  # all of them bad; one good
        for name in more:
            (videos / name).write_bytes(good_bytes)
        for command in (["index", str(videos), "--out", str(tmp_path / "index")],):
            done = subprocess.run(
                [sys.executable, "-m", "seehear", *command],
                capture_output=True,
                check=False,
                timeout=100,
            )
            said.append((done.stdout + done.stderr).decode())
    assert "Error: None of 2 files" in said[0]
    assert r"a\x1b[31m\x07\n\r\u202e\x9b.mp4" in said[0]
    assert r"run\x1b[1m" in said[1]
    assert all(c.isprintable() or c == "\n" for text in said for c in text)
    assert len(said[0].splitlines()) == 1


def test_errors_and_progress_write_control_characters_out(
    capsys: pytest.CaptureFixture[str],
) -> None:
    name = "a\x1b]0;x\x07\n\udcff é.mp4"
    assert printable(name) == r"a\x1b]0;x\x07\n\udcff é.mp4"
    assert str(MediaError(name, "not found", "\x1b")) == printable(name) + r": not found (\x1b)"
    assert "\x1b" not in str(SettingsError(f"{name} is no setting."))
    Console().say(f"reading {name}")
    assert capsys.readouterr().err == f"reading {printable(name)}\n"


def test_results_write_control_characters_out(capsys: pytest.CaptureFixture[str]) -> None:
    say("cluster \x1b[2J\u202e\nnext é 雨")
    assert capsys.readouterr().out == "cluster \\x1b[2J\\u202e\nnext é 雨\n"


def ours(folder: Path) -> dict[str, Path]:
    """Folders as seehear makes them, each with a video in it."""
    made = {name: folder / name for name in ("run", "index", "packed", "report", "cache")}
    for name, place in made.items():
        inner = place / ("previews" if name in ("run", "report") else "videos")
        inner.mkdir(parents=True)
    write_json(made["run"] / "run.json", {"format": 1, "created": "now"})
    for name in ("index", "packed"):
        write_json(
            made[name] / "index.json", {"format": 2, "rows": 1, "digest": "sha256:" + "0" * 64}
        )
    (made["report"] / "data").mkdir()
    (made["report"] / "data" / "report.js").write_text('SEEHEAR.put("report", {})')
    (made["report"] / "index.html").write_text("")
    (made["cache"] / "lock").write_text("")
    (made["cache"] / "total").write_text("123")
    return made


def test_what_seehear_made_is_passed_over_and_counted(tmp_path: Path, good_bytes: bytes) -> None:
    for number, place in enumerate(ours(tmp_path / "all").values()):
        for inner in ("previews", "videos"):
            if (place / inner).is_dir():
                (place / inner / "p.mp4").write_bytes(good_bytes + bytes([number]))
    (tmp_path / "all" / "a.mp4").write_bytes(good_bytes)
    for name, content in (
        ("run.json", '{"format": "mine"}'),
        ("index.json", "[1, 2]"),
        ("index.html", "<html>"),
    ):
        (tmp_path / "all" / "site").mkdir(exist_ok=True)
        (tmp_path / "all" / "site" / name).write_text(content)
    # a website's folder is none of ours
    (tmp_path / "all" / "site" / "b.mp4").write_bytes(good_bytes + b"b")
    summary = build(tmp_path / "all", tmp_path / "all" / "new-index")
    good = [str(tmp_path / "all" / name) for name in ("a.mp4", "site/b.mp4")]
    assert paths_in(tmp_path / "all" / "new-index") == good
    names = ("cache", "index", "packed", "report", "run")
    assert summary.passed_over == [str(tmp_path / "all" / name) for name in names]
    assert "5 folders" in summary.describe()
    assert json.loads(json.dumps(summary.to_dict()))["passed_over"] == summary.passed_over
    # the index itself is not counted
    again = build(tmp_path / "all", tmp_path / "all" / "new-index")
    assert again.passed_over == summary.passed_over
    files = FileSource(tmp_path / "all", Cutting(("video", "audio"), timeout_s=10.0)).files
    assert [file.path for file in files if file.path.endswith(".mp4")] == good
    assert sorted(Tree(tmp_path / "all").media) == good


def test_a_folder_of_ours_that_is_named_is_looked_at_but_for_its_previews(
    tmp_path: Path, good_bytes: bytes
) -> None:
    made = ours(tmp_path)
    (made["index"] / "videos" / "v.mp4").write_bytes(good_bytes)
    (made["run"] / "previews" / "p.mp4").write_bytes(good_bytes)
    assert build(made["index"], tmp_path / "new-index").videos == 1
    assert build(made["run"] / "previews", tmp_path / "other-index").videos == 1
    with pytest.raises(
        UsageError, match=r"There is no video below .*, but for 1 folder that seehear made"
    ):
        build(made["run"], tmp_path / "third-index")


def test_a_real_index_is_passed_over(tmp_path: Path, good_bytes: bytes) -> None:
    (tmp_path / "all").mkdir()
    (tmp_path / "all" / "v.mp4").write_bytes(good_bytes)
    build(tmp_path / "all", tmp_path / "all" / "one")
    (tmp_path / "all" / "one" / "stray.mp4").write_bytes(good_bytes + b"0")
    assert build(tmp_path / "all", tmp_path / "all" / "two").passed_over == [
        str(tmp_path / "all" / "one")
    ]


def test_what_seehear_made_is_passed_over_elsewhere(tmp_path: Path, good_bytes: bytes) -> None:
    for name in ("a.mp4", "run/previews/p.mp4", "report/previews/q.mp4", "mine/run.json.mp4"):
        (tmp_path / "all" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "all" / name).write_bytes(good_bytes)
    for name in ("run/run.json", "run/log.jsonl", "report/index.html", "report/data/report.js"):
        (tmp_path / "all" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "all" / name).write_text("{}")
    with serving(tmp_path / "all") as server:
        found, passed_over = find_candidates([f"{server.address}/"])
        assert [file.path for file in found] == [
            f"{server.address}/a.mp4",
            f"{server.address}/mine/run.json.mp4",
        ]
        assert passed_over == [f"{server.address}/report", f"{server.address}/run"]


def test_a_text_that_names_local_files_is_a_list_of_them(videos, tmp_path):
    found = sorted(videos.rglob("*.mp4"))[:3]
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "d.mp4").write_bytes(found[2].read_bytes())
    lines = ["# mine", str(found[0]), "", str(found[1]), "there/d.mp4", "there/gone.mp4"]
    (tmp_path / "list.txt").write_text("\n".join(lines))
    seehear.index(tmp_path / "list.txt", tmp_path / "index", workers=1, progress=False)
    index = Index.open(tmp_path / "index")
    index.check()
    wanted = sorted([*map(str, found[:2]), str(tmp_path / "there" / "d.mp4")])
    assert [index.path(row) for row in range(len(index))] == wanted
    assert index.rejected["reason"].to_pylist() == ["not found"]
    (tmp_path / "list.txt").write_text(str(found[0]))  # the others are dropped
    seehear.index(tmp_path / "list.txt", tmp_path / "index", workers=1, progress=False)
    assert [Index.open(tmp_path / "index").path(0)] == [str(found[0])]
