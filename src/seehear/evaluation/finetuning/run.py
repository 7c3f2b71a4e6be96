"""One fine-tune, from a model and a labelled set to numbers."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from seehear.config import Clip, Compute
from seehear.data.clips import Clips
from seehear.data.placing import MODALITIES
from seehear.errors import SettingsError
from seehear.evaluation.finetuning.files import encoders_digest, open_folder, set_digest
from seehear.evaluation.finetuning.results import intervals, protocol
from seehear.evaluation.finetuning.settings import Finetune
from seehear.evaluation.finetuning.splits import Job, run_split
from seehear.evaluation.finetuning.testing import ItemScores, mean_values
from seehear.evaluation.sets import LabelledSet
from seehear.machine import distributed
from seehear.machine.console import Console
from seehear.machine.devices import Numerics, choose, find_device, set_threads
from seehear.method.encoders import Pair
from seehear.models.model import Model


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
    clip = clip_of(model.clip, settings)
    record = {"settings": asdict(settings), "seed": seed, "low_shot": low_shot, "scratch": scratch}
    record |= {"modalities": list(modalities), "data": set_digest(data), "clip": asdict(clip)}
    record |= {"model": encoders_digest(model.pair, modalities)}
    set_threads(Compute(threads=settings.threads))
    probe = partial(numerics_for, settings, model.pair, clip, device, modalities)
    numerics = opened(out, record, probe, device, resume=resume, overwrite=overwrite)
    assert clips is None or (clips.clip, clips.seed, clips.modalities) == (
        clip,
        seed,
        modalities,
    ), "other clips"
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
    """Make or take up the folder, by the first rank; the numerics that its record holds, on this
    rank's device.
    """

    def work() -> dict[str, Any]:
        found = {} if resume else {"numerics": probe().describe()}
        return open_folder(out, record | found, resume=resume, overwrite=overwrite)["numerics"]  # type: ignore[no-any-return]

    numerics = Numerics.from_record(distributed.by_first(work))
    return (
        replace(numerics, device=find_device(device)) if distributed.world_size() > 1 else numerics
    )


def outcome(job: Job, done: Sequence[tuple[ItemScores, dict[str, Any]]]) -> dict[str, Any]:
    """The mean over splits of what each came to, and how it came about."""
    data, settings, clip = job.data, job.settings, job.clips.clip
    values = mean_values([result["values"] for _, result in done])
    for modality, entry in values.items():
        entry |= intervals([found for found, _ in done], data, modality, job.seed)
    return {
        "values": values,
        "splits": [result for _, result in done],
        "protocol": protocol(
            settings,
            clip,
            data,
            job.clips.modalities,
            job.numerics.precision,
            low_shot=job.low_shot,
            scratch=job.scratch,
        ),
        "settings": asdict(settings),
        "seed": job.seed,
        "low_shot": job.low_shot,
        "scratch": job.scratch,
        "freeze": settings.freeze,
        "numerics": job.numerics.describe(),
        "clip": asdict(clip),
        "folder": str(job.out),
    }


def clip_of(pretrained: Clip, settings: Finetune) -> Clip:
    """The clip of pretraining, with as many frames as the settings ask for."""
    return replace(pretrained, frames=settings.frames or pretrained.frames)


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
        raise SettingsError(
            f"{data.name} serves {' and '.join(data.modalities)}, and the model has encoders for "
            f"{' and '.join(model.pair.encoders)} only."
        )
    if low_shot is not None and low_shot < 1:
        raise SettingsError(
            f"low_shot is {low_shot}. It must be at least 1; 1, 5, 10, 20 are usual."
        )
    if low_shot is not None and data.multilabel:
        raise SettingsError(
            f"Items of {data.name} have several classes, so --low-shot cannot choose so many of "
            f"each."
        )
    if settings.label_smoothing and data.multilabel:
        raise SettingsError(
            f"finetune.label_smoothing is {settings.label_smoothing:g}, and items of {data.name} "
            f"have several classes. "
            f"Set it to 0."
        )
