"""Copies are found whatever was done to them, what is merely alike is none, and one is kept."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

import seehear
from command_here import command
from copying import write_copy
from media_files import write_media
from seehear.data.media.signature import (
    MOMENTS_HZ,
    correlation,
    of_picture,
    of_sound,
    outline,
    signatures,
)
from seehear.data.parts import parts_of
from seehear.errors import SettingsError
from seehear.library import signatures as signatures_room
from seehear.library.copies import SCHEMA, neighbours
from seehear.machine.console import Console

COPIES = 4  # of each kind


@pytest.fixture(scope="module")
def copied(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with originals and copies of some of them, named `ORIGINAL-KIND.mp4`."""
    folder = tmp_path_factory.mktemp("copied") / "videos"
    folder.mkdir()
    there = sorted(videos.rglob("*.mp4"))
    originals = [Path(shutil.copy(path, folder / path.name)) for path in there]
    how = {
        "again": {},
        "cropped": {"cropped": 0.08},
        "later": {"later": 0.4},
        "rescored": {"sound_of": originals[-1]},
    }
    for number, (kind, change) in enumerate(how.items()):
        for source in originals[COPIES * number : COPIES * (number + 1)]:
            write_copy(source, folder / f"{source.stem}-{kind}.mp4", **change)
    for source in originals[:2]:
        shutil.copy(source, folder / f"{source.stem}-bytes.mp4")
    seehear.index(folder, folder.parent / "index", workers=1, progress=False)
    return folder


def kinds_found(folder: Path, same: str) -> tuple[dict[str, int], int]:
    """How many copies of each kind are in a group with their original; and how many segments are in
    one without any copy of them.
    """
    out = folder.parent / f"{same}.parquet"
    seehear.duplicates(folder.parent / "index", out, same=same, workers=1, overwrite=True)
    groups: dict[int, list[dict]] = {}
    for line in pq.read_table(out).to_pylist():
        groups.setdefault(line["group"], []).append(line)
    kinds: Counter[str] = Counter()
    strangers = 0
    for group in groups.values():
        assert [line["keep"] for line in group] == [True] + [False] * (len(group) - 1)
        names = [Path(line["path"]).stem.partition("-") for line in group]
        stems = Counter(stem for stem, *_ in names)
        strangers += sum(stems[stem] == 1 for stem, *_ in names)
        kinds.update(kind for stem, _, kind in names if kind and (stem, "", "") in names)
    return dict(kinds), strangers


@pytest.mark.thorough
def test_copies_are_found_whatever_was_done_to_them(copied):
    found, strangers = kinds_found(copied, "both")
    assert found == {"again": COPIES, "cropped": COPIES, "later": COPIES, "bytes": 2}
    assert strangers == 0


@pytest.mark.thorough
def test_another_sound_under_the_same_picture_is_found_when_asked_for(copied):
    found, _ = kinds_found(copied, "picture")
    assert found["rescored"] == COPIES
    lines = pq.read_table(copied.parent / "picture.parquet").to_pylist()
    line = next(line for line in lines if "rescored" in line["path"] and not line["keep"])
    assert line["same"] == "picture"
    assert line["picture"] > 0.65
    assert line["sound"] < 0.75


@pytest.mark.thorough
def test_the_longest_is_kept_and_a_later_start_is_told(copied):
    seehear.duplicates(copied.parent / "index", copied.parent / "d.csv", workers=1)
    lines = (copied.parent / "d.csv").read_text().splitlines()
    assert lines[0] == ",".join(SCHEMA.names)
    table = seehear.duplicates(copied.parent / "index", copied.parent / "d.parquet", workers=1)
    shifted = [
        line
        for line in pq.read_table(table["path"]).to_pylist()
        if line["path"].endswith("-later.mp4")
    ]
    assert len(shifted) == COPIES
    assert not any(line["keep"] for line in shifted)
    # what repeats itself fits at several shifts
    later_s = np.median([line["later_s"] for line in shifted])
    assert later_s == pytest.approx(-0.4, abs=1.5 / MOMENTS_HZ)
    assert table["files"] == 2
    assert table["copies"] == 3 * COPIES + 2


def test_files_of_the_same_bytes_are_told_by_index_and_are_copies(videos, tmp_path):
    source = sorted(videos.rglob("*.mp4"))
    (tmp_path / "v").mkdir()
    for name, number in (("a", 0), ("b", 1), ("c", 0), ("d", 2)):
        shutil.copy(source[number], tmp_path / "v" / f"{name}.mp4")
    summary = seehear.index(tmp_path / "v", tmp_path / "i", workers=1, progress=False)
    assert summary.same_bytes == [[str(tmp_path / "v" / name) for name in ("a.mp4", "c.mp4")]]
    assert "The same bytes as another file: 1 (" in summary.describe()
    found = seehear.duplicates(tmp_path / "i", tmp_path / "d.parquet", workers=1)
    assert (found["files"], found["copies"], found["groups"]) == (1, 1, 1)
    lines = pq.read_table(tmp_path / "d.parquet").to_pylist()
    assert [Path(line["path"]).name for line in lines] == ["a.mp4", "c.mp4"]
    assert [line["same"] for line in lines] == [None, "bytes"]


