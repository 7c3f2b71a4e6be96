"""What is in a checkpoint from a stranger, and does all of it fit? Strict: every key is accounted for.

A checkpoint is a dictionary of tensors by the names of torchvision's `VideoResNet` (`stem.0.weight`, ...), or holds one
as `state_dict` or `model`; the prefix `module.` of a network trained in parallel is taken off. Files are read with
`weights_only=True`: they are data, never code.
"""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seehear.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor

    from seehear.encoders import VideoEncoder

Shape = tuple[int, ...]
NESTED = ("state_dict", "model")  # under which trainers keep the weights
CLASSIFIER = ("fc.",)  # of the labels that the network was trained with: no part of an encoder
COUNTERS = ("num_batches_tracked",)  # of batch norms; old files lack them, and features do not depend on them
EXAMPLES = 3  # of keys in a message


@dataclass(frozen=True)
class Accounting:
    """What became of every key of a checkpoint and of every key of an encoder.

    Args:
        matched: in both, with the same shape.
        missing: only in the encoder.
        unexpected: only in the checkpoint.
        mismatched: in both, with another shape: key -> (shape in the checkpoint, shape in the encoder).
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
        """Keys of the encoder that a checkpoint may lack: counters of batch norms, which start at 0."""
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
                f"{path} counts mid-planes otherwise: {key} has {theirs[0]} where the encoder has {ours[0]}. Use "
                f'midplanes="{rule}".'
            )
        found = [f"{len(self.matched)} keys fit"]
        found += [f"{len(missing)} are missing ({some(missing)})"] if missing else []
        found += [f"{len(unexpected)} are unknown ({some(unexpected)})"] if unexpected else []
        shapes = [f"{key}: {theirs}, not {ours}" for key, (theirs, ours) in self.mismatched.items()]
        found += [f"{len(shapes)} have another shape ({some(shapes)})"] if shapes else []
        raise CheckpointError(
            f"{path} is not of this architecture, R(2+1)D-18: {', '.join(found)}. Give a checkpoint of XDC's or "
            f"torchvision's r2plus1d_18, or use your own network with seehear.encoders.wrap."
        )

    def other_rule(self) -> str | None:
        """The rule of mid-planes by which the checkpoint counts, if that explains every shape that does not fit."""
        from seehear.encoders import midplanes

        rules = set()
        for key, (theirs, ours) in self.mismatched.items():
            if ".conv2." not in key or len(theirs) != len(ours):
                return None
            stage = int(key[len("layer")])
            by_block, by_conv = midplanes(32 << (stage - 1), 64 << (stage - 1)), midplanes(*2 * (64 << (stage - 1),))
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
        mismatched={key: (theirs, ours) for key, (theirs, ours) in shapes.items() if theirs != ours},
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

    accounting = account(state, encoder.state_dict())
    accounting.check(path)
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


def read_safetensors(path: Path) -> Any:
    """What a safetensors file holds."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path} cannot be read as safetensors ({error}).") from None


def read_pickle(path: Path) -> Any:
    """What `torch.save` wrote, tensors and plain data only."""
    import torch

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what is odd about a file, when it is about to be refused
            return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise CheckpointError(f"There is no checkpoint {path}.") from None
    except pickle.UnpicklingError as error:
        if "Unsupported global" in str(error) or "Unsupported class" in str(error) or "GLOBAL" in str(error):
            raise CheckpointError(
                f"{path} holds objects that are made by running code, not only tensors; such a file is never opened. "
                f"Save the network's state_dict() alone where you trust it, and give that."
            ) from None
        raise CheckpointError(f"{path} is no checkpoint of PyTorch, or a damaged one ({first_line(error)}).") from None
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, AttributeError, IndexError, TypeError) as error:
        raise CheckpointError(
            f"{path} is truncated, damaged, or no checkpoint of PyTorch ({first_line(error)}). Load it again."
        ) from None


def tensors_of(content: Any, path: Path) -> dict[str, Tensor]:
    """A dictionary of tensors with the names of a network that was not trained in parallel."""
    import torch

    is_state = isinstance(content, Mapping) and content
    if not is_state or not all(isinstance(k, str) and isinstance(v, torch.Tensor) for k, v in content.items()):
        kind = f"a dictionary with {some(map(str, content))}" if is_state else f"a {type(content).__name__}"
        raise CheckpointError(f"{path} holds {kind}, not a network's tensors by name (its state_dict()).")
    prefix = "module." if all(key.startswith("module.") for key in content) else ""
    return {key.removeprefix(prefix): value for key, value in content.items()}


def some(names: Any) -> str:
    """The first few of some names."""
    names = list(names)
    return ", ".join(names[:EXAMPLES]) + (", ..." if len(names) > EXAMPLES else "")


def first_line(error: BaseException) -> str:
    """What an error says first, shortened; of PyTorch's own advice on `weights_only`, the cause alone."""
    lines = str(error).rpartition("WeightsUnpickler error: ")[2].strip().splitlines()
    return lines[0][:160] if lines else type(error).__name__
