"""What is in a checkpoint from a stranger, and does all of it fit? Strict: every key is accounted
for.

A checkpoint is a dictionary of tensors by the names of torchvision's `VideoResNet`
(`stem.0.weight`, ...), or holds one as `state_dict` or `model`. How files are read as data, and
never as code, is in `seehear.machine.tensors`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from seehear.errors import CheckpointError
from seehear.machine.tensors import (
    check_values,
    describe,
    read_pickle,
    read_safetensors,
    tensors_of,
    unwrapped,
)

if TYPE_CHECKING:
    from torch import Tensor

    from seehear.machine.tensors import Shape
    from seehear.method.encoders import VideoEncoder

NESTED = ("state_dict", "model")  # under which trainers keep the weights
CLASSIFIER = ("fc.",)  # of the labels that the network was trained with: no part of an encoder
# of batch norms; old files lack them, and features do not depend on them
COUNTERS = "num_batches_tracked"


@dataclass(frozen=True)
class Accounting:
    """What became of every key of a checkpoint and of every key of an encoder.

    Args:
        matched: in both, with the same shape.
        missing: only in the encoder.
        unexpected: only in the checkpoint.
        mismatched: in both, with another shape: key -> (shape in the checkpoint, shape in the
            encoder).
    """

    matched: tuple[str, ...]
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    mismatched: Mapping[str, tuple[Shape, Shape]] = field(default_factory=dict)

    @property
    def left_out(self) -> tuple[str, ...]:
        """Keys of the checkpoint that an encoder has no place for by intention: the classifier."""
        return tuple(key for key in self.unexpected if key.startswith(CLASSIFIER))

    @property
    def not_there(self) -> tuple[str, ...]:
        """Keys of the encoder that a checkpoint may lack: counters of batch norms, which start at
        0.
        """
        return tuple(key for key in self.missing if key.endswith(COUNTERS))

    def check(self, path: str | Path) -> None:
        """Raise CheckpointError unless everything fits but for `left_out` and `not_there`."""
        missing = [key for key in self.missing if key not in self.not_there]
        unexpected = [key for key in self.unexpected if key not in self.left_out]
        if not missing and not unexpected and not self.mismatched:
            return
        if self.mismatched and not missing and not unexpected and (rule := self.other_rule()):
            key = next(iter(self.mismatched))
            theirs, ours = self.mismatched[key]
            raise CheckpointError(
                f"{path} counts mid-planes otherwise: {key} has {theirs[0]} where the encoder has "
                f"{ours[0]}. Use "
                f'midplanes="{rule}".'
            )
        found = describe(self.matched, missing, unexpected, self.mismatched)
        raise CheckpointError(
            f"{path} is not of this architecture, R(2+1)D-18: {found}. Give a checkpoint of XDC's "
            f"or torchvision's "
            f"r2plus1d_18, or use your own network with seehear.method.encoders.wrap."
        )

    def other_rule(self) -> str | None:
        """The rule of mid-planes by which the checkpoint counts, if that explains every shape that
        does not fit.
        """
        from seehear.method.encoders import midplanes

        rules = set()
        for key, (theirs, ours) in self.mismatched.items():
            if ".conv2." not in key or len(theirs) != len(ours):
                return None
            stage = int(key[len("layer")])
            by_block, by_conv = (
                midplanes(32 << (stage - 1), 64 << (stage - 1)),
                midplanes(*2 * (64 << (stage - 1),)),
            )
            pairs = {(a, b) for a, b in zip(theirs, ours, strict=True) if a != b}
            if pairs == {(by_block, by_conv)}:
                rules.add("block")
            elif pairs == {(by_conv, by_block)}:
                rules.add("conv")
            else:
                return None
        return rules.pop() if len(rules) == 1 else None


def account(state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> Accounting:
    """Compare the keys and shapes of a checkpoint with those of an encoder's `state_dict()`."""
    both = [key for key in expected if key in state]
    shapes = {key: (tuple(state[key].shape), tuple(expected[key].shape)) for key in both}
    return Accounting(
        matched=tuple(key for key, (theirs, ours) in shapes.items() if theirs == ours),
        missing=tuple(key for key in expected if key not in state),
        unexpected=tuple(key for key in state if key not in expected),
        mismatched={
            key: (theirs, ours) for key, (theirs, ours) in shapes.items() if theirs != ours
        },
    )


def load_into(encoder: VideoEncoder, state: Mapping[str, Tensor], path: str | Path) -> Accounting:
    """Copy a checkpoint into an encoder, strictly; nothing is copied where something does not fit.

    Args:
        encoder: with the mid-planes and epsilon of the checkpoint.
        state: as `read_state` gives it.
        path: where it is from, for messages.
    Raises:
        CheckpointError: a key or a shape that is not accounted for.
    """
    import torch

    expected = encoder.state_dict()
    state = unwrapped(state, expected)
    accounting = account(state, expected)
    accounting.check(path)
    check_values({key: state[key] for key in accounting.matched}, path)
    whole = {key: state[key] for key in accounting.matched}
    whole |= {key: torch.tensor(0) for key in accounting.not_there}
    encoder.load_state_dict(whole, strict=True)
    return accounting


def read_state(path: str | Path) -> dict[str, Tensor]:
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
