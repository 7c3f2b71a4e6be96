"""How does a checkpoint from a stranger become an encoder? Strictly: every key is accounted for.

A checkpoint is a dictionary of tensors by the names of torchvision's `VideoResNet`
(`stem.0.weight`, ...), or holds one as `state_dict` or `model`. How files are read as data, and
never as code, is in `seehear.machine.tensors`. Which of the two rules of mid-planes a file follows
is seen from its shapes, and with it the epsilon of batch norm. A file that was released is known by
its SHA-256, whatever it is called.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from seehear.config import Clip, Encoders
from seehear.errors import CheckpointError
from seehear.machine.files import digest_of, whole_folder
from seehear.machine.locks import one_writer
from seehear.machine.outputs import ENCODERS, check_folder
from seehear.machine.tensors import (
    Shape,
    check_values,
    describe,
    read_pickle,
    read_safetensors,
    tensors_of,
    unwrapped,
)
from seehear.method.encoders import Midplanes, Pair, VideoEncoder
from seehear.models.files import record_of, write_encoders
from seehear.models.released import BN_EPS, CLIPS, RELEASED

NESTED = ("state_dict", "model")  # under which trainers keep the weights
CLASSIFIER = ("fc.",)  # of the labels that the network was trained with: no part of an encoder
# of batch norms; old files lack them, and features do not depend on them
COUNTERS = "num_batches_tracked"
RULES: tuple[Midplanes, ...] = ("conv", "block")


@dataclass(frozen=True)
class Accounting:
    """What became of every key of a checkpoint and of every key of an encoder."""

    matched: tuple[str, ...]  # in both, with the same shape
    missing: tuple[str, ...] = ()  # only in the encoder
    unexpected: tuple[str, ...] = ()  # only in the checkpoint
    # in both, with another shape: key -> (shape in the checkpoint, in the encoder)
    mismatched: Mapping[str, tuple[Shape, Shape]] = field(default_factory=dict)

    @property
    def left_out(self) -> tuple[str, ...]:
        """Keys of the checkpoint that an encoder has no place for by intention: the classifier."""
        return tuple(key for key in self.unexpected if key.startswith(CLASSIFIER))

    @property
    def not_there(self) -> tuple[str, ...]:
        """Keys of the encoder that a checkpoint may lack: counters of batch norms; they are 0."""
        return tuple(key for key in self.missing if key.endswith(COUNTERS))

    @property
    def fits(self) -> bool:
        """Whether everything fits but for `left_out` and `not_there`."""
        lost = len(self.missing) - len(self.not_there)
        return not lost and not self.mismatched and len(self.unexpected) == len(self.left_out)

    def check(self, path: str | Path) -> None:
        """Raise CheckpointError unless the checkpoint `fits`."""
        if self.fits:
            return
        missing = [key for key in self.missing if key not in self.not_there]
        unexpected = [key for key in self.unexpected if key not in self.left_out]
        found = describe(self.matched, missing, unexpected, self.mismatched)
        raise CheckpointError(
            f"{path} is not of this architecture, R(2+1)D-18: {found}. Give a checkpoint of XDC's "
            "or torchvision's r2plus1d_18, or use your own network with "
            "seehear.method.encoders.wrap."
        )


@dataclass(frozen=True)
class Opened:
    """A checkpoint as an encoder."""

    pair: Pair  # of the video encoder alone, in evaluation mode, on the CPU
    clip: Clip  # what it is used with
    record: dict[str, Any]  # for `encoders.json`, with its origin as "source"
    accounting: Accounting  # of every key


def open_checkpoint(
    file: str | Path, *, midplanes: Literal["auto", "conv", "block"] = "auto"
) -> Opened:
    """An R(2+1)D-18 checkpoint as an encoder.

    Args:
        file: a .pth (or .safetensors) file with the weights of XDC's or torchvision's r2plus1d_18.
        midplanes: "auto" sees it from the shapes.
    Raises:
        CheckpointError: the file cannot be read, or is of another architecture.
    """
    state = read_checkpoint(file)
    with torch.device("meta"):  # shapes alone
        shapes = {rule: VideoEncoder(midplanes=rule).state_dict() for rule in RULES}
    state = dict(unwrapped(state, shapes["conv"]))  # names are the same by both rules
    counts = {rule: account(state, shapes[rule]) for rule in RULES}
    best = min(RULES, key=lambda rule: len(counts[rule].mismatched))
    rule = best if midplanes == "auto" else midplanes
    if counts[best].fits and not counts[rule].fits:
        key, (theirs, ours) = next(iter(counts[rule].mismatched.items()))
        raise CheckpointError(
            f"{file} counts mid-planes otherwise: {key} has {theirs[0]} where the encoder has "
            f'{ours[0]}. Use midplanes="{best}".'
        )
    counts[rule].check(file)
    encoder = VideoEncoder(midplanes=rule, bn_eps=BN_EPS[rule])
    accounting = load_into(encoder, state, file)
    digest = digest_of(Path(file))
    known = next((entry for entry in RELEASED.values() if digest.startswith(entry.sha256)), None)
    pair, clip = Pair(encoder.eval()), known.clip if known else CLIPS[rule]
    source = {"file": Path(file).name, "sha256": digest, **(known.origin if known else {})}
    record = record_of(pair, replace(Encoders(), midplanes=rule), clip, {"source": source})
    return Opened(pair, clip, record, accounting)


def convert(
    file: str | Path,
    out: str | Path,
    *,
    midplanes: Literal["auto", "conv", "block"] = "auto",
    overwrite: bool = False,
) -> Accounting:
    """Make an `encoders/` folder, for video only, that `seehear.load` opens, of a checkpoint file.

    Args:
        file: see `open_checkpoint`.
        out: the folder; must not exist, unless `overwrite` is set.
    Returns:
        What became of every key.
    Raises:
        RunError: `out` exists.
        CheckpointError: the file cannot be read, or does not fit.
    """
    out = Path(out)
    check_folder(out, ENCODERS, overwrite=overwrite, inputs=[Path(file)])
    opened = open_checkpoint(file, midplanes=midplanes)
    with one_writer(out), whole_folder(out, replaces=ENCODERS) as folder:
        write_encoders(folder, opened.pair, opened.record)
    return opened.accounting


def account(state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> Accounting:
    """Compare the keys and shapes of a checkpoint with those of an encoder's `state_dict()`."""
    both = [key for key in expected if key in state]
    shapes = {key: (tuple(state[key].shape), tuple(expected[key].shape)) for key in both}
    return Accounting(
        matched=tuple(key for key, (theirs, ours) in shapes.items() if theirs == ours),
        missing=tuple(key for key in expected if key not in state),
        unexpected=tuple(key for key in state if key not in expected),
        mismatched={key: pair for key, pair in shapes.items() if pair[0] != pair[1]},
    )


def load_into(encoder: VideoEncoder, state: Mapping[str, Tensor], path: str | Path) -> Accounting:
    """Copy a checkpoint into an encoder, strictly; nothing is copied where something does not fit.

    The encoder has the mid-planes and epsilon of the checkpoint; `path` is for messages.
    """
    expected = encoder.state_dict()
    state = unwrapped(state, expected)
    accounting = account(state, expected)
    accounting.check(path)
    whole = {key: state[key] for key in accounting.matched}
    check_values(whole, path)
    whole |= {key: torch.tensor(0) for key in accounting.not_there}
    encoder.load_state_dict(whole, strict=True)
    return accounting


def read_checkpoint(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint by name, from a .pth or a .safetensors file, on the CPU.

    Raises:
        CheckpointError: the file is missing, truncated, holds code, or holds no tensors by name.
    """
    path = Path(path)
    content = read_safetensors(path) if path.suffix == ".safetensors" else read_pickle(path)
    for name in NESTED:
        if isinstance(content, Mapping) and isinstance(content.get(name), Mapping):
            content = content[name]
    return tensors_of(content, path)
