"""What is told of a fine-tune? How sure its numbers are, how they came about, and an epoch in one line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from seehear.config import Clip
from seehear.evaluation.classifiers import in_top, interval, map_interval
from seehear.evaluation.finetuning.settings import Finetune
from seehear.evaluation.finetuning.testing import ItemScores, ks
from seehear.evaluation.sets import LabelledSet


def protocol(
    cfg: Finetune,
    clip: Clip,
    data: LabelledSet,
    modalities: Sequence[str],
    precision: str,
    *,
    low_shot: int | None,
    scratch: bool,
) -> str:
    """What was done, in one sentence."""
    what = "a linear head on frozen encoders" if cfg.freeze else "encoders and a linear head"
    start = "new random weights" if scratch else "pretrained weights"
    few = f" on {low_shot} example(s) a class" if low_shot else ""
    steps = f" of {cfg.epoch_steps} steps" if cfg.epoch_steps else ""
    turn = f"step (a tenth every {cfg.step_epochs})" if cfg.schedule == "step" else cfg.schedule
    frames = (
        f"{clip.frames} frames at {clip.frame_rate_hz:g} Hz, crop {clip.crop_pixels} of {clip.short_side_pixels} pixels"
    )
    inputs = {"video": frames, "audio": f"{clip.sound_seconds:g} s of sound"}
    taken = " and ".join(inputs[m] for m in modalities)
    average = "sigmoid" if data.multilabel else "softmax"
    return (
        f"{what} trained from {start}{few}, {cfg.epochs} epochs{steps} ({cfg.optimizer}, learning rate {cfg.lr:g}, "
        f"{turn}, warm-up {cfg.warmup_share:g}, weight decay {cfg.weight_decay:g}, batch {cfg.batch_size}), "
        f"{precision}; {taken}; {average} scores of {cfg.clips} centre-cropped clip(s) an item averaged; "
        f"items that cannot be read count as wrong; "
        f"mean over split(s) {', '.join(s.name for s in data.splits)}; the number of epochs is fixed, nothing is "
        f"chosen on a test part"
    )


def intervals(found: list[ItemScores], data: LabelledSet, modality: str, seed: int) -> dict[str, Any]:
    """95 % intervals by bootstrap over test items: of top-k, or of the mean average precision of a single split."""
    if data.multilabel:
        one = map_interval(found[0].scores[modality], data.target_V[found[0].items], seed=seed)
        return {"map_interval": list(one)} if one is not None and len(found) == 1 else {}
    return {
        f"top{k}_interval": list(
            interval(
                [(f.items, in_top(f.scores[modality], data.target_V[f.items], k).astype(float)) for f in found],
                seed=seed,
            )
        )
        for k in ks(len(data.classes))
    }


def epoch_line(entry: Mapping[str, Any], split: str, epochs: int) -> str:
    """An epoch in one line, for a person."""
    parts = [f"split {split}, epoch {entry['epoch']}/{epochs}"]
    parts += [f"{m}: loss {entry['loss'][m]:.2f}, accuracy {entry['accuracy'][m]:.0%}" for m in entry["loss"]]
    for modality, values in entry.get("heldout", {}).items():
        parts.append(f"{modality} held out " + ", ".join(f"{k} {v:.0%}" for k, v in values.items() if k[:4] != "clip"))
    return "  ".join(parts)
