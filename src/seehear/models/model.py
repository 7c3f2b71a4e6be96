"""What can be done with trained encoders, ours or others'?

    model = seehear.load("runs/mine")
    features_BD = model.video(frames)      # (B, 3, T, H, W) uint8, or float in [0, 1]
    features_BD = model.audio(waveform)    # (B, L) float in [-1, 1] at model.clip.sample_rate_hz

`load` opens a run, an `encoders/` folder (`files`), released weights by name or file (`released`),
and networks of Hugging Face (`huggingface`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from seehear.config import SHAPES, Clip, Encoders, Settings
from seehear.data.placing import MODALITIES
from seehear.errors import RunError, UsageError
from seehear.machine.devices import Numerics, find_device
from seehear.machine.tensors import check_values
from seehear.method.encoders import Pair
from seehear.method.features import audio_input
from seehear.models.converting import open_checkpoint
from seehear.models.fetching import fetch
from seehear.models.files import load_encoders, record_of
from seehear.models.huggingface import PREFIX, huggingface_encoders
from seehear.models.matching import Matching
from seehear.models.released import RELEASED, suggestion

DIGEST_DIGITS = 12  # of a SHA-256 in hexadecimal


@dataclass(frozen=True)
class Model:
    """Trained encoders, for one or both modalities, and what they take.

    Args:
        pair: the encoders, without heads, in evaluation mode.
        clip: frames, rate, crop and sound that they were trained on.
        numerics: where and how precisely they run.
        info: what `encoders.json` says of their origin.
        matching: compares sights with sounds, for the encoders of a run.
        run: the folder of the run that they are of, if they are of one.
    """

    pair: Pair
    clip: Clip
    numerics: Numerics
    info: dict[str, Any]
    matching: Matching | None = None
    run: Path | None = None

    @property
    def modalities(self) -> tuple[str, ...]:
        """Which of "video" and "audio" the model has an encoder for."""
        return self.pair.modalities

    @cached_property
    def digest(self) -> str:
        """What these weights are: the first 12 digits of a SHA-256 over all of them by name."""
        digest = hashlib.sha256()
        state = self.pair.encoders.state_dict()
        for key in sorted(state):
            array = state[key].detach().cpu().contiguous()
            digest.update(f"{key} {array.dtype} {tuple(array.shape)}\n".encode())
            if array.numel():
                digest.update(array.view(-1).view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()[:DIGEST_DIGITS]

    @torch.inference_mode()
    def video(self, frames_BCTHW: Tensor) -> Tensor:
        """Frames -> features (B, D), float32.

        Args:
            frames_BCTHW: (B, 3, T, H, W) RGB, uint8 in 0..255 or float in [0, 1]; T, H and W are
                free, but features are best at the `clip.frames` and `clip.crop_pixels` of training.
        Raises:
            ValueError: another shape.
            UsageError: the model has no video encoder.
        """
        encoder = self._encoder("video")
        if frames_BCTHW.ndim != 5 or frames_BCTHW.shape[1] != 3:
            raise ValueError(
                f"frames have shape {tuple(frames_BCTHW.shape)}. It must be (B, 3, T, H, W)."
            )
        with self.numerics.autocast():
            features: Tensor = encoder(self.numerics.arrange(frames_BCTHW.to(self.numerics.device)))
        return features.float()

    @torch.inference_mode()
    def audio(self, waveform_BL: Tensor) -> Tensor:
        """Mono waveforms (B, L) in [-1, 1] at `clip.sample_rate_hz` -> features (B, D), float32.

        Raises:
            ValueError: another shape.
            UsageError: the model has no audio encoder.
        """
        encoder = self._encoder("audio")
        if waveform_BL.ndim != 2:
            raise ValueError(
                f"waveform has shape {tuple(waveform_BL.shape)}. It must be (B, samples), mono."
            )
        inputs = audio_input(waveform_BL.to(self.numerics.device), self.clip, self.pair)
        with self.numerics.autocast():
            features: Tensor = encoder(inputs)
        return features.float()

    def _encoder(self, modality: str) -> torch.nn.Module:
        if modality not in self.modalities:
            raise UsageError(
                f"{name_of(self)} has no {modality} encoder, only one for "
                f"{' and '.join(self.modalities)}."
            )
        return self.pair.encoders[modality]


def load(path: str | Path, *, device: str = "auto") -> Model:
    """Trained encoders, ready to be called.

    Args:
        path: a run's folder, an `encoders/` folder, released weights by name
            (`seehear weights list`; downloaded once) or as a file, or "hf:NAME" for a VideoMAE,
            V-JEPA 2, AST, CLAP or PE-AV of Hugging Face, by name or folder.
        device: "auto", "cpu", "cuda", ...
    Raises:
        RunError: there are no encoders there, and no released weights have that name.
        CheckpointError: a file is damaged or of another kind.
        SeehearError: weights could not be downloaded.
    """
    numerics = Numerics(find_device(device), "fp32", "contiguous")
    name, place = str(path), Path(path)
    info: dict[str, Any]
    matching, run = None, None
    if name.startswith(PREFIX):
        encoders, clip, info = huggingface_encoders(name.removeprefix(PREFIX))
        pair = Pair(**encoders)
        check_values(pair.state_dict(), name)
        info = record_of(pair, Encoders(), clip, info)
    elif place.is_file() or (name in RELEASED and not place.is_dir()):
        opened = open_checkpoint(place if place.is_file() else fetch(name))
        pair, clip, info = opened.pair, opened.clip, opened.record
    elif place.is_dir():
        stored = load_encoders(place)
        pair, clip, info, matching = stored.pair, stored.clip, stored.record, stored.matching
        run = next((f for f in (place, place.parent) if (f / "run.json").exists()), None)
    else:
        raise RunError(
            f"{path} has no trained encoders: there is no such run, folder, file or name of "
            f"released weights. {suggestion(name)}"
        )
    return Model(numerics.place(pair).eval(), clip, numerics, info, matching, run)


def joined(models: Sequence[Model]) -> Model:
    """One model of several: each sense, with its clip settings, from the first that has it.

    Raises:
        UsageError: nothing of one of them would be used.
    """
    givers = {m: next((x for x in models if m in x.modalities), None) for m in MODALITIES}
    for model in models:
        if not any(model is giver for giver in givers.values()):
            raise UsageError(
                f"{name_of(model)} gives nothing: the encoders before it have all that it has. "
                f"Leave it out."
            )
    if len(models) == 1:
        return models[0]
    return of_senses({m: giver for m, giver in givers.items() if giver is not None}, Settings())


def of_senses(givers: Mapping[str, Model], base: Settings) -> Model:
    """One encoder of a model for each modality, with its clip settings; else those of `base`."""
    pair = Pair(**{m: giver.pair.encoders[m] for m, giver in givers.items()})
    encoders, clip, networks = base.encoders, base.clip, []
    for modality, giver in givers.items():
        shapes = {name: giver.info["encoders"][name] for name in SHAPES[modality]}
        encoders, clip = replace(encoders, **shapes), clip.with_input_of(modality, giver.clip)
        networks += [
            {**about, "modalities": [modality]}
            for about in giver.info.get("networks", ())
            if modality in about["modalities"]
        ]
    names = dict.fromkeys(map(name_of, givers.values()))
    info = {"source": {"name": " and ".join(names)}, "networks": networks}
    record = record_of(pair, encoders, clip, info)
    return Model(pair, clip, next(iter(givers.values())).numerics, record)


def name_of(model: Model) -> str:
    """What a model is called: where its encoders are from."""
    return str(model.info.get("source", {}).get("name") or model.run or f"encoders {model.digest}")
