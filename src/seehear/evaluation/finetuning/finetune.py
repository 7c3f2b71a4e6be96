"""One fine-tune, from a model and a labelled set to numbers; and as one of the evaluation's tasks.

Each split: choose its training items, start, train, test, keep; or read what came of it earlier.
"""

from __future__ import annotations

import copy
import re
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from seehear.config import Clip, Compute
from seehear.data.clips import Clips
from seehear.data.order import derive
from seehear.data.placing import MODALITIES
from seehear.errors import SettingsError
from seehear.evaluation.context import Evaluation
from seehear.evaluation.datasets import Split
from seehear.evaluation.finetuning.files import (
    Saver,
    encoders_digest,
    last_state,
    open_folder,
    read_finished,
    save_finished,
    set_digest,
    split_folder,
    tidied,
)
from seehear.evaluation.finetuning.settings import PREFIX, Finetune, finetune_settings
from seehear.evaluation.finetuning.testing import (
    ItemScores,
    intervals,
    item_scores,
    mean_values,
    values_of,
    with_unread,
)
from seehear.evaluation.finetuning.training import (
    learn_classes,
    lesson_of,
    rows_of,
    starting_pair,
    training_items,
)
from seehear.evaluation.sets import LabelledSet
from seehear.machine import distributed
from seehear.machine.console import Console, Count
from seehear.machine.devices import Numerics, choose, find_device, set_threads
from seehear.machine.locks import one_writer
from seehear.method.encoders import Pair
from seehear.method.learning import Learning
from seehear.method.state import State
from seehear.models.model import Model
from seehear.runs.saving import naming


@dataclass(frozen=True)
class Job:
    """What is the same for all splits."""

    model: Model
    data: LabelledSet
    clips: Clips
    settings: Finetune
    numerics: Numerics
    seed: int
    low_shot: int | None
    scratch: bool
    out: Path
    console: Console


