"""Files of weights that were damaged, made by others, or made to harm: refused by name, at once, in
little memory.
"""

from __future__ import annotations

import json
import resource
import shutil
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import seehear
from seehear.config import Encoders, Settings
from seehear.errors import CheckpointError
from seehear.machine.tensors import fitting, read_pickle, shared_prefix, unwrapped
from seehear.method.encoders import VideoEncoder
from seehear.models.converting import load_into, read_checkpoint
from seehear.models.files import load_encoders, pair_of, save_encoders
from seehear.runs.checkpoint import parse

SHAPES = Encoders(video_width=4, video_depth=10, audio_width=4, audio_depth=10)
MOST_BYTES = 200e6  # more than this program itself may take while a hostile file is looked at


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_encoders(tmp_path / "encoders", pair_of(SHAPES), Settings(encoders=SHAPES), {"source": {}})
    return tmp_path / "encoders"


@pytest.fixture
def encoder() -> VideoEncoder:
    return VideoEncoder(width=4, depth=10)


def refused(what: Callable[[], Any]) -> str:
    """The one line by which something is refused, within a moment and little memory."""
    begin, before = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(CheckpointError) as caught:
        what()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MOST_BYTES / 1024
    assert time.monotonic() - begin < 10
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
    "key", ["layer1.0.conv1.0.0.weight", "stem.1.running_var", "layer4.0.conv2.1.bias"]
)
def test_a_weight_that_is_not_finite_is_refused_by_name(
    folder: Path, key: str, value: float
) -> None:
    state = load_file(folder / "video.safetensors")
    state[key].view(-1)[-1] = value
    save_file(state, folder / "video.safetensors")
    line = refused(lambda: seehear.load(folder))
    assert key in line
    assert "video.safetensors has 1 weights that are NaN or infinite" in line


def test_a_checkpoint_of_others_with_a_weight_that_is_not_finite_is_refused(
    encoder: VideoEncoder, tmp_path: Path
) -> None:
    state = encoder.state_dict()
    state["stem.0.weight"][0] = np.nan
    torch.save(state, tmp_path / "x.pth")
    line = refused(
        lambda: load_into(
            VideoEncoder(width=4, depth=10), read_checkpoint(tmp_path / "x.pth"), "x.pth"
        )
    )
    assert "stem.0.weight" in line


@pytest.mark.parametrize(
    "prefix", ["module.", "_orig_mod.", "module._orig_mod.", "backbone.", "model.encoder.video."]
)
def test_one_prefix_that_all_keys_share_is_understood(
    encoder: VideoEncoder, folder: Path, tmp_path: Path, prefix: str
) -> None:
    wanted = encoder.state_dict()
    torch.save({f"{prefix}{key}": value for key, value in wanted.items()}, tmp_path / "x.pth")
    other = VideoEncoder(width=4, depth=10)
    load_into(other, read_checkpoint(tmp_path / "x.pth"), "x.pth")
    assert all(torch.equal(value, wanted[key]) for key, value in other.state_dict().items())
    for modality in ("video", "audio"):
        state = load_file(folder / f"{modality}.safetensors")
        save_file(
            {f"{prefix}{key}": value for key, value in state.items()},
            folder / f"{modality}.safetensors",
        )
    assert load_encoders(folder).pair.modalities == ("video", "audio")


def test_a_prefix_of_some_keys_is_refused(encoder: VideoEncoder) -> None:
    state = encoder.state_dict()
    half = {
        key if number % 2 else f"module.{key}": value
        for number, (key, value) in enumerate(state.items())
    }
    assert "module.stem.0.weight" in refused(lambda: fitting(half, state, "x"))
    assert "are missing" in refused(
        lambda: fitting({k: v for k, v in state.items() if "stem" in k}, state, "x")
    )
    assert unwrapped(state, state) is state
    assert shared_prefix(["a.b.c", "a.b.d.e"]) == "a.b."
    assert shared_prefix(["ab.c", "a.c"]) == shared_prefix([]) == shared_prefix(["a"]) == ""


