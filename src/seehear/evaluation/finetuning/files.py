"""What is in the folder of a fine-tune, how does it go on after a crash, and how is the finished
classifier used?

    finetune.json             settings, seed, digests of data and encoders, numerics, versions
    splits/00/steps/000250/   checkpoint.pt and its SHA-256 after 250 updates; the last two are kept
    splits/00/finished/       encoders.json, video.safetensors, audio.safetensors,
                              heads.safetensors, scores.npz, result.json; the folder that
                              `load_classifier` and `seehear.load` open

Each folder appears whole or not at all. A finished split is never trained again.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from seehear.config import Clip, differences, override
from seehear.errors import CheckpointError, RunError
from seehear.evaluation.finetuning.settings import FREE_ON_RESUME, PREFIX, Finetune
from seehear.evaluation.finetuning.testing import HEAD, ItemScores
from seehear.evaluation.finetuning.training import Lesson
from seehear.evaluation.sets import LabelledSet
from seehear.machine import distributed, outputs
from seehear.machine.console import Console
from seehear.machine.files import TEMPORARY, now, versions, whole_folder, write_anew, write_json
from seehear.method.encoders import Pair
from seehear.method.learning import GO_ON, SAVE, Step
from seehear.method.state import State
from seehear.models.model import Model, load
from seehear.runs.checkpoint import first_whole, read_state, write_state

FORMAT = 2  # of the folder
KEPT = 2  # checkpoints of an unfinished split
RECORD = "finetune.json"
MUST_AGREE = {  # fields of the record beside the settings -> what they are, for messages
    "seed": "the seed",
    "low_shot": "low_shot",
    "scratch": "scratch",
    "modalities": "the modalities",
    "data": "the digest of the data",
    "model": "the digest of the encoders",
    "clip": "the clip",
}


def open_folder(
    out: Path, record: Mapping[str, Any], *, resume: bool, overwrite: bool
) -> dict[str, Any]:
    """Make the folder with its record, or take up the one that is there; returns the record.

    Raises:
        RunError: something is at `out` already; or, to resume, nothing is, or it was made with
            other settings or data.
    """
    if resume:
        if not out.exists() or outputs.is_empty_folder(out):
            what = f"There is no fine-tune to go on with at {out}"
            raise RunError(f"{what}. Leave --resume out to begin.")
        return taken_up(out, record)
    outputs.check_folder(out, outputs.FINETUNE, overwrite=overwrite, in_place=True)
    full = {"format": FORMAT, "created": now(), **versions(), **record}
    write_anew(out, RECORD, full)
    return full


def taken_up(out: Path, wanted: Mapping[str, Any]) -> dict[str, Any]:
    """The record of an earlier fine-tune, which must be of the same settings, data and encoders."""
    try:
        found: dict[str, Any] = json.loads((out / RECORD).read_text(encoding="utf-8"))
        if found["format"] != FORMAT:
            what = f"{out} has format {found['format']}; this seehear reads {FORMAT}"
            raise RunError(f"{what}. Start anew with --overwrite.")
        then, today = (settings_from(r["settings"]) for r in (found, wanted))
        settings = differences(then, today, PREFIX).items()
        changed = {name: values for name, values in settings if name not in FREE_ON_RESUME}
        for key, what in MUST_AGREE.items():
            if found[key] != wanted[key]:
                changed[what] = found[key], wanted[key]
    except FileNotFoundError:
        what = f"{out} exists and is no fine-tune of seehear"
        raise RunError(f"{what}. Move it away; nothing was touched.") from None
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        what = f"{out / RECORD} cannot be read ({error!r})"
        raise RunError(f"{what}. Move {out} away and begin anew.") from None
    for name, (old, new) in changed.items():
        what = f"{name} is {new}, and the fine-tune at {out} was begun with {old}"
        raise RunError(f"{what}. Give what it was begun with, or start anew with --overwrite.")
    return found


def settings_from(values: Mapping[str, Any]) -> Finetune:
    """The inverse of `asdict`."""
    return override(Finetune(), {PREFIX + name: value for name, value in values.items()}, PREFIX)


def split_folder(out: Path, number: int) -> Path:
    """The folder of one split."""
    return out / "splits" / f"{number:02d}"


def save_state(folder: Path, step: int, state: Mapping[str, Any]) -> None:
    """Write a checkpoint after so many updates, and remove those that are not kept."""
    steps = folder / "steps"
    with whole_folder(steps / f"{step:06d}", replaces=outputs.STEP) as temporary:
        write_state(temporary, state)
    for old in checkpoints(folder)[:-KEPT]:
        outputs.remove(old, outputs.STEP)


def checkpoints(folder: Path) -> list[Path]:
    """The checkpoints of an unfinished split, the newest last; other files are passed over."""
    beside = (folder / "steps").glob("[0-9]*")
    named = [path for path in beside if re.fullmatch(r"[0-9]{6,}", path.name)]
    return sorted(named, key=lambda path: int(path.name))


def last_state(folder: Path) -> dict[str, Any] | None:
    """The state of the newest checkpoint that is whole; None where none was written.

    Raises:
        CheckpointError: there are some, and none can be read.
    """
    return first_whole(reversed(checkpoints(folder)), read_state)


def save_finished(
    folder: Path,
    pair: Pair,
    info: Mapping[str, Any],
    clip: Clip,
    found: ItemScores,
    result: Mapping[str, Any],
) -> None:
    """Write what a split came to, and remove its checkpoints.

    `info` is the origin of the encoders, what `seehear.load` needs, and the classes.
    """
    from safetensors.torch import save_file

    with whole_folder(folder / "finished", replaces=outputs.FINISHED) as temporary:
        for modality, encoder in pair.encoders.items():
            save_file(owned(encoder.state_dict()), temporary / f"{modality}.safetensors")
        heads = nn.ModuleDict({m: pair.heads_for(m)[HEAD] for m in found.scores})
        save_file(owned(heads.state_dict()), temporary / "heads.safetensors")
        write_json(temporary / "encoders.json", {**info, "clip": asdict(clip)})
        arrays: dict[str, Any] = {"items": found.items, **found.scores}
        np.savez(temporary / "scores.npz", **arrays)
        write_json(temporary / "result.json", result)
    tidied(folder)


def tidied(folder: Path) -> bool:
    """Whether a split is finished; removes what is half written, and its checkpoints if so."""
    is_finished = (folder / "finished").is_dir()
    for rest in [*folder.glob(f"{TEMPORARY}*"), *(folder / "steps").glob(f"{TEMPORARY}*")]:
        shutil.rmtree(rest, ignore_errors=True)
    if is_finished:
        shutil.rmtree(folder / "steps", ignore_errors=True)
    return is_finished


def owned(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors as safetensors wants them: on the CPU, contiguous, each with memory of its own."""
    return {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in state.items()
    }


