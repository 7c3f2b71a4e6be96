"""What stands in an `encoders/` folder, and how do encoders come out of it again?

    encoders.json         format, modalities, the shapes of the networks, batch norm's epsilon,
                          clip settings, origin
    video.safetensors     weights, where there is a video encoder
    audio.safetensors     weights, where there is an audio encoder
    matching.safetensors  what compares sights with sounds, of a run

It needs nothing else of a run, and can be copied anywhere. A folder for Hugging Face's hub has the
record in its `config.json`, and all weights in `model.safetensors`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from seehear.config import Clip, Encoders, Settings, from_dict
from seehear.data.placing import MODALITIES
from seehear.errors import CheckpointError, RunError, SettingsError
from seehear.machine import outputs
from seehear.machine.files import whole_folder, write_json
from seehear.machine.reading import readable
from seehear.machine.tensors import check_values, fitting, read_safetensors
from seehear.method.encoders import Pair
from seehear.method.encoders.building import BN_EPS, pair_of
from seehear.models.huggingface import rebuilt
from seehear.models.matching import Matching

FORMAT = 1  # of `encoders/`; raised when an older program could not read it any more
HUB_FILES = ("config.json", "model.safetensors")  # of a folder for Hugging Face's hub


@dataclass(frozen=True)
class Stored:
    """The encoders of a folder, their clip settings and record, and what compares modalities."""

    pair: Pair
    clip: Clip
    record: dict[str, Any]
    matching: Matching | None = None


@dataclass(frozen=True)
class Described:
    """Encoders as a record describes them: their shapes, which there are, and clip settings."""

    encoders: Encoders
    modalities: tuple[str, ...]
    bn_eps: float
    clip: Clip
    networks: Sequence[Mapping[str, Any]] = ()  # of others: see `huggingface`

    def build(self) -> Pair:
        """The encoders with random weights."""
        found = {m: encoder for about in self.networks for m, encoder in rebuilt(about).items()}
        if ours := [m for m in self.modalities if m not in found]:
            found |= dict(pair_of(self.encoders, ours, self.bn_eps).encoders)
        return Pair(**{m: found[m] for m in self.modalities})

    def shapes(self) -> Pair:
        """The encoders on the device "meta": shapes alone, which take no memory."""
        with torch.device("meta"):
            return self.build()

    def with_weights(self, state: Mapping[str, Tensor]) -> Pair:
        """The encoders with weights that are known to fit."""
        pair = self.build()
        pair.load_state_dict(dict(state), strict=True)
        return pair


def record_of(pair: Pair, encoders: Encoders, clip: Clip, info: dict[str, Any]) -> dict[str, Any]:
    """What rebuilds `pair`, whose shapes are `encoders`, as plain data; `info` is its origin."""
    norms = (m.eps for m in pair.modules() if isinstance(m, nn.BatchNorm3d))
    facts = {"format": FORMAT, "modalities": list(pair.modalities), "bn_eps": next(norms, BN_EPS)}
    return {**info, **facts, "encoders": asdict(encoders), "clip": asdict(clip)}


def described(record: dict[str, Any], where: str | Path) -> Described:
    """The inverse of `record_of`; CheckpointError where a record makes no sense."""
    if record.get("format") != FORMAT:
        raise CheckpointError(
            f"{where} has format {record.get('format')}; this seehear reads {FORMAT}. Use the "
            f"version that made it."
        )
    try:
        settings = from_dict({"encoders": record["encoders"], "clip": record["clip"]})
        modalities = tuple(record.get("modalities", MODALITIES))
        if not modalities or not {*modalities} <= {*MODALITIES}:
            raise ValueError(f"modalities are {modalities}")
        bn_eps = float(record.get("bn_eps", BN_EPS))
        if not 0 < bn_eps <= 1:
            raise ValueError(f"bn_eps is {bn_eps}")
        networks = record.get("networks", ())
        found = Described(settings.encoders, modalities, bn_eps, settings.clip, networks)
        found.shapes()
        return found
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, SettingsError) as error:
        raise CheckpointError(f"{where} does not describe encoders ({error}).") from None


def save_encoders(
    folder: Path,
    pair: Pair,
    settings: Settings,
    info: dict[str, Any],
    matching: Matching | None = None,
) -> None:
    """Write `encoders/`, whole or not at all.

    Args:
        folder: replaced if it is there.
        pair: one or two encoders, of the shapes in `settings.encoders`.
        settings: whose `encoders` and `clip` are recorded.
        info: of the origin, plain data.
        matching: of a run.
    """
    record = record_of(pair, settings.encoders, settings.clip, info)
    with whole_folder(folder, replaces=outputs.RUN_ENCODERS) as temporary:
        write_encoders(temporary, pair, record, matching)


def write_encoders(
    folder: Path, pair: Pair, record: dict[str, Any], matching: Matching | None = None
) -> None:
    """Write weights and record into a folder that is there."""
    from safetensors.torch import save_file

    for modality in pair.modalities:
        state = {k: v.contiguous() for k, v in pair.encoders[modality].state_dict().items()}
        save_file(state, folder / f"{modality}.safetensors")
    if matching is not None:
        save_file(matching.state_dict(), folder / "matching.safetensors")
    write_json(folder / "encoders.json", record)


def load_encoders(path: Path) -> Stored:
    """The encoders of a run, an `encoders/` folder, or one for Hugging Face's hub, on the CPU.

    Raises:
        RunError: there are no encoders there.
        CheckpointError: the files do not fit together.
    """
    folder = path / "encoders" if (path / "encoders").is_dir() else path
    if not (folder / "encoders.json").exists() and (folder / HUB_FILES[0]).exists():
        return load_hub_folder(folder)
    record = read_object(folder / "encoders.json")
    if record is None:
        unfinished = (path / "run.json").exists()
        hint = (
            "The run has not finished: `seehear pretrain ... --resume`."
            if unfinished
            else "Give the folder of a run."
        )
        raise RunError(f"{path} has no trained encoders. {hint}")
    about = described(record, folder / "encoders.json")
    shapes = about.shapes()
    state: dict[str, Tensor] = {}
    for modality in shapes.modalities:
        file = folder / f"{modality}.safetensors"
        fits = fitting(read_safetensors(file), shapes.encoders[modality].state_dict(), file)
        state |= {f"encoders.{modality}.{key}": value for key, value in fits.items()}
    matching = load_matching(folder / "matching.safetensors")
    return Stored(about.with_weights(state), about.clip, record, matching)


def load_matching(file: Path) -> Matching | None:
    """What compares the modalities of a run's encoders; None where there is none."""
    if not file.exists():
        return None
    state = read_safetensors(file)
    check_values(state, file)
    try:
        return Matching.from_state_dict(state)
    except (KeyError, IndexError, ValueError, TypeError, RuntimeError) as error:
        raise CheckpointError(
            f"{file} is damaged ({error}). Copy it again from the run, or remove it."
        ) from None


def load_hub_folder(folder: Path) -> Stored:
    """The encoders of a folder in the layout of Hugging Face's hub: all weights in one file."""
    record = (read_object(folder / HUB_FILES[0]) or {}).get("record")
    if not isinstance(record, dict):
        raise RunError(
            f"{folder} is of no seehear model. For VideoMAE, V-JEPA 2 and AST: "
            f"seehear.load('hf:{folder}')."
        )
    about = described(record, folder / HUB_FILES[0])
    return Stored(weights_of(about, folder / HUB_FILES[1]), about.clip, record)


def weights_of(about: Described, file: Path) -> Pair:
    """The encoders of a file that holds all of them, as Hugging Face's hub has it."""
    return about.with_weights(fitting(read_safetensors(file), about.shapes().state_dict(), file))


def read_object(path: Path) -> dict[str, Any] | None:
    """A JSON object from a file; None where there is no file."""
    if not path.exists():
        return None
    with readable(path, "Copy it again.", CheckpointError):
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError("it holds no JSON object")
        return content
