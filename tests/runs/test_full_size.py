"""The paper's sizes work too: two steps of the preset "paper" on a CPU."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import seehear
from seehear.runs.folder import Run


@pytest.mark.slow
def test_two_steps_of_the_preset_paper_on_a_cpu(videos: Path, tmp_path: Path):
    seehear.index(sorted(videos.rglob("*.mp4"))[:10], tmp_path / "index", progress=False)
    changes = {
        "rounds": 1,
        "train.epochs": 1,
        "train.batch_size": 5,
        "cluster.num_clusters": 2,
        # with channels_last the gradients of 3-D convolutions were not finite
        "compute.precision": "bf16",
        "compute.memory_format": "channels_last",
    }
    run = seehear.pretrain(tmp_path / "index", tmp_path / "run", preset="paper", settings=changes)
    entry = Run.open(run.path).read_log()[0]
    assert entry["steps"] == 4  # two of each student
    assert entry["clips"] == 20
    model = seehear.load(run.path)
    assert sum(p.numel() for p in model.pair.encoders["video"].parameters()) == 33_165_639
    assert all(bool(p.isfinite().all()) for p in model.pair.parameters())
    assert model.video(torch.zeros(1, 3, 8, 224, 224, dtype=torch.uint8)).shape == (1, 512)


@pytest.mark.gpu
def test_a_round_on_a_gpu_agrees_with_the_cpu_before_training(index_folder: Path, tmp_path: Path):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    fixed = {"rounds": 1, "compute.precision": "fp32", "compute.memory_format": "contiguous"}
    runs = {
        device: seehear.pretrain(
            index_folder,
            tmp_path / device,
            preset="debug",
            settings={**fixed, "compute.device": device},
        )
        for device in ("cpu", "cuda")
    }
    logs = {device: Run.open(run.path).read_log()[0] for device, run in runs.items()}
    assert logs["cuda"]["loss"]["video"][0] == pytest.approx(
        logs["cpu"]["loss"]["video"][0], rel=0.05
    )
