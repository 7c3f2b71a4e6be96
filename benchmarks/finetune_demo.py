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
import shlex
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

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
from seehear.machine.files import now, versions, write_json
from seehear.method.state import State
from seehear.models.model import Model
from seehear.reporting.demo import spread
from seehear.runs.folder import Run
from seehear.runs.pretrain import recorded_numerics

RESULTS = Path(__file__).parent / "results"
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
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "root", type=Path, help="the folder of `seehear demo`: seedN/{videos,index-all,VARIANT}"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument(
        "--shots", type=int, nargs="+", default=[1, 5, 10, 20], help="examples a class"
    )
    parser.add_argument("--variant", default="xdc", help="whose encoders are fine-tuned")
    parser.add_argument(
        "--steps", type=int, default=SETTINGS.epoch_steps, help="updates an epoch, of four"
    )
    parser.add_argument(
        "--choose", action="store_true", help="try learning rates on training videos; test nothing"
    )
    parser.add_argument("--name", default="finetune-demo", help="results/NAME.json and .md")
    parser.add_argument("--results", type=Path, default=RESULTS)
    args = parser.parse_args()
    torch.set_num_threads(1)  # as in the demo: these networks are too small for more to pay
    args.results.mkdir(parents=True, exist_ok=True)
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
            found[str(shots)] = {
                way: accuracy(stage, way, shots, rates[way], args.steps) for way in WAYS
            }
            console.say(f"seed {seed}, {shots} a class: {found[str(shots)]}")
        seeds[str(seed)] = {
            "shots": found,
            "chance": 1 / len(stage.data.classes),
            "n_test": len(stage.data.splits[0].test),
            "numerics": stage.numerics.describe(),
            "seconds": round(time.perf_counter() - begin, 1),
        }
    report = {
        "command": shlex.join(["python", *sys.argv]),
        "variant": args.variant,
        "settings": asdict(SETTINGS) | {"epoch_steps": args.steps, "lr": rates},
        "rates_chosen": choice.name if choice.exists() else None,
        "seeds": seeds,
        "created": now(),
        **versions(),
    }
    write_json(args.results / f"{args.name}.json", report)
    (args.results / f"{args.name}.md").write_text(as_text(report, args.name), encoding="utf-8")


def choose_rates(args: argparse.Namespace, console: Console) -> None:
    """The learning rate of each way that is best on kept-out training videos: writes
    results/NAME-choice.json.
    """
    found: dict[str, dict[str, list[float]]] = {
        way: {str(rate): [] for rate in RATES} for way in WAYS
    }
    for seed in args.seeds:
        stage = prepare(args.root, args.variant, seed, console)
        for way in WAYS:
            for rate in RATES:
                values = accuracy(stage, way, CHOICE_SHOTS, rate, args.steps, kept_out=CHOICE_SHARE)
                found[way][str(rate)].append(float(np.mean(list(values.values()))))
                console.say(
                    f"seed {seed}, {way}, learning rate {rate:g}: {found[way][str(rate)][-1]:.3f}"
                )
    chosen = {
        way: float(max(by_rate, key=lambda rate: np.mean(by_rate[rate])))
        for way, by_rate in found.items()
    }
    write_json(
        args.results / f"{args.name}-choice.json",
        {
            "command": shlex.join(["python", *sys.argv]),
            "what": f"accuracy, mean of video and audio, on {CHOICE_SHARE:.0%} of the training "
            f"videos of each seed, "
            f"after learning from {CHOICE_SHOTS} others a class",
            "seeds": args.seeds,
            "accuracy": found,
            "chosen": chosen,
            "created": now(),
            **versions(),
        },
    )


def prepare(root: Path, variant: str, seed: int, console: Console) -> Stage:
    """Open a seed's run and set, and decode every segment once."""
    folder = root / f"seed{seed}"
    numerics = recorded_numerics(Run.open(folder / variant))
    model = seehear.load(folder / variant, device=numerics.device)
    data = of_index(
        Index.open(folder / "index-all"), read_classes(folder / "videos" / "classes.csv"), seed
    )
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
    lesson = lesson_of(
        data,
        stage.clips,
        cfg,
        stage.numerics,
        train,
        np.empty(0, dtype=np.int64),
        f"seed {stage.seed}",
    )
    pair = starting_pair(stage.model.pair, lesson, scratch=way == "scratch", seed=seed)
    for _ in learn_classes(State(pair, stage.numerics), lesson):
        pass
    rows = rows_of(data, heldout if kept_out else split.test)
    found = item_scores(pair, stage.clips, stage.numerics, data, rows, cfg.clips)
    return {
        modality: values["top1"] for modality, values in values_of(found, data.target_V).items()
    }


def as_text(report: Mapping[str, Any], name: str) -> str:
    """The report as a page."""
    seeds, cfg = report["seeds"], report["settings"]
    first = next(iter(seeds.values()))
    chosen = (
        f"chosen on kept-out training videos ({report['rates_chosen']})"
        if report["rates_chosen"]
        else "set"
    )
    lines = [
        f"# Fine-tuned or from scratch: {name}",
        "",
        f"- command: {report['command']}",
        f"- processor: {report['machine']['processor']}, one thread, "
        f"{first['numerics']['precision']}",
        f"- commit {report['commit']}, Python {report['python']}, torch "
        f"{report['packages']['torch']}",
        f"- encoders: {report['variant'].upper()}, seeds {', '.join(seeds)}; "
        f"{cfg['epochs'] * cfg['epoch_steps']} updates of up to {cfg['batch_size']} clips, "
        f"{cfg['optimizer']}, "
        f"{cfg['schedule']}; learning rates {cfg['lr']}, {chosen}",
        f"- seconds a seed: {', '.join(str(s['seconds']) for s in seeds.values())}",
        "",
        f"Accuracy in % on {first['n_test']} test videos a seed, mean (least-most) over seeds; "
        f"chance "
        f"{100 * first['chance']:.1f}. The gain is that of the pretrained over the new encoders, "
        f"seed by seed.",
        "",
        "| examples a class | video, pretrained | video, scratch | gain | audio, pretrained | "
        "audio, scratch | gain |",
        "|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for shots in first["shots"]:
        cells = [shots]
        for modality in ("video", "audio"):
            both = [
                [100 * s["shots"][shots][way][modality] for s in seeds.values()] for way in WAYS
            ]
            gains = [a - b for a, b in zip(*both, strict=True)]
            cells += [*(spread(values, "{:.1f}") for values in both), spread(gains, "{:+.1f}")]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
