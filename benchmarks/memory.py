"""Do features that training saw anyway cluster as well as fresh ones, and what time do they save?

    python benchmarks/memory.py                    # the demo's videos, 3 seeds, 8 rounds each way: an hour of a core
    python benchmarks/memory.py --videos 600 --rounds 4 --seeds 0

The demo's synthetic videos and settings, with `train.remember_features` off and on, otherwise alike. After each round
the NMI of the clusters with the true events, which training never sees. Time is the CPU's, of whole rounds, both ways
in turn, round by round; a second process may do something else meanwhile.
"""

from __future__ import annotations

import argparse
import csv
import json
import platform
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch

import seehear
from seehear.clips import Clips
from seehear.config import override
from seehear.journal import nmi
from seehear.method import deep_cluster
from seehear.model import build_pair
from seehear.numerics import choose, set_threads
from seehear.presets import preset_settings
from seehear.runs import commit, processor

RESULTS = Path(__file__).parent / "results"
WAYS = {"fresh": False, "remembered": True}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=int, default=1500)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        truth = seehear.synth(Path(place, "videos"), videos=args.videos, progress=False)
        seehear.index(Path(place, "videos"), Path(place, "index"), progress=False)
        index = seehear.Index.open(Path(place, "index"))
        events_N = events_of(index, truth)
        rows: list[dict[str, Any]] = []
        for seed in args.seeds:
            rows += both_ways(index, events_N, args.rounds, seed)
            report(rows, args)  # so that a run that is broken off leaves what it has


def events_of(index: seehear.Index, truth: Path) -> np.ndarray:
    """The true event of each row, as a number."""
    with truth.open(newline="", encoding="utf-8") as file:
        named = {Path(line["path"]).name: line["class"] for line in csv.DictReader(file)}
    names = [named[Path(index.path(row)).name] for row in range(len(index))]
    return np.unique(names, return_inverse=True)[1]


def both_ways(index: seehear.Index, events_N: np.ndarray, rounds: int, seed: int) -> list[dict[str, Any]]:
    """Rounds of each way in turn."""
    cfg = override(preset_settings("demo"), {"seed": seed, "rounds": rounds})
    set_threads(cfg.compute)
    numerics, runs = choose(cfg.compute, build_pair(cfg), cfg.clip), {}
    clips = Clips(index, cfg.clip, cfg.data, seed)
    clips.fill()
    for way, remember in WAYS.items():
        settings = override(cfg, {"train.remember_features": remember})
        runs[way] = deep_cluster(numerics.place(build_pair(cfg)), clips, settings, numerics)
    found = []
    for number in range(rounds):
        row: dict[str, Any] = {"seed": seed, "round": number}
        for way, steps in runs.items():
            begin = time.process_time()
            now = next(steps)
            row[way] = {
                "round_cpu_s": round(time.process_time() - begin, 2),
                "remembered": now.learning.remembered,
                **{f"nmi_{space}": round(nmi(c.labels_N, events_N), 3) for space, c in now.clusters.items()},
            }
        found.append(row)
        print(json.dumps(row), file=sys.stderr, flush=True)
    return found


def report(rows: list[dict[str, Any]], args: argparse.Namespace) -> None:
    """Write results/memory.json and .md."""
    about = {
        "command": "python benchmarks/memory.py " + " ".join(sys.argv[1:]),
        "commit": commit(),
        "processor": processor(),
        "versions": {"python": platform.python_version(), "torch": metadata.version("torch")},
        "threads": torch.get_num_threads(),
        "videos": args.videos,
    }
    (RESULTS / "memory.json").write_text(json.dumps(about | {"rows": rows}, indent=1) + "\n", encoding="utf-8")
    lines = ["# Fresh features against those of the last epoch", "", *(f"- {k}: {v}" for k, v in about.items()), ""]
    lines += ["NMI with the true events, video / audio; CPU seconds of the round.", ""]
    lines += ["| seed | round | fresh | s | remembered | s | rows remembered |", "|---:|---:|---:|---:|---:|---:|---:|"]
    for row in rows:
        cells = [row["seed"], row["round"]]
        for way in WAYS:
            one = row[way]
            cells += [f"{one['nmi_video']} / {one['nmi_audio']}", one["round_cpu_s"]]
        lines.append("| " + " | ".join(map(str, [*cells, row["remembered"]["remembered"]])) + " |")
    (RESULTS / "memory.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
