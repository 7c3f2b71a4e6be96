"""How do trained encoders get into other programs? Weights, graphs, or a folder for the hub.

    safetensors   an `encoders/` folder: weights by name, and what rebuilds the networks
    torchscript   video.pt, audio.pt: for PyTorch without seehear, from Python or C++
    onnx          video.onnx, audio.onnx: for ONNX Runtime and the like
    hub           config.json, model.safetensors and a model card

Graphs take float32 frames (B, 3, T, H, W) in [0, 1], which they normalise themselves, or log-mel
(B, 1, M, S), and give features (B, D). B, T, H and W are free. Every graph is run on two batch
sizes and compared with the encoder before anything is written. `export.json` says what each file
takes, and how the log-mel image is made.
"""

from __future__ import annotations

import contextlib
import copy
import logging
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from seehear.errors import SeehearError, UsageError
from seehear.machine.files import versions, whole_folder, write_json
from seehear.machine.locks import one_writer
from seehear.machine.outputs import EXPORT, check_folder
from seehear.method.encoders import Conv2Plus1D
from seehear.method.encoders.spectrogram import LOG_FLOOR, mel_filters
from seehear.method.features import spectrogram_of
from seehear.models.files import write_encoders
from seehear.models.model import Model, load

FORMATS = {  # -> packages that it needs, and the extra that brings them
    "safetensors": ((), ""),
    "torchscript": ((), ""),
    "onnx": (("onnx", "onnxruntime", "onnxscript"), "onnx"),
    "hub": (("huggingface_hub",), "hub"),
}
INPUTS = {"video": "frames", "audio": "logmel"}  # names of the graphs' inputs
TOLERANCE = 1e-4  # of a graph's features, relative to the largest where that is above 1
BATCHES = (1, 3)  # that a graph is checked with; it was made with 2
# of the clips that it is made and checked with: their number and size are free
MOST_FRAMES, MOST_PIXELS = (8, 112)

Run = Callable[[Tensor], np.ndarray]


