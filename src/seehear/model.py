"""How do trained encoders leave a run, and how does another program get a feature out of them?

`encoders/` holds the weights of each encoder as safetensors and `encoders.json` with what rebuilds them; it needs
nothing else of the run.

    model = seehear.load("runs/mine")
    features_BD = model.video(frames)      # (B, 3, T, H, W) uint8, or float in [0, 1]
    features_BD = model.audio(waveform)    # (B, L) float in [-1, 1] at model.clip.sample_rate_hz
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Lock
from typing import Any

import torch
from torch import Tensor

from seehear.config import Clip, Encoders, Settings, from_dict
from seehear.encoders import AudioEncoder, Pair, VideoEncoder
from seehear.errors import CheckpointError, RunError
from seehear.features import spectrogram_of
from seehear.matching import Matching
from seehear.numerics import Numerics, find_device
from seehear.runs import whole_folder, write_json

FORMAT = 1  # of `encoders/`
MODALITIES = ("video", "audio")
_GLOBAL_GENERATOR = Lock()  # runs may be built side by side in threads


@dataclass(frozen=True)
class Model:
    """Two trained encoders and what they take.

    Args:
        pair: the encoders, without heads, in evaluation mode.
        clip: frames, rate, crop and sound that they were trained on.
        numerics: where and how precisely they run.
        info: what `encoders.json` says of their origin.
    """

    pair: Pair
    clip: Clip
    numerics: Numerics
    info: dict[str, Any]

    @torch.inference_mode()
    def video(self, frames_BCTHW: Tensor) -> Tensor:
        """Frames -> features (B, D), float32.

        Args:
            frames_BCTHW: (B, 3, T, H, W) RGB, uint8 in 0..255 or float in [0, 1]; T, H and W are free, but features are
                best at the `clip.frames` and `clip.crop_pixels` of training.
        Raises:
            ValueError: another shape.
        """
        if frames_BCTHW.ndim != 5 or frames_BCTHW.shape[1] != 3:
            raise ValueError(f"frames have shape {tuple(frames_BCTHW.shape)}. It must be (B, 3, T, H, W).")
        with self.numerics.autocast():
            features: Tensor = self.pair.encoders["video"](self.numerics.arrange(frames_BCTHW.to(self.numerics.device)))
        return features.float()

    @torch.inference_mode()
    def audio(self, waveform_BL: Tensor) -> Tensor:
        """Mono waveforms (B, L) in [-1, 1] at `clip.sample_rate_hz` -> features (B, D), float32.

        Raises:
            ValueError: another shape.
        """
        if waveform_BL.ndim != 2:
            raise ValueError(f"waveform has shape {tuple(waveform_BL.shape)}. It must be (B, samples), mono.")
        logmel_B1MS = spectrogram_of(self.clip)(waveform_BL.to(self.numerics.device))
        with self.numerics.autocast():
            features: Tensor = self.pair.encoders["audio"](logmel_B1MS)
        return features.float()


def build_pair(settings: Settings) -> Pair:
    """Two encoders as the settings say, with random weights drawn from `settings.seed`, without heads."""
    with _GLOBAL_GENERATOR, torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        return pair_of(settings.encoders)


def pair_of(e: Encoders) -> Pair:
    """Two encoders of the given shapes; random weights from PyTorch's global generator."""
    video = VideoEncoder(e.video_width, e.video_depth, e.midplanes)
    return Pair(video, AudioEncoder(e.audio_width, e.audio_depth))


def save_encoders(
    folder: Path, pair: Pair, settings: Settings, info: dict[str, Any], matching: Matching | None = None
) -> None:
    """Write `encoders/`, whole or not at all."""
    from safetensors.torch import save_file

    with whole_folder(folder, overwrite=True) as temporary:
        for modality in MODALITIES:
            state = {k: v.contiguous() for k, v in pair.encoders[modality].state_dict().items()}
            save_file(state, temporary / f"{modality}.safetensors")
        if matching is not None:
            save_file(matching.state_dict(), temporary / "matching.safetensors")
        record = {"format": FORMAT, "encoders": asdict(settings.encoders), "clip": asdict(settings.clip), **info}
        write_json(temporary / "encoders.json", record)


def load(path: str | Path, *, device: str = "auto") -> Model:
    """The trained encoders of a run, ready to be called.

    Args:
        path: a run's folder, or an `encoders/` folder.
        device: "auto", "cpu", "cuda", ...
    Raises:
        RunError: there are no encoders there.
        CheckpointError: the files do not fit together.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    folder = Path(path)
    folder = folder / "encoders" if (folder / "encoders").is_dir() else folder
    try:
        record = json.loads((folder / "encoders.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        hint = (
            "The run has not finished: `seehear pretrain ... --resume`." if (Path(path) / "run.json").exists() else ""
        )
        raise RunError(f"{path} has no trained encoders. {hint or 'Give the folder of a run.'}") from None
    except ValueError as error:
        raise CheckpointError(f"{folder}/encoders.json is not readable as JSON ({error}).") from None
    settings = from_dict({"encoders": record["encoders"], "clip": record["clip"]})
    pair = pair_of(settings.encoders)
    for modality in MODALITIES:
        try:
            pair.encoders[modality].load_state_dict(load_file(folder / f"{modality}.safetensors"), strict=True)
        except (OSError, SafetensorError, RuntimeError) as error:
            raise CheckpointError(f"{folder}/{modality}.safetensors does not fit encoders.json: {error}") from None
    numerics = Numerics(find_device(device), "fp32", "contiguous")
    return Model(numerics.place(pair).eval(), settings.clip, numerics, record)
