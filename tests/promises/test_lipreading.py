"""The example that reads lips: from videos with alignments to a table and a page."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from media_files import write_media
from seehear.config import override, read_toml
from seehear.presets import PRESETS, preset_settings

FOLDER = Path(__file__).parents[2] / "examples" / "lipreading"
WORDS = ("bin", "lay", "place", "set")
FEW = {
    "rounds": 2,
    "train.epochs": 1,
    "train.batch_size": 8,
    "cluster.num_clusters": "4",
    "encoders.video_width": 4,
    "encoders.audio_width": 4,
    "data.workers": 0,
    "compute.device": "cpu",
}


@pytest.fixture
def lipreading(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(FOLDER)
    import lipreading

    yield lipreading
    for name in ("lipreading", "words"):
        sys.modules.pop(name)


@pytest.fixture
def speaker(tmp_path: Path) -> Path:
    """Ten sentences of three words as GRID has them: MPEG-1 with MP2, and alignments apart."""
    (tmp_path / "grid" / "align").mkdir(parents=True)
    for number in range(10):
        spoken = [WORDS[(number + i) % len(WORDS)] for i in range(3)]
        pitch_hz = [300 + 200 * WORDS.index(word) for word in spoken]
        write_media(
            tmp_path / "grid" / f"s{number}.mpg",
            seconds=3.0,
            fps=25,
            size=(64, 64),
            picture=lambda n, w, h, p=pitch_hz: np.full(
                (h, w, 3), p[min(n // 25, 2)] // 5, np.uint8
            ),
            waveform=lambda t, p=pitch_hz: (
                0.3 * np.sin(2 * np.pi * t * np.choose(np.minimum(t.astype(int), 2), p))
            ),
            video_codec="mpeg1video",
            audio_codec="mp2",
            has_fine_clock=False,
        )
        lines = [f"{25_000 * i + 5_000} {25_000 * i + 20_000} {w}" for i, w in enumerate(spoken)]
        text = "\n".join(["0 5000 sil", *lines, "70000 74500 sil", ""])
        (tmp_path / "grid" / "align" / f"s{number}.align").write_text(text)
    return tmp_path / "grid"


def test_words_are_centred_and_sentences_are_never_in_both_splits(
    lipreading: ModuleType, speaker: Path, tmp_path: Path
) -> None:
    lipreading.words.write(speaker, tmp_path / "words.csv")
    rows = list(csv.DictReader((tmp_path / "words.csv").read_text().splitlines()))
    assert len(rows) == 30
    assert [float(r["start_s"]) for r in rows[:3]] == pytest.approx([0.2, 1.2, 2.2])
    assert all(float(r["end_s"]) - float(r["start_s"]) == pytest.approx(0.6) for r in rows)
    splits = {(r["path"], r["split"]) for r in rows}
    assert len(splits) == 10
    assert {split for _, split in splits} == {"train", "test"}
    with pytest.raises(SystemExit, match=r"is a video with an \.align file"):
        lipreading.words.write(speaker / "align", tmp_path / "none.csv")


def test_an_alignment_is_of_the_videos_own_speaker_and_a_wrong_line_is_told(
    lipreading: ModuleType, speaker: Path, tmp_path: Path
) -> None:
    (speaker / "s1").mkdir()
    for video in speaker.glob("*.mpg"):
        video.rename(speaker / "s1" / video.name)
    (speaker / "align").rename(speaker / "s1" / "align")
    (speaker / "all" / "s1").mkdir(parents=True)
    for path in (speaker / "s1" / "align").iterdir():
        path.rename(speaker / "all" / "s1" / path.name)
    lipreading.words.write(speaker, tmp_path / "alone.csv")
    (speaker / "all" / "s2").mkdir()  # whose sentences have the same names
    (speaker / "all" / "s2" / "s3.align").write_text("0 25000 blue\n")
    (speaker / "all" / "s1" / "._s4.align").write_bytes(b"\0\5\x16\7\0\2")
    lipreading.words.write(speaker, tmp_path / "words.csv")
    assert (tmp_path / "words.csv").read_text() == (tmp_path / "alone.csv").read_text()
    (speaker / "s1" / "s3.align").write_text("0 25000 blue\n")
    with pytest.raises(SystemExit, match=r"Which alignment is of .*s3\.mpg"):
        lipreading.words.write(speaker, tmp_path / "words.csv")
    (speaker / "s1" / "s3.align").unlink()
    (speaker / "all" / "s1" / "s5.align").write_text("0 5000 sil\n5000 bin\n")
    with pytest.raises(SystemExit, match=r"s5\.align, line 2: not"):
        lipreading.words.write(speaker, tmp_path / "words.csv")


def test_windows_know_nothing_of_words(
    lipreading: ModuleType, speaker: Path, tmp_path: Path
) -> None:
    for alignment in speaker.rglob("*.align"):
        alignment.unlink()
    lipreading.words.write(speaker, tmp_path / "windows.csv", windows=True)
    rows = list(csv.DictReader((tmp_path / "windows.csv").read_text().splitlines()))
    of_first = [r for r in rows if r["path"] == "s0.mpg"]
    assert [float(r["start_s"]) for r in of_first] == [n / 4 for n in range(10)]
    assert {float(r["end_s"]) - float(r["start_s"]) for r in rows} == {0.5}
    assert {r["class"] for r in rows} == {""}
    assert len({(r["path"], r["split"]) for r in rows}) == 10
    with pytest.raises(SystemExit, match="is a video"):
        lipreading.words.write(tmp_path / "grid" / "align", tmp_path / "none.csv", windows=True)


def test_the_settings_are_the_same_from_any_preset() -> None:
    changes = read_toml(FOLDER / "settings.toml")
    made = [override(preset_settings(name), changes) for name in PRESETS]
    assert all(settings == made[0] for settings in made)


@pytest.mark.thorough
def test_from_a_speaker_to_a_table_and_a_page(
    lipreading: ModuleType, speaker: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    lipreading.read_lips(speaker, out, more=FEW)
    record = json.loads((out / "run" / "run.json").read_text())
    assert record["settings"]["cluster"]["centre"] == "recording"
    assert record["settings"]["data"]["split"] == "train"
    probe = json.loads((out / "run" / "results" / "probe-index.json").read_text())
    assert (probe["data"]["num_official"], probe["num_classes"]) == (30, 4)
    assert set(probe["values"]) == {"video", "audio"}
    assert set(probe["baseline"]) == {"colour", "motion", "log-mel"}
    assert (out / "run" / "results" / "retrieval-index.json").exists()
    assert (out / "run" / "report" / "index.html").exists()
    lipreading.read_lips(speaker, out, more=FEW)  # nothing is done twice
