from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import seehear
from command_here import command
from seehear.config import Clip, Encoders, Settings
from seehear.errors import CheckpointError, RunError, SeehearError, UsageError
from seehear.machine.devices import Numerics
from seehear.machine.files import write_json
from seehear.method.encoders import AudioEncoder, Pair, VideoEncoder, wrap
from seehear.models.export import TOLERANCE, largest_difference, plain_convolutions
from seehear.models.files import save_encoders
from seehear.models.matching import Matching
from seehear.models.model import Model
from seehear.runs.folder import Run

CLIP = Clip(
    frames=5,
    frame_rate_hz=8,
    short_side_pixels=36,
    crop_pixels=32,
    sound_seconds=1.0,
    spectrogram_frames=60,
)
SETTINGS = Settings(
    clip=CLIP, encoders=Encoders(video_width=4, video_depth=10, audio_width=4, audio_depth=10)
)


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A small run's folder, with a result, as `pretrain` and `evaluate` leave one."""
    path = tmp_path_factory.mktemp("runs") / "mine"
    place = {"path": "index", "digest": "sha256:abc", "rows": 40}
    made = Run.create(path, {"settings": SETTINGS.to_dict(), "index": place})
    torch.manual_seed(1)
    pair = Pair(VideoEncoder(4, 10), AudioEncoder(4, 10)).train()
    with torch.no_grad():
        for _ in range(3):  # statistics that are not 0 and 1
            pair.encoders["video"](torch.rand(4, 3, 5, 32, 32))
            pair.encoders["audio"](torch.randn(4, 1, 40, 60) - 4)
    matching = Matching(
        {"video": {}, "audio": {}}, {}, {"video": torch.zeros(2, 32)}, {"video": 1.0}, {}
    )
    info = {"variant": "xdc", "rounds": 3, "index": place}
    save_encoders(path / "encoders", pair.eval(), SETTINGS, info, matching)
    values = {"video": 0.75, "audio": 0.5}
    (made.path / "results").mkdir()
    probe = {"task": "probe", "values": values, "n_test": 40, "chance": 0.25, "protocol": "..."}
    write_json(made.path / "results" / "probe-set.json", probe)
    clusters = {"task": "clusters", "values": {"video": {"nmi": 0.5}}, "n": 160}
    write_json(made.path / "results" / "clusters-set.json", clusters)
    return path


@pytest.fixture(scope="module")
def model(run) -> Model:
    return seehear.load(run, device="cpu")


