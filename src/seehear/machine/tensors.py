"""What is in a file of tensors that somebody made, and does all of it fit a network?

Files are read as data (`weights_only=True`, or safetensors), never as code. They are mapped, so
that what a file says of itself takes no memory; `torch.save` compresses nothing, and what is
compressed is refused before it is inflated. Shapes are compared before anything is allocated, and
values that no encoder can compute with are refused by name.
"""

from __future__ import annotations

import pickle
import warnings
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seehear.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor

Shape = tuple[int, ...]
EXAMPLES = 3  # of keys in a message


def read_safetensors(path: Path) -> Any:
    """What a safetensors file holds."""
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except FileNotFoundError:
        raise CheckpointError(f"There is no file {path}.") from None
    except Exception as error:  # of whatever kind the bytes of a stranger lead to
        raise CheckpointError(
            f"{path} cannot be read as safetensors ({first_line(error)})."
        ) from None


def read_pickle(path: Path) -> Any:
    """What `torch.save` wrote, tensors and plain data only."""
    import torch

    try:
        with warnings.catch_warnings():
            # of what is odd about a file, when it is about to be refused
            warnings.simplefilter("ignore")
            # else of before PyTorch 1.6, which cannot be mapped
            is_archive = zipfile.is_zipfile(path)
            if is_archive:
                check_archive(path, path)
            return torch.load(path, map_location="cpu", weights_only=True, mmap=is_archive)
    except CheckpointError:
        raise
    except FileNotFoundError:
        raise CheckpointError(f"There is no checkpoint {path}.") from None
    except pickle.UnpicklingError as error:
        if any(
            sign in str(error) for sign in ("Unsupported global", "Unsupported class", "GLOBAL")
        ):
            raise CheckpointError(
                f"{path} holds objects that are made by running code, not only tensors; such a "
                "file is never opened. Save the network's state_dict() alone where you trust it, "
                "and give that."
            ) from None
        raise CheckpointError(
            f"{path} is no checkpoint of PyTorch, or a damaged one ({first_line(error)})."
        ) from None
    except Exception as error:  # of whatever kind the bytes of a stranger lead to
        raise CheckpointError(
            f"{path} is truncated, damaged, or no checkpoint of PyTorch ({first_line(error)}). "
            f"Load it again."
        ) from None


def check_archive(file: Path | BytesIO, name: str | Path) -> None:
    """Raise CheckpointError for an archive that would be larger in memory than on disk."""
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
    declared = sum(entry.file_size for entry in entries)
    there = sum(entry.compress_size for entry in entries)
    if declared > there or any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise CheckpointError(
            f"{name} would take {declared:,} bytes of memory for {there:,} in the file: it is "
            "compressed, which torch.save never does. Unpack it, if you trust it, and save its "
            "state_dict() anew."
        )


def tensors_of(content: Any, path: Path) -> dict[str, Tensor]:
    """What is a dictionary of tensors by name."""
    import torch

    is_state = isinstance(content, Mapping) and content
    if not is_state or not all(
        isinstance(k, str) and isinstance(v, torch.Tensor) for k, v in content.items()
    ):
        kind = (
            f"a dictionary with {some(map(str, content))}"
            if is_state
            else f"a {type(content).__name__}"
        )
        raise CheckpointError(
            f"{path} holds {kind}, not a network's tensors by name (its state_dict())."
        )
    return dict(content)


def describe(
    matched: Sequence[str],
    missing: Sequence[str],
    unexpected: Sequence[str],
    mismatched: Mapping[str, tuple[Shape, Shape]],
) -> str:
    """How many keys fit, and how many do not in which way, with examples."""
    found = [f"{len(matched)} keys fit"]
    found += [f"{len(missing)} are missing ({some(missing)})"] if missing else []
    found += [f"{len(unexpected)} are unknown ({some(unexpected)})"] if unexpected else []
    shapes = [f"{key}: {theirs}, not {ours}" for key, (theirs, ours) in mismatched.items()]
    found += [f"{len(shapes)} have another shape ({some(shapes)})"] if shapes else []
    return ", ".join(found)


def some(names: Any) -> str:
    """The first few of some names."""
    names = list(names)
    return ", ".join(names[:EXAMPLES]) + (", ..." if len(names) > EXAMPLES else "")


def first_line(error: BaseException) -> str:
    """What an error says first, shortened; of PyTorch's advice on `weights_only`, the cause."""
    lines = str(error).rpartition("WeightsUnpickler error: ")[2].strip().splitlines()
    return lines[0][:160] if lines else type(error).__name__


def fitting(
    state: Mapping[str, Tensor], expected: Mapping[str, Tensor], path: str | Path
) -> dict[str, Tensor]:
    """The tensors of a file under a module's names, after a look at whether all fit.

    Only shapes of `expected`, the module's `state_dict()`, are looked at: it may be on "meta".
    Raises CheckpointError where keys are missing or too many, or shapes or values do not fit.
    """
    state = unwrapped(state, expected)
    missing = [key for key in expected if key not in state]
    unexpected = [key for key in state if key not in expected]
    both = [key for key in expected if key in state]
    shapes = {key: (tuple(state[key].shape), tuple(expected[key].shape)) for key in both}
    mismatched = {key: pair for key, pair in shapes.items() if pair[0] != pair[1]}
    if missing or unexpected or mismatched:
        found = describe(
            [key for key in shapes if key not in mismatched], missing, unexpected, mismatched
        )
        raise CheckpointError(
            f"{path} does not fit the record beside it: {found}. Copy both again."
        )
    check_values(state, path)
    return dict(state)


def unwrapped(state: Mapping[str, Tensor], expected: Iterable[str]) -> Mapping[str, Tensor]:
    """The tensors under the expected names, where a wrapper has put a prefix before all.

    Such as `module.` of a network trained in parallel, or `_orig_mod.` of a compiled one.
    """
    wanted = set(expected)
    theirs, ours = shared_prefix(state), shared_prefix(wanted)
    renamed = {ours + key.removeprefix(theirs): value for key, value in state.items()}
    return renamed if len(wanted & renamed.keys()) > len(wanted & state.keys()) else state


def shared_prefix(names: Iterable[str]) -> str:
    """ "a.b." of a.b.c and a.b.d.e: what all names begin with, up to a full stop."""
    parts = [name.split(".")[:-1] for name in names]
    shared: list[str] = []
    for here in zip(*parts, strict=False):
        if len(set(here)) > 1:
            break
        shared.append(here[0])
    return "".join(f"{part}." for part in shared)


def check_values(state: Mapping[str, Tensor], path: str | Path) -> None:
    """Raise CheckpointError for tensors that are not dense, not real, or not finite.

    One NaN among the weights makes all features NaN, and clusters and neighbours of those are
    nothing but rounding.
    """
    import torch

    for key, value in state.items():
        is_plain = (
            value.layout == torch.strided and value.device.type == "cpu" and not value.is_quantized
        )
        if not is_plain or value.is_complex():
            raise CheckpointError(
                f"{path} holds {key} as no dense tensor of real numbers. Save it as one."
            )
    wrong = {
        key: int((~torch.isfinite(value)).sum())
        for key, value in state.items()
        if value.is_floating_point()
    }
    wrong = {key: count for key, count in wrong.items() if count}
    if wrong:
        raise CheckpointError(
            f"{path} has {sum(wrong.values())} weights that are NaN or infinite ({some(wrong)}), "
            "so that its features mean nothing. Take a checkpoint from before training failed."
        )
