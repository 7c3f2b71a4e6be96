"""What is pretraining worth when few examples have classes? Fine-tuned against trained from
scratch, on demo runs.

    seehear demo --out runs/demo --seeds 0,1,2    # pretrains; or any folder of that layout
    python benchmarks/finetune_demo.py runs/demo --seeds 0 1 2
    python benchmarks/finetune_demo.py runs/demo --seeds 0 --choose   # before: choose rates

For each seed and number of examples a class, the encoders of the run and new ones of the same
architecture (batch norms set to the training clips) get the same new heads, the same examples,
clips in the same order and the same number of updates; video and audio are learned side by side,
without shared weights. Then the test videos, which pretraining never saw, are scored once.

Nothing is chosen on a test video: `--choose` tries learning rates for both ways apart, at 5
examples a class, on a quarter of the *training* videos, which is kept out, and writes
results/NAME-choice.json; the comparison takes the rates from there, and where there is no such file
0.001 for both.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import RESULTS, arguments, fact_lines, facts, save, table

import seehear
from seehear.config import Data
from seehear.data.clips import Clips
from seehear.data.index import Index
from seehear.data.order import derive
from seehear.evaluation.classes import read_classes
from seehear.evaluation.finetuning import Finetune
from seehear.evaluation.finetuning.testing import item_scores, values_of
from seehear.evaluation.finetuning.training import (
    learn_classes,
    lesson_of,
    rows_of,
    starting_pair,
    training_items,
)
from seehear.evaluation.sets import LabelledSet, of_index
from seehear.machine.console import Console
from seehear.machine.devices import Numerics
from seehear.method.state import State
from seehear.models.model import Model
from seehear.reporting.demo import spread
from seehear.runs.folder import Run
from seehear.runs.pretrain import recorded_numerics

WAYS = ("pretrained", "scratch")
RATES = (3e-4, 1e-3, 3e-3)  # tried by --choose
DEFAULT_RATE = 1e-3
CHOICE_SHOTS, CHOICE_SHARE = 5, 0.25
# a segment is as long as a clip, so one clip is all of it
SETTINGS = Finetune(epochs=4, epoch_steps=30, clips=1)


@dataclass(frozen=True)
class Stage:
    """One seed's set, decoded, and the run's encoders."""

    model: Model
    numerics: Numerics
    data: LabelledSet
    clips: Clips
    seed: int


def main() -> None:
    parser = arguments(__doc__)
    add = parser.add_argument
    add("root", type=Path, help="the folder of `seehear demo`: seedN/{videos,index-all,VARIANT}")
    add("--seeds", type=int, nargs="+", default=[0, 1, 2])
    add("--shots", type=int, nargs="+", default=[1, 5, 10, 20], help="examples a class")
    add("--variant", default="xdc", help="whose encoders are fine-tuned")
    add("--steps", type=int, default=SETTINGS.epoch_steps, help="updates an epoch, of four")
    add("--choose", action="store_true", help="try learning rates on training videos; test nothing")
    add("--name", default="finetune-demo", help="results/NAME.json and .md")
    add("--results", type=Path, default=RESULTS)
    args = parser.parse_args()
    torch.set_num_threads(1)  # as in the demo: these networks are too small for more to pay
    with Console() as console:
        if args.choose:
            choose_rates(args, console)
        else:
            compare(args, console)


def compare(args: argparse.Namespace, console: Console) -> None:
    """The low-shot curve: writes results/NAME.json and .md."""
    choice = args.results / f"{args.name}-choice.json"
    rates = dict.fromkeys(WAYS, DEFAULT_RATE)
    if choice.exists():
        record = json.loads(choice.read_text(encoding="utf-8"))
        rates = record["chosen"]
    seeds: dict[str, Any] = {}
    for seed in args.seeds:
        begin, stage = time.perf_counter(), prepare(args.root, args.variant, seed, console)
        found: dict[str, Any] = {}
        for shots in args.shots:
            of = {way: accuracy(stage, way, shots, rates[way], args.steps) for way in WAYS}
            found[str(shots)] = of
            console.say(f"seed {seed}, {shots} a class: {of}")
        seeds[str(seed)] = {
            "shots": found,
            "chance": 1 / len(stage.data.classes),
            "n_test": len(stage.data.splits[0].test),
            "numerics": stage.numerics.describe(),
            "seconds": round(time.perf_counter() - begin, 1),
        }
    report = facts(
        variant=args.variant,
        settings=asdict(SETTINGS) | {"epoch_steps": args.steps, "lr": rates},
        rates_chosen=choice.name if choice.exists() else None,
    )
    page = as_page(report, seeds, args.name)
    save(args.name, {**report, "seeds": seeds}, page, args.results)


def choose_rates(args: argparse.Namespace, console: Console) -> None:
    """The best learning rate of each way on kept-out training videos: NAME-choice.json and .md."""
    found: dict[str, dict[str, list[float]]] = {
        way: {str(rate): [] for rate in RATES} for way in WAYS
    }
    for seed in args.seeds:
        stage = prepare(args.root, args.variant, seed, console)
        for way in WAYS:
            for rate in RATES:
                values = accuracy(stage, way, CHOICE_SHOTS, rate, args.steps, kept_out=CHOICE_SHARE)
                found[way][str(rate)].append(float(np.mean(list(values.values()))))
                console.say(f"seed {seed}, {way}, rate {rate:g}: {found[way][str(rate)][-1]:.3f}")
    chosen = {
        way: float(max(by_rate, key=lambda rate: np.mean(by_rate[rate])))
        for way, by_rate in found.items()
    }
    what = (
        f"accuracy, mean of video and audio, on {CHOICE_SHARE:.0%} of the training videos of each "
        f"seed, after learning from {CHOICE_SHOTS} others a class"
    )
    record = facts(what=what, seeds=args.seeds, chosen=chosen) | {"accuracy": found}
    rows = [[way, rate, *values] for way in WAYS for rate, values in found[way].items()]
    head = " | ".join(["way", "learning rate", *(f"seed {seed}" for seed in args.seeds)])
    page = ["# Learning rates", "", *fact_lines(record), "", *table(head, rows)]
    save(f"{args.name}-choice", record, page, args.results)


def prepare(root: Path, variant: str, seed: int, console: Console) -> Stage:
    """Open a seed's run and set, and decode every segment once."""
    folder = root / f"seed{seed}"
    numerics = recorded_numerics(Run.open(folder / variant))
    model = seehear.load(folder / variant, device=numerics.device)
    classes = read_classes(folder / "videos" / "classes.csv")
    data = of_index(Index.open(folder / "index-all"), classes, seed)
    clips = Clips(data.index, model.clip, Data(cache_gigabytes=16.0), seed)
    clips.fill(console.watch(f"seed {seed}: decoding", len(clips)))
    return Stage(model, numerics, data, clips, seed)