def batches(sizes: tuple[int, ...] = (1, 4)) -> list[dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(9)
    return [
        {
            "video": torch.rand(n, 3, frames, height, 40, generator=generator),
            "audio": torch.randn(n, 1, 40, 60, generator=generator) - 4,
        }
        for n, frames, height in zip(sizes, (5, 9), (32, 49), strict=True)
    ]


def wanted(model: Model, modality: str, x: torch.Tensor) -> np.ndarray:
    with torch.inference_mode():
        return model.pair.encoders[modality](x).numpy()


def test_torchscript_gives_the_same_features_for_any_size(run, model, tmp_path):
    record = seehear.export(run, "torchscript", tmp_path / "out")
    assert record["files"] == ["audio.pt", "export.json", "mel_filters.npy", "video.pt"]
    assert max(record["differences"].values()) <= TOLERANCE
    for modality in ("video", "audio"):
        with pytest.warns(DeprecationWarning, match="jit"):
            loaded = torch.jit.load(tmp_path / "out" / f"{modality}.pt")
        for batch in batches():
            found = loaded(batch[modality]).detach().numpy()
            np.testing.assert_allclose(found, wanted(model, modality, batch[modality]), atol=1e-5)


@pytest.mark.thorough
def test_onnx_gives_the_same_features_for_any_size(run, model, tmp_path):
    pytest.importorskip("onnxscript", reason="pip install 'seehear[onnx]'")
    onnxruntime = pytest.importorskip("onnxruntime", reason="pip install 'seehear[onnx]'")
    record = seehear.export(run, "onnx", tmp_path / "out")
    assert record["files"] == ["audio.onnx", "export.json", "mel_filters.npy", "video.onnx"]
    assert max(record["differences"].values()) <= TOLERANCE
    written = json.loads((tmp_path / "out" / "export.json").read_text())
    for modality in ("video", "audio"):
        file = str(tmp_path / "out" / f"{modality}.onnx")
        session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
        name = written["inputs"][modality]["name"]
        assert [i.name for i in session.get_inputs()] == [name]
        for batch in batches():
            (found,) = session.run(["features"], {name: batch[modality].numpy()})
            np.testing.assert_allclose(found, wanted(model, modality, batch[modality]), atol=1e-5)


def test_ordinary_convolutions_compute_the_same(model):
    encoder = model.pair.encoders["video"]
    x = batches()[1]["video"]
    torch.testing.assert_close(plain_convolutions(encoder)(x), encoder(x), rtol=1e-5, atol=1e-5)
    assert not any(type(m).__name__ == "Conv2Plus1D" for m in plain_convolutions(encoder).modules())
    assert any(type(m).__name__ == "Conv2Plus1D" for m in encoder.modules())


def test_a_graph_that_differs_is_refused(model):
    with pytest.raises(
        SeehearError, match=r"exported video graph differs from the encoder by 0.0\d+; 0.0001"
    ):
        largest_difference(model, "video", lambda x: wanted(model, "video", x) + 0.01)
    with pytest.raises(SeehearError, match="differs from the encoder by nan"):
        largest_difference(model, "video", lambda x: wanted(model, "video", x) * np.nan)


def test_safetensors_is_a_folder_that_load_opens(run, model, tmp_path):
    record = seehear.export(run, "safetensors", tmp_path / "out")
    assert record["digest"] == model.digest == seehear.load(tmp_path / "out").digest
    assert {
        "video.safetensors",
        "audio.safetensors",
        "encoders.json",
        "matching.safetensors",
    } < set(record["files"])


def test_the_hub_folder_loads_by_from_pretrained_and_by_load(run, model, tmp_path):
    pytest.importorskip("huggingface_hub", reason="pip install 'seehear[hub]'")
    from seehear.models.hub import HubModel

    seehear.export(run, "hub", tmp_path / "out", licence="CC-BY-4.0")
    found = HubModel.from_pretrained(tmp_path / "out")
    assert (
        found.model("cpu").digest
        == seehear.load(tmp_path / "out", device="cpu").digest
        == model.digest
    )
    batch = batches()[0]
    features = found(batch["video"], batch["audio"])
    for modality in ("video", "audio"):
        np.testing.assert_allclose(
            features[modality].detach(), wanted(model, modality, batch[modality]), atol=1e-6
        )
    state = tmp_path / "out" / "model.safetensors"
    state.write_bytes(state.read_bytes()[:-40])
    with pytest.raises(CheckpointError, match=r"model.safetensors cannot be read"):
        HubModel.from_pretrained(tmp_path / "out")


def test_the_model_card_says_what_was_trained_and_measured(run, model, tmp_path):
    huggingface_hub = pytest.importorskip("huggingface_hub", reason="pip install 'seehear[hub]'")
    seehear.export(run, "hub", tmp_path / "out", licence="CC-BY-4.0")
    card = huggingface_hub.ModelCard.load(tmp_path / "out" / "README.md")
    assert card.data.license == "cc-by-4.0"
    assert card.data.library_name == "seehear"
    for part in (
        "| probe-set | video | 0.75 | 40 | 0.25 |",
        "| clusters-set | video nmi | 0.5 | 160 |  |",
        "variant: xdc",
        "40 segments, index sha256:abc",
        '"frame_rate_hz": 8',
        "5 at 8 a second",
        model.digest,
    ):
        assert part in card.text, part
    seehear.export(run / "encoders", "hub", tmp_path / "bare")
    bare = (tmp_path / "bare" / "README.md").read_text()
    assert "No licence was stated" in bare
    assert "Nothing was measured yet" in bare


def test_a_video_encoder_alone_is_exported_alone(run, tmp_path):
    save_encoders(tmp_path / "video", Pair(VideoEncoder(4, 10)).eval(), SETTINGS, {})
    record = seehear.export(tmp_path / "video", "torchscript", tmp_path / "out")
    assert record["files"] == ["export.json", "video.pt"]


def test_what_cannot_be_exported_is_one_clear_line(run, tmp_path):
    with pytest.raises(
        UsageError, match=r"to 'tflite'. Choose one of safetensors, torchscript, onnx, hub"
    ):
        seehear.export(run, "tflite", tmp_path / "out")
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "thesis.txt").write_text("x")
    for overwrite in (False, True):  # a folder of somebody else's is never replaced
        with pytest.raises(RunError, match="there exists"):
            seehear.export(run, "safetensors", tmp_path / "there", overwrite=overwrite)
    with pytest.raises(RunError, match="no trained encoders"):
        seehear.export(tmp_path / "nowhere", "safetensors", tmp_path / "out")
    pytest.importorskip("huggingface_hub", reason="pip install 'seehear[hub]'")
    with pytest.raises(UsageError, match="licence is 'two words'"):
        seehear.export(run, "hub", tmp_path / "out", licence="two words")
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob(".unfinished*"))


def test_export_from_the_command_line(run, tmp_path, monkeypatch, capsys):
    words = ["export", str(run), "--to", "safetensors", "--out", str(tmp_path / "out")]
    for extra, code in (([], 0), ([], 2), (["--overwrite", "--json"], 0)):
        assert command(monkeypatch, *words, *extra) == code
        printed = capsys.readouterr()
        assert ("exists" in printed.err) == (code == 2)
    assert json.loads(printed.out)["to"] == "safetensors"


def test_networks_of_others_are_exported_by_their_own_library(tmp_path, monkeypatch):
    transformers = pytest.importorskip("transformers", reason="pip install 'seehear[hf]'")
    from transformers.models.videomae.modeling_videomae import VideoMAEModel

    small = {
        "hidden_size": 24,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 32,
    }
    config = transformers.VideoMAEConfig(image_size=32, patch_size=16, num_frames=2, **small)
    VideoMAEModel(config).save_pretrained(tmp_path / "theirs")
    with pytest.raises(UsageError, match="Export it with the library it comes from"):
        seehear.export(f"hf:{tmp_path}/theirs", "safetensors", tmp_path / "out")


def test_wrapped_models_have_numerics_and_a_digest():
    encoder = wrap(
        torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()), takes="spectrogram"
    )
    numerics = Numerics("cpu", "fp32", "channels_last")
    model = Model(numerics.place(Pair(audio=encoder)).eval(), CLIP, numerics, {})
    assert len(model.digest) == 12
    assert model.audio(torch.zeros(2, 16000)).shape == (2, 1)