@pytest.mark.thorough
def test_a_run_and_its_features_have_the_copies_of_their_index(finished_run, tmp_path):
    from seehear.library import embed_to_file, open_run

    trained = open_run(finished_run)
    embed_to_file(trained.model, trained.index(), tmp_path / "f.parquet", workers=1)
    tables = []
    for number, source in enumerate((finished_run, tmp_path / "f.parquet", trained.index())):
        out = tmp_path / f"{number}.parquet"
        seehear.duplicates(source, out, same="either", workers=1)
        tables.append(pq.read_table(out))
    assert tables[0].equals(tables[1])
    assert tables[0].equals(tables[2])


def test_what_cannot_be_read_is_counted_and_is_no_copy(videos, tmp_path):
    source = sorted(videos.rglob("*.mp4"))
    (tmp_path / "v").mkdir()
    for number in range(3):
        shutil.copy(source[number], tmp_path / "v" / f"{number}.mp4")
    seehear.index(tmp_path / "v", tmp_path / "i", workers=1, progress=False)
    (tmp_path / "v" / "1.mp4").unlink()
    (tmp_path / "v" / "2.mp4").write_bytes(b"no video")
    found = seehear.duplicates(tmp_path / "i", tmp_path / "d.parquet", workers=1)
    assert json.loads(json.dumps(found))["unreadable"] == {"not found": 1, "not a media file": 1}
    assert found["copies"] == 0


