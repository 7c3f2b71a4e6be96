"""Every knob of a fine-tune, and the presets with their sources.

A setting is changed by its name, `finetune.lr`, as those of pretraining are. A number that is from
a publication says which; all others are our choice, and the preset says so.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from seehear.config import Data, Train, override, setting
from seehear.errors import SettingsError

PREFIX = "finetune."

# What may differ when a fine-tune goes on: it changes no result.
FREE_ON_RESUME = {
    f"{PREFIX}{name}"
    for name in ("workers", "threads", "max_failed_share", "checkpoint_activations")
} | {f"{PREFIX}checkpoint_minutes"}


@dataclass(frozen=True)
class Finetune:
    """How encoders and a new head are trained on classes, and how they are tested."""

    frames: int = setting(
        0, "frames in a clip; 0: as many as in pretraining", low=0, usual="8 or 32"
    )
    clips: int = setting(
        10, "test clips of an item, spread evenly, whose scores are averaged", low=1, high=1000
    )
    epochs: int = setting(10, "passes over the training clips, or turns of epoch_steps", low=1)
    epoch_steps: int = setting(
        0,
        "updates an epoch, in as many passes over the training clips as they take; 0: one pass",
        low=0,
    )
    batch_size: int = setting(32, "clips a step, over all ranks together", low=2)
    batch_parts: int = setting(
        1, "cut a batch into at least so many parts, one after another or on ranks", low=1
    )
    freeze: bool = setting(
        False, "train the head alone; the encoder and its batch norms stay as they are"
    )
    optimizer: Literal["sgd", "adamw"] = setting("adamw", "sgd with momentum, or adamw")
    lr: float = setting(1e-3, "peak learning rate", low=0, usual="1e-4 to 1e-3 for adamw")
    momentum: float = setting(0.9, "of sgd", low=0, high=1)
    weight_decay: float = setting(
        0.01, "L2 penalty (sgd) or decay (adamw) of all but biases and batch norms", low=0
    )
    schedule: Literal["cosine", "step", "constant"] = setting(
        "cosine", "learning rate over the whole fine-tune"
    )
    step_epochs: int = setting(
        2, "with schedule step: a tenth of the learning rate after each so many epochs", low=1
    )
    warmup_share: float = setting(0.1, "share of all steps that lr rises over", low=0, high=1)
    label_smoothing: float = setting(0.0, "of the cross-entropy", low=0, high=1)
    heldout_share: float = setting(
        0.0,
        "share of the training items kept out, only to be looked at each epoch",
        low=0,
        high=0.5,
    )
    precision: Literal["auto", "fp32", "bf16"] = setting(
        "auto", "fp32, bf16 autocast, or the faster one (probed)"
    )
    memory_format: Literal["auto", "contiguous", "channels_last"] = setting(
        "auto", "of video: contiguous, channels_last, or the faster one (probed)"
    )
    checkpoint_activations: bool = setting(
        False,
        "compute activations of the video encoder again in the backward pass: less memory, about "
        "1/3 more time",
    )
    checkpoint_minutes: float = setting(
        10.0, "save when so many minutes have passed; 0: after each step", low=0
    )
    threads: int = setting(0, "CPU threads; 0: PyTorch's choice", low=0)
    workers: int = setting(-1, "decoding processes; -1: one a core", low=-1, high=1024)
    cache_gigabytes: float = setting(
        2.0, "keep decoded segments in memory when all of them fit", low=0
    )
    max_failed_share: float = setting(
        0.05, "stop when more than this share of rows cannot be read", low=0, high=1
    )

    @property
    def train(self) -> Train:
        """As the trainer's settings; epochs and learning rates are `training.learn_classes`'s."""
        return Train(
            batch_size=self.batch_size,
            batch_parts=self.batch_parts,
            optimizer=self.optimizer,
            lr=self.lr,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
            label_smoothing=self.label_smoothing,
            uniform_clusters=False,
            heldout_share=0.0,  # rows are kept out by item
        )

    @property
    def data(self) -> Data:
        """How clips get from files to the device."""
        return Data(
            workers=self.workers,
            cache_gigabytes=self.cache_gigabytes,
            max_failed_share=self.max_failed_share,
        )


@dataclass(frozen=True)
class FinetunePreset:
    """Settings and their sources: confirmed for XDC, in VMZ's scripts, or our choice."""

    settings: Finetune
    source: str


