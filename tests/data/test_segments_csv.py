"""Rows are cut where a list says: which lines it may have, what an index and evaluation make of
them.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import seehear
from media_files import write_media
from seehear.config import Clip, Data
from seehear.data.clips import Clips
from seehear.data.index import Index, index
from seehear.data.index.chosen import SegmentList
from seehear.data.media import read_clip
from seehear.data.placing import CENTRED
from seehear.data.stretches import fragment
from seehear.errors import SettingsError, UsageError
from seehear.evaluation.classes import read_classes
from seehear.evaluation.sets import open_set
from seehear.machine.console import Console
from seehear.runs.fingerprint import index_of_run

GRID = Path(__file__).parents[2] / ".cache" / "real-media" / "grid-s1"
QUIET = Console(quiet=True)
LIST = """\ufeffpath, start_s ,end_s,class,split,recording,note
a.mp4,1.0,1.5, dog ,train,day one,x
 b/b.mp4 ,0.2,2.2,cat,test,day two,x

a.mp4,0.25,0.75,cat,train,day one,x
a.mp4,0.5,1.25,dog,test,,x
"""


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    write_media(folder / "a.mp4", seconds=3.0)
    (folder / "b").mkdir()
    write_media(folder / "b" / "b.mp4", seconds=2.4)
    write_media(folder / "c.mp4", seconds=2.2)
    return folder


def build(videos: Path, text: str, out: Path, **more: Any) -> Any:
    listed = out.with_suffix(".csv")
    listed.write_text(text)
    return index(videos, out, segments=listed, workers=1, progress=False, **more)


def rows_of(index: Index) -> list[tuple[str, float, float]]:
    names = [Path(index.original_path(row)).name for row in range(len(index))]
    return list(zip(names, index.start_s.tolist(), index.seconds.tolist(), strict=True))


def test_rows_are_what_the_list_says(videos: Path, tmp_path: Path) -> None:
    summary = build(videos, LIST, tmp_path / "index")
    opened = Index.open(tmp_path / "index")
    assert rows_of(opened) == [
        ("a.mp4", 0.25, 0.5),
        ("a.mp4", 0.5, 0.75),
        ("a.mp4", 1.0, 0.5),
        ("b.mp4", 0.2, 2.0),
    ]
    assert opened.recording.tolist() == [0, 1, 0, 2]  # a line without one is its file's
    assert opened.splits() == {"test": 2, "train": 2}
    assert opened.video.tolist() == [0, 0, 0, 1]
    assert (summary.rows, summary.videos, summary.rejected) == (4, 2, {"not in the list": 1})
    assert summary.ignored == ["note"]
    assert summary.describe().count("note") == 1


def test_the_same_list_changes_nothing_and_another_looks_at_nothing_again(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = build(videos, LIST, tmp_path / "index")
    before = (tmp_path / "index" / "index.json").read_bytes()
    again = build(videos, LIST, tmp_path / "index")
    assert (again.added, again.changed, again.dropped) == (0, 0, 0)
    assert (tmp_path / "index" / "index.json").read_bytes() == before
    reversed_lines = "\n".join([*LIST.splitlines()[:1], *reversed(LIST.splitlines()[1:])])
    assert build(videos, reversed_lines, tmp_path / "index").digest == first.digest
    other = build(videos, LIST.replace("0.25,0.75", "2.0,2.5"), tmp_path / "index", timeout_s=1e-9)
    assert (other.rows, other.added, other.changed, other.dropped) == (4, 0, 1, 0)  # none timed out
    assert ("a.mp4", 2.0, 0.5) in rows_of(Index.open(tmp_path / "index"))
    renamed = build(videos, LIST.replace("day two", "day one"), tmp_path / "index")
    assert renamed.digest != first.digest
    with pytest.raises(UsageError, match=r"was made with --segments .*index\.csv"):
        index(videos, tmp_path / "index", progress=False)
    index(videos / "c.mp4", tmp_path / "plain", progress=False)
    with pytest.raises(UsageError, match="was made without --segments"):
        build(videos / "c.mp4", "path,start_s,end_s\nc.mp4,0,1", tmp_path / "plain")


def test_segments_that_a_file_cannot_give_are_rejected_line_by_line(
    videos: Path, tmp_path: Path
) -> None:
    text = "path,start_s,end_s\na.mp4,1,2\na.mp4,2,1\na.mp4,2.5,9\na.mp4,1,1.01\nb/b.mp4,5,6\n"
    summary = build(videos, text, tmp_path / "index")
    rejected = Index.open(tmp_path / "index").rejected.to_pylist()
    said = [row["detail"] for row in rejected if row["reason"] == "unusable segment"]
    assert [line.split(",")[0] for line in said] == [
        "line 3: 2 to 1 s ends before it starts",
        "line 4: 2.5 to 9 s",
        "line 5: 1 to 1.01 s is too short",
        "line 6: 5 to 6 s",
    ]
    assert "picture and sound from 0 to 3 s" in said[1]
    assert summary.rejected == {"unusable segment": 4, "not in the list": 1}
    again = build(videos, text, tmp_path / "index")
    assert (again.rows, again.changed, again.rejected) == (1, 0, summary.rejected)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("path,start,end_s\na.mp4,0,1", "line 1: there is no column 'start_s'"),
        ("path,start_s,end_s,path\na.mp4,0,1,a.mp4", "line 1: there is several columns 'path'"),
        ("path,start_s,end_s\na.mp4,nan,1", "line 2: start_s is 'nan'"),
        ("path,start_s,end_s\n\na.mp4,-1,1", "line 3: start_s is '-1'"),
        ("path,start_s,end_s\na.mp4,0,soon", "line 2: end_s is 'soon'"),
        ("path,start_s,end_s\na.mp4,0,", "line 2: end_s is ''"),
        ("path,start_s,end_s\na.mp4,0", "line 2: 2 fields"),
        ("path,start_s,end_s\n,0,1", "line 2: the path is ''"),
        ("path,start_s,end_s\na.mp4,0,1\ngone.mp4,0,1", "line 3: gone.mp4 is not among the videos"),
        ("path,start_s,end_s\na.mp4,0,1\na.mp4,0,1.0", r"line 3: a.mp4, 0 to 1 s, .* line 2"),
        ("path,start_s,end_s\n", "names no segment"),
    ],
)
def test_a_wrong_line_is_told_with_its_number(
    videos: Path, tmp_path: Path, text: str, says: str
) -> None:
    with pytest.raises(SettingsError, match=says):
        build(videos, text, tmp_path / "index")
    assert not (tmp_path / "index").exists()


def test_evaluation_finds_classes_by_path_and_times(videos: Path, tmp_path: Path) -> None:
    text = LIST.replace("a.mp4,0.5,1.25,dog,test", "b/b.mp4,0.5,1.25,dog,test")
    build(videos, text, tmp_path / "index")
    data = open_set(tmp_path / "index", classes=tmp_path / "index.csv")
    assert [data.classes[number] for number in data.class_N()] == ["cat", "dog", "cat", "dog"]
    assert [item.split("/")[-1] for item in data.items] == [
        "a.mp4#t=0.25,0.75",
        "a.mp4#t=1.0,1.5",
        "b.mp4#t=0.2,2.2",
        "b.mp4#t=0.5,1.25",
    ]
    (split,) = data.splits
    assert (split.train.tolist(), split.test.tolist()) == ([0, 1], [2, 3])


def test_evaluation_rounds_times_as_the_index_does(tmp_path: Path) -> None:
    lines = ["a.mp4,0.3015209,1.8106945,x", "a.mp4,0.5061908,1.6861825,y"]
    lines += ["a.mp4,0.1854212,0.7476705,x", "a.mp4,0.1,0.3,y"]
    (tmp_path / "c.csv").write_text("\n".join(["path,start_s,end_s,class", *lines]))
    video = str(tmp_path / "a.mp4")
    entries = SegmentList(tmp_path / "c.csv").by_file(str(tmp_path), [video])[video]
    names = {video + fragment(entry.start_s, entry.seconds or 0) for entry in entries}
    assert set(read_classes(tmp_path / "c.csv", str(tmp_path)).of) == names


def test_a_drawn_split_keeps_recordings_whole(tmp_path: Path) -> None:
    lines = [f"{n}.mp4,{t},{t + 1},{'ab'[t % 2]}" for n in range(12) for t in range(4)]
    (tmp_path / "c.csv").write_text("\n".join(["path,start_s,end_s,class", *lines]))
    classes = read_classes(tmp_path / "c.csv")
    names = sorted(classes.of)
    test_V = classes.is_test(names, seed=0)
    files = np.array([name.split("#")[0] for name in names])
    assert not set(files[test_V]) & set(files[~test_V])
    assert test_V.sum() == 12


def test_a_split_is_an_index_of_its_own(videos: Path, tmp_path: Path) -> None:
    build(videos, LIST, tmp_path / "index")
    whole = Index.open(tmp_path / "index")
    train = whole.of_split("train")
    assert rows_of(train) == [("a.mp4", 0.25, 0.5), ("a.mp4", 1.0, 0.5)]
    assert (train.num_videos, train.recording.tolist()) == (1, [0, 0])
    assert train.digest not in (whole.digest, whole.of_split("test").digest)
    assert train.of_split("train") is train
    assert whole.of_split("") is whole
    with pytest.raises(SettingsError, match=r"The split is 'nope'.*test, train"):
        whole.of_split("nope")
    index(videos / "c.mp4", tmp_path / "plain", progress=False)
    with pytest.raises(SettingsError, match="has no splits"):
        Index.open(tmp_path / "plain").of_split("train")


def test_a_run_learns_from_one_split_and_finds_it_again(videos: Path, tmp_path: Path) -> None:
    build(videos, LIST, tmp_path / "index")
    settings = {"data.split": "train", "cluster.num_clusters": (2,), "train.batch_size": 2}
    settings |= {"data.workers": 0, "compute.precision": "fp32", "rounds": 1, "train.epochs": 1}
    how = {"preset": "debug", "console": QUIET}
    more = settings | {"cluster.num_clusters": (3,)}
    with pytest.raises(SettingsError, match=r"more than the 2 rows of .*index \(train\)\. Lower"):
        seehear.pretrain(tmp_path / "index", tmp_path / "run", settings=more, **how)
    run = seehear.pretrain(tmp_path / "index", tmp_path / "run", settings=settings, **how)
    assert run.field("index", "rows") == 2
    assert index_of_run(run).digest == Index.open(tmp_path / "index").of_split("train").digest
    again = seehear.pretrain(tmp_path / "index", tmp_path / "run", resume=True, console=QUIET)
    assert again.record["settings"]["data"]["split"] == "train"


def test_packing_keeps_recordings_and_splits(videos: Path, tmp_path: Path) -> None:
    build(videos, LIST, tmp_path / "index")
    seehear.pack(tmp_path / "index", tmp_path / "packed", preset="debug", workers=1)
    packed, index = Index.open(tmp_path / "packed"), Index.open(tmp_path / "index")
    assert packed.recording.tolist() == index.recording.tolist()
    assert packed.splits() == index.splits()
    classes = read_classes(tmp_path / "index.csv", index.info["root"])
    assert classes.of_rows(packed).tolist() == classes.of_rows(index).tolist() == [0, 1, 1, 0]


@pytest.mark.skipif(not GRID.exists(), reason="needs the GRID speaker")
@pytest.mark.thorough
def test_words_of_real_sentences(tmp_path: Path) -> None:
    with (GRID / "words.csv").open() as file:
        words = list(csv.DictReader(file))
    lines = []
    for word in words:
        middle_s = (float(word["start_s"]) + float(word["end_s"])) / 2
        lines.append(f"{word['sentence']}.mp4,{max(0, middle_s - 0.3):.3f},{middle_s + 0.3:.3f}")
    text = "\n".join(["path,start_s,end_s", *lines])
    build(GRID / "sentences", text, tmp_path / "index")
    opened = Index.open(tmp_path / "index")
    assert (len(opened), opened.num_videos) == (4662, 777)
    clip = Clip(frames=15, frame_rate_hz=25.0, sound_seconds=0.6, short_side_pixels=80)
    clips = Clips(opened, clip, Data(workers=0), 0)
    rows = np.arange(0, len(opened), 777)
    rows = rows[opened.seconds[rows] > 0.599]
    for batch in clips.batches(rows, epoch=CENTRED, batch_size=1):
        (row,) = batch.rows_B.tolist()
        start_s = float(opened.start_s[row])
        times_s = start_s + np.arange(15) / 25
        frames_THWC, waveform_L = read_clip(
            opened.path(row), times_s, start_s, 0.6, short_side_pixels=80
        )
        assert batch.frames_BTHWC is not None
        assert batch.waveform_BL is not None
        assert np.array_equal(batch.frames_BTHWC[0].numpy(), frames_THWC)
        assert np.array_equal(batch.waveform_BL[0].numpy(), waveform_L)