def bomb(path: Path, megabytes: int) -> Path:
    """A checkpoint of so many megabytes of zeros, in a compressed archive."""
    small = path.with_suffix(".small")
    torch.save({"stem.0.weight": torch.zeros(4)}, small)
    with (
        zipfile.ZipFile(small) as source,
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target,
    ):
        for entry in source.infolist():
            if entry.filename.endswith("data/0"):
                with target.open(entry.filename, "w", force_zip64=True) as file:
                    for _ in range(megabytes // 50):
                        file.write(bytes(50_000_000))
            else:
                target.writestr(entry.filename, source.read(entry))
    return path


def test_a_compressed_checkpoint_is_refused_before_it_is_inflated(tmp_path: Path) -> None:
    path = bomb(tmp_path / "bomb.pth", 400)
    assert path.stat().st_size < 2_000_000
    assert "compressed" in refused(lambda: read_pickle(path))
    assert "compressed" in refused(lambda: parse(path.read_bytes()))


def test_a_checkpoint_that_says_more_than_it_has_is_refused(tmp_path: Path) -> None:
    torch.save({"w": torch.zeros(1000)}, tmp_path / "a.pth")
    with (
        zipfile.ZipFile(tmp_path / "a.pth") as source,
        zipfile.ZipFile(tmp_path / "b.pth", "w") as target,
    ):
        for entry in source.infolist():
            content = source.read(entry)
            if entry.filename.endswith("data.pkl"):
                assert b"M\xe8\x03" in content  # 1000, as pickle has it
                content = content.replace(b"M\xe8\x03", b"J\xff\xff\xff\x7f")
            target.writestr(entry.filename, content)
    refused(lambda: read_checkpoint(tmp_path / "b.pth"))
    refused(lambda: parse((tmp_path / "b.pth").read_bytes()))


@pytest.mark.parametrize(
    "tensor",
    [
        torch.zeros(3, 3).to_sparse(),
        torch.zeros(3, dtype=torch.complex64),
        torch.zeros(1).expand(2**40),
    ],
    ids=["sparse", "complex", "huge"],
)
@pytest.mark.filterwarnings("ignore")
def test_tensors_of_other_kinds_are_refused(tensor: torch.Tensor, tmp_path: Path) -> None:
    torch.save({"stem.0.weight": tensor}, tmp_path / "x.pth")
    expected = {"stem.0.weight": torch.zeros(tensor.shape, device="meta")}
    if tensor.numel() < 2**40:
        assert "stem.0.weight" in refused(
            lambda: fitting(read_checkpoint(tmp_path / "x.pth"), expected, "x.pth")
        )
    shapes = {"stem.0.weight": torch.zeros(4)}
    assert "another shape" in refused(
        lambda: fitting(read_checkpoint(tmp_path / "x.pth"), shapes, "x.pth")
    )


@pytest.mark.parametrize(
    "change",
    [
        {"encoders": {"video_width": 10**9}},
        {"encoders": {"video_width": 512, "video_depth": 18}},
        {"encoders": {"video_width": -4}},
        {"encoders": {"video_width": 0}},
        {"encoders": {"video_width": "64" * 1000}},
        {"encoders": {"video_width": [4]}},
        {"encoders": {"video_depth": 2**70}},
        {"encoders": {"audio_width": 1e308}},
        {"encoders": []},
        {"encoders": {"midplanes": "none"}},
        {"bn_eps": "nan"},
        {"bn_eps": -1},
        {"bn_eps": 10**400},
        {"modalities": []},
        {"modalities": ["smell"]},
        {"modalities": 3},
        {"modalities": [["video"]]},
        {"clip": {"frames": 2**62}},
        {"clip": {"sound_seconds": float("nan")}},
        {"format": [1]},
    ],
    ids=str,
)
def test_absurd_records_are_refused_in_a_moment(folder: Path, change: dict[str, Any]) -> None:
    record = json.loads((folder / "encoders.json").read_text())
    for name, value in change.items():
        record[name] = record[name] | value if isinstance(value, dict) else value
    (folder / "encoders.json").write_text(json.dumps(record))
    assert str(folder) in refused(lambda: load_encoders(folder))


def test_files_of_two_models_do_not_fit_together(folder: Path, tmp_path: Path) -> None:
    shutil.copy(folder / "audio.safetensors", folder / "video.safetensors")
    assert "does not fit the record" in refused(lambda: load_encoders(folder))
    (folder / "video.safetensors").unlink()
    assert "There is no file" in refused(lambda: load_encoders(folder))
