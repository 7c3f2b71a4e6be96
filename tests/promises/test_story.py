"""The way of a new user, by the command line: videos, index, encoders, numbers; and what wrong use
says.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

import seehear
from command_here import command, run

pytestmark = pytest.mark.thorough

FIXED = (
    "--compute.precision",
    "fp32",
    "--compute.memory_format",
    "contiguous",
    "--data.workers",
    "0",
)


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the whole story was told once."""
    here = tmp_path_factory.mktemp("story")
    run("synth", here / "videos", "--videos", 32, "--classes", 2, "--seed", 1)
    indexed = run("index", here / "videos", "--out", here / "index")
    assert "32" in indexed.stdout
    trained = run("pretrain", here / "index", "--out", here / "run", "--preset", "debug", *FIXED)
    assert "round 2/2" in trained.stderr
    assert str(here / "run" / "encoders") in trained.stdout
    return here


def test_a_run_holds_what_the_documentation_says(story):
    folder = story / "run"
    record = json.loads((folder / "run.json").read_text())
    assert record["settings"]["cluster"]["num_clusters"] == [4]
    assert record["index"]["rows"] == 32
    assert {
        "seehear",
        "commit",
        "packages",
        "machine",
        "command",
        "numerics",
        "format",
    } <= record.keys()
    log = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert [entry["round"] for entry in log] == [0, 1]
    assert log[1]["clusters"]["video"]["nmi_last"] is None  # its chain has a turn every other round
    labels = pq.read_table(folder / "rounds" / "001" / "labels.parquet")
    assert labels.column_names == ["row", "video", "audio"]
    assert labels["row"].to_pylist() == list(range(32))
    final = pq.read_table(folder / "clusters" / "labels.parquet")
    assert set(final.column_names) == {"row", "audio", "video", "joint"}
    assert not [p for p in folder.rglob("*") if "unfinished" in p.name]


def test_evaluate_writes_and_prints_values_beside_chance(story):
    done = run(
        "evaluate",
        story / "run",
        "--data",
        story / "index",
        "--classes",
        story / "videos" / "classes.csv",
    )
    assert "chance 50.0%" in done.stdout
    result = json.loads((story / "run" / "results" / "probe-index.json").read_text())
    assert set(result["values"]) == {"video", "audio"}
    assert all(0 <= value["top1"] <= 1 for value in result["values"].values())
    assert result["n_train"] + result["n_test"] == 32
    assert result["data"]["num_missing"] == 0
    assert result["model"]["digest"] == seehear.load(story / "run").digest
    given = ("--data", story / "index", "--classes", story / "videos" / "classes.csv")
    clusters = json.loads(
        run("evaluate", story / "run", "--task", "clusters", *given, "--json").stdout
    )
    assert set(clusters["values"]) == {"video", "audio", "joint"}
    shown = run("evaluate", story / "run", "--task", "retrieval", *given)
    assert "audio to video" in shown.stdout
    table = run("evaluate", "--table", story / "run").stdout
    assert "| retrieval" in table
    assert "video NMI" in table


def test_the_python_door_gives_features(story):
    model = seehear.load(story / "run")
    frames = torch.randint(0, 256, (2, 3, 4, 32, 32), dtype=torch.uint8)
    assert model.video(frames).shape == (2, 32)
    assert model.audio(torch.randn(2, 16000)).shape == (2, 32)
    torch.testing.assert_close(model.video(frames), model.video(frames.float() / 255))
    with pytest.raises(ValueError, match=r"\(2, 4, 3, 32, 32\)"):
        model.video(frames.transpose(1, 2))
    with pytest.raises(ValueError, match="mono"):
        model.audio(torch.randn(16000))