def read_finished(folder: Path) -> tuple[ItemScores, dict[str, Any]]:
    """Scores and result of a finished split; CheckpointError where they cannot be read."""
    done = folder / "finished"
    try:
        result: dict[str, Any] = json.loads((done / "result.json").read_text(encoding="utf-8"))
        with np.load(done / "scores.npz", allow_pickle=False) as arrays:
            scores = {name: arrays[name] for name in arrays.files}
    except (OSError, ValueError, EOFError) as error:
        what = f"{done} cannot be read ({error})"
        raise CheckpointError(f"{what}. Remove it to train the split again.") from None
    return ItemScores(scores.pop("items"), scores, result["n_clips"]), result


class Saver:
    """Saves a split's training when its time has come, by the clock of the first rank."""

    def __init__(self, folder: Path, state: State, lesson: Lesson, console: Console) -> None:
        self.folder, self.state, self.lesson, self.console = folder, state, lesson, console
        self.saved_s = time.monotonic()

    def after(self, now: Step) -> None:
        """Save if ranks have agreed on it in this step, and request what is due after the next."""
        for note in now.notes:
            self.console.say(note)
        if now.request:
            state = self.state.state_dict()
            distributed.on_rank_zero(lambda: save_state(self.folder, now.number, state))
            self.console.say(self.progress(now.number))
            self.saved_s = time.monotonic()
        minutes = (time.monotonic() - self.saved_s) / 60
        is_due = distributed.rank() == 0 and minutes >= self.lesson.settings.checkpoint_minutes
        self.state.request = SAVE if is_due else GO_ON

    def progress(self, step: int) -> str:
        """How far training is, in one line: loss and accuracy of the last whole pass."""
        learning = self.state.learning
        parts = [f"{self.lesson.name}: {step} of {self.lesson.steps} steps"]
        for modality, losses in learning.loss.items():
            accuracy = learning.accuracy[modality][-1]
            parts.append(f"{modality} loss {losses[-1]:.2f}, accuracy {accuracy:.0%}")
        for modality, values in learning.heldout_accuracy.items():
            parts.append(f"{modality} held out {values[-1]:.0%}")
        return "  ".join(parts)

    def last_good(self) -> str:
        """The newest checkpoint, for a message."""
        return distributed.on_rank_zero(
            lambda: next((str(path) for path in reversed(checkpoints(self.folder))), "none yet")
        )


