from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch

import seehear
from media_files import write_media
from seehear.config import Clip, Data, Encoders, Settings
from seehear.data.clips import Clips
from seehear.data.index import Index
from seehear.errors import CheckpointError, MediaError, RunError, SeehearError, UsageError
from seehear.machine.console import Console
from seehear.machine.devices import Numerics
from seehear.method.encoders import AudioEncoder, Pair, VideoEncoder, wrap
from seehear.method.features import extract, read_features, write_features
from seehear.models.files import save_encoders
from seehear.models.model import Model

CLIP = Clip(frames=4, frame_rate_hz=8, short_side_pixels=36, crop_pixels=32, sound_seconds=0.5)
SETTINGS = Settings(
    clip=CLIP, encoders=Encoders(video_width=4, video_depth=10, audio_width=4, audio_depth=10)
)
NUMERICS = Numerics("cpu", "fp32", "contiguous")
EPS = 3e-4


def pair_with(*modalities: str) -> Pair:
    torch.manual_seed(5)
    video, audio = VideoEncoder(4, 10, bn_eps=EPS), AudioEncoder(4, 10)
    return Pair(
        video if "video" in modalities else None, audio if "audio" in modalities else None
    ).eval()


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Stored encoders: both, video alone, audio alone."""
    folder = tmp_path_factory.mktemp("encoders")
    for name in ("video audio", "video", "audio"):
        save_encoders(folder / name, pair_with(*name.split()), SETTINGS, {"origin": "test"})
    return folder


@pytest.mark.parametrize("name", ["video audio", "video", "audio"])
def test_stored_encoders_come_back_as_they_were(name, folder):
    model = seehear.load(folder / name, device="cpu")
    assert model.modalities == tuple(name.split())
    assert model.info["origin"] == "test"
    assert model.clip == CLIP
    norms = [m for m in model.pair.modules() if isinstance(m, torch.nn.BatchNorm3d)]
    assert all(m.eps == EPS for m in norms)
    assert bool(norms) == ("video" in name)
    assert model.digest == Model(pair_with(*name.split()), CLIP, NUMERICS, {}).digest


def test_what_a_model_lacks_is_said_with_what_it_has(folder):
    with pytest.raises(UsageError, match="no audio encoder, only one for video"):
        seehear.load(folder / "video").audio(torch.zeros(1, 8000))
    with pytest.raises(UsageError, match="no video encoder, only one for audio"):
        seehear.load(folder / "audio").video(torch.zeros(1, 3, 4, 32, 32))
    with pytest.raises(UsageError, match="no video encoder here"):
        pair_with("audio").feature_dim("video")


def test_encoders_written_before_modalities_were_recorded_still_open(folder, tmp_path):
    old = tmp_path / "old"
    save_encoders(old, Pair(VideoEncoder(4, 10), AudioEncoder(4, 10)), SETTINGS, {})
    record = json.loads((old / "encoders.json").read_text())
    for key in ("modalities", "bn_eps"):
        del record[key]
    (old / "encoders.json").write_text(json.dumps(record))
    model = seehear.load(old)
    assert model.modalities == ("video", "audio")
    assert next(m.eps for m in model.pair.modules() if isinstance(m, torch.nn.BatchNorm3d)) == 1e-3


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda r: r | {"format": 9}, "format 9"),
        (lambda r: {k: v for k, v in r.items() if k != "clip"}, "does not describe encoders"),
        (
            lambda r: r | {"encoders": r["encoders"] | {"video_depth": 34}},
            "does not describe encoders",
        ),
        (
            lambda r: r | {"encoders": r["encoders"] | {"video_width": 8}},
            "video.safetensors does not fit",
        ),
        (lambda r: [r], "holds no JSON object"),
    ],
)
def test_damaged_records_are_one_clear_line(change, says, folder, tmp_path):
    copy = tmp_path / "copy"
    save_encoders(copy, pair_with("video"), SETTINGS, {})
    record = json.loads((copy / "encoders.json").read_text())
    (copy / "encoders.json").write_text(json.dumps(change(record)))
    with pytest.raises(CheckpointError, match=says) as caught:
        seehear.load(copy)
    assert "\n" not in str(caught.value)


def test_a_folder_or_name_without_encoders_is_said_to_have_none(tmp_path):
    for path in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(RunError, match="no trained encoders"):
            seehear.load(path)


def test_the_digest_is_of_the_weights_alone(folder):
    model = seehear.load(folder / "video", device="cpu")
    before = model.digest
    assert len(before) == 12
    assert dataclasses.replace(model, clip=Clip()).digest == before
    changed = seehear.load(folder / "video", device="cpu")
    with torch.no_grad():
        next(changed.pair.parameters()).view(-1)[0] += 1e-3
    assert changed.digest != before


def test_the_feature_of_a_file_is_that_of_an_index(index_folder, folder):
    model = seehear.load(folder / "video audio", device="cpu")
    index = Index.open(index_folder)
    data = Data(workers=0, cache_gigabytes=0)
    wanted = extract(
        model.pair, Clips(index, CLIP, data, 0), NUMERICS, rows=np.arange(2), num_clips=3
    )
    for row in range(2):
        found = seehear.embed_file(model, index.path(row), num_clips=3)
        assert set(found) == {"video", "audio"}
        for modality, feature in found.items():
            assert feature.dtype == np.float32
            np.testing.assert_allclose(feature, wanted.of[modality][row].numpy(), atol=1e-5)


def test_a_file_with_one_stream_gives_that_feature(folder, tmp_path):
    both = seehear.load(folder / "video audio", device="cpu")
    silent, sound = tmp_path / "silent.mp4", tmp_path / "sound.mp4"
    write_media(silent, audio_codec=None)
    write_media(sound, video_codec=None)
    assert set(seehear.embed_file(both, silent, num_clips=2)) == {"video"}
    assert set(seehear.embed_file(both, sound, num_clips=2)) == {"audio"}
    with pytest.raises(MediaError, match="no video stream"):
        seehear.embed_file(seehear.load(folder / "video", device="cpu"), sound)
    with pytest.raises(MediaError, match="no audio stream"):
        seehear.embed_file(seehear.load(folder / "audio", device="cpu"), silent)
    with pytest.raises(MediaError, match="not found"):
        seehear.embed_file(both, tmp_path / "nothing.mp4")
    with pytest.raises(UsageError, match="num_clips is 0"):
        seehear.embed_file(both, silent, num_clips=0)


def test_features_of_one_modality_can_be_kept(index_folder, tmp_path):
    clips = Clips(Index.open(index_folder), CLIP, Data(workers=0, cache_gigabytes=0), 0, ("audio",))
    found = extract(pair_with("audio"), clips, NUMERICS, rows=np.array([1, 3]))
    write_features(tmp_path, [(found.rows, found.of)], 5)
    again = read_features(tmp_path)
    assert again.rows.tolist() == [1, 3]
    assert set(again.of) == {"audio"}
    torch.testing.assert_close(again.of["audio"], found.of["audio"], rtol=1e-2, atol=1e-2)


class Mean(torch.nn.Module):
    """A video network that takes (B, T, C, H, W) and gives colour means, T last, as a
    dictionary.
    """

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"features": x.mean(dim=(3, 4)).flatten(1)}


def test_any_video_network_can_be_wrapped():
    encoder = wrap(
        Mean(),
        rgb_mean=(0.5, 0.5, 0.5),
        rgb_std=(0.5, 0.25, 1.0),
        layout="BTCHW",
        output=lambda y: y["features"],
    )
    assert encoder.feature_dim == 16 * 3
    frames = torch.randint(0, 256, (2, 3, 5, 6, 7), dtype=torch.uint8)
    plain = (frames.double() / 255).mean(dim=(3, 4)).transpose(1, 2)
    wanted = ((plain - 0.5) / torch.tensor([0.5, 0.25, 1.0]).double()).flatten(1)
    torch.testing.assert_close(encoder(frames).double(), wanted, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(encoder(frames.float() / 255).double(), wanted, rtol=1e-5, atol=1e-5)


def test_wrapped_networks_are_extracted_like_ours(index_folder):
    class Loudness(torch.nn.Module):
        def forward(self, waveform_BL: torch.Tensor) -> torch.Tensor:
            return waveform_BL.square().mean(dim=1, keepdim=True)

    video = wrap(
        torch.nn.Sequential(torch.nn.AdaptiveAvgPool3d(1), torch.nn.Flatten()),
        rgb_mean=[0] * 3,
        rgb_std=[1] * 3,
    )
    audio = wrap(Loudness(), takes="waveform")
    pair = Pair(video, audio)
    assert (video.feature_dim, audio.feature_dim) == (3, 1)
    clips = Clips(Index.open(index_folder), CLIP, Data(workers=0, cache_gigabytes=0), 0)
    found = extract(pair, clips, NUMERICS, rows=np.arange(3))
    assert found.video.shape == (3, 3)
    assert found.audio.shape == (3, 1)
    model = Model(pair.eval(), CLIP, NUMERICS, {})
    wave = torch.rand(2, 8000)
    torch.testing.assert_close(model.audio(wave), wave.square().mean(dim=1, keepdim=True))
    assert set(seehear.embed_file(model, Index.open(index_folder).path(0), num_clips=1)) == {
        "video",
        "audio",
    }


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_an_encoder_whose_features_are_not_finite_gives_none(index_folder, value):
    class Overflowing(torch.nn.Module):
        def forward(self, waveform_BL: torch.Tensor) -> torch.Tensor:
            return waveform_BL[:, :1] * 0 + value

    pair = Pair(audio=wrap(Overflowing(), takes="waveform"))
    clips = Clips(Index.open(index_folder), CLIP, Data(workers=0, cache_gigabytes=0), 0, ("audio",))
    with pytest.raises(
        SeehearError, match=r"audio encoder .* NaN or infinite for 3 of 3 segments, first for .*mp4"
    ):
        extract(pair, clips, NUMERICS, rows=np.arange(3))


def test_a_wrapped_network_alone_is_probed_like_ours(index_folder, videos, tmp_path):
    # Cells far below the sound, at e^-12 of full scale, say nothing; as they are they would
    # outweigh it in a mean.
    clipped = torch.nn.Hardtanh(-12, 12)
    means = torch.nn.Sequential(clipped, torch.nn.AdaptiveAvgPool2d((8, 4)), torch.nn.Flatten())
    model = Model(
        Pair(audio=wrap(means, takes="spectrogram")).eval(), CLIP, NUMERICS, {"name": "means"}
    )
    result = seehear.evaluate(
        model,
        data=index_folder,
        classes=videos / "classes.csv",
        results=tmp_path,
        console=Console(quiet=True),
    )
    assert set(result["values"]) == {"audio"}
    assert result["values"]["audio"]["top1"] > 0.4  # four events; chance is 0.25
    assert result["model"] == {"name": "means", "digest": model.digest}


def test_probing_a_network_leaves_it_as_it_was():
    inner = torch.nn.Sequential(
        torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.BatchNorm1d(1)
    )
    inner[2].eval()
    encoder = wrap(inner, takes="spectrogram")
    assert encoder.feature_dim == 1
    assert encoder.training
    assert inner.training
    assert not inner[2].training
    assert int(inner[2].num_batches_tracked) == 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({}, "needs rgb_mean and rgb_std"),
        ({"rgb_mean": (0, 0, 0)}, "needs rgb_mean and rgb_std"),
        (
            {"rgb_mean": (0, 0, 0), "rgb_std": (1, 1, 1), "takes": "waveform"},
            "needs rgb_mean and rgb_std",
        ),
        ({"rgb_mean": (0, 0), "rgb_std": (1, 1)}, "has 2 numbers"),
        ({"rgb_mean": (0, 0, 0), "rgb_std": (1, 1, 1), "layout": "TBCHW"}, "layout is 'TBCHW'"),
        ({"takes": "spectrogram"}, "gave a tensor of shape"),
        ({"takes": "spectrogram", "output": lambda y: {"a": y}}, "gave a dict"),
        (
            {"takes": "waveform", "output": lambda y: y @ torch.zeros(3, 3)},
            "cannot take .* Give feature_dim",
        ),
    ],
)
def test_what_cannot_be_wrapped_says_why(arguments, says):
    with pytest.raises(ValueError, match=says):
        wrap(torch.nn.Identity(), **arguments)
