"""The merged result of parts is what one process would have written, byte for byte; and what does
not belong together is refused.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

import seehear
from command_here import command
from media_files import write_media
from seehear.data.parts import Part, Work, parts_of
from seehear.errors import UsageError
from seehear.library import assign_to_file, embed_to_file
from seehear.machine import console
from seehear.machine.files import TEMPORARY

TIMES = {"created", "updated", "check", "way_to_root"}  # in index.json: when and where, not what


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine videos in two folders, three of which cannot be used."""
    folder = tmp_path_factory.mktemp("few") / "videos"
    for name in ("a/1.mp4", "a/2.mkv", "b/3.mp4", "b/4.mp4", "c.mp4", "d.mp4"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        write_media(folder / name, seconds=2.5, size=(64, 48))
    write_media(folder / "b" / "mute.mp4", seconds=1.0, audio_codec=None)
    (folder / "b" / "empty.mp4").write_bytes(b"")
    (folder / "text.mp4").write_text("no video at all")
    return folder


@pytest.fixture(autouse=True)
def small_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("seehear.data.index.looking.FILES_A_GROUP", 2)
    monkeypatch.setattr("seehear.library.sources.FILES_A_GROUP", 2)
    monkeypatch.setattr("seehear.library.sources.ROWS_A_GROUP", 5)
    monkeypatch.setattr("seehear.library.assigning.BLOCK_ROWS", 5)


def content(out: Path) -> dict[str, Any]:
    """All bytes of a file or folder, by name; of index.json what is not when it was made."""
    files = sorted(p for p in out.rglob("*") if p.is_file()) if out.is_dir() else [out]
    found: dict[str, Any] = {p.relative_to(out).as_posix(): p.read_bytes() for p in files}
    if "index.json" in found:
        record = json.loads(found["index.json"])
        found["index.json"] = {key: record[key] for key in record.keys() - TIMES}
    return found


def test_parts_share_the_groups_evenly_and_in_order():
    for count in (0, 1, 5, 12):
        for of in (1, 2, 7):
            dealt = [list(Part.parse(f"{i}/{of}").groups(count)) for i in range(1, of + 1)]
            assert [group for groups in dealt for group in groups] == list(range(count))
            assert max(map(len, dealt)) - min(map(len, dealt)) <= 1
    for wrong in ("0/2", "3/2", "1", "a/b", "1/0", "1/2/3", "-1/2", ""):
        with pytest.raises(UsageError, match=r"such as 3/16"):
            Part.parse(wrong)


Make = Callable[..., Any]


def together(make: Make, out: Path, parts: int, whole: dict[str, Any]) -> None:
    """Have parts do it, the last first, and one twice; merge; compare with the whole."""
    for i in reversed(range(1, parts + 1)):
        summary = make(out, part=f"{i}/{parts}")
    assert (summary.missing if hasattr(summary, "missing") else summary["missing"]) == 0
    make(out, part=f"{parts}/{parts}")
    seehear.merge(out)
    assert content(out) == whole
    assert not list(out.parent.glob(f".{out.name}*"))


@pytest.mark.parametrize("parts", [1, 2, pytest.param(7, marks=pytest.mark.thorough)])
def test_an_index_of_parts_is_that_of_one_process(few, tmp_path, parts):
    def make(out: Path, **how: Any) -> Any:
        return seehear.index(few, out, segment_seconds=1.0, workers=1, progress=False, **how)

    make(tmp_path / "whole")
    together(make, tmp_path / "of-parts", parts, content(tmp_path / "whole"))


def test_parts_update_an_index_as_one_process_does(few, tmp_path):
    videos = shutil.copytree(few, tmp_path / "videos")

    def make(out: Path, **how: Any) -> Any:
        return seehear.index(videos, out, workers=1, progress=False, **how)

    make(tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    (videos / "a" / "1.mp4").unlink()
    shutil.copy(videos / "c.mp4", videos / "a" / "0.mp4")
    shutil.copy(videos / "c.mp4", videos / "e.mp4")
    make(tmp_path / "a")
    together(make, tmp_path / "b", 2, content(tmp_path / "a"))


def test_a_list_of_segments_in_parts(few, tmp_path):
    lines = ["path,start_s,end_s,split", "c.mp4,0.1,0.9,x", "a/1.mp4,0,1,y", "a/1.mp4,0.5,9,y"]
    (tmp_path / "s.csv").write_text("\n".join([*lines, "text.mp4,0,1,x", "d.mp4,0,2,x"]))

    def make(out: Path, **how: Any) -> Any:
        given = tmp_path / "s.csv"
        return seehear.index(few, out, segments=given, workers=1, progress=False, **how)

    make(tmp_path / "whole")
    together(make, tmp_path / "of-parts", 2, content(tmp_path / "whole"))


@pytest.mark.thorough
@pytest.mark.parametrize("parts", [1, 2, 7])
def test_packing_in_parts_is_that_of_one_process(few, tmp_path, parts):
    seehear.index(few, tmp_path / "index", segment_seconds=1.0, workers=1, progress=False)

    def make(out: Path, **how: Any) -> Any:
        how |= {"preset": "debug", "shard_segments": 3, "workers": 1}
        return seehear.pack(tmp_path / "index", out, **how)

    make(tmp_path / "whole")
    assert len(list((tmp_path / "whole").glob("shard-*.tar"))) == 4
    together(make, tmp_path / "of-parts", parts, content(tmp_path / "whole"))


@pytest.mark.thorough
@pytest.mark.parametrize("parts", [1, 2, 7])
def test_features_and_labels_of_parts_are_those_of_one_process(few, finished_run, tmp_path, parts):
    def embedding(out: Path, **how: Any) -> Any:
        how |= {"workers": 1, "device": "cpu", "segment_seconds": 1.0}
        return embed_to_file(finished_run, few, out, **how)

    embedding(tmp_path / "whole.parquet")
    together(embedding, tmp_path / "f.parquet", parts, content(tmp_path / "whole.parquet"))

    for name, videos in (("f.csv", tmp_path / "f.parquet"), ("v.parquet", few)):

        def assigning(out: Path, videos: Path = videos, **how: Any) -> Any:
            more = {} if videos.is_file() else {"workers": 1, "segment_seconds": 1.0}
            return assign_to_file(finished_run, videos, out, device="cpu", **more, **how)

        assigning(tmp_path / f"whole-{name}")
        together(assigning, tmp_path / name, parts, content(tmp_path / f"whole-{name}"))


@pytest.mark.thorough
def test_what_is_missing_or_of_another_kind_is_refused_in_one_line(few, tmp_path):
    videos, out = shutil.copytree(few, tmp_path / "videos"), tmp_path / "index"

    def make(part: str, **how: Any) -> Any:
        return seehear.index(videos, out, workers=1, progress=False, part=part, **how)

    def refused(call: Callable[[], Any], what: str) -> None:
        with pytest.raises(UsageError, match=what) as error:
            call()
        assert "\n" not in str(error.value)
        assert not out.exists()

    refused(lambda: seehear.merge(out), "There are no parts")
    assert make("1/3").missing > 0
    refused(lambda: seehear.merge(out), r"groups are missing.*--part 2/3, 3/3$")
    refused(lambda: make("2/3", segment_seconds=1.0), "begun with other settings")
    shutil.copy(videos / "c.mp4", videos / "new.mp4")
    refused(lambda: make("2/3"), r"other files \(some were added, removed or changed\)")
    refused(lambda: seehear.merge(out), "other files")
    (videos / "new.mp4").unlink()
    make("2/3")
    make("3/3")
    waiting = parts_of(out)
    damaged = waiting / "000002.parquet"
    damaged.write_bytes(damaged.read_bytes()[:-20])
    refused(lambda: seehear.merge(out), r"1 of 5 groups.*--part 2/3$")
    shutil.copy(waiting / "000001.parquet", damaged)  # of the same plan, and still another group
    refused(lambda: seehear.merge(out), r"1 of 5 groups.*--part 2/3$")
    assert make("2/3").missing == 0
    seehear.merge(out)
    seehear.index(few, tmp_path / "whole", workers=1, progress=False)
    assert content(out)["rejected.parquet"] == content(tmp_path / "whole")["rejected.parquet"]


def test_a_part_with_nothing_to_do_says_why_and_is_no_failure(few, tmp_path, monkeypatch, capsys):
    out = tmp_path / "index"

    def line(videos: Path, part: str) -> tuple[int, str]:
        call = ("index", videos, "--out", out, "--workers", 1, "--part", part)
        return command(monkeypatch, *call), capsys.readouterr().out

    code, said = line(few / "c.mp4", "1/2")
    why = "part 1/2 has nothing to do (all there is makes 1 group, fewer than parts); 0 of 1"
    assert (code, why in said) == (0, True), said
    assert line(few / "c.mp4", "2/2")[0] == 0
    seehear.merge(out)
    code, said = line(few / "c.mp4", "1/2")
    assert (code, "part 1/2 has nothing to do (nothing is new)" in said) == (0, True), said
    (tmp_path / "empty").mkdir()
    out = tmp_path / "of-nothing"
    assert line(tmp_path / "empty", "1/2")[0] == 2  # as without parts
    assert not parts_of(out).exists()


@pytest.mark.parametrize("group", [2, 100])
def test_what_failed_is_told_by_reason_while_work_goes_on(
    few, finished_run, tmp_path, monkeypatch, capsys, group
):
    """Also of a group that is not done yet, which may be hundreds of files."""
    monkeypatch.setattr(console, "PLAIN_SECONDS", 0.0)
    monkeypatch.setattr("seehear.data.index.looking.FILES_A_GROUP", group)
    monkeypatch.setattr("seehear.library.sources.FILES_A_GROUP", group)
    seehear.index(few, tmp_path / "index", workers=1)
    said = [x for x in capsys.readouterr().err.splitlines() if x.startswith("looking at files: ")]
    assert any(" 7/9, " in x and "1 empty file, 1 no audio stream" in x for x in said), said
    assert said[-1].endswith(" left, 1 empty file, 1 no audio stream, 1 not a media file")
    embed_to_file(finished_run, few, tmp_path / "f.parquet", workers=1, device="cpu")
    said = [x for x in capsys.readouterr().err.splitlines() if x.startswith("embedding: ")]
    assert any("1 empty file" in x for x in said[:-1]), said
    assert said[-1].endswith("1 empty file, 1 not a media file"), said


def test_an_unfinished_index_goes_on_and_one_of_other_files_begins_anew(few, tmp_path, monkeypatch):
    from seehear.data.index import looking

    videos, out, looked = shutil.copytree(few, tmp_path / "videos"), tmp_path / "index", []
    examine_all = looking.examine_all

    def dying(jobs: list[Any], workers: int, timeout_s: float) -> Any:
        looked.append(len(jobs))
        if len(looked) == 3:
            raise KeyboardInterrupt
        return examine_all(jobs, workers, timeout_s)

    monkeypatch.setattr(looking, "examine_all", dying)
    with pytest.raises(KeyboardInterrupt):
        seehear.index(videos, out, workers=1, progress=False)
    seehear.index(videos, out, workers=1, progress=False)
    assert looked == [2, 2, 2, 2, 2, 1], "what was looked at is not looked at again"
    shutil.rmtree(out)
    looked[:] = [0, 0]
    with pytest.raises(KeyboardInterrupt):
        seehear.index(videos, out, workers=1, progress=False)
    shutil.copy(videos / "c.mp4", videos / "new.mp4")
    assert seehear.index(videos, out, workers=1, progress=False).videos == 7


@pytest.mark.thorough
@pytest.mark.parametrize("kind", ["index", "pack", "embed", "assign"])
def test_processes_of_which_one_is_killed_make_the_same_bytes(
    kind, few, finished_run, tmp_path, monkeypatch
):
    """The commands, each part a process; one is killed in the middle and run again."""
    monkeypatch.undo()  # processes have the sizes of groups that there are
    videos = tmp_path / "videos"
    for copy in range(60 if kind != "pack" else 6):
        shutil.copytree(few, videos / f"{copy:03d}")
    given = [str(videos)]
    if kind == "pack":
        seehear.index(videos, tmp_path / "index", segment_seconds=1.0, progress=False)
        given = [str(tmp_path / "index"), "--preset", "debug", "--shard-segments", "7"]
    if kind in ("embed", "assign"):
        given = [str(finished_run), str(videos), "--device", "cpu", "--segment-seconds", "1"]
    ending = ".parquet" if kind in ("embed", "assign") else ""

    def command(out: Path, *more: str) -> list[str]:
        words = [sys.executable, "-m", "seehear", kind, *given, "--workers", "1"]
        return [*words, "--out", str(out), *more]

    whole, out = tmp_path / f"whole{ending}", tmp_path / f"of-parts{ending}"
    subprocess.run(command(whole), check=True, capture_output=True)
    running = {i: subprocess.Popen(command(out, "--part", f"{i}/2")) for i in (1, 2)}
    waiting = out / ".packing" if kind == "pack" else parts_of(out)
    until = time.monotonic() + 120
    while not list(waiting.glob("0*.parquet")) and time.monotonic() < until:
        time.sleep(0.01)
    os.kill(running[1].pid, signal.SIGKILL)
    assert running[2].wait() == 0
    assert running[1].wait() == -signal.SIGKILL, "it was over before it could be killed"
    merge = [sys.executable, "-m", "seehear", "merge", str(out)]
    refused = subprocess.run(merge, capture_output=True, text=True)
    assert (refused.returncode, len(refused.stderr.splitlines())) == (2, 1)
    assert "--part 1/2" in refused.stderr
    for _ in range(2):  # and once more, for nothing
        subprocess.run(command(out, "--part", "1/2"), check=True, capture_output=True)
    subprocess.run(merge, check=True, capture_output=True)
    assert content(out) == content(whole)


def test_a_merge_that_was_killed_when_its_result_was_there_is_done_again(
    few, finished_run, tmp_path
):
    """And features that were written anew between two parts, or were never written, are refused."""
    features, out = tmp_path / "f.parquet", tmp_path / "labels.parquet"
    embed_to_file(finished_run, few / "c.mp4", features, workers=1, segment_seconds=1.0)
    assign_to_file(finished_run, features, out, part="1/1")
    shutil.copytree(parts_of(out), tmp_path / "kept")
    (tmp_path / f"{TEMPORARY}.{out.name}.parts-1-0").mkdir()  # of a part that was killed
    seehear.merge(out)
    whole = content(out)
    shutil.copytree(tmp_path / "kept", parts_of(out))
    seehear.merge(out)
    assert content(out) == whole
    assert {path.name for path in tmp_path.iterdir()} == {features.name, out.name, "kept"}

    shutil.copytree(tmp_path / "kept", parts_of(out))
    table = pq.read_table(features)
    pq.write_table(table, features)
    with pytest.raises(UsageError, match="begun with other files"):
        seehear.merge(out)
    assert content(out) == whole
    shutil.rmtree(parts_of(out))
    out.unlink()
    assign_to_file(finished_run, table, out, part="1/1")
    with pytest.raises(UsageError, match="such as what was in memory"):
        seehear.merge(out)
    assert assign_to_file(finished_run, table, out, part="merge")["rows"] == len(table)


def test_a_merge_that_was_killed_when_its_index_stood_is_done_again(few, tmp_path, monkeypatch):
    """Also where there are files that are no videos, which each index looks at."""
    shutil.copytree(few, tmp_path / "videos")
    (tmp_path / "videos" / "classes.csv").write_text("a,b\n")
    out, whole = tmp_path / "index", tmp_path / "whole"
    seehear.index(tmp_path / "videos", whole, workers=1, progress=False)
    seehear.index(tmp_path / "videos", out, workers=1, progress=False, part="1/1")
    with monkeypatch.context() as patch:
        patch.setattr(Work, "remove", lambda work: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            seehear.merge(out)
    assert content(out) == content(whole)
    assert seehear.merge(out).rows == len(seehear.Index.open(whole))
    assert content(out) == content(whole)
    assert {path.name for path in tmp_path.iterdir()} == {"videos", "index", "whole"}


def test_what_a_killed_part_left_of_a_shard_goes_with_the_merge(few, tmp_path):
    seehear.index(few, tmp_path / "index", workers=1, progress=False)
    how = {"preset": "debug", "shard_segments": 4, "workers": 1}
    for part in ("1/2", "2/2"):
        seehear.pack(tmp_path / "index", tmp_path / "packed", part=part, **how)
    (tmp_path / "packed" / f"{TEMPORARY}shard-00000.tar-1-0").write_bytes(b"half of it")
    seehear.merge(tmp_path / "packed")
    seehear.pack(tmp_path / "index", tmp_path / "whole", **how)
    assert content(tmp_path / "packed") == content(tmp_path / "whole")


def test_what_is_missing_of_very_many_parts_is_told_at_once(few, tmp_path):
    seehear.index(few, tmp_path / "index", workers=1, progress=False, part="7/999999999")
    with pytest.raises(UsageError, match=r"5 of 5 groups.*--part 200000000/999999999, "):
        seehear.merge(tmp_path / "index")
