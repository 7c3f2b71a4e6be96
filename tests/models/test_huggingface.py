from __future__ import annotations

import copy
import json
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import seehear
from benchmark_folders import written
from seehear.errors import CheckpointError, SeehearError, UsageError
from seehear.machine.console import Console
from seehear.models.filterbank import AstNetwork
from tiny_networks import IMAGENET, tiny_networks, tiny_pe_av

transformers = pytest.importorskip("transformers", reason="pip install 'seehear[hf]'")


@pytest.fixture(autouse=True)
def offline(monkeypatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tiny_networks(tmp_path_factory.mktemp("networks"))


def test_videomae_is_its_own_network_with_its_own_normalisation(folder):
    from transformers.models.videomae.modeling_videomae import VideoMAEModel

    model = seehear.load(f"hf:{folder}/videomae", device="cpu")
    assert model.modalities == ("video",)
    assert (model.clip.frames, model.clip.short_side_pixels, model.clip.crop_pixels) == (4, 40, 32)
    assert any(key.startswith("decoder") for key in model.info["source"]["left_out"])
    frames = torch.rand(2, 3, 4, 32, 32)
    mean, std = (
        torch.tensor(IMAGENET[key]).view(1, 3, 1, 1, 1) for key in ("image_mean", "image_std")
    )
    network = VideoMAEModel.from_pretrained(folder / "videomae").eval()
    with torch.inference_mode():
        wanted = network(((frames - mean) / std).transpose(1, 2)).last_hidden_state.mean(1)
    torch.testing.assert_close(model.video(frames), wanted)
    assert model.pair.feature_dim("video") == 24


def test_vjepa2_is_its_encoder_without_the_predictor(folder):
    from transformers.models.vjepa2.modeling_vjepa2 import VJEPA2Model

    model = seehear.load(f"hf:{folder}/vjepa2", device="cpu")
    assert (model.clip.frames, model.clip.short_side_pixels, model.clip.crop_pixels) == (8, 36, 32)
    frames = torch.rand(2, 3, 8, 32, 32)
    network = VJEPA2Model.from_pretrained(folder / "vjepa2").eval()
    with torch.inference_mode():
        wanted = network.get_vision_features(((frames - 0.5) / 0.5).transpose(1, 2)).mean(1)
    torch.testing.assert_close(model.video(frames), wanted)


@pytest.mark.parametrize("seconds", [0.05, 0.7, 1.28, 3.0])
def test_ast_hears_what_its_own_feature_extractor_makes(folder, seconds):
    from transformers.models.audio_spectrogram_transformer import ASTModel

    model = seehear.load(f"hf:{folder}/ast", device="cpu")
    assert model.clip.sound_seconds == pytest.approx(1.28)
    wave = 0.3 * np.random.default_rng(0).standard_normal(round(16000 * seconds)).astype(np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        extractor = transformers.ASTFeatureExtractor.from_pretrained(folder / "ast")
    wanted = extractor(wave, sampling_rate=16000, return_tensors="pt")["input_values"]
    padded = torch.from_numpy(np.pad(wave, (0, max(0, 20480 - len(wave)))))[None]
    network: AstNetwork = model.pair.encoders["audio"].module
    torch.testing.assert_close(network.filter_bank(padded), wanted, rtol=1e-3, atol=1e-4)
    with torch.inference_mode():
        feature = ASTModel.from_pretrained(folder / "ast").eval()(wanted).pooler_output
    torch.testing.assert_close(model.audio(padded), feature, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", ["clap", "clap-fused"])
@pytest.mark.parametrize("seconds", [0.05, 0.3, 0.7, 1.0, 1.5])
def test_clap_hears_what_its_own_feature_extractor_makes(folder, name, seconds):
    from transformers import ClapFeatureExtractor, ClapModel

    model = seehear.load(f"hf:{folder}/{name}", device="cpu")
    assert (model.clip.sound_seconds, model.clip.sample_rate_hz) == (1.0, 16000)
    assert any(key.startswith("text_model") for key in model.info["source"]["left_out"])
    wave = 0.3 * np.random.default_rng(0).standard_normal(round(16000 * seconds)).astype(np.float32)
    extractor = ClapFeatureExtractor.from_pretrained(folder / name)
    heard = wave[:16000]  # of longer sound it draws a part at random
    wanted = extractor(heard, sampling_rate=16000, return_tensors="pt")["input_features"].float()
    padded = torch.from_numpy(np.pad(wave, (0, max(0, 16000 - len(wave)))))[None]
    bank = model.pair.encoders["audio"].module.filter_bank(padded)
    torch.testing.assert_close(bank, wanted[:, 0], rtol=1e-3, atol=1e-3)
    network = ClapModel.from_pretrained(folder / name).eval()
    with torch.inference_mode():
        embedding = network.get_audio_features(wanted, is_longer=torch.zeros(1, 1, dtype=bool))
    found = F.normalize(model.audio(padded), dim=1)
    torch.testing.assert_close(
        found, F.normalize(embedding.pooler_output, dim=1), atol=1e-3, rtol=0
    )


def test_both_senses_of_pe_av_are_its_own_embeddings():
    from seehear.models.huggingface import FAMILIES

    network = tiny_pe_av()
    size = {"size": {"height": 32, "width": 32}}
    encoders, clip = FAMILIES["pe_audio_video"].build(network, size)
    assert (clip.frames, clip.crop_pixels, clip.sample_rate_hz) == (16, 32, 48000)
    assert {m: encoder.feature_dim for m, encoder in encoders.items()} == {"video": 24, "audio": 24}
    frames, wave = torch.rand(2, 3, 4, 32, 32), torch.rand(2, 1920 * 5)
    with torch.inference_mode():
        seen = network.video_model.video_encoder(
            ((frames - 0.5) / 0.5).transpose(1, 2).contiguous()
        )
        wanted = network.video_model.video_head(seen.pooler_output)
        torch.testing.assert_close(encoders["video"](frames), wanted)
        torch.testing.assert_close(encoders["audio"](wave), network.get_audio_embeds(wave[:, None]))
        assert encoders["audio"](wave[:, :-7]).shape == (2, 24)  # no whole number of hops
    (encoders["video"](frames).sum() + encoders["audio"](wave).sum()).backward()
    for encoder in encoders.values():
        for key, parameter in encoder.named_parameters():
            assert parameter.requires_grad == (parameter.grad is not None), key


@pytest.mark.parametrize("name", ["videomae", "vjepa2", "ast", "clap", "clap-fused"])
def test_training_reaches_what_it_may_and_draws_nothing(folder, name):
    model = seehear.load(f"hf:{folder}/{name}", device="cpu")
    ((modality, encoder),) = model.pair.train().encoders.items()
    before, draws = copy.deepcopy(encoder.state_dict()), torch.get_rng_state()
    clip = model.clip
    if modality == "video":
        x = torch.rand(
            2,
            3,
            clip.frames,
            clip.crop_pixels,
            clip.crop_pixels,
            generator=torch.Generator().manual_seed(0),
        )
    else:
        x = torch.rand(
            2,
            round(clip.sound_seconds * clip.sample_rate_hz),
            generator=torch.Generator().manual_seed(0),
        )
    encoder(x).square().sum().backward()
    for key, parameter in encoder.named_parameters():
        assert parameter.requires_grad == (parameter.grad is not None), key
    assert sum(parameter.requires_grad for parameter in encoder.parameters()) > 20
    assert torch.equal(torch.get_rng_state(), draws)
    for key, value in encoder.state_dict().items():  # statistics of batch norms, too
        assert torch.equal(value, before[key]), key


def test_silence_and_batches_are_fine(folder):
    model = seehear.load(f"hf:{folder}/ast", device="cpu")
    both = torch.stack([torch.zeros(20480), 0.1 * torch.randn(20480)])
    found = model.audio(both)
    assert bool(found.isfinite().all())
    torch.testing.assert_close(found[1:], model.audio(both[1:]))


def test_a_file_can_be_embedded(folder, index_folder):
    from seehear.data.index import Index

    path = Index.open(index_folder).path(0)
    for name, modality in (("videomae", "video"), ("vjepa2", "video"), ("ast", "audio")):
        found = seehear.embed_file(
            seehear.load(f"hf:{folder}/{name}", device="cpu"), path, num_clips=2
        )
        assert set(found) == {modality}
        assert found[modality].shape == (24,)


def test_what_cannot_be_loaded_says_why(folder, tmp_path):
    with pytest.raises(SeehearError, match="hf:no-such/network cannot be loaded"):
        seehear.load("hf:no-such/network")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "vit"}))
    with pytest.raises(UsageError, match="for which there is no adapter"):
        seehear.load(f"hf:{tmp_path}")
    with pytest.raises(UsageError, match=r"seehear.load\('hf:"):
        seehear.load(folder / "videomae")


