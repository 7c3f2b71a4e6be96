"""What is told of a fine-tune? How sure its numbers are, how they came about, and how far it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from seehear.config import Clip
from seehear.evaluation.classifiers import in_top, interval, map_interval
from seehear.evaluation.finetuning.settings import Finetune
from seehear.evaluation.finetuning.testing import ItemScores, ks
from seehear.evaluation.sets import LabelledSet
from seehear.method.learning import Learning


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
    parts = f" in {cfg.batch_parts} parts" if cfg.batch_parts > 1 else ""
    turn = f"step (a tenth every {cfg.step_epochs})" if cfg.schedule == "step" else cfg.schedule
    frames = (
        f"{clip.frames} frames at {clip.frame_rate_hz:g} Hz, crop {clip.crop_pixels} of "
        f"{clip.short_side_pixels} pixels"
    )
    inputs = {"video": frames, "audio": f"{clip.sound_seconds:g} s of sound"}
    taken = " and ".join(inputs[m] for m in modalities)
    average = "sigmoid" if data.multilabel else "softmax"
    return (
        f"{what} trained from {start}{few}, {cfg.epochs} epochs{steps} ({cfg.optimizer}, learning "
        f"rate {cfg.lr:g}, "
        f"{turn}, warm-up {cfg.warmup_share:g}, weight decay {cfg.weight_decay:g}, batch "
        f"{cfg.batch_size}{parts}), "
        f"{precision}; {taken}; {average} scores of {cfg.clips} centre-cropped clip(s) an item "
        f"averaged; "
        f"items that cannot be read count as wrong; "
        f"mean over split(s) {', '.join(s.name for s in data.splits)}; the number of epochs is "
        f"fixed, nothing is "
        f"chosen on a test part"
    )


def intervals(
    found: list[ItemScores], data: LabelledSet, modality: str, seed: int
) -> dict[str, Any]:
    """95 % intervals by bootstrap over test items: of top-k, or of the mean average precision of a
    single split.
    """
    if data.multilabel:
        one = map_interval(found[0].scores[modality], data.target_V[found[0].items], seed=seed)
        return {"map_interval": list(one)} if one is not None and len(found) == 1 else {}
    return {
        f"top{k}_interval": list(
            interval(
                [
                    (f.items, in_top(f.scores[modality], data.target_V[f.items], k).astype(float))
                    for f in found
                ],
                seed=seed,
            )
        )
        for k in ks(len(data.classes))
    }


def passes(learning: Learning) -> list[dict[str, Any]]:
    """What was seen in each pass over the training clips: loss and accuracy by modality, and of
    items kept out.
    """
    keys = ("loss", "accuracy", "heldout_loss", "heldout_accuracy")
    lists = {key: by_modality for key in keys if (by_modality := getattr(learning, key))}
    return [
        {"pass": number + 1}
        | {key: {m: values[number] for m, values in of.items()} for key, of in lists.items()}
        for number in range(learning.epochs)
    ]


def progress_line(name: str, step: int, steps: int, learning: Learning) -> str:
    """How far training is, in one line, for a person: loss and accuracy of the last whole pass."""
    parts = [f"{name}: {step} of {steps} steps"]
    for modality, losses in learning.loss.items():
        parts.append(
            f"{modality} loss {losses[-1]:.2f}, accuracy {learning.accuracy[modality][-1]:.0%}"
        )
    for modality, values in learning.heldout_accuracy.items():
        parts.append(f"{modality} held out {values[-1]:.0%}")
    return "  ".join(parts)