def evaluate_finetune(
    context: Evaluation,
    *,
    preset: str = "default",
    frames: int | None = None,
    freeze: bool = False,
    scratch: bool = False,
    low_shot: int | Sequence[int] = (),
    resume: bool = False,
    overwrite: bool = False,
    changes: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Train the encoders with a new head on the classes, and score the test items.

    Args:
        context: the model and the set. Checkpoints go to a folder in `context.results`.
        preset: "default" or another of `PRESETS`.
        frames: in a clip; by default as the preset says.
        freeze: train the head alone.
        scratch: start from new random weights.
        low_shot: train on so many examples of each class, one number.
        resume: go on after the last checkpoint.
        overwrite: begin anew where a fine-tune is.
        changes: further settings by name, with or without "finetune.".
    Returns:
        As `finetune`, and "variant": what distinguishes it from a fine-tune without these options.
    """
    counts = [low_shot] if isinstance(low_shot, int) else list(low_shot)
    if len(counts) > 1:
        what = f"--low-shot is {counts}"
        raise SettingsError(f"{what}. A fine-tune takes one number; run it once for each.")
    given = {"frames": frames, "freeze": freeze or None, "clips": context.num_clips}
    wanted = {PREFIX + name.removeprefix(PREFIX): v for name, v in (changes or {}).items()}
    wanted |= {PREFIX + name: value for name, value in given.items() if value is not None}
    settings = finetune_settings(preset, wanted)
    variant = [] if preset == "default" else [preset]
    variant += [f"{settings.frames}-frames"] if frames is not None else []
    variant += [f"{counts[0]}-shot"] if counts else []
    variant += ["frozen"] * settings.freeze + ["scratch"] * scratch
    name = "-".join(["finetune", *variant, re.sub(r"[^\w.-]", "_", context.data.name)])
    out = context.results / name
    with ExitStack() as held:  # by the first rank, which writes
        distributed.on_rank_zero(lambda: held.enter_context(one_writer(out, inside=True)))
        found = finetune(
            context.model,
            context.data,
            out,
            settings,
            seed=context.seed,
            device=str(context.model.numerics.device),
            resume=resume,
            overwrite=overwrite,
            low_shot=counts[0] if counts else None,
            scratch=scratch,
            console=context.console,
        )
    clips = {**found.pop("clip"), "per_item": settings.clips}
    return {**found, "preset": preset, "variant": variant, "clips": clips}


def finetune(
    model: Model,
    data: LabelledSet,
    out: Path,
    settings: Finetune,
    *,
    seed: int = 0,
    device: str = "auto",
    resume: bool = False,
    overwrite: bool = False,
    low_shot: int | None = None,
    scratch: bool = False,
    clips: Clips | None = None,
    console: Console,
) -> dict[str, Any]:
    """Train the encoders of a model on the training items of each split, and score its test items.

    Ranks call it alike, learn from every batch together and divide the test items; the first writes
    to `out`, which all must see.

    Args:
        model: the encoders; they stay as they are.
        data: items with classes and splits.
        out: the fine-tune's folder.
        settings: from `finetune_settings`.
        seed: decides heads, order, draws, the low-shot choice, and new weights.
        device: "auto", "cpu", "cuda", ...
        resume: go on after the last checkpoint in `out`, with the same settings, data and encoders.
        overwrite: remove the fine-tune at `out` first.
        low_shot: train on so many items of each class, drawn from the seed.
        scratch: the same architecture with new random weights, with the same budget.
        clips: clips of the same rows, clip settings and seed, to share decoded segments.
        console: where progress is shown.
    Returns:
        "values": modality -> top1, top1_interval, clip_top1 and, with more than 5 classes, top5 and
        clip_top5, means over splits in [0, 1] (map and map_interval where items have several
        classes); "splits", "protocol", "settings".
    Raises:
        SettingsError: the model has no encoder for what the data has, or settings that do not fit.
        RunError: `out` is there already, or, to resume, was made with other settings.
        TrainingError: losses that are not finite, or too many rows that cannot be read.
    """
    modalities = tuple(m for m in MODALITIES if m in data.modalities and m in model.pair.encoders)
    check(model, data, settings, modalities, low_shot)
    clip = replace(model.clip, frames=settings.frames or model.clip.frames)
    record = {"settings": asdict(settings), "seed": seed, "low_shot": low_shot, "scratch": scratch}
    record |= {"modalities": list(modalities), "data": set_digest(data), "clip": asdict(clip)}
    record |= {"model": encoders_digest(model.pair, modalities)}
    set_threads(Compute(threads=settings.threads))
    probe = partial(numerics_for, settings, model.pair, clip, device, modalities)
    numerics = opened(out, record, probe, device, resume=resume, overwrite=overwrite)
    if clips is not None:
        assert (clips.clip, clips.seed, clips.modalities) == (clip, seed, modalities)
    clips = clips or Clips(data.index, clip, settings.data, seed, modalities)
    if not clips.cached:
        clips.fill(console.watch("decoding segments", len(clips)))
    job = Job(model, data, clips, settings, numerics, seed, low_shot, scratch, out, console)
    return outcome(job, [run_split(job, number, split) for number, split in enumerate(data.splits)])


def opened(
    out: Path,
    record: dict[str, Any],
    probe: Callable[[], Numerics],
    device: str,
    *,
    resume: bool,
    overwrite: bool,
) -> Numerics:
    """Make or take up the folder, on rank 0; the recorded numerics, on this rank's device."""

    def work() -> dict[str, Any]:
        found = {} if resume else {"numerics": probe().describe()}
        return open_folder(out, record | found, resume=resume, overwrite=overwrite)["numerics"]  # type: ignore[no-any-return]

    numerics = Numerics.from_record(distributed.on_rank_zero(work))
    return (
        replace(numerics, device=find_device(device)) if distributed.world_size() > 1 else numerics
    )


def run_split(job: Job, number: int, split: Split) -> tuple[ItemScores, dict[str, Any]]:
    """Train and test on one split, on all ranks, or read what an earlier call came to."""
    folder, cfg, seed = split_folder(job.out, number), job.settings, derive(job.seed, number)
    if distributed.on_rank_zero(lambda: tidied(folder)):
        return read_finished(folder)
    begin, name = time.perf_counter(), f"split {split.name}"
    train, kept_out = training_items(job.data, split, job.low_shot, cfg.heldout_share, seed)
    lesson = lesson_of(job.data, job.clips, cfg, job.numerics, train, kept_out, name)
    state = State(
        starting_pair(job.model.pair, lesson, scratch=job.scratch, seed=seed), job.numerics
    )
    kept = last_state(folder)
    if kept is not None:
        state.load_state_dict(kept)
    saver = Saver(folder, state, lesson, job.console)
    count = job.console.watch(f"{name}: training", lesson.steps * lesson.batch_size)
    with naming(saver.last_good):
        for now in learn_classes(state, lesson):
            count(now.done)
            saver.after(now)
    job.clips.failures.clear()  # what follows is counted for the test items alone
    progress = job.console.watch(f"{name}: testing", len(rows_of(job.data, split.test)) * cfg.clips)
    found = with_unread(scored(job, state.pair, split.test, progress), split.test)
    result = {
        "split": split.name,
        "values": values_of(found, job.data.target_V),
        "n_train": len(train),
        "n_test": len(found.items),
        "n_clips": found.clips,
        "unreadable": distributed.sum_counters(job.clips.failures),
        "steps": state.learning.steps,
        "skipped": state.learning.skipped,
        "history": passes(state.learning),
        "seconds": round(time.perf_counter() - begin, 1),
    }
    validation = scored(job, state.pair, split.validation) if len(split.validation) else None
    if validation is not None and len(validation.items):
        result["validation"] = values_of(validation, job.data.target_V)
    info = {**job.model.info, "classes": list(job.data.classes), "multilabel": job.data.multilabel}
    about = {"data": job.data.name, "split": split.name, "scratch": job.scratch}
    info["finetuned"] = {**about, "settings": asdict(cfg)}
    pair, clip = state.pair, job.clips.clip
    distributed.on_rank_zero(lambda: save_finished(folder, pair, info, clip, found, result))
    return found, result


def scored(
    job: Job, pair: Pair, items: np.ndarray, progress: Count = lambda done: None
) -> ItemScores:
    """Test some items as the settings say."""
    rows, num_clips = rows_of(job.data, items), job.settings.clips
    return item_scores(pair, job.clips, job.numerics, job.data, rows, num_clips, progress)


def outcome(job: Job, done: Sequence[tuple[ItemScores, dict[str, Any]]]) -> dict[str, Any]:
    """The mean over splits of what each came to, and how it came about."""
    values = mean_values([result["values"] for _, result in done])
    for modality, entry in values.items():
        entry |= intervals([found for found, _ in done], job.data, modality, job.seed)
    return {
        "values": values,
        "splits": [result for _, result in done],
        "protocol": protocol(job),
        "settings": asdict(job.settings),
        "seed": job.seed,
        "low_shot": job.low_shot,
        "scratch": job.scratch,
        "freeze": job.settings.freeze,
        "numerics": job.numerics.describe(),
        "clip": asdict(job.clips.clip),
        "folder": str(job.out),
    }


def protocol(job: Job) -> str:
    """What was done, in one sentence."""
    cfg, clip = job.settings, job.clips.clip
    what = "a linear head on frozen encoders" if cfg.freeze else "encoders and a linear head"
    start = "new random weights" if job.scratch else "pretrained weights"
    few = f" on {job.low_shot} example(s) a class" if job.low_shot else ""
    steps = f" of {cfg.epoch_steps} steps" if cfg.epoch_steps else ""
    parts = f" in {cfg.batch_parts} parts" if cfg.batch_parts > 1 else ""
    turn = f"step (a tenth every {cfg.step_epochs})" if cfg.schedule == "step" else cfg.schedule
    crop = f"crop {clip.crop_pixels} of {clip.short_side_pixels} pixels"
    inputs = {
        "video": f"{clip.frames} frames at {clip.frame_rate_hz:g} Hz, {crop}",
        "audio": f"{clip.sound_seconds:g} s of sound",
    }
    taken = " and ".join(inputs[m] for m in job.clips.modalities)
    average = "sigmoid" if job.data.multilabel else "softmax"
    return (
        f"{what} trained from {start}{few}, {cfg.epochs} epochs{steps} ({cfg.optimizer}, learning "
        f"rate {cfg.lr:g}, {turn}, warm-up {cfg.warmup_share:g}, weight decay "
        f"{cfg.weight_decay:g}, batch {cfg.batch_size}{parts}), {job.numerics.precision}; {taken}; "
        f"{average} scores of {cfg.clips} centre-cropped clip(s) an item averaged; items that "
        "cannot be read count as wrong; mean over split(s) "
        f"{', '.join(s.name for s in job.data.splits)}; the number of epochs is fixed, nothing is "
        "chosen on a test part"
    )


def passes(learning: Learning) -> list[dict[str, Any]]:
    """Loss and accuracy of each pass over the training clips, of items kept out too."""
    keys = ("loss", "accuracy", "heldout_loss", "heldout_accuracy")
    lists = {key: by_modality for key in keys if (by_modality := getattr(learning, key))}
    return [
        {"pass": number + 1}
        | {key: {m: values[number] for m, values in of.items()} for key, of in lists.items()}
        for number in range(learning.epochs)
    ]


def numerics_for(
    settings: Finetune, pair: Pair, clip: Clip, device: str, modalities: tuple[str, ...]
) -> Numerics:
    """Device, precision and layout; probed where they are "auto", fp32 for sound alone."""
    compute = Compute(device, settings.precision, settings.memory_format)
    if "video" not in modalities:
        compute = Compute(device, "bf16" if settings.precision == "bf16" else "fp32", "contiguous")
    return choose(compute, copy.deepcopy(pair).cpu(), clip)


def check(
    model: Model,
    data: LabelledSet,
    settings: Finetune,
    modalities: tuple[str, ...],
    low_shot: int | None,
) -> None:
    """Raise SettingsError for what cannot be done."""
    if not modalities:
        there, served = (" and ".join(some) for some in (model.pair.encoders, data.modalities))
        what = f"{data.name} serves {served}, and the model has encoders for {there} only"
        raise SettingsError(f"{what}.")
    if low_shot is not None and low_shot < 1:
        what = f"low_shot is {low_shot}"
        raise SettingsError(f"{what}. It must be at least 1; 1, 5, 10, 20 are usual.")
    several = f"tems of {data.name} have several classes"
    if low_shot is not None and data.multilabel:
        raise SettingsError(f"I{several}, so --low-shot cannot choose so many of each.")
    if settings.label_smoothing and data.multilabel:
        what = f"finetune.label_smoothing is {settings.label_smoothing:g}, and i{several}"
        raise SettingsError(f"{what}. Set it to 0.")
