"""Which trained encoders does a run start from? What it records of them, and when it reads them.

Their weights are read where there is no checkpoint yet, and from then on are in the checkpoints; so
what `run.json` records of them is what rebuilds them, and a digest of their weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from seehear.config import INPUT, SHAPES, Encoders, Settings, differences, override
from seehear.data.placing import MODALITIES
from seehear.errors import RunError, SettingsError, UsageError
from seehear.machine import distributed
from seehear.method.encoders import Pair
from seehear.method.encoders.building import build_pair
from seehear.models.files import described
from seehear.models.model import Model, load, name_of, of_senses
from seehear.presets import preset_settings
from seehear.runs.folder import Run

STARTS = ("start", "variant")  # settings that say where to start, and what contradicts them
# what an encoder can do with other clips than those it was trained on; else it fixes them
FREE = (*INPUT["video"], "sound_seconds")


def start_of(cfg: Settings, base: Settings) -> Model | None:
    """The trained encoders that settings name, all else as in `base`; None where both are new."""
    given = cfg.start.given
    opened = {name: load(name, device="cpu") for name in dict.fromkeys(given.values())}
    for modality, name in given.items():
        if modality not in opened[name].modalities:
            raise UsageError(f"start.{modality} is {name}, which has no {modality} encoder.")
    return of_senses({m: opened[name] for m, name in given.items()}, base) if given else None


def settings_from(preset: str, changes: Mapping[str, Any]) -> tuple[Settings, Model | None]:
    """A new run's settings, and the trained encoders that it starts from.

    Raises:
        SettingsError: changes that those encoders cannot take.
    """
    base = preset_settings(preset)
    named = {name: value for name, value in changes.items() if name.split(".")[0] in STARTS}
    model = start_of(override(base, named), base)
    if model is not None:
        base = replace(base, clip=model.clip, encoders=Encoders(**model.info["encoders"]))
    cfg = override(base, changes)
    if model is not None:
        check_taken(cfg, base, model)
    return cfg, model


def check_taken(cfg: Settings, base: Settings, model: Model) -> None:
    """Raise SettingsError where trained encoders cannot take what a run's clips are."""
    for modality, source in cfg.start.given.items():
        mine = SHAPES[modality] + INPUT[modality]
        changes = differences(base, cfg).items()
        changed = {name: both for name, both in changes if name.split(".")[-1] in mine}
        for name, (old, new) in changed.items():
            if name.split(".")[-1] not in FREE:
                raise SettingsError(
                    f"{name} is {new}, and the {modality} encoder of {source} has {old}. Leave it "
                    f"out."
                )
        if changed:
            try_clip(replace(model, clip=cfg.clip), modality, source)


def try_clip(model: Model, modality: str, source: str) -> None:
    """Raise SettingsError where an encoder cannot take a clip, by giving it one."""
    c = model.clip
    what = f"{c.frames} frames of {c.crop_pixels}x{c.crop_pixels}, {c.sound_seconds:g} s of sound"
    samples = round(c.sound_seconds * c.sample_rate_hz)
    shapes = {"video": (3, c.frames, c.crop_pixels, c.crop_pixels), "audio": (samples,)}
    try:
        getattr(model, modality)(torch.zeros(1, *shapes[modality]))
    except (RuntimeError, ValueError, IndexError) as error:
        reason = str(error).strip().splitlines()[0]
        raise SettingsError(
            f"The {modality} encoder of {source} cannot take clips of {what} ({reason}). Leave "
            f"out what changes its clips."
        ) from None


def pair_of_run(run: Run, cfg: Settings) -> Pair:
    """Encoders of the shapes that a run trains: new ones, and random ones in place of trained."""
    if not cfg.start.given:
        return build_pair(cfg)
    found = dict(described(run.field("start"), run.path / "run.json").build().encoders)
    if new := [modality for modality in MODALITIES if modality not in found]:
        found |= dict(build_pair(cfg, new).encoders)
    return Pair(**{m: found[m] for m in MODALITIES})


def same_start(run: Run, cfg: Settings) -> Model | None:
    """The trained encoders that a run starts from, with the weights that it began with."""
    model = start_of(cfg, cfg)
    if model is not None and model.digest != run.field("start", "weights"):
        raise RunError(
            f"{name_of(model)} has other weights than when the run at {run.path} began. Leave "
            f"start out to go on with what the run has learned since, if it has, or choose another "
            f"--out."
        )
    return model


def begin_from(run: Run, cfg: Settings, pair: Pair) -> None:
    """Give a pair, on all ranks, the weights of the trained encoders that a run starts from."""

    def fill() -> None:
        if model := same_start(run, cfg):
            for modality, encoder in model.pair.encoders.items():
                pair.encoders[modality].load_state_dict(encoder.state_dict())

    if cfg.start.given:
        distributed.on_rank_zero(fill)
        distributed.broadcast_module(pair)