def export(
    run: str | Path,
    to: str,
    out: str | Path,
    *,
    licence: str | None = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Write the encoders of a run, of an `encoders/` folder, or released ones, for other programs.

    Args:
        run: what `seehear.load` opens, but for networks of Hugging Face as they are.
        to: "safetensors", "torchscript", "onnx" or "hub".
        out: the folder; must not exist, unless `overwrite` is set and it was made by this function.
        licence: of the weights, for the model card: an identifier such as apache-2.0.
    Returns:
        What is in `export.json`: files, inputs, and the largest difference of each graph from its
        encoder.
    Raises:
        UsageError: an unknown format, a package that is not installed, or `out` exists.
        SeehearError: a graph differs from its encoder by more than `TOLERANCE`.
    """
    out = Path(out)
    check_export(Path(run), to, out, overwrite)
    model = load(run, device="cpu")
    is_trained_here = "source" not in model.info  # then its weights are nowhere else
    if model.info.get("networks") and not (is_trained_here and to in ("safetensors", "hub")):
        raise UsageError(
            f"{run} is not of seehear's own networks. Export it with the library it comes from"
            f"{', or to safetensors or hub' * is_trained_here}."
        )
    record: dict[str, Any] = {"to": to, "model": str(run), "digest": model.digest}
    with one_writer(out), whole_folder(out, replaces=EXPORT if overwrite else None) as folder:
        if to == "safetensors":
            write_encoders(folder, model.pair, model.info, model.matching)
        elif to == "hub":
            write_hub(folder, model, Path(run), licence)
        else:
            write = write_onnx if to == "onnx" else write_torchscript
            record["inputs"] = {m: input_of(model, m) for m in model.modalities}
            record["differences"] = {m: write(folder, m, model) for m in model.modalities}
            if "audio" in model.modalities:
                record["log_mel"] = log_mel_of(model, folder)
        record["files"] = sorted([*(path.name for path in folder.iterdir()), "export.json"])
        write_json(folder / "export.json", {**record, "clip": asdict(model.clip), **versions()})
    return record


def check_export(run: Path, to: str, out: Path, overwrite: bool) -> None:
    """Raise UsageError for what cannot be written."""
    if to not in FORMATS:
        raise UsageError(
            f"Encoders cannot be exported to {to!r}. Choose one of {', '.join(FORMATS)}."
        )
    packages, extra = FORMATS[to]
    lacking = [name for name in packages if find_spec(name) is None]
    if lacking:
        raise UsageError(
            f"Exporting to {to} needs {' and '.join(lacking)}. Install: pip install "
            f"'seehear[{extra}]'"
        )
    check_folder(out, EXPORT, overwrite=overwrite, inputs=[run] if run.exists() else [])


def write_torchscript(folder: Path, modality: str, model: Model) -> float:
    """Write one encoder as TorchScript; returns the largest difference found."""
    encoder = plain_convolutions(model.pair.encoders[modality])
    path = folder / f"{modality}.pt"
    with quietly(), torch.no_grad():
        torch.jit.trace(encoder, example(model, modality, 2)).save(str(path))  # type: ignore[no-untyped-call]
        loaded = torch.jit.load(str(path))  # type: ignore[no-untyped-call]
    return largest_difference(model, modality, lambda x: loaded(x).numpy())


def write_onnx(folder: Path, modality: str, model: Model) -> float:
    """Write one encoder as ONNX; returns the largest difference found in ONNX Runtime."""
    import onnx
    import onnxruntime

    path, name = folder / f"{modality}.onnx", INPUTS[modality]
    axes = (0, 2, 3, 4) if modality == "video" else (0,)
    free = dict.fromkeys(axes, torch.export.Dim.DYNAMIC)
    with quietly(), torch.no_grad():
        torch.onnx.export(
            plain_convolutions(model.pair.encoders[modality]),
            (example(model, modality, 2),),
            str(path),
            input_names=[name],
            output_names=["features"],
            dynamic_shapes=(free,),
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    onnx.checker.check_model(str(path))
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return largest_difference(model, modality, lambda x: session.run(None, {name: x.numpy()})[0])


def write_hub(folder: Path, model: Model, run: Path, licence: str | None) -> None:
    """Write a folder in the layout of Hugging Face's hub."""
    from seehear.models.hub import HubModel, card

    (folder / "README.md").write_text(card(model, run, licence), encoding="utf-8")
    HubModel.of(model.pair, model.info).save_pretrained(folder)


def plain_convolutions(encoder: nn.Module) -> nn.Module:
    """A copy whose factored convolutions are ordinary ones: its graph has no reshaping in it."""
    encoder = copy.deepcopy(encoder).eval().requires_grad_(False)
    for name, module in list(encoder.named_modules()):
        if isinstance(module, Conv2Plus1D):
            ordinary = nn.Conv3d(
                module.in_channels,
                module.out_channels,
                module.kernel_size,  # type: ignore[arg-type]
                module.stride,  # type: ignore[arg-type]
                module.padding,  # type: ignore[arg-type]
                bias=False,
            )
            ordinary.weight = nn.Parameter(module.weight.detach().contiguous(), requires_grad=False)
            encoder.set_submodule(name, ordinary.eval())
    return encoder


def example(model: Model, modality: str, batch: int) -> Tensor:
    """A random batch, drawn from its length, of at most the size that the model was trained on."""
    clip, generator = model.clip, torch.Generator().manual_seed(batch)
    if modality == "video":
        side = min(clip.crop_pixels, MOST_PIXELS)
        return torch.rand(batch, 3, min(clip.frames, MOST_FRAMES), side, side, generator=generator)
    length = round(clip.sound_seconds * clip.sample_rate_hz)
    return spectrogram_of(clip)(torch.rand(batch, length, generator=generator) - 0.5)


def largest_difference(model: Model, modality: str, run: Run) -> float:
    """How far a graph's features are from the encoder's; SeehearError above `TOLERANCE`."""
    differences, scale = [], 1.0
    for batch in BATCHES:
        x = example(model, modality, batch)
        with torch.inference_mode():
            wanted_BD = model.pair.encoders[modality](x).numpy()
        differences.append(np.abs(run(x) - wanted_BD).max())
        scale = max(scale, float(np.abs(wanted_BD).max()))
    largest = float(np.max(differences))  # not max(), which would lose a NaN
    if not largest <= TOLERANCE * scale:
        raise SeehearError(
            f"The exported {modality} graph differs from the encoder by {largest:.2g}; "
            f"{TOLERANCE * scale:.2g} is allowed. Nothing was written. Try another version of "
            f"PyTorch, or --to safetensors."
        )
    return largest


def input_of(model: Model, modality: str) -> dict[str, Any]:
    """What one graph takes, in words for people and numbers for programs."""
    clip, name = model.clip, INPUTS[modality]
    if modality == "video":
        about = "RGB in [0, 1], float32; normalised inside; frames, height and width are free too"
        shape = ["B", 3, clip.frames, clip.crop_pixels, clip.crop_pixels]
        return {"name": name, "axes": "B C T H W", "shape": shape, "about": about}
    shape = ["B", 1, clip.mel_bins, clip.spectrogram_frames]
    return {"name": name, "axes": "B 1 M S", "shape": shape, "about": "float32, as `log_mel` says"}


def log_mel_of(model: Model, folder: Path) -> dict[str, Any]:
    """How a log-mel image is made; `mel_filters.npy` holds its filters, (M, fft_length / 2 + 1)."""
    s = spectrogram_of(model.clip)
    window_length = round(s.window_seconds * s.sample_rate_hz)
    filters_MF = mel_filters(s.mel_bins, window_length, s.sample_rate_hz)
    np.save(folder / "mel_filters.npy", filters_MF.numpy())
    return {
        "sample_rate_hz": s.sample_rate_hz,
        "seconds": model.clip.sound_seconds,
        "fft_length": window_length,
        "hop_length": round(s.hop_seconds * s.sample_rate_hz),
        "window": "periodic Hann",
        "padding": "reflected by half a window at both ends",
        "filters": "mel_filters.npy, applied to the squared magnitude",
        "log_floor": LOG_FLOOR,
        "columns": s.frames,
        "about": "log(filters @ |STFT|^2 + log_floor), resized along time by linear interpolation "
        "between the centres of columns",
    }


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Without the exporters' notes on deprecation and on packages that are not needed."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