VMZ = (
    "Confirmed for XDC: the whole network is fine-tuned, accuracy is that of videos, and a result "
    "is the mean over the official splits. {frames} From VMZ, the code that XDC's repository names "
    "for fine-tuning (its script for R(2+1)D-34 on {data}): 8 GPUs of 4 clips each; the rate "
    "{lr_per_gpu} times the number of GPUs; {clips:,} clips an epoch, 8 epochs, a tenth every 2, "
    "no warm-up; weight decay 5e-3; scores of 10 clips a video averaged. XDC's own fine-tuning "
    "settings are in the paper's supplement, which we could not read. Our choice: weight decay "
    "spares biases and batch norms."
)
HEADLINE = "Confirmed, too: 32 frames a clip for the headline numbers."
STUDY = "8 frames a clip, as recalled from the paper's studies, not checked; VMZ's script has 32."


def vmz(
    data: str, frames: int, source: str, *, lr_per_gpu: str, epoch_steps: int
) -> FinetunePreset:
    """VMZ's fine-tuning: 32 clips a step, of which batch norm sees 4 at a time, as on 8 GPUs."""
    settings = Finetune(
        frames=frames,
        epochs=8,
        epoch_steps=epoch_steps,
        batch_size=32,
        batch_parts=8,
        optimizer="sgd",
        lr=8 * float(lr_per_gpu),
        weight_decay=5e-3,
        schedule="step",
        step_epochs=2,
        warmup_share=0.0,
    )
    clips = 32 * epoch_steps
    return FinetunePreset(
        settings, VMZ.format(data=data, lr_per_gpu=lr_per_gpu, clips=clips, frames=source)
    )


on_ucf101 = partial(vmz, "UCF101", lr_per_gpu="1e-4", epoch_steps=3125)
on_hmdb51 = partial(vmz, "HMDB51", lr_per_gpu="2e-4", epoch_steps=1250)

PRESETS: dict[str, FinetunePreset] = {
    "default": FinetunePreset(
        Finetune(),
        "Our choice, for narrow encoders and small sets. Encoders of the published size want a "
        "learning rate of about 1e-4.",
    ),
    "ucf101": on_ucf101(32, HEADLINE),
    "ucf101-8frames": on_ucf101(8, STUDY),
    "hmdb51": on_hmdb51(32, HEADLINE),
    "hmdb51-8frames": on_hmdb51(8, STUDY),
    "kinetics-linear": FinetunePreset(
        Finetune(epochs=15, batch_size=256, freeze=True, weight_decay=1e-4, warmup_share=0.0),
        "Confirmed for XDC: nothing of these settings. From VMZ: scores of 10 clips a video "
        "averaged. Our choice: all else. The encoders stay as they are, and a linear head learns "
        "to name the classes of 240,000 videos or so.",
    ),
    "esc50": FinetunePreset(
        Finetune(epochs=30, lr=3e-4, weight_decay=0.05),
        "Our choice. We know of no fine-tuning of XDC's audio encoder on ESC-50: its protocol "
        "there, as recalled and not checked, is a linear SVM on frozen features (`--task probe`).",
    ),
}


def finetune_settings(
    preset: str = "default", changes: Mapping[str, Any] | None = None
) -> Finetune:
    """The settings of a preset with changes such as {"finetune.lr": 1e-3}, as text perhaps.

    Raises:
        SettingsError: no such preset or setting (with the nearest), or a value that does not fit.
    """
    if preset not in PRESETS:
        near = difflib.get_close_matches(preset, PRESETS, n=1)
        hint = f"Did you mean {near[0]}? " if near else ""
        what = f"There is no preset {preset} for fine-tuning"
        raise SettingsError(f"{what}. {hint}Presets: {', '.join(PRESETS)}.")
    return override(PRESETS[preset].settings, changes or {}, PREFIX)