def test_python_and_the_command_line_do_the_same(story):
    names = ("compute.precision", "compute.memory_format", "data.workers")
    settings = dict(zip(names, ("fp32", "contiguous", 0), strict=True))
    seehear.pretrain(story / "index", story / "again", preset="debug", settings=settings)
    for name in ("encoders/video.safetensors", "encoders/audio.safetensors"):
        assert (story / "run" / name).read_bytes() == (story / "again" / name).read_bytes()
    a, b = (
        pq.read_table(story / folder / "clusters" / "labels.parquet") for folder in ("run", "again")
    )
    assert a.equals(b)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("index", "nowhere", "--out", "i"), r"nowhere"),
        (("pretrain", "nowhere", "--out", "r"), r"nowhere.*seehear index"),
        (
            ("pretrain", "{story}/index", "--out", "{story}/run", "--preset", "debug"),
            r"--resume.*--overwrite",
        ),
        (
            ("pretrain", "{story}/index", "--out", "r", "--cluster.num_clusters", "99"),
            r"99, more than the 32 rows",
        ),
        (
            ("pretrain", "{story}/index", "--out", "r", "--train.lrr", "1"),
            r"Did you mean.*--train\.lr",
        ),
        (
            ("pretrain", "{story}/index", "--out", "r", "--train.lr", "fast"),
            r"train\.lr is 'fast'.*must be a number",
        ),
        (("pretrain", "{story}/index", "--out", "r", "--preset", "dmeo"), r"Did you mean demo\?"),
        (("pretrain", "{story}/index", "--out", "r", "--resume"), r"r does not exist"),
        (
            ("pretrain", "{story}/index", "--out", "{story}/run", "--resume", "--train.lr", "9"),
            r"train\.lr is 9\.0.*0\.001",
        ),
        (
            ("pretrain", "{story}/index", "--out", "r", "--resume", "--overwrite"),
            r"exclude each other",
        ),
        (
            (
                "pretrain",
                "{story}/index",
                "--out",
                "{story}/videos",
                "--preset",
                "debug",
                "--overwrite",
            ),
            r"no run of seehear",
        ),
        (("pretrain", "{story}/index"), r"Missing option '--out'"),
        (
            (
                "evaluate",
                "nowhere",
                "--data",
                "{story}/index",
                "--classes",
                "{story}/videos/classes.csv",
            ),
            r"no trained enc",
        ),
        (
            ("evaluate", "{story}/run", "--data", "{story}/index", "--classes", "none.csv"),
            r"none\.csv does not exist",
        ),
        (("synth", "{story}/s", "--classes", "99"), r"classes is 99"),
        (("demo", "--seeds", "x"), r"--seeds': 'x' must be whole numbers"),
        (("dmeo",), r"No such command 'dmeo'"),
    ],
)
def test_wrong_use_is_one_line_that_says_what_to_do_and_exit_code_2(
    story, tmp_path, arguments, says, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    code = command(monkeypatch, *(a.format(story=story) for a in arguments))
    said = capsys.readouterr()
    assert code == 2, said
    assert said.err.startswith("Error: ")
    assert len(said.err.splitlines()) == 1, said.err
    assert re.search(says, said.err), said.err
    assert said.out == ""
    assert list(tmp_path.iterdir()) == []  # nothing is left behind


def test_an_index_whose_videos_changed_is_an_error_that_says_which(story, tmp_path):
    import shutil

    shutil.copytree(story / "videos", tmp_path / "v")
    run("index", tmp_path / "v", "--out", tmp_path / "i")
    victim = sorted((tmp_path / "v").rglob("*.mp4"))[5]
    victim.write_bytes(victim.read_bytes() + b"x")
    changed = run("pretrain", tmp_path / "i", "--out", tmp_path / "r", "--preset", "debug", code=2)
    assert victim.name in changed.stderr
    assert "seehear index" in changed.stderr
    victim.unlink()
    gone = run("pretrain", tmp_path / "i", "--out", tmp_path / "r", "--preset", "debug", code=2)
    assert victim.name in gone.stderr
    assert not (tmp_path / "r").exists()


def test_tensorboard_files_hold_the_logged_numbers(story):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    from seehear.runs.log import summary_writer, write_scalars

    entries = [json.loads(line) for line in (story / "run" / "log.jsonl").read_text().splitlines()]
    writer = summary_writer(story / "tb")
    for entry in entries:
        write_scalars(writer, entry)
    writer.close()
    events = EventAccumulator(str(story / "tb"))
    events.Reload()
    assert [e.value for e in events.Scalars("loss/video")] == pytest.approx(
        [e["loss"]["video"][-1] for e in entries]
    )
    assert len(events.Scalars("ami_video_audio")) == 2


def test_a_rerun_of_finished_work_says_so_and_changes_nothing(story):
    before = (story / "run" / "encoders" / "video.safetensors").read_bytes()
    done = run("pretrain", story / "index", "--out", story / "run", "--preset", "debug", "--resume")
    assert "all 2 rounds already" in done.stderr
    assert before == (story / "run" / "encoders" / "video.safetensors").read_bytes()


def test_probe_of_trained_features_uses_videos_not_segments(story):
    from seehear.data.index import Index
    from seehear.evaluation import read_classes
    from seehear.evaluation.sets import of_index

    index = Index.open(story / "index")
    videos = of_index(index, read_classes(story / "videos" / "classes.csv"), seed=0)
    pooled, there = videos.pool(np.arange(32), np.arange(32, dtype=float)[:, None])
    assert there.all()
    for video in range(32):
        assert pooled[video, 0] == np.flatnonzero(videos.item_N == video).mean()
