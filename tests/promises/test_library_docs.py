"""The page about using a run and the notebook do what they say, from top to bottom."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from test_promises import ROOT, blocks


def execute(script: str, folder: Path) -> str:
    """What a script prints, run as in a notebook, which worker processes do not import; it must not
    fail or warn.
    """
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.thorough
def test_the_python_of_the_page_runs(finished_run, videos, tmp_path):
    shutil.copytree(finished_run, tmp_path / "run")
    (tmp_path / "videos").mkdir()
    for path in sorted(videos.rglob("*.mp4"))[:3]:
        shutil.copy(path, tmp_path / "videos")
    shutil.copy(next(videos.rglob("*.mp4")), tmp_path / "query.mp4")
    page = blocks("python", [ROOT / "docs" / "using.md"])
    shown = execute("\n".join(text for _, text in page), tmp_path)
    assert "'rank': 1" in shown
    assert shown.splitlines()[-1] == "40"


NAMED = ["{0: 'ticking', 1: 'whooshing'}", "24 segments in labels.csv"]
COMPARED = ["run-xdc video: ", "run-sdc log-mel: ", "chance 50%", "| run-xdc ", "| probe "]
BY_HAND = ["round 2: audio learns from video, loss ", "{'video': [1."]


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("folder_to_names", NAMED + ["looks alike", "sounds alike"] * 3),
        ("compare_encoders", COMPARED),
        ("method_in_twenty_lines", BY_HAND),
    ],
)
def test_the_notebooks_run_and_hold_no_results(name, parts, tmp_path):
    notebook = json.loads((ROOT / "examples" / f"{name}.ipynb").read_text(encoding="utf-8"))
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert not any(cell["outputs"] or cell["execution_count"] for cell in cells)
    shown = execute("\n".join("".join(cell["source"]) for cell in cells), tmp_path)
    for part in parts:
        assert shown.count(part) >= parts.count(part), part


def test_each_notebook_is_run_and_the_method_has_twenty_lines():
    names = {path.stem for path in (ROOT / "examples").glob("*.ipynb")}
    assert names == {"folder_to_names", "compare_encoders", "method_in_twenty_lines"}
    text = (ROOT / "examples" / "method_in_twenty_lines.ipynb").read_text(encoding="utf-8")
    loops = ["".join(cell["source"]) for cell in json.loads(text)["cells"]]
    (loop,) = [cell for cell in loops if "loss.backward()" in cell]
    assert len(loop.splitlines()) <= 21
