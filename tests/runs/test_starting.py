"""Training that starts from trained encoders, which learn or only teach."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file, save_file

import seehear
from command_here import command
from seehear.errors import RunError, SettingsError, UsageError
from seehear.library import open_run
from seehear.machine.console import Console
from seehear.runs.starting import settings_from
from whole_runs import contents

pytest.importorskip("transformers", reason="pip install 'seehear[hf]'")

FIXED = {
    "compute.precision": "fp32",
    "compute.memory_format": "contiguous",
    "compute.threads": 1,
    "data.workers": 0,
    "data.cache_gigabytes": 0,
}
QUIET = {"console": Console(quiet=True)}


@pytest.fixture(scope="module")
def networks(tmp_path_factory) -> Path:
    from tiny_networks import tiny_networks

    os.environ["HF_HUB_OFFLINE"] = "1"
    return tiny_networks(tmp_path_factory.mktemp("networks"))


def start(index: Path, run: Path, resume: bool = False, **changes: object) -> Path:
    """A run of the preset "debug"; of names with "__" in place of the dot are settings."""
    settings = FIXED | {name.replace("__", "."): value for name, value in changes.items()}
    seehear.pretrain(index, run, preset="debug", settings=settings, resume=resume, **QUIET)
    return run


def weights_of(run: Path, modality: str) -> dict[str, torch.Tensor]:
    return load_file(run / "encoders" / f"{modality}.safetensors")


def are_equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def labels_of(folder: Path) -> dict[str, list[int]]:
    table = pq.read_table(folder / "labels.parquet").to_pydict()
    return {name: values for name, values in table.items() if name != "row"}


def log_of(run: Path) -> list[dict[str, dict[str, object]]]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


class Fallen(Exception):
    """As if the process had been killed."""


class Falling(Console):
    """Falls over in a stage, the so-manieth time that it should show it."""

    def __init__(self, place: str, calls: int) -> None:
        super().__init__(quiet=True)
        self.place, self.calls = place, calls

    def watch(self, what: str, *args: object, **how: object) -> object:
        def count(done: int) -> None:
            self.calls -= what == self.place
            if self.calls == 0:
                raise Fallen

        return count


@pytest.fixture(scope="module")
def adapted(networks, index_folder, tmp_path_factory) -> Path:
    """A VideoMAE and a new audio encoder that taught each other; the VideoMAE is gone by now."""
    folder = tmp_path_factory.mktemp("adapted")
    shutil.copytree(networks / "videomae", folder / "videomae")
    start(index_folder, folder / "run", start__video=f"hf:{folder}/videomae", train__lr=1e-4)
    shutil.rmtree(folder / "videomae")
    return folder / "run"


@pytest.mark.thorough
def test_a_network_of_hugging_face_learns_and_the_run_is_read_as_any_other(
    adapted, networks, index_folder, videos, tmp_path
):
    clip = json.loads((adapted / "run.json").read_text())["settings"]["clip"]
    assert (clip["frames"], clip["crop_pixels"], clip["short_side_pixels"]) == (4, 32, 40)
    assert clip["sound_seconds"] == 1.0  # the preset's; the others are the network's
    assert [[*entry["loss"]] for entry in log_of(adapted)] == [["audio"], ["video", "audio"]]
    before = seehear.load(f"hf:{networks}/videomae", device="cpu").pair.encoders["video"]
    model = seehear.load(adapted, device="cpu")
    assert not are_equal(before.state_dict(), model.pair.encoders["video"].state_dict())
    labels = seehear.assign(adapted, index_folder, workers=1, device="cpu")
    for name, labels_N in open_run(adapted, device="cpu").labels.items():
        assert np.mean(np.array(labels[f"{name}_cluster"]) == labels_N) >= 0.95  # float16
    query = sorted(videos.rglob("*.mp4"))[0]
    hits = seehear.search(adapted, query, use="audio", by="video", top=3, device="cpu")
    assert hits.num_rows == 3
    assert seehear.report(adapted, out=tmp_path / "page", previews=0, **QUIET).verdict
    of = {"data": index_folder, "classes": videos / "classes.csv", "results": tmp_path, **QUIET}
    assert seehear.evaluate(adapted, task="clusters", device="cpu", **of)["values"]["video"]
    seehear.export(adapted, "hub", tmp_path / "hub")
    assert seehear.load(tmp_path / "hub", device="cpu").digest == model.digest
    assert "- start: {'video': 'hf:" in (tmp_path / "hub" / "README.md").read_text()
    with pytest.raises(UsageError, match="comes from, or to safetensors or hub"):
        seehear.export(adapted, "onnx", tmp_path / "onnx")


@pytest.mark.thorough
def test_from_a_run_begins_with_the_clusters_that_cluster_makes(
    finished_run, index_folder, tmp_path
):
    both = {"start.video": str(finished_run), "start.audio": str(finished_run)}
    ours = start(index_folder, tmp_path / "ours", **both, cluster__iterations=20, rounds=1)
    how = {"num_clusters": [4], "workers": 0, "device": "cpu", **QUIET}
    seehear.cluster(index_folder, tmp_path / "theirs", finished_run, **how)
    theirs, found = labels_of(tmp_path / "theirs" / "clusters"), labels_of(ours / "rounds" / "000")
    assert found == {name: theirs[name] for name in ("video", "audio")}
    assert found != labels_of(finished_run / "rounds" / "000")


@pytest.mark.thorough
def test_frozen_and_stopped_it_ends_as_never_stopped_with_the_teacher_as_it_was(
    finished_run, networks, index_folder, tmp_path
):
    source = {"start.video": str(tmp_path / "source"), "start.audio": f"hf:{networks}/clap"}
    shutil.copytree(finished_run, tmp_path / "source")
    how = {**source, "start.frozen": "audio", "checkpoint.steps": 2, "rounds": 2}
    whole = start(index_folder, tmp_path / "whole", **how)
    run = tmp_path / "run"
    places = (("round 1/2: features", 1), ("round 1/2: video", 4), ("round 2/2: video", 4))
    for place in places:
        with pytest.raises(Fallen):
            seehear.pretrain(
                index_folder,
                run,
                preset="debug",
                settings=FIXED | how,
                resume="if there",
                console=Falling(*place),
            )
    assert list((run / "midway").glob("001*.pt"))
    shutil.rmtree(tmp_path / "source")  # its weights are in the checkpoints
    seehear.pretrain(index_folder, run, resume=True, **QUIET)
    assert contents(run) == contents(whole)
    clap = seehear.load(f"hf:{networks}/clap", device="cpu").pair.encoders["audio"].state_dict()
    assert are_equal(weights_of(run, "audio"), clap)
    assert not are_equal(weights_of(run, "video"), weights_of(finished_run, "video"))
    assert labels_of(run / "rounds" / "000") == labels_of(run / "rounds" / "001")
    assert [[*entry["loss"]] for entry in log_of(run)] == [["video"]] * 2
    assert list(open_run(run, device="cpu").clusterings) == ["video", "audio", "joint"]


@pytest.mark.thorough
def test_two_ranks_learn_what_one_learns(networks, index_folder, tmp_path):
    given = {"start.video": f"hf:{networks}/vjepa2", "start.audio": f"hf:{networks}/clap-fused"}
    how = {**given, "train.batch_parts": 2, "rounds": 1, "train.optimizer": "sgd"}
    one = start(index_folder, tmp_path / "one", **how)
    options = [word for name, value in (FIXED | how).items() for word in (f"--{name}", str(value))]
    words = ["pretrain", index_folder, "--out", tmp_path / "two", "--preset", "debug", *options]
    ranks = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "seehear"]
    subprocess.run([sys.executable, *ranks, *map(str, words)], check=True, timeout=300)
    assert labels_of(one / "rounds" / "000") == labels_of(tmp_path / "two" / "rounds" / "000")
    for modality in ("video", "audio"):
        ours, theirs = (weights_of(run, modality) for run in (one, tmp_path / "two"))
        for name, value in ours.items():
            torch.testing.assert_close(theirs[name], value, atol=1e-5, rtol=1e-4)


@pytest.mark.thorough
def test_other_weights_than_in_the_beginning_are_refused(finished_run, index_folder, tmp_path):
    shutil.copytree(finished_run, tmp_path / "source")
    source = {"start.audio": str(tmp_path / "source"), "rounds": 1}
    run = start(index_folder, tmp_path / "run", **source)
    start(index_folder, run, resume=True, **source)
    path = tmp_path / "source" / "encoders" / "audio.safetensors"
    weights = load_file(path)
    next(value for value in weights.values() if value.is_floating_point()).add_(1e-6)
    save_file(weights, path)
    with pytest.raises(RunError, match="has other weights than when the run at"):
        start(index_folder, run, resume=True, **source)
    with pytest.raises(RunError, match=r"start\.audio is .*, and the run at"):
        start(index_folder, run, resume=True, start__audio=str(finished_run))
    start(index_folder, run, resume=True)  # what was learned is in the checkpoints
    shutil.rmtree(run / "rounds")  # but where there are none, it begins again
    with pytest.raises(RunError, match="has other weights than when the run at"):
        start(index_folder, run, resume=True)


def test_clips_are_those_of_the_encoders_and_what_they_cannot_take_is_refused(
    finished_run, networks
):
    run, eyes, ears = str(finished_run), f"hf:{networks}/videomae", f"hf:{networks}/ast"
    cfg, model = settings_from("demo", {"start.video": eyes, "start.audio": ears})
    assert (cfg.clip.frames, cfg.clip.crop_pixels) == (4, 32)
    assert (cfg.clip.sound_seconds, cfg.clip.sample_rate_hz) == (1.28, 16000)
    assert model is not None
    cfg, _ = settings_from("demo", {"start.audio": run, "clip.sound_seconds": 1.5})
    assert (cfg.encoders.audio_width, cfg.encoders.video_width) == (4, 16)
    assert (cfg.clip.sound_seconds, cfg.clip.frames) == (1.5, 8)
    for changes, text in (
        ({"start.audio": eyes}, f"start.audio is {eyes}, which has no audio encoder"),
        ({"start.audio": run, "clip.mel_bins": 20}, "clip.mel_bins is 20, and the audio encoder"),
        ({"start.video": run, "encoders.video_width": 8}, "video_width is 8, and the video encod"),
        ({"start.video": eyes, "clip.frames": 6}, "cannot take clips of 6 frames of 32x32"),
        (
            {"start.video": eyes, "clip.crop_pixels": 48, "clip.short_side_pixels": 48},
            "cannot take clips of 4 frames of 48x48",
        ),
        ({"start.video": "nowhere"}, "nowhere has no trained encoders"),
    ):
        with pytest.raises(UsageError, match=text) as error:
            settings_from("demo", changes)
        assert "\n" not in str(error.value)


def test_who_teaches_nobody_cannot_be_frozen():
    for changes, text in (
        ({"start.frozen": "audio"}, "a new encoder has nothing to teach"),
        ({"start.frozen": "audio", "start.video": "x"}, "Name a trained one: --start.audio RUN"),
        ({"start.frozen": "audio", "start.audio": "x", "variant": "sdc"}, "teaches nobody"),
        ({"start.audio": "x", "variant": "same-modality"}, "are all new. Leave out start"),
    ):
        with pytest.raises(SettingsError, match=text):
            settings_from("demo", changes)


def test_a_run_is_not_overwritten_by_one_that_starts_from_it(
    finished_run, index_folder, tmp_path, monkeypatch, capsys
):
    shutil.copytree(finished_run, tmp_path / "run")
    words = ["--out", tmp_path / "run", "--preset", "debug", "--overwrite", "--quiet"]
    words += ["--start.video", tmp_path / "run"]
    assert command(monkeypatch, "pretrain", index_folder, *words) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert (tmp_path / "run" / "encoders" / "encoders.json").exists()
