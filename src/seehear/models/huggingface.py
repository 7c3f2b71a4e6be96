"""How does a network of Hugging Face become an encoder, normalised as it was trained?

VideoMAE (Tong et al., NeurIPS 2022) and V-JEPA 2 (Assran et al., 2025): the mean of the last
layer's tokens. AST (Gong et al., Interspeech 2021): its pooled output, from waveforms, through its
own filter bank (`filterbank`). CLAP (Wu et al., ICASSP 2023): its audio embedding, likewise. PE-AV
(Vyas et al., 2025): the video and audio embeddings of one space. The extra `hf` brings
transformers; neither torchvision nor torchaudio is needed, since the processors that want them are
not used: what their files say of normalisation and sizes is applied here.

Shapes: frames (B, 3, T, H, W) or waveforms (B, L) -> features (B, D).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seehear.config import Clip
from seehear.errors import CheckpointError, SeehearError, UsageError
from seehear.method.encoders import wrap
from seehear.models.filterbank import AstNetwork, ClapNetwork

Encoders = dict[str, nn.Module]  # by modality
encoder_of = partial(wrap, stays_eval=True)
PREFIX = "hf:"  # what a name begins with in `seehear.load`
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
AST_DEFAULTS = {
    "mean": -4.2677393,
    "std": 4.5689974,
    "do_normalize": True,
    "sampling_rate": 16000,
    "max_length": 1024,
}
CLAP_DEFAULTS: dict[str, Any] = {
    "sampling_rate": 48000,
    "hop_length": 480,
    "max_length_s": 10,
    "fft_window_size": 1024,
    "frequency_min": 0,
    "frequency_max": 14000,
    "truncation": "fusion",
}
# of PE-AV
PE_RATE_HZ, PE_HOP, PE_SECONDS, PE_FRAMES, PE_PIXELS = 48000, 1920, 10.0, 16, 336
# the first that is there
PROCESSORS = ("video_preprocessor_config.json", "preprocessor_config.json")


@dataclass(frozen=True)
class Family:
    """One architecture.

    Args:
        module, name: where transformers has it.
        make: network, config, what its preprocessor's file says -> encoders by modality, and clip
            settings.
        fixed: in the names of weights that get no gradient.
    """

    module: str
    name: str
    make: Callable[[nn.Module, Any, dict[str, Any]], tuple[Encoders, Clip]]
    fixed: tuple[str, ...] = ()

    @property
    def kind(self) -> Any:
        """The class of its networks."""
        return getattr(import_module(f"transformers.models.{self.module}"), self.name)

    def build(self, network: nn.Module, processor: dict[str, Any]) -> tuple[Encoders, Clip]:
        """Encoders by modality, and clip settings."""
        # Ranks take a gradient that is not there for zeros, with which a weight would decay.
        for name, parameter in network.named_parameters():
            if any(part in name for part in self.fixed):
                parameter.requires_grad_(False)
        return self.make(network, network.config, processor)


def videomae(network: nn.Module, config: Any, processor: dict[str, Any]) -> tuple[Encoders, Clip]:
    """Frames of fixed number and size; every fourth of 30 a second, as trained on Kinetics."""
    clip = video_clip(config.num_frames, 7.5, config.image_size, processor)
    return {"video": video_encoder(network, config, processor)}, clip


def vjepa2(network: nn.Module, config: Any, processor: dict[str, Any]) -> tuple[Encoders, Clip]:
    """The encoder without the predictor; any number of frames, four a second as in its training."""
    clip = video_clip(config.frames_per_clip, 4.0, config.crop_size, processor)
    return {"video": video_encoder(WithoutPredictor(network), config, processor)}, clip


def ast(network: nn.Module, config: Any, processor: dict[str, Any]) -> tuple[Encoders, Clip]:
    """Waveforms of 10.24 s (for 1,024 columns); shorter ones are padded as its extractor does."""
    p = AST_DEFAULTS | {"max_length": config.max_length} | processor
    scale = (float(p["mean"]), 2 * float(p["std"])) if p["do_normalize"] else (0.0, 1.0)
    whole = AstNetwork(network, config.num_mel_bins, config.max_length, p["sampling_rate"], *scale)
    width = config.hidden_size
    encoder = encoder_of(whole, width, takes="waveform", output=lambda y: y.pooler_output)
    clip = Clip(sound_seconds=config.max_length * 0.01, sample_rate_hz=p["sampling_rate"])
    return {"audio": encoder}, clip


def clap(network: nn.Module, config: Any, processor: dict[str, Any]) -> tuple[Encoders, Clip]:
    """Waveforms of 10 s; shorter ones are repeated as its extractor does."""
    from transformers.audio_utils import mel_filter_bank

    p = CLAP_DEFAULTS | {"feature_size": config.num_mel_bins} | processor
    rate = p["sampling_rate"]
    style = (None, "htk") if p["truncation"] == "fusion" else ("slaney", "slaney")
    bins = (p["fft_window_size"] // 2 + 1, p["feature_size"])
    filters_FM = mel_filter_bank(*bins, p["frequency_min"], p["frequency_max"], rate, *style)
    whole = ClapNetwork(
        network,
        torch.from_numpy(filters_FM).float(),
        p["hop_length"],
        round(p["max_length_s"] * rate),
        config.enable_fusion,
    )
    width = config.projection_dim
    encoder = encoder_of(whole, width, takes="waveform", output=lambda y: y.audio_embeds)
    return {"audio": encoder}, Clip(sound_seconds=p["max_length_s"], sample_rate_hz=rate)


def pe_av(network: Any, config: Any, processor: dict[str, Any]) -> tuple[Encoders, Clip]:
    """16 frames and all sound of 10 s, which is our choice; the paper's are those of whole videos.

    The frames' network is of timm, which must be installed. Frames are cropped, not squeezed.
    """
    width = config.text_config.hidden_size
    seen = network.video_model.video_encoder, network.video_model.video_head
    heard = network.audio_model.audio_encoder, network.audio_model.audio_head
    vision = config.audio_video_config.video_config.vision_config
    size = (processor.get("size") or {}).get("height") or getattr(vision, "image_size", PE_PIXELS)
    frames = processor.get("num_frames") or PE_FRAMES
    clip = video_clip(frames, frames / PE_SECONDS, size, {"size": size})
    half = (0.5,) * 3
    video = encoder_of(Embedding(*seen), width, rgb_mean=half, rgb_std=half, layout="BTCHW")
    audio = encoder_of(Embedding(*heard), width, takes="waveform")
    sound = Clip(sound_seconds=PE_SECONDS, sample_rate_hz=PE_RATE_HZ)
    return {"video": video, "audio": audio}, clip.with_input_of("audio", sound)


WITHOUT = ("dac_encoder.", "embedder.bottleneck.")  # gradients in transformers, of PE-AV
FUSION = ("fusion_model.", "mel_conv2d.")  # of sounds longer than a clip, which we cut
_AST = "audio_spectrogram_transformer"
FAMILIES = {
    "videomae": Family("videomae.modeling_videomae", "VideoMAEModel", videomae),
    "vjepa2": Family("vjepa2.modeling_vjepa2", "VJEPA2Model", vjepa2, ("predictor.",)),
    "audio-spectrogram-transformer": Family(f"{_AST}.modeling_{_AST}", "ASTModel", ast),
    "clap": Family("clap.modeling_clap", "ClapAudioModelWithProjection", clap, FUSION),
    "pe_audio_video": Family(
        "pe_audio_video.modeling_pe_audio_video", "PeAudioVideoModel", pe_av, WITHOUT
    ),
}


def huggingface_encoders(name: str) -> tuple[Encoders, Clip, dict[str, Any]]:
    """A network by its name on the hub, or from a folder that `save_pretrained` wrote.

    Returns:
        Its encoders by modality, clip settings, and its origin and what `rebuilt` needs.
    Raises:
        UsageError: transformers is not installed, or the network is of another family.
        SeehearError: it cannot be loaded: no such name or folder, or no network.
        CheckpointError: weights are missing.
    """
    check_transformers(f"{PREFIX}{name}")
    from transformers import AutoConfig
    from transformers.utils import logging

    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # its report of heads that are left out is ours to give
    logging.disable_progress_bar()
    try:
        config = AutoConfig.from_pretrained(name)
        family = FAMILIES.get(config.model_type)
        if family is None:
            raise UsageError(
                f"{name} is a {config.model_type}, for which there is no adapter; there are "
                f"{', '.join(FAMILIES)}. Load it yourself and use seehear.method.encoders.wrap."
            )
        network, report = family.kind.from_pretrained(name, output_loading_info=True)
        processor = preprocessor(name)
    except (OSError, ValueError, RuntimeError, ImportError) as error:
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
    encoders, clip = family.build(network, processor)
    left_out = sorted(report["unexpected_keys"])
    source = {"name": PREFIX + name, "model_type": config.model_type, "left_out": left_out}
    about = {"family": config.model_type, "modalities": list(encoders)}
    about |= {"config": network.config.to_dict(), "processor": processor}
    return encoders, clip, {"source": source, "networks": [about]}


def rebuilt(about: Mapping[str, Any]) -> Encoders:
    """The encoders that one of the "networks" of `huggingface_encoders` describes, weights random.

    Raises:
        UsageError: transformers is not installed.
        ValueError: there is no such network.
    """
    check_transformers("This network")
    try:
        family = FAMILIES[about["family"]]
        network = family.kind(family.kind.config_class.from_dict(about["config"]))
        encoders, _ = family.build(network.eval(), dict(about["processor"]))
        return {modality: encoders[modality] for modality in about["modalities"]}
    except Exception as error:  # of whatever kind a stranger's description leads to
        raise ValueError(f"no network of {sorted(FAMILIES)}: {str(error).strip()[:200]}") from None


def check_transformers(what: str) -> None:
    """Raise UsageError where transformers is not installed."""
    if find_spec("transformers") is None:
        raise UsageError(f"{what} needs transformers. Install it: pip install 'seehear[hf]'")


class WithoutPredictor(nn.Module):
    """V-JEPA 2's encoder alone."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, frames_BTCHW: Tensor) -> Any:
        return self.network(frames_BTCHW, skip_predictor=True)


class Embedding(nn.Module):
    """One sense of PE-AV: frames (B, T, C, H, W) or waveforms (B, L) -> (B, D), comparable."""

    def __init__(self, encoder: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.encoder, self.head = encoder, head

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim == 2:
            x = F.pad(x[:, None], (0, -x.shape[1] % PE_HOP), "reflect")
        embedding_BD: Tensor = self.head(self.encoder(x).pooler_output)
        return embedding_BD


def video_encoder(network: nn.Module, config: Any, processor: dict[str, Any]) -> nn.Module:
    """The mean over tokens as feature, RGB normalised as the preprocessor's file says."""
    return encoder_of(
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
