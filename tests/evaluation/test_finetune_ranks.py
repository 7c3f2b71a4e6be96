"""Do two ranks fine-tune to what one does, go on as if never stopped, and write once?"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

import finetune_ranks
from planted import tiny_settings
from seehear.method.encoders.building import build_pair
from seehear.models.files import save_encoders

pytestmark = pytest.mark.thorough

HERE = Path(__file__).parents[1] / "helpers"
TOLERANCE = 1e-3  # of losses, and of weights after 4 steps


def torchrun(*command: str) -> str:
    """Its output, from two ranks."""
    path = os.pathsep.join(map(str, (HERE, HERE.parent / "src")))
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--standalone",
            "--nproc-per-node=2",
            *command,
        ],
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finetune")
    torchrun(str(HERE / "finetune_ranks.py"), str(folder))
    finetune_ranks.tuned(folder / "alone")
    return folder


def finished(run: Path, split: int) -> tuple[dict[str, np.ndarray], np.ndarray, dict]:
    """Weights of both encoders and heads end to end by name, scores, and the result."""
    done = run / f"splits/{split:02d}/finished"
    weights = {
        f"{p.stem}.{k}": v
        for p in sorted(done.glob("*.safetensors"))
        for k, v in load_file(p).items()
    }
    return (
        weights,
        dict(np.load(done / "scores.npz")),
        json.loads((done / "result.json").read_text()),
    )


@pytest.mark.parametrize("split", [0, 1])
def test_two_ranks_find_what_one_finds(folder, split):
    (weights, scores, result), (others, other_scores, other) = (
        finished(folder / name, split) for name in ("alone", "ranks")
    )
    assert all(np.allclose(value, others[name], atol=TOLERANCE) for name, value in weights.items())
    assert scores["items"].tolist() == other_scores["items"].tolist()
    for modality in ("video", "audio"):
        assert np.allclose(scores[modality], other_scores[modality], atol=TOLERANCE)
    assert (result["n_clips"], result["steps"], result["n_test"]) == (
        other["n_clips"],
        other["steps"],
        other["n_test"],
    )
    for mine, theirs in zip(result["history"], other["history"], strict=True):
        for key in ("loss", "heldout_loss"):
            assert mine[key] == pytest.approx(theirs[key], rel=TOLERANCE)


def test_two_ranks_that_were_stopped_end_with_the_same_bits(folder):
    (weights, scores, _), (others, other_scores, _) = (
        finished(folder / name, 1) for name in ("ranks", "stopped")
    )
    assert all(np.array_equal(value, others[name]) for name, value in weights.items())
    assert all(np.array_equal(value, other_scores[name]) for name, value in scores.items())


def test_one_rank_goes_on_where_two_stopped(folder):
    finetune_ranks.tuned(folder / "fewer", resume=True)
    weights, others = finished(folder / "alone", 1)[0], finished(folder / "fewer", 1)[0]
    assert all(np.allclose(value, others[name], atol=TOLERANCE) for name, value in weights.items())


def test_the_command_prints_and_writes_once(videos, index_folder, tmp_path, monkeypatch):
    cfg = tiny_settings()
    save_encoders(tmp_path / "encoders", build_pair(cfg), cfg, {"variant": "none"})
    fast = [
        f"--set={change}"
        for change in ("epochs=1", "workers=0", "precision=fp32", "memory_format=contiguous")
    ]
    data = ["--data", str(index_folder), "--classes", str(videos / "classes.csv"), "--clips", "2"]
    command = ["evaluate", str(tmp_path / "encoders"), "--task", "finetune", *data, *fast, "--json"]
    monkeypatch.chdir(tmp_path)
    result = json.loads(torchrun("-m", "seehear", *command))
    assert result["splits"][0]["steps"] >= 1
    assert json.loads(Path(result["written"]).read_text())["values"] == result["values"]