def repeating(path: Path, order: str, seconds: float) -> Path:
    """A film of scenes in an order, each letter so long, of noise by which it can be told."""
    rate_hz, many = 12, {letter: number for number, letter in enumerate(sorted(set(order)))}
    length = round(seconds * rate_hz)

    def picture(number: int, width: int, height: int) -> np.ndarray:
        scene = many[order[number // length]]
        blocks = np.random.default_rng([scene, number % length]).integers(0, 256, (4, 4, 1))
        wide = blocks.repeat(height // 4, axis=0).repeat(width // 4, axis=1)
        return wide.repeat(3, axis=2).astype(np.uint8)

    def waveform(times_s: np.ndarray) -> np.ndarray:
        scenes = np.array([many[letter] for letter in order])
        place = np.minimum((times_s / seconds + 1e-9).astype(int), len(order) - 1)
        heard = np.random.default_rng(9).normal(0, 0.1, (len(many), round(seconds * 16000)))
        inside = ((times_s - place * seconds) * 16000).round().astype(int)
        return heard[scenes[place], np.minimum(inside, heard.shape[1] - 1)]

    total = seconds * len(order)
    shown = {"picture": picture, "waveform": waveform, "size": (64, 48), "fps": rate_hz}
    return write_media(path, seconds=total, sample_rate_hz=16000, layout="mono", **shown)


def test_what_comes_again_within_a_file_is_a_copy_but_for_neighbours(tmp_path):
    """An advert (A) at three places, and a scene (D) of two segments, which are neighbours."""
    repeating(tmp_path / "v.mp4", "ABCADDEA", 3.0)
    seehear.index(tmp_path, tmp_path / "i", segment_seconds=3.0, workers=1, progress=False)
    found = seehear.duplicates(tmp_path / "i", tmp_path / "d.parquet", workers=1)
    assert (found["segments"], found["groups"], found["copies"]) == (8, 1, 2)
    lines = pq.read_table(tmp_path / "d.parquet").to_pylist()
    assert [(line["row"], line["keep"]) for line in lines] == [(0, True), (3, False), (7, False)]


def test_signatures_that_were_read_are_kept_over_a_kill(videos, tmp_path, monkeypatch, capsys):
    (tmp_path / "v").mkdir()
    for number, source in enumerate(sorted(videos.rglob("*.mp4"))[:5]):
        shutil.copy(source, tmp_path / "v" / f"{number}.mp4")
    shutil.copy(tmp_path / "v" / "0.mp4", tmp_path / "v" / "5.mp4")
    seehear.index(tmp_path / "v", tmp_path / "i", workers=1, progress=False)
    seehear.duplicates(tmp_path / "i", tmp_path / "whole.parquet", workers=1)
    monkeypatch.setattr(signatures_room, "SEGMENTS_A_GROUP", 2)
    read, usual = [], signatures_room.run

    def dying(task: str, jobs, workers: int, timeout_s: float):
        given = list(jobs)
        read.extend(Path(path).stem for path, *_ in given)
        if read == list("012345"):  # at the third and last group
            raise KeyboardInterrupt
        return usual(task, given, workers, timeout_s)

    monkeypatch.setattr(signatures_room, "run", dying)
    out = tmp_path / "d.parquet"
    with pytest.raises(KeyboardInterrupt):
        seehear.duplicates(tmp_path / "i", out, workers=1)
    assert command(monkeypatch, "merge", out) == 2
    assert "is not made in parts" in capsys.readouterr().err
    seehear.duplicates(tmp_path / "i", out, workers=1)
    assert read == list("01234545")
    assert out.read_bytes() == (tmp_path / "whole.parquet").read_bytes()
    assert not parts_of(out).exists()


def test_an_unknown_relation_is_refused(index_folder, tmp_path):
    with pytest.raises(SettingsError, match="both, picture, sound or either"):
        seehear.duplicates(index_folder, tmp_path / "d.parquet", same="smell")


def noise(generator: np.random.Generator, seconds: float) -> np.ndarray:
    """Frames of blocks that change at random."""
    blocks = generator.integers(0, 256, (int(seconds * MOMENTS_HZ), 4, 4, 1)).astype(np.uint8)
    return np.repeat(blocks.repeat(8, axis=1).repeat(8, axis=2), 3, axis=3)


def test_a_signature_stands_brightness_shift_and_loudness_and_tells_others_apart():
    generator = np.random.default_rng(0)
    frames, other = noise(generator, 6), noise(generator, 6)
    same = (frames[8:] * 0.6 + 30).astype(np.uint8)
    score, later_s = correlation(of_picture(frames)[0], of_picture(same)[0])
    assert score > 0.99
    assert later_s == 8 / MOMENTS_HZ
    assert correlation(of_picture(same)[0], of_picture(frames)[0])[1] == -8 / MOMENTS_HZ
    assert correlation(of_picture(frames)[0], of_picture(other)[0])[0] < 0.3
    sound, another = generator.normal(0, 0.1, (2, 48000)).astype(np.float32)
    assert correlation(of_sound(sound), of_sound(sound[4000:] * 0.2))[0] > 0.95
    assert correlation(of_sound(sound), of_sound(another))[0] < 0.3


def test_a_correlation_is_that_of_numpy_at_each_shift():
    generator = np.random.default_rng(1)
    a_TC, b_TC = (generator.integers(-90, 90, (n, 5)).astype(np.int8) for n in (40, 33))
    expected = {}
    for shift in range(-32, 40):
        first, last = max(0, shift), min(40, 33 + shift)
        mine, theirs = a_TC[first:last] / 1.0, b_TC[first - shift : last - shift] / 1.0
        if last - first >= 16.5 and (mine**2).sum() >= 0.2 * (a_TC / 1.0**2).sum():
            scale = np.sqrt((mine**2).sum() * (theirs**2).sum())
            expected[shift] = float((mine * theirs).sum() / scale)
    best = max(expected, key=expected.__getitem__)
    score, later_s = correlation(a_TC, b_TC)
    assert score == pytest.approx(expected[best], abs=1e-5)
    assert later_s == best / MOMENTS_HZ


def test_what_does_not_change_or_is_short_says_nothing():
    assert len(of_picture(np.full((64, 32, 32, 3), 90, np.uint8))[0]) == 0
    assert len(of_sound(np.zeros(48000, np.float32))) == 0
    assert len(of_picture(noise(np.random.default_rng(0), 1))[0]) == 0
    nothing = of_sound(np.zeros(0, np.float32))
    assert correlation(nothing, nothing) == (0.0, 0.0)
    assert not outline(nothing).any()


def test_a_file_gives_both_signatures(videos):
    path = next(videos.rglob("*.mp4"))
    info = seehear.media.probe(path)
    picture_TC, sound_TC, still_C = signatures(str(path), info.start_s, info.seconds, None)
    assert np.linalg.norm(still_C) == pytest.approx(1, abs=1e-5)
    assert picture_TC.shape[1] == sound_TC.shape[1] == 16
    assert min(len(picture_TC), len(sound_TC)) > 0.8 * info.seconds * MOMENTS_HZ


def test_neighbours_of_blocks_are_those_of_all_at_once(monkeypatch):
    generator = np.random.default_rng(2)
    found = [generator.integers(-90, 90, (40, 16)).astype(np.int8) for _ in range(70)]
    found[5] = found[5][:0]
    whole = neighbours(found, Console(quiet=True))
    assert 5 not in whole
    monkeypatch.setattr("seehear.library.copies.BLOCK_ROWS", 16)
    assert np.array_equal(neighbours(found, Console(quiet=True)), whole)
