"""How does a network of Hugging Face become an encoder, normalised as it was trained?

VideoMAE (Tong et al., NeurIPS 2022) and V-JEPA 2 (Assran et al., 2025): the mean of the last
layer's tokens. AST (Gong et al., Interspeech 2021): its pooled output, from waveforms, through its
own filter bank (`filterbank`). The extra `hf` brings transformers; neither torchvision nor
torchaudio is needed, since the processors that want them are not used: what their files say of
normalisation and sizes is applied here.

Shapes: frames (B, 3, T, H, W) or waveforms (B, L) -> features (B, D).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from seehear.config import Clip
from seehear.errors import CheckpointError, SeehearError, UsageError
from seehear.method.encoders import wrap
from seehear.models.filterbank import AstNetwork

PREFIX = "hf:"  # what a name begins with in `seehear.load`
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
AST_DEFAULTS = {
    "mean": -4.2677393,
    "std": 4.5689974,
    "do_normalize": True,
    "sampling_rate": 16000,
    "max_length": 1024,
}
# the first that is there
PROCESSORS = ("video_preprocessor_config.json", "preprocessor_config.json")


@dataclass(frozen=True)
class Family:
    """One architecture.

    Args:
        module, name: where transformers has it.
        modality: what it takes.
        build: network, config, what its preprocessor's file says -> encoder and clip settings.
    """

    module: str
    name: str
    modality: str
    build: Callable[[nn.Module, Any, dict[str, Any]], tuple[nn.Module, Clip]]


def videomae(network: nn.Module, config: Any, processor: dict[str, Any]) -> tuple[nn.Module, Clip]:
    """Frames of fixed number and size; every fourth of 30 a second, as trained on Kinetics."""
    clip = video_clip(config.num_frames, 7.5, config.image_size, processor)
    return video_encoder(network, config, processor), clip


def vjepa2(network: nn.Module, config: Any, processor: dict[str, Any]) -> tuple[nn.Module, Clip]:
    """The encoder without the predictor; any number of frames, four a second as in its training."""
    clip = video_clip(config.frames_per_clip, 4.0, config.crop_size, processor)
    return video_encoder(WithoutPredictor(network), config, processor), clip


def ast(network: nn.Module, config: Any, processor: dict[str, Any]) -> tuple[nn.Module, Clip]:
    """Waveforms of 10.24 s (for 1,024 columns); shorter ones are padded as its extractor does."""
    p = AST_DEFAULTS | {"max_length": config.max_length} | processor
    scale = (float(p["mean"]), 2 * float(p["std"])) if p["do_normalize"] else (0.0, 1.0)
    whole = AstNetwork(network, config.num_mel_bins, config.max_length, p["sampling_rate"], *scale)
    encoder = wrap(whole, config.hidden_size, takes="waveform", output=lambda y: y.pooler_output)
    return encoder, Clip(sound_seconds=config.max_length * 0.01, sample_rate_hz=p["sampling_rate"])


_AST = "audio_spectrogram_transformer"
FAMILIES = {
    "videomae": Family("videomae.modeling_videomae", "VideoMAEModel", "video", videomae),
    "vjepa2": Family("vjepa2.modeling_vjepa2", "VJEPA2Model", "video", vjepa2),
    "audio-spectrogram-transformer": Family(f"{_AST}.modeling_{_AST}", "ASTModel", "audio", ast),
}


def huggingface_encoder(name: str) -> tuple[nn.Module, str, Clip, dict[str, Any]]:
    """A network by its name on the hub, or from a folder that `save_pretrained` wrote.

    Returns:
        The encoder, its modality, clip settings, and what is known of its origin.
    Raises:
        UsageError: transformers is not installed, or the network is of another family.
        SeehearError: it cannot be loaded: no such name or folder, or no network.
        CheckpointError: weights are missing.
    """
    try:
        from transformers import AutoConfig
        from transformers.utils import logging
    except ImportError:
        raise UsageError(
            f"{PREFIX}{name} needs transformers. Install it: pip install 'seehear[hf]'"
        ) from None
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # its report of heads that are left out is ours to give
    try:
        config = AutoConfig.from_pretrained(name)
        family = FAMILIES.get(config.model_type)
        if family is None:
            raise UsageError(
                f"{name} is a {config.model_type}, for which there is no adapter; there are "
                f"{', '.join(FAMILIES)}. Load it yourself and use seehear.method.encoders.wrap."
            )
        kind = getattr(import_module(f"transformers.models.{family.module}"), family.name)
        network, report = kind.from_pretrained(name, output_loading_info=True)
        processor = preprocessor(name)
    except (OSError, ValueError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise SeehearError(
            f"{PREFIX}{name} cannot be loaded ({reason}). Give a name on the hub where there is a "
            f"network, or {PREFIX}FOLDER with what save_pretrained wrote."
        ) from None
    finally:
        logging.set_verbosity(verbosity)
    if report["missing_keys"]:
        missing = ", ".join(sorted(report["missing_keys"])[:3])
        raise CheckpointError(
            f"{name} lacks weights of its own architecture, {config.model_type}: {missing}, ..."
        )
    encoder, clip = family.build(network, config, processor)
    left_out = sorted(report["unexpected_keys"])
    source = {"name": PREFIX + name, "model_type": config.model_type, "left_out": left_out}
    return encoder, family.modality, clip, {"source": source}


class WithoutPredictor(nn.Module):
    """V-JEPA 2's encoder alone."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, frames_BTCHW: Tensor) -> Any:
        return self.network(frames_BTCHW, skip_predictor=True)


def video_encoder(network: nn.Module, config: Any, processor: dict[str, Any]) -> nn.Module:
    """The mean over tokens as feature, RGB normalised as the preprocessor's file says."""
    return wrap(
        network,
        config.hidden_size,
        rgb_mean=processor.get("image_mean", IMAGENET_MEAN),
        rgb_std=processor.get("image_std", IMAGENET_STD),
        layout="BTCHW",
        output=lambda y: y.last_hidden_state.mean(dim=1),
    )


def video_clip(frames: int, frame_rate_hz: float, crop: Any, processor: dict[str, Any]) -> Clip:
    """Clips with the crop that the network takes, of the short side that its preprocessor makes."""
    crop_pixels = int(crop if isinstance(crop, int) else crop[0])
    size = processor.get("size") or {}
    short_side = size.get("shortest_edge", crop_pixels) if isinstance(size, dict) else size
    return Clip(
        frames=frames,
        frame_rate_hz=frame_rate_hz,
        short_side_pixels=max(int(short_side), crop_pixels),
        crop_pixels=crop_pixels,
    )


def preprocessor(name: str) -> dict[str, Any]:
    """What the file of a network's preprocessor says; nothing where there is none."""
    from transformers.utils.hub import cached_file

    quiet = {
        "_raise_exceptions_for_missing_entries": False,
        "_raise_exceptions_for_connection_errors": False,
    }
    for file in PROCESSORS:
        if (found := cached_file(name, file, **quiet)) is not None:
            return dict(json.loads(Path(found).read_text(encoding="utf-8")))
    return {}
