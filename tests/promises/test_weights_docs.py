from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

import numpy as np
import pytest
import torch

import r2plus1d
import seehear
from seehear.config import Clip, Encoders, Settings
from seehear.data.index import Index
from seehear.method.encoders import AudioEncoder, Pair
from seehear.method.features import spectrogram_of
from seehear.models.converting import convert
from seehear.models.files import save_encoders
from seehear.models.released import RELEASED

PAGE = (Path(__file__).parents[2] / "docs" / "weights.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_python_of_the_page_runs_from_top_to_bottom(tmp_path, monkeypatch, index_folder):
    torch.save(r2plus1d.state_dict("conv"), tmp_path / "file.pth")
    convert(tmp_path / "file.pth", tmp_path / "encoders-xdc")
    (tmp_path / "clip.mp4").symlink_to(Index.open(index_folder).path(0))
    monkeypatch.chdir(tmp_path)
    script = "\n".join(re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE))
    printed, names = io.StringIO(), {"__name__": "page"}
    with contextlib.redirect_stdout(printed):
        exec(compile(script, "docs/weights.md", "exec"), names)
    for line in (
        "('video',) 32 30.0 112",
        f"(512,) {seehear.load('encoders-xdc').digest}",
        "{'video': (96,), 'audio': (8,)}",
        "True ['encoders.json', 'export.json', 'video.safetensors']",
    ):
        assert line in printed.getvalue()
    check_logmel(names["logmel"], tmp_path)


def check_logmel(logmel, folder: Path) -> None:
    """The page's NumPy makes the image that ours does."""
    for columns in (60, 101, 150):
        clip = Clip(sound_seconds=1.0, spectrogram_frames=columns)
        settings = Settings(clip=clip, encoders=Encoders(audio_width=4, audio_depth=10))
        save_encoders(folder / "sound", Pair(audio=AudioEncoder(4, 10)).eval(), settings, {})
        seehear.export(folder / "sound", "torchscript", folder / "graphs", overwrite=True)
        waveform = np.random.default_rng(0).uniform(-1, 1, 16000).astype(np.float32)
        wanted = spectrogram_of(clip)(torch.from_numpy(waveform)[None]).numpy()
        np.testing.assert_allclose(logmel(waveform, str(folder / "graphs")), wanted, atol=1e-4)


def test_the_table_of_the_page_is_the_table_of_the_code():
    for name, entry in RELEASED.items():
        row = next(line for line in PAGE.splitlines() if line.startswith(f"| `{name}`"))
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        published = [str(entry.published.get(benchmark, "")) for benchmark in ("UCF101", "HMDB51")]
        assert cells[2:] == [*published, entry.licence]


@pytest.mark.parametrize("word", ["fetch", "convert", "list"])
def test_commands_of_the_page_are_there(word):
    from seehear.cli.sharing import weights

    assert word in weights.commands
    assert f"seehear weights {word}" in PAGE
