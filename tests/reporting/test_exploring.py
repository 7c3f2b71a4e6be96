"""One command from a folder of videos to the page, by whatever encoders are at hand."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from command_here import run
from seehear.reporting.health import health
from seehear.runs.folder import Run
from whole_runs import wait_for

pytestmark = pytest.mark.thorough


@pytest.fixture(autouse=True)
def nothing_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home in which nothing was fetched, and no network."""
    for name in ("HF_HOME", "SEEHEAR_HOME", "HF_HUB_CACHE"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return tmp_path / "home"


def words(videos: Path, out: Path, *more: str) -> list[str]:
    return ["explore", str(videos), "--out", str(out), "--no-open", "--workers", "1", *more]


def test_training_that_was_killed_goes_on_to_the_page(videos, tmp_path):
    shutil.copytree(videos, tmp_path / "videos")
    typed = words(tmp_path / "videos", tmp_path / "out")
    said = []
    for number, kill in enumerate((signal.SIGTERM, signal.SIGKILL)):
        process = subprocess.Popen(
            [sys.executable, "-m", "seehear", *typed], stderr=subprocess.PIPE, text=True
        )
        wait_for(tmp_path / "out" / "run", f"rounds/00{number}", process)
        process.send_signal(kill)
        said.append(process.communicate()[1])
        assert process.returncode == (75 if kill == signal.SIGTERM else -kill)
    assert said[0].endswith("or with the same seehear explore, to the page.\n")
    assert "small ones are trained on these videos" in said[0]
    assert " on this device; measured on " in said[0]  # before it starts
    assert "40 segments are few to learn from nothing" in said[0]

    begun = Run.open(tmp_path / "out" / "run").record
    done = run(*typed)
    page = tmp_path / "out" / "run" / "report" / "index.html"
    verdict = health(Run.open(tmp_path / "out" / "run"))["verdict"]["kind"]
    assert done.stdout.startswith(f"{page}: {verdict}; 40 segments, 40 with previews\n")
    assert f"seehear report {tmp_path}/out/run --serve --open" in done.stdout
    finished = Run.open(tmp_path / "out" / "run")
    assert finished.record["created"] == begun["created"]
    planned = range(finished.settings().rounds)
    assert [entry["round"] for entry in finished.read_log()] == list(planned)
    assert finished.settings().cluster.num_clusters == (2,)  # one for 20 segments

    assert "is there already" in run(*typed).stderr
    assert "is by encoders that were trained here" in run(*typed, "--encoder", "x", code=2).stderr
    next((tmp_path / "videos").rglob("*.mp4")).unlink()
    assert "The videos have changed since" in run(*typed, code=2).stderr


def test_what_was_downloaded_before_is_taken_as_it_is(videos, tmp_path, nothing_downloaded):
    pytest.importorskip("transformers", reason="pip install 'seehear[hf]'")
    from tiny_networks import tiny_networks

    tiny_networks(tmp_path / "networks")
    for name in ("ast", "videomae"):
        kept = nothing_downloaded / f"models--tiny--{name}"
        (kept / "refs").mkdir(parents=True)
        (kept / "refs" / "main").write_text("0" * 40)
        shutil.copytree(tmp_path / "networks" / name, kept / "snapshots" / ("0" * 40))
    done = run(*words(videos, tmp_path / "out"))
    names = "hf:tiny/videomae and hf:tiny/ast"
    assert f"Clusters by {names}, without training" in done.stderr
    assert json.loads((tmp_path / "out" / "run" / "run.json").read_text())["encoder"] == names
    again = run(*words(videos, tmp_path / "out", "--encoder", "hf:tiny/ast"), code=2)
    assert f"run is by {names}. Make it anew with --overwrite" in again.stderr
    run(*words(videos, tmp_path / "out", "--encoder", "hf:tiny/ast", "--overwrite"))
    assert Run.open(tmp_path / "out" / "run").record["encoder"] == "hf:tiny/ast"
