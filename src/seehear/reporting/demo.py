"""Does the method work? `seehear demo` makes videos, trains on them without labels, and measures,
in minutes.

For each seed: synthesise, index, then probe random encoders, each variant trained with the same
budget, and the same encoders trained with the true classes; last, build the page of the XDC run (or
of the last variant). The training videos and the test videos are different files; only the training
ones are indexed for pretraining, and classes are read by the evaluation and shown by the page
alone.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from seehear.config import Settings, flatten, override
from seehear.data.clips import Clips, default_workers
from seehear.data.index import Index, index
from seehear.data.synthetic import synth
from seehear.errors import UsageError
from seehear.evaluation.baselines import BASELINES
from seehear.evaluation.classes import Classes, read_classes
from seehear.evaluation.clusters import agreement, final_labels
from seehear.evaluation.context import Evaluation, rates
from seehear.evaluation.probe import few_shot_all, probe_all
from seehear.evaluation.sets import LabelledSet, of_index
from seehear.machine.console import Console
from seehear.machine.devices import Numerics, choose, set_threads
from seehear.machine.files import now, versions, write_json
from seehear.machine.locks import one_writer
from seehear.machine.outputs import check_place, read_marker
from seehear.method.clusters import space_of
from seehear.method.encoders import Pair
from seehear.method.encoders.building import build_pair
from seehear.method.features import calibrate
from seehear.method.state import State
from seehear.method.train import Course, train
from seehear.models.model import Model, load
from seehear.presets import preset_settings
from seehear.reporting import report
from seehear.runs.folder import Run
from seehear.runs.pretrain import pretrain, recorded_numerics

SUPERVISED_EPOCHS = 10  # with the true classes the same encoders need few
PAGE_PREVIEWS = 400  # in the page of the XDC run: enough for every cluster, in seconds


@dataclass(frozen=True)
class Stage:
    """What all encoders of one seed are measured on."""

    folder: Path
    clips: Clips
    train_index: Index
    train_clips: Clips
    videos: LabelledSet
    classes: Classes
    settings: Settings
    numerics: Numerics
    console: Console


def demo(
    out: str | Path = "runs/demo",
    *,
    seeds: Sequence[int] = (0,),
    variants: Sequence[str] = ("sdc", "xdc"),
    videos: int = 1500,
    settings: Mapping[str, Any] | None = None,
    console: Console | None = None,
) -> dict[str, Any]:
    """Show on synthetic videos that cross-modal clustering learns what plain clustering does not.

    Args:
        out: everything lands here, a folder a seed; what an earlier call finished is reused.
        seeds: data, weights and draws derive from each.
        variants: which to train, each with the budget of the preset "demo".
        videos: how many to synthesise for each seed, a fifth of them for testing.
        settings: changes to the preset "demo", by dotted name.
        console: where progress is shown.
    Returns:
        What `out/demo.json` holds: for each seed and way of training the probes of both encoders
        and the NMI of the clusters with the true events.
    """
    out, variants = Path(out), tuple(dict.fromkeys(variants))
    console = console or Console()
    console.stopped.clear()  # of an earlier demo
    if not (variants and seeds):
        raise UsageError("A demo needs a variant and a seed. Name one or several, such as xdc.")
    for variant in variants:
        # wrong settings fail at once
        override(preset_settings("demo"), {**(settings or {}), "variant": variant})
    results: dict[str, Any] = {}
    check_free(out)
    with console, one_writer(out, inside=True):
        for seed in seeds:
            begin = time.perf_counter()
            cfg = override(preset_settings("demo"), {**(settings or {}), "seed": seed})
            stage = prepare(out / f"seed{seed}", seed, videos, cfg, console)
            results[str(seed)] = measure_all(stage, variants)
            results[str(seed)]["seconds"] = round(time.perf_counter() - begin, 1)
        summary = {
            "videos": videos,
            "seeds": results,
            "peak_memory_gb": peak_memory_gb(),
            "created": now(),
        }
        write_json(out / "demo.json", summary | versions())
    return summary | versions()


def check_free(out: Path) -> None:
    """Raise UsageError where something else is at the place of a demo or of what it writes."""
    refuse = "Choose another --out; nothing was touched."
    check_place(out, refuse)
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} exists and is no folder. {refuse}")
    record = out / "demo.json"
    if os.path.lexists(record) and not {"videos", "seeds"} <= read_marker(record).keys():
        raise UsageError(f"{record} exists and is of no demo. {refuse}")


def peak_memory_gb() -> float:
    """The most memory that this process and its largest child held, in GB."""
    import resource

    peaks = (
        resource.getrusage(who).ru_maxrss
        for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    return round(sum(peaks) * (1 if sys.platform == "darwin" else 1024) / 1e9, 2)


def prepare(folder: Path, seed: int, videos: int, cfg: Settings, console: Console) -> Stage:
    """Synthesise and index, and decode every segment once."""
    console.say(f"seed {seed}: writing {videos} videos with sound to {folder / 'videos'}")
    classes_csv = synth(folder / "videos", videos=videos, seed=seed, progress=not console.quiet)
    index(folder / "videos" / "train", folder / "index-train", progress=not console.quiet)
    index(folder / "videos", folder / "index-all", progress=not console.quiet)
    train_index, all_index = Index.open(folder / "index-train"), Index.open(folder / "index-all")
    classes = read_classes(classes_csv)
    set_threads(cfg.compute)
    begun = sorted(folder.glob("*/run.json"))  # a demo that goes on computes as it began
    numerics = (
        recorded_numerics(Run.open(begun[0].parent))
        if begun
        else choose(cfg.compute, build_pair(cfg), cfg.clip)
    )
    clips = Clips(all_index, cfg.clip, cfg.data, seed)
    train_clips = Clips(train_index, cfg.clip, cfg.data, seed)
    for c in (clips, train_clips):
        c.fill(console.watch("decoding", len(c)))
    videos_of = of_index(all_index, classes, seed)
    return Stage(
        folder, clips, train_index, train_clips, videos_of, classes, cfg, numerics, console
    )


def measure_all(stage: Stage, variants: Sequence[str]) -> dict[str, Any]:
    """Train and probe every way: {"chance", "ways": {way: {"video", "nmi_video", ...}}, "page"}."""
    shown = "xdc" if "xdc" in variants else variants[-1]
    # One thread each, side by side: the networks are too small for more threads to pay, and cores
    # would lie idle.
    of = " and ".join(map(name, variants))
    stage.console.say(f"seed {stage.settings.seed}: {of} without labels, side by side")
    threads = len(variants) + 2 if default_workers(stage.settings.data) > 1 else 1
    with ThreadPoolExecutor(threads) as pool:
        plain = pool.submit(untaught, stage)
        learned = {way: pool.submit(train_variant, stage, way) for way in variants}
        learned["supervised"] = pool.submit(supervised, stage)
        page = pool.submit(lambda: learned[shown].result() and build_page(stage, shown))
        jobs: list[Future[Any]] = [plain, *learned.values(), page]
        try:
            for job in as_completed(jobs):
                job.result()
        except BaseException:  # an error, or Ctrl-C: nobody waits minutes for what the others do
            stage.console.stopped.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    found, ways = plain.result()
    ways |= {way: future.result() for way, future in learned.items()}
    numerics = stage.numerics.describe()
    return {**found, "numerics": numerics, "ways": ways, "page": page.result()}


def untaught(stage: Stage) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
    """What guessing gets, and the probes of statistics without learning and of new encoders."""
    pair = stage.numerics.place(build_pair(stage.settings))
    calibrate(pair, stage.train_clips, stage.numerics)
    context = context_of(stage, pair)
    plain, there_V = context.baselines
    ways: dict[str, dict[str, float]] = {
        baseline: probes(stage, {modality: plain[baseline]}, there_V)
        for modality, baselines in BASELINES.items()
        for baseline in baselines
    }
    ways["random"] = probes(stage, *context.pooled)
    return rates(stage.videos, there_V), ways


def train_variant(stage: Stage, variant: str) -> dict[str, float]:
    """Pretrain one variant, or find its finished run, and measure it; with the seconds it took."""
    path, begin = stage.folder / variant, time.perf_counter()
    cfg = override(stage.settings, {"variant": variant, **fixed(stage.numerics)})
    pretrain(
        stage.train_index,
        path,
        preset="demo",
        settings=flatten(cfg.to_dict()),
        resume=(path / "run.json").exists(),
        console=stage.console.labelled(name(variant)),
        clips=stage.train_clips,
    )
    seconds = round(time.perf_counter() - begin, 1)
    values = probe_pair(stage, load(path).pair)
    values |= nmi_with_classes(final_labels(path), stage.classes.of_rows(stage.train_index))
    return {**values, "seconds": seconds}


def nmi_with_classes(labels: Mapping[str, np.ndarray], class_N: np.ndarray) -> dict[str, float]:
    """{"nmi_video", ...} of clusterings: of each space the coarsest with a cluster a class."""

    def distance(labels_N: np.ndarray) -> tuple[bool, int]:
        more = int(labels_N.max() - class_N.max())
        return more < 0, abs(more)

    of: dict[str, list[np.ndarray]] = {}
    for name, labels_N in labels.items():
        of.setdefault(space_of(name), []).append(labels_N)
    return {
        f"nmi_{space}": agreement(min(mine, key=distance), class_N)["nmi"]
        for space, mine in of.items()
    }


def supervised(stage: Stage) -> dict[str, float]:
    """The same encoders trained with the true classes of the training videos, then probed alike."""
    begin, cfg = time.perf_counter(), override(stage.settings, {"train.epochs": SUPERVISED_EPOCHS})
    stage.console.say(
        f"seed {cfg.seed}: supervised, {SUPERVISED_EPOCHS} epochs with the true classes"
    )
    pair = build_pair(cfg)
    generator = torch.Generator().manual_seed(cfg.seed)
    heads = {"class": len(stage.classes.names)}
    pair.renew_heads({"video": heads, "audio": heads}, generator)
    stage.numerics.place(pair)
    train_rows, heldout_rows = stage.train_clips.split(cfg.train.heldout_share)
    labels = {"class": stage.classes.of_rows(stage.train_index).astype(np.int32)}
    course = Course(pair.students, labels, train_rows, heldout_rows)
    count = stage.console.watch("supervised", cfg.train.epochs * len(train_rows))
    for step in train(State(pair, stage.numerics), stage.train_clips, course, cfg.train):
        count(step.done)
    return {**probe_pair(stage, pair), "seconds": round(time.perf_counter() - begin, 1)}


def build_page(stage: Stage, variant: str) -> str:
    """Build the report of a variant's run, with true events as classes; returns its page's path."""
    built = report(
        stage.folder / variant,
        index=stage.train_index.folder,
        classes=stage.classes.file,
        previews=PAGE_PREVIEWS,
        workers=default_workers(stage.settings.data) or 1,
        console=Console(quiet=True),
    )
    stage.console.say(f"seed {stage.settings.seed}: the page of {name(variant)}: {built.path}")
    return built.path


def probe_pair(stage: Stage, pair: Pair) -> dict[str, float]:
    """Test accuracy in [0, 1] of a linear probe on each encoder, of all labels and of few."""
    return probes(stage, *context_of(stage, pair).pooled)


def probes(stage: Stage, pooled: Mapping[str, np.ndarray], there_V: np.ndarray) -> dict[str, float]:
    """{modality: accuracy, modality_1: accuracy from one label a class} of features (V, D)."""
    data, seed = stage.videos, stage.settings.seed
    all_labels = probe_all(data, pooled, there_V, "logistic", seed)
    few = few_shot_all(data, pooled, there_V, "logistic", (1,), seed)
    return {m: found["top1"] for m, found in all_labels.items()} | {
        f"{m}_1": found["1"]["mean"] for m, found in few.items()
    }


def context_of(stage: Stage, pair: Pair) -> Evaluation:
    """What an evaluation of these encoders starts from."""
    model = Model(stage.numerics.place(pair), stage.settings.clip, stage.numerics, {})
    return Evaluation(model, stage.videos, stage.settings.seed, 1, stage.console, clips=stage.clips)


def fixed(numerics: Numerics) -> dict[str, str]:
    """Settings that ask for exactly these numerics, so that all variants of a seed share them."""
    kept = ("device", "precision", "memory_format")
    return {f"compute.{name}": getattr(numerics, name) for name in kept}


COLUMNS = (  # key, head, factor, form; first what needs few labels or none
    ("nmi_video", "NMI, video clusters", 1, "{:.2f}"),
    ("nmi_audio", "NMI, audio clusters", 1, "{:.2f}"),
    ("video_1", "video, 1 label a class", 100, "{:.1f}"),
    ("audio_1", "audio, 1 label a class", 100, "{:.1f}"),
    ("video", "video probe, %", 100, "{:.1f}"),
    ("audio", "audio probe, %", 100, "{:.1f}"),
)


def table(report: Mapping[str, Any]) -> list[list[str]]:
    """The report as rows of text, first the head: mean over seeds and, with several, the range."""
    seeds = list(report["seeds"].values())
    chance = f"{100 * seeds[0]['chance']:.1f}"
    guessed = ["0" if key.startswith("nmi") else chance for key, *_ in COLUMNS]
    lines = [["", *(head for _, head, _, _ in COLUMNS)], ["chance", *guessed]]
    for way in seeds[0]["ways"]:
        found = [seed["ways"][way] for seed in seeds]
        cells = [
            spread([factor * f[key] for f in found], form) if key in found[0] else ""
            for key, _, factor, form in COLUMNS
        ]
        lines.append([name(way), *cells])
    return lines


def name(way: str) -> str:
    """A way of training as a person writes it."""
    return way.upper() if len(way) == 3 else way


def spread(values: Sequence[float], form: str) -> str:
    """ "mean" of one value, "mean (least-most)" of several."""
    mean = form.format(statistics.fmean(values))
    return (
        mean
        if len(values) == 1
        else f"{mean} ({form.format(min(values))}-{form.format(max(values))})"
    )
