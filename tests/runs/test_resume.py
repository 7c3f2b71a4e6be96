"""A run that was killed and went on is the run that never stopped, bit for bit on a CPU."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import seehear
from seehear.runs.pretrain import FREE_ON_RESUME
from whole_runs import contents

SETTINGS = {
    "rounds": 3,
    "compute.precision": "fp32",
    "compute.memory_format": "contiguous",
    "data.workers": 0,
    "cluster.warm_start": True,
}


@pytest.fixture(scope="module")
def unbroken(index_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    run = tmp_path_factory.mktemp("runs") / "unbroken"
    seehear.pretrain(index_folder, run, preset="debug", settings=SETTINGS)
    return contents(run)


@pytest.mark.thorough
@pytest.mark.parametrize("round_seen", [0, 1])
def test_killed_and_resumed_equals_never_stopped(index_folder, unbroken, tmp_path, round_seen):
    run = tmp_path / "run"
    options = [word for name, value in SETTINGS.items() for word in (f"--{name}", str(value))]
    command = [
        sys.executable,
        "-m",
        "seehear",
        "pretrain",
        index_folder,
        "--out",
        run,
        "--preset",
        "debug",
        *options,
    ]
    process = subprocess.Popen(
        list(map(str, command)), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )
    seen = run / "rounds" / f"{round_seen:03d}" / "round.json"
    until = time.monotonic() + 60
    while not seen.exists() and process.poll() is None and time.monotonic() < until:
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "the run was over before it could be killed"
    assert not (run / "encoders").exists()
    seehear.pretrain(index_folder, run, preset="debug", resume=True)
    assert contents(run) == unbroken


def test_more_rounds_continue_a_finished_run(index_folder, unbroken, tmp_path):
    run = tmp_path / "run"
    seehear.pretrain(index_folder, run, preset="debug", settings={**SETTINGS, "rounds": 1})
    assert len(contents(run)["log"]) == 1
    seehear.pretrain(index_folder, run, preset="debug", settings={"rounds": 3}, resume=True)
    assert contents(run) == unbroken


def test_a_run_whose_clusters_stopped_changing_ends_there_and_goes_on_when_told(
    index_folder, tmp_path, capsys
):
    run, settings = tmp_path / "run", {**SETTINGS, "rounds": 9, "stop_nmi": 1e-9}
    seehear.pretrain(index_folder, run, preset="debug", settings=settings)
    ended = contents(run)
    stable = [entry["stable"] for entry in ended["log"]]
    assert stable == [0, 0, 1, 2], "any agreement is enough here"
    four = tmp_path / "four"
    seehear.pretrain(index_folder, four, preset="debug", settings={**SETTINGS, "rounds": 4})
    assert ended | {"log": [entry | {"stable": 0} for entry in ended["log"]]} == contents(four)
    assert json.loads((run / "encoders" / "encoders.json").read_text())["rounds"] == 4
    capsys.readouterr()
    seehear.pretrain(index_folder, run, preset="debug", resume=True)
    assert (
        "ended when its clusters stopped changing, in round 4. More: --resume --stop_nmi 0"
        in capsys.readouterr().err
    )
    assert contents(run) == ended
    seehear.pretrain(
        index_folder, run, preset="debug", settings={"stop_nmi": 0, "rounds": 5}, resume=True
    )
    assert len(contents(run)["log"]) == 5


def test_a_damaged_last_checkpoint_falls_back_and_ends_alike(index_folder, unbroken, tmp_path):
    run = tmp_path / "run"
    seehear.pretrain(index_folder, run, preset="debug", settings={**SETTINGS, "rounds": 2})
    checkpoint = run / "rounds" / "001" / "checkpoint.pt"
    checkpoint.write_bytes(checkpoint.read_bytes()[:-100])
    seehear.pretrain(index_folder, run, preset="debug", settings={"rounds": 3}, resume=True)
    assert contents(run) == unbroken


def test_resuming_with_other_settings_or_another_index_says_what_changed(
    finished_run, index_folder, videos, tmp_path
):
    shutil.copytree(finished_run, tmp_path / "run")
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}

    def refusal(index, **changes):
        with pytest.raises(seehear.SeehearError) as error:
            seehear.pretrain(index, tmp_path / "run", preset="debug", settings=changes, resume=True)
        return str(error.value)

    said = refusal(index_folder, **{"train.lr": 0.5, "clip.frames": 3, "data.workers": 1})
    assert re.search(r"train\.lr is 0\.5, and the run at \S+ was made with 0\.0\d+", said)
    assert "clip.frames is 3" in said
    assert "data.workers is" not in said
    assert ", ".join(sorted(FREE_ON_RESUME)) in said
    seehear.index(sorted(videos.rglob("*.mp4"))[:20], tmp_path / "fewer", progress=False)
    said = refusal(tmp_path / "fewer")
    assert "40 rows then, 20 now; 40 videos then, 20 now" in said
    assert "other than then: the list of files" in said
    seehear.index(
        [videos], tmp_path / "shorter", segment_seconds=1, min_seconds=0.5, progress=False
    )
    said = refusal(tmp_path / "shorter")
    assert "min_seconds was 1 and is 0.5; segment_seconds was 10 and is 1" in said
    assert "the segments that files are cut into" in said
    assert "the list of files" not in said
    shutil.copytree(videos, tmp_path / "videos")
    with sorted((tmp_path / "videos").rglob("*.mp4"))[0].open("ab") as file:
        file.write(bytes(100))
    seehear.index([tmp_path / "videos"], tmp_path / "longer", progress=False)
    said = refusal(tmp_path / "longer")
    assert "other than then: the sizes of files)" in said
    assert before == {
        path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()
    }


def test_run_json_records_what_was_used_after_going_on(index_folder, tmp_path):
    run = tmp_path / "run"
    seehear.pretrain(index_folder, run, preset="debug", settings={**SETTINGS, "rounds": 1})
    seehear.pretrain(index_folder, run, preset="debug", settings={"rounds": 2}, resume=True)
    record = json.loads((run / "run.json").read_text())
    assert record["settings"]["rounds"] == 2
    assert len(record["resumed"]) == 1