def test_weights_that_are_missing_are_an_error(folder, tmp_path):
    from safetensors.torch import load_file, save_file

    state = load_file(folder / "vjepa2" / "model.safetensors")
    del state["encoder.layer.1.mlp.fc1.weight"]
    save_file(state, tmp_path / "model.safetensors", metadata={"format": "pt"})
    (tmp_path / "config.json").write_text((folder / "vjepa2" / "config.json").read_text())
    with pytest.raises(
        CheckpointError,
        match=r"lacks weights of its own architecture.*encoder.layer.1.mlp.fc1.weight",
    ):
        seehear.load(f"hf:{tmp_path}")


def test_neither_torchvision_nor_torchaudio_is_imported(folder):
    before = set(sys.modules)
    for name in ("videomae", "vjepa2", "ast", "clap"):
        seehear.load(f"hf:{folder}/{name}", device="cpu")
    assert not {"torchvision", "torchaudio"} & (set(sys.modules) - before)


@pytest.mark.parametrize(
    ("name", "layout", "space"), [("ast", "esc50", "audio"), ("videomae", "ucf101", "video")]
)
def test_clusters_of_encoders_of_one_modality_are_measured(folder, tmp_path, name, layout, space):
    data = written(tmp_path / "set", layout)
    given = {"data": data, "dataset": layout, "results": tmp_path, "console": Console(quiet=True)}
    result = seehear.evaluate(f"hf:{folder}/{name}", task="clusters", device="cpu", **given)
    assert list(result["values"]) == [space]
    assert result["values"][space]["num_clusters"] == 2