def accuracy(
    stage: Stage, way: str, shots: int, rate: float, steps: int, *, kept_out: float = 0.0
) -> dict[str, float]:
    """Accuracy of video and audio on the test videos, or on training videos that are kept out."""
    data, split = stage.data, stage.data.splits[0]
    cfg = Finetune(**{**asdict(SETTINGS), "lr": rate, "epoch_steps": steps})
    seed = derive(stage.seed, 0)
    train, heldout = training_items(data, split, shots, kept_out, seed)
    watched, name = np.empty(0, dtype=np.int64), f"seed {stage.seed}"
    lesson = lesson_of(data, stage.clips, cfg, stage.numerics, train, watched, name)
    pair = starting_pair(stage.model.pair, lesson, scratch=way == "scratch", seed=seed)
    for _ in learn_classes(State(pair, stage.numerics), lesson):
        pass
    rows = rows_of(data, heldout if kept_out else split.test)
    found = item_scores(pair, stage.clips, stage.numerics, data, rows, cfg.clips)
    return {m: values["top1"] for m, values in values_of(found, data.target_V).items()}


def as_page(report: Mapping[str, Any], seeds: Mapping[str, Any], name: str) -> list[str]:
    """The report as Markdown."""
    cfg, first = report["settings"], next(iter(seeds.values()))
    how = f"chosen on kept-out training videos ({report['rates_chosen']})"
    rows = []
    for shots in first["shots"]:
        cells = [shots]
        for modality in ("video", "audio"):
            both = [
                [100 * s["shots"][shots][way][modality] for s in seeds.values()] for way in WAYS
            ]
            gains = [a - b for a, b in zip(*both, strict=True)]
            cells += [*(spread(values, "{:.1f}") for values in both), spread(gains, "{:+.1f}")]
        rows.append(cells)
    of = [f"{m}, pretrained | {m}, scratch | gain" for m in ("video", "audio")]
    return [
        f"# Fine-tuned or from scratch: {name}",
        "",
        *fact_lines({key: report[key] for key in report if key != "settings"}),
        f"- one thread, {first['numerics']['precision']}; {cfg['epochs'] * cfg['epoch_steps']} "
        f"updates of up to {cfg['batch_size']} clips, {cfg['optimizer']}, {cfg['schedule']}; "
        f"learning rates {cfg['lr']}, {how if report['rates_chosen'] else 'set'}",
        f"- seconds a seed: {', '.join(str(s['seconds']) for s in seeds.values())}",
        "",
        f"Accuracy in % on {first['n_test']} test videos a seed, mean (least-most) over seeds; "
        f"chance {100 * first['chance']:.1f}. The gain is that of the pretrained over the new "
        "encoders, seed by seed.",
        "",
        *table(" | ".join(["examples a class", *of]), rows, left=0),
    ]


if __name__ == "__main__":
    main()
