"""Whole runs in processes of their own, and all that one came to."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq


def contents(run: Path) -> dict[str, object]:
    """All that a run came to, without times."""
    log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return {
        "encoders": [
            (run / "encoders" / f"{m}.safetensors").read_bytes() for m in ("video", "audio")
        ],
        "clusters": pq.read_table(run / "clusters" / "labels.parquet").to_pydict(),
        "centroids": (run / "clusters" / "centroids.safetensors").read_bytes(),
        "rounds": [
            pq.read_table(p).to_pydict() for p in sorted(run.glob("rounds/*/labels.parquet"))
        ],
        "log": [{k: v for k, v in entry.items() if k != "timing"} for entry in log],
    }


SETTINGS = {
    "rounds": 2,
    "train.epochs": 2,
    "train.batch_size": 6,
    "compute.precision": "fp32",
    "compute.memory_format": "contiguous",
    "data.workers": 0,
    "checkpoint.steps": 2,
}


def command(index: Path, run: Path, *more: str) -> list[str]:
    options = [word for name, value in SETTINGS.items() for word in (f"--{name}", str(value))]
    words = [
        "pretrain",
        str(index),
        "--out",
        str(run),
        "--preset",
        "debug",
        "--resume-if-there",
        *options,
        *more,
    ]
    return [sys.executable, "-m", "seehear", *words]


def wait_for(path: Path, pattern: str, process: subprocess.Popen[str]) -> None:
    until = time.monotonic() + 120
    while not list(path.glob(pattern)) and process.poll() is None and time.monotonic() < until:
        time.sleep(0.005)
