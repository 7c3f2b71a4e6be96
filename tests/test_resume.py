"""A run that was killed and went on is the run that never stopped, bit for bit on a CPU."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

import seehear

SETTINGS = {
    "rounds": 3,
    "compute.precision": "fp32",
    "compute.memory_format": "contiguous",
    "data.workers": 0,
    "cluster.warm_start": True,
}


def contents(run: Path) -> dict[str, object]:
    """All that a run came to, without times."""
    log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return {
        "encoders": [(run / "encoders" / f"{m}.safetensors").read_bytes() for m in ("video", "audio")],
        "clusters": pq.read_table(run / "clusters" / "labels.parquet").to_pydict(),
        "centroids": (run / "clusters" / "centroids.safetensors").read_bytes(),
        "rounds": [pq.read_table(p).to_pydict() for p in sorted(run.glob("rounds/*/labels.parquet"))],
        "log": [{k: v for k, v in entry.items() if k != "timing"} for entry in log],
    }


@pytest.fixture(scope="module")
def unbroken(index_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    run = tmp_path_factory.mktemp("runs") / "unbroken"
    seehear.pretrain(index_folder, run, preset="debug", settings=SETTINGS)
    return contents(run)


@pytest.mark.parametrize("round_seen", [0, 1])
def test_killed_and_resumed_equals_never_stopped(index_folder, unbroken, tmp_path, round_seen):
    run = tmp_path / "run"
    options = [word for name, value in SETTINGS.items() for word in (f"--{name}", str(value))]
    command = [sys.executable, "-m", "seehear", "pretrain", index_folder, "--out", run, "--preset", "debug", *options]
    process = subprocess.Popen(list(map(str, command)), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
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


def test_a_damaged_last_checkpoint_falls_back_and_ends_alike(index_folder, unbroken, tmp_path):
    run = tmp_path / "run"
    seehear.pretrain(index_folder, run, preset="debug", settings={**SETTINGS, "rounds": 2})
    checkpoint = run / "rounds" / "001" / "checkpoint.pt"
    checkpoint.write_bytes(checkpoint.read_bytes()[:-100])
    seehear.pretrain(index_folder, run, preset="debug", settings={"rounds": 3}, resume=True)
    assert contents(run) == unbroken


def test_resuming_with_another_index_says_what_changed(index_folder, videos, tmp_path):
    run = tmp_path / "run"
    seehear.pretrain(index_folder, run, preset="debug", settings={**SETTINGS, "rounds": 1})
    some = sorted(videos.rglob("*.mp4"))[:20]
    seehear.index(some, tmp_path / "other", progress=False)
    with pytest.raises(seehear.SeehearError, match="40 rows then, 20 now"):
        seehear.pretrain(tmp_path / "other", run, preset="debug", resume=True)


def test_run_json_records_what_was_used_after_going_on(index_folder, tmp_path):
    run = tmp_path / "run"
    seehear.pretrain(index_folder, run, preset="debug", settings={**SETTINGS, "rounds": 1})
    seehear.pretrain(index_folder, run, preset="debug", settings={"rounds": 2}, resume=True)
    record = json.loads((run / "run.json").read_text())
    assert record["settings"]["rounds"] == 2
    assert len(record["resumed"]) == 1
