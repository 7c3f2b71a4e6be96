"""Every knob of a fine-tune, and the presets with their sources.

A setting is changed by its name, `finetune.lr`, as those of pretraining are. A number that is from a publication says
which; all others are our choice, and the preset says so.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from seehear.config import Data, Train, override, setting
from seehear.errors import SettingsError

PREFIX = "finetune."

# What may differ when a fine-tune goes on: it changes no result.
FREE_ON_RESUME = frozenset({"finetune.workers", "finetune.threads", "finetune.max_failed_share"})


@dataclass(frozen=True)
class Finetune:
    """How encoders and a new head are trained on classes, and how they are tested."""

    frames: int = setting(0, "frames in a clip; 0: as many as in pretraining", low=0, usual="8 or 32")
    clips: int = setting(10, "test clips of an item, spread evenly, whose scores are averaged", low=1, high=1000)
    epochs: int = setting(10, "passes over the training clips, or turns of epoch_steps", low=1)
    epoch_steps: int = setting(
        0, "updates an epoch, in as many passes over the training clips as they take; 0: one pass", low=0
    )
    batch_size: int = setting(32, "clips a step", low=2)
    freeze: bool = setting(False, "train the head alone; the encoder and its batch norms stay as they are")
    optimizer: Literal["sgd", "adamw"] = setting("adamw", "sgd with momentum, or adamw")
    lr: float = setting(1e-3, "peak learning rate", low=0, usual="1e-4 to 1e-3 for adamw")
    momentum: float = setting(0.9, "of sgd", low=0, high=1)
    weight_decay: float = setting(0.01, "L2 penalty (sgd) or decay (adamw) of all but biases and batch norms", low=0)
    schedule: Literal["cosine", "step", "constant"] = setting("cosine", "learning rate over the whole fine-tune")
    step_epochs: int = setting(2, "with schedule step: a tenth of the learning rate after each so many epochs", low=1)
    warmup_share: float = setting(0.1, "share of all steps that lr rises over", low=0, high=1)
    label_smoothing: float = setting(0.0, "of the cross-entropy", low=0, high=1)
    heldout_share: float = setting(
        0.0, "share of the training items kept out, only to be looked at each epoch", low=0, high=0.5
    )
    precision: Literal["auto", "fp32", "bf16"] = setting("auto", "fp32, bf16 autocast, or the faster one (probed)")
    memory_format: Literal["auto", "contiguous", "channels_last"] = setting("auto", "layout of video, or probed")
    threads: int = setting(0, "CPU threads; 0: PyTorch's choice", low=0)
    workers: int = setting(-1, "decoding processes; -1: one a core", low=-1, high=1024)
    cache_gigabytes: float = setting(2.0, "keep decoded segments in memory when all of them fit", low=0)
    max_failed_share: float = setting(0.05, "stop when more than this share of rows cannot be read", low=0, high=1)

    @property
    def train(self) -> Train:
        """As the trainer's settings; the schedule "step" is constant there."""
        return Train(
            epochs=self.epochs,
            batch_size=self.batch_size,
            optimizer=self.optimizer,
            lr=self.lr,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
            schedule="cosine" if self.schedule == "cosine" else "constant",
            warmup_share=self.warmup_share,
            label_smoothing=self.label_smoothing,
        )

    @property
    def data(self) -> Data:
        """How clips get from files to the device."""
        return Data(workers=self.workers, cache_gigabytes=self.cache_gigabytes, max_failed_share=self.max_failed_share)


@dataclass(frozen=True)
class FinetunePreset:
    """Settings and where they are from."""

    settings: Finetune
    source: str


VMZ = (
    "VMZ's fine-tuning of R(2+1)D-34 on 32-frame clips: learning rate {lr} per GPU, 8 epochs, a tenth every 2, weight "
    "decay 5e-3, scores of 10 clips a video averaged. XDC used 32-frame clips for its headline and the same group's "
    "code, but did not publish its fine-tuning settings, so this is a hint and not XDC's recipe. Clips a GPU and clips "
    "an epoch are not known: batch 32 and one pass over the training clips are our choice, and so is a warm-up of 5 %."
)


def vmz(lr: float) -> Finetune:
    """VMZ's fine-tuning as far as it is known."""
    return Finetune(
        frames=32,
        epochs=8,
        optimizer="sgd",
        lr=lr,
        weight_decay=5e-3,
        schedule="step",
        step_epochs=2,
        warmup_share=0.05,
    )


PRESETS: dict[str, FinetunePreset] = {
    "default": FinetunePreset(
        Finetune(),
        "Our choice, for narrow encoders and small sets. Encoders of the published size want a learning rate of about "
        "1e-4.",
    ),
    "ucf101": FinetunePreset(vmz(1e-4), VMZ.format(lr="1e-4")),
    "hmdb51": FinetunePreset(vmz(2e-4), VMZ.format(lr="2e-4")),
    "esc50": FinetunePreset(
        Finetune(epochs=30, lr=3e-4, weight_decay=0.05),
        "Our choice. No fine-tuning of XDC's audio encoder on ESC-50 is published: its protocol there is a linear SVM "
        "on frozen features (`--task probe`).",
    ),
}


def finetune_settings(preset: str = "default", changes: Mapping[str, Any] | None = None) -> Finetune:
    """The settings of a preset with some changed, such as {"finetune.lr": 1e-3}; strings are converted.

    Raises:
        SettingsError: no such preset or setting (with the nearest), or a value that does not fit.
    """
    if preset not in PRESETS:
        near = difflib.get_close_matches(preset, PRESETS, n=1)
        hint = f"Did you mean {near[0]}? " if near else ""
        raise SettingsError(f"There is no preset {preset} for fine-tuning. {hint}Presets: {', '.join(PRESETS)}.")
    return override(PRESETS[preset].settings, changes or {}, PREFIX)