@dataclass(frozen=True)
class Classifier:
    """Fine-tuned encoders with their heads."""

    model: Model  # the encoders; one for a modality that was not trained is as it was before
    heads: Mapping[str, nn.Linear]  # modality -> the head
    classes: tuple[str, ...]  # names, in the order of the scores
    multilabel: bool  # whether scores are a sigmoid each, instead of a softmax over classes

    def video(self, frames_BCTHW: Tensor) -> Tensor:
        """Frames, as `Model.video` takes them -> scores (B, C) in [0, 1]."""
        return self._scores("video", self.model.video(frames_BCTHW))

    def audio(self, waveform_BL: Tensor) -> Tensor:
        """Waveforms, as `Model.audio` takes them -> scores (B, C) in [0, 1]."""
        return self._scores("audio", self.model.audio(waveform_BL))

    @torch.inference_mode()
    def _scores(self, modality: str, features_BD: Tensor) -> Tensor:
        if modality not in self.heads:
            raise RunError(f"Only {' and '.join(self.heads)} was fine-tuned here, not {modality}.")
        raw_BC: Tensor = self.heads[modality](features_BD)
        return raw_BC.sigmoid() if self.multilabel else raw_BC.softmax(dim=1)


def load_classifier(folder: str | Path, *, device: str = "auto") -> Classifier:
    """The encoders and heads of a finished split.

    Args:
        folder: `splits/00/finished` of a fine-tune, or the fine-tune's folder, for its first split.
        device: "auto", "cpu", "cuda", ...
    Raises:
        RunError: nothing finished is there.
        CheckpointError: the files do not fit together, or the architecture is not one of ours.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = Path(folder)
    path = path if (path / "heads.safetensors").exists() else split_folder(path, 0) / "finished"
    if not (path / "heads.safetensors").exists():
        what = f"{folder} has no finished fine-tune"
        raise RunError(f"{what}. `seehear evaluate MODEL --task finetune` makes one.")
    try:
        record = json.loads((path / "encoders.json").read_text(encoding="utf-8"))
        classes, several = tuple(record["classes"]), bool(record["multilabel"])
        if "encoders" not in record:
            what = f"{path} holds weights of an architecture that is not ours"
            raise CheckpointError(f"{what}. Load them with safetensors yourself.")
        state = load_file(path / "heads.safetensors")
        modalities = [name.removesuffix(".weight") for name in state if name.endswith(".weight")]
        heads = {modality: head_from(state, modality) for modality in modalities}
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise CheckpointError(f"{path} does not hold a classifier ({error}).") from None
    model = load(path, device=device)
    return Classifier(
        model, {m: head.to(model.numerics.device) for m, head in heads.items()}, classes, several
    )


def head_from(state: Mapping[str, Tensor], modality: str) -> nn.Linear:
    """The head of a modality, by its weight (C, D) and bias (C,)."""
    weight_CD, bias_C = state[f"{modality}.weight"], state[f"{modality}.bias"]
    head = nn.Linear(weight_CD.shape[1], weight_CD.shape[0])
    head.load_state_dict({"weight": weight_CD, "bias": bias_C})
    return head.requires_grad_(False)


def encoders_digest(pair: Pair, modalities: Sequence[str]) -> str:
    """SHA-256 over the weights of some encoders, by name."""
    digest = hashlib.sha256()
    for modality in modalities:
        for name, tensor in owned(pair.encoders[modality].state_dict()).items():
            digest.update(f"{modality} {name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
            digest.update(tensor.numpy().tobytes())
    return f"sha256:{digest.hexdigest()}"


def set_digest(data: LabelledSet) -> str:
    """SHA-256 over what a result depends on: rows, their items, classes and splits."""
    digest = hashlib.sha256(f"{data.digest}\n{data.classes}\n{data.items}\n".encode())
    parts = [part for s in data.splits for part in (s.train, s.validation, s.test)]
    for array in (data.item_N, data.target_V, *parts):
        digest.update(np.ascontiguousarray(array).tobytes() + b"\n")
    return f"sha256:{digest.hexdigest()}"
