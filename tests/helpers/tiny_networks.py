"""Tiny networks of Hugging Face with random weights, as `save_pretrained` writes them."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import torch

SMALL = {
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
}
IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}


def tiny_networks(folder: Path) -> Path:
    """Tiny networks with random weights, as `save_pretrained` writes them."""
    from transformers import ASTConfig, ASTFeatureExtractor, VideoMAEConfig, VJEPA2Config
    from transformers.models.audio_spectrogram_transformer import ASTForAudioClassification
    from transformers.models.videomae.modeling_videomae import VideoMAEForPreTraining
    from transformers.models.vjepa2.modeling_vjepa2 import VJEPA2Model

    torch.manual_seed(0)
    decoder = {f"decoder_{key}": value for key, value in SMALL.items()}
    videomae = VideoMAEConfig(image_size=32, patch_size=16, num_frames=4, **SMALL, **decoder)
    VideoMAEForPreTraining(videomae).save_pretrained(folder / "videomae")
    size = {"size": {"shortest_edge": 40}, "crop_size": {"height": 32, "width": 32}}
    (folder / "videomae" / "preprocessor_config.json").write_text(json.dumps(IMAGENET | size))
    vjepa2 = VJEPA2Config(
        crop_size=32, patch_size=16, frames_per_clip=8, pred_num_hidden_layers=1, **SMALL
    )
    VJEPA2Model(vjepa2).save_pretrained(folder / "vjepa2")
    size = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "size": {"shortest_edge": 36}}
    (folder / "vjepa2" / "video_preprocessor_config.json").write_text(json.dumps(size))
    ast = ASTConfig(max_length=128, num_mel_bins=64, num_labels=3, **SMALL)
    ASTForAudioClassification(ast).save_pretrained(folder / "ast")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its own filters without a bin
        extractor = ASTFeatureExtractor(num_mel_bins=64, max_length=128, mean=-3.0, std=2.0)
    extractor.save_pretrained(folder / "ast")
    write_clap(folder / "clap", is_fused=False)
    write_clap(folder / "clap-fused", is_fused=True)
    return folder


def write_clap(folder: Path, *, is_fused: bool) -> None:
    from transformers import ClapConfig, ClapFeatureExtractor, ClapModel

    text = {"vocab_size": 20, "max_position_embeddings": 20, **SMALL}
    audio = {
        "spec_size": 128,
        "patch_size": 4,
        "patch_stride": [4, 4],
        "patch_embeds_hidden_size": 8,
        "depths": [1, 1],
        "num_attention_heads": [2, 2],
        "window_size": 4,
        "num_mel_bins": 32,
        "hidden_size": 16,
        "enable_fusion": is_fused,
        "aff_block_r": 2,
    }
    config = ClapConfig(text_config=text, audio_config=audio, projection_dim=24)
    ClapModel(config).save_pretrained(folder)
    truncation = "fusion" if is_fused else "rand_trunc"
    ClapFeatureExtractor(
        feature_size=32,
        sampling_rate=16000,
        hop_length=160,
        max_length_s=1,
        fft_window_size=512,
        frequency_max=7000,
        truncation=truncation,
    ).save_pretrained(folder)


def tiny_pe_av() -> Any:
    """A PE-AV with a small ViT where the published ones have one of timm."""
    from transformers import (
        PeAudioVideoConfig,
        PeAudioVideoEncoderConfig,
        PeAudioVideoModel,
        PeVideoEncoderConfig,
        ViTConfig,
    )

    layers = {**SMALL, "num_hidden_layers": 1, "head_dim": 12}
    dac = {"model_type": "dac", "encoder_hidden_size": 4, "hidden_size": 64, "codebook_dim": 8}
    vit = ViTConfig(image_size=32, patch_size=16, num_labels=6, **SMALL)
    both = PeAudioVideoEncoderConfig(
        video_config=PeVideoEncoderConfig(vision_config=vit, **layers),
        audio_config={"model_type": "pe_audio_encoder", "dac_config": dac, **layers},
        **layers,
    )
    text = {"model_type": "modernbert", "vocab_size": 20, "pad_token_id": 0, **SMALL}
    torch.manual_seed(0)
    return PeAudioVideoModel(PeAudioVideoConfig(text_config=text, audio_video_config=both)).eval()
