"""A file is opened once for several clips, and these are the same to the last bit as if it had been opened for each."""

from __future__ import annotations

import copy
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import seehear
from media_files import write_media
from planted import planted_clips, tiny_settings
from remote_servers import impatient, serving
from seehear import decoding, media
from seehear.clips import CENTRED, Batch, Clips
from seehear.config import Clip, Data
from seehear.errors import MediaError
from seehear.indexing import Index
from seehear.model import build_pair
from seehear.numerics import Numerics
from seehear.sampling import epoch_rows, windowed
from seehear.trainer import GO_ON, SAVE, Keep, learn
from seehear.updates import Plan

CLIP = Clip(frames=4, frame_rate_hz=8.0, short_side_pixels=36, crop_pixels=32, sound_seconds=0.5)
KINDS = {  # ending: codecs of picture and sound
    "a.mp4": ("libx264", "aac"),
    "b.mkv": ("libx264", "libmp3lame"),
    "c.webm": ("libvpx-vp9", "libopus"),
    "d.avi": ("mpeg4", "libmp3lame"),
    "e.ts": ("libx264", "aac"),
    "f.mov": ("mpeg4", "pcm_s16le"),
}
OPENED_ONCE = {"a.mp4", "f.mov"}  # others may give other bits when they have been read before
SEGMENTS = 6  # of each file


@pytest.fixture(scope="module")
def long_files(tmp_path_factory: pytest.TempPathFactory) -> Index:
    """Files of many formats, each of several segments."""
    folder = tmp_path_factory.mktemp("long")
    (folder / "videos").mkdir()
    for name, (video_codec, audio_codec) in KINDS.items():
        how = {"video_codec": video_codec, "audio_codec": audio_codec, "sample_rate_hz": 48000}
        write_media(folder / "videos" / name, seconds=2.0 * SEGMENTS, **how)
    seehear.index(folder / "videos", folder / "index", segment_seconds=2.0, progress=False, workers=1)
    index = Index.open(folder / "index")
    assert len(index) == len(KINDS) * SEGMENTS
    return index


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each file is opened for clips in this process."""
    counts: Counter[str] = Counter()

    class Counting(media.Reader):
        def __init__(self, path: str, hearing: media.Hearing | None = None) -> None:
            counts[Path(path).name] += 1
            super().__init__(path, hearing)

    monkeypatch.setattr(decoding, "Reader", Counting)
    return counts


def clips_of(index: Index, workers: int = 0) -> Clips:
    return Clips(index, CLIP, Data(workers=workers, cache_gigabytes=0.0), seed=3)


def read(clips: Clips, rows: np.ndarray, epoch: Any, window: int = 0, start: int = 0, size: int = 4) -> list[Batch]:
    plan = Plan(lambda rows_B: [rows_B[::2], rows_B[1::2]], rows, size, range(start, len(rows) // size), window)
    found = list(clips.pieces(plan, epoch=epoch, num_rows=plan.num_rows, together=plan.together))
    return [batch for batch in found if batch is not None]


def assert_same(ours: list[Batch], theirs: list[Batch]) -> None:
    for one, other in zip(ours, theirs, strict=True):
        assert np.array_equal(one.rows_B, other.rows_B)
        assert torch.equal(one.frames_BTHWC, other.frames_BTHWC)
        assert torch.equal(one.waveform_BL, other.waveform_BL)
        assert torch.equal(one.draws_BD, other.draws_BD)


@pytest.mark.parametrize("workers", [0, 1, pytest.param(2, marks=pytest.mark.thorough)])
def test_clips_that_are_decoded_together_are_those_that_come_one_by_one(long_files: Index, workers: int) -> None:
    rows = np.random.default_rng(0).integers(0, len(long_files), 48)  # some of them several times
    alone = read(clips_of(long_files), rows, epoch=2)
    for window in (1, 5, 99):
        assert_same(read(clips_of(long_files, workers), rows, epoch=2, window=window), alone)
    assert_same(read(clips_of(long_files, workers), rows, epoch=2, window=5, start=7), alone[14:])


def test_in_a_window_each_file_is_opened_once_and_each_row_decoded_once(long_files: Index, opened: Counter) -> None:
    rows = np.random.default_rng(0).permutation(np.repeat(np.arange(len(long_files)), 2))
    rows = rows[: len(rows) // 4 * 4]
    read(clips_of(long_files), rows, epoch=2, window=999)
    in_window = dict(opened)
    opened.clear()
    read(clips_of(long_files), rows, epoch=2)
    assert in_window == {name: 1 if name in OPENED_ONCE else SEGMENTS for name in KINDS}
    assert all(count >= 2 * SEGMENTS - 4 for count in opened.values())  # but for the last draws, and neighbours


def test_passes_over_all_rows_open_each_file_once(long_files: Index, opened: Counter) -> None:
    clips = clips_of(long_files)
    in_order = list(clips.batches(np.arange(len(long_files)), epoch=CENTRED, batch_size=5))
    assert opened == {name: 1 if name in OPENED_ONCE else SEGMENTS for name in KINDS}
    for row in range(len(long_files)):  # each alone
        (batch,) = clips.batches(np.array([row]), epoch=CENTRED, batch_size=1)
        one = in_order[row // 5]
        assert torch.equal(one.frames_BTHWC[row % 5], batch.frames_BTHWC[0])
        assert torch.equal(one.waveform_BL[row % 5], batch.waveform_BL[0])


def test_a_file_that_fails_is_tried_from_its_beginning(
    long_files: Index, opened: Counter, monkeypatch: pytest.MonkeyPatch
) -> None:
    fails = {"left": 1}
    honest = media.Reader.sound

    def sound(self: media.Reader, *args: Any, **how: Any) -> np.ndarray:
        if opened["a.mp4"] == 1 and args[0] > 3 and fails["left"]:
            fails["left"] -= 1
            raise MediaError("a.mp4", "unreadable", "as if what was read before had left something behind")
        return honest(self, *args, **how)

    monkeypatch.setattr(media.Reader, "sound", sound)
    clips = clips_of(long_files)
    list(clips.batches(np.arange(len(long_files)), epoch=CENTRED, batch_size=5))
    assert not clips.failures
    assert fails["left"] == 0
    assert opened["a.mp4"] == 2


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # sessions of aiohttp live as long as the process
def test_in_a_window_a_remote_file_is_fetched_once_though_the_cache_holds_but_one(
    long_files: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("aiohttp", reason="needs the extra `remote`")
    impatient(monkeypatch, tmp_path / "cache", tries=1)
    there = Path(long_files.path(0)).parent
    names = [name for name in KINDS if name != "e.ts"]  # which is not taken for a video's name there
    seehear.index([there / name for name in names], tmp_path / "here", segment_seconds=2.0, progress=False, workers=1)
    here = Index.open(tmp_path / "here")
    rows = np.random.default_rng(1).permutation(len(here))[: len(here) // 4 * 4]
    largest = max(path.stat().st_size for path in there.iterdir())
    with serving(there) as server:
        seehear.index(f"{server.address}/", tmp_path / "index", segment_seconds=2.0, progress=False, workers=1)
        data = Data(workers=0, cache_gigabytes=0.0, remote_cache_gigabytes=1.01 * largest / 1e9)
        clips = Clips(Index.open(tmp_path / "index"), CLIP, data, seed=3)
        fetched = {}
        for window in (0, 99):
            server.requests.clear()
            shutil.rmtree(tmp_path / "cache", ignore_errors=True)
            assert_same(read(clips, rows, 2, window), read(clips_of(here), rows, 2))
            fetched[window] = sum(server.requests["GET", name] for name in names)
    assert fetched[99] == len(names)
    assert fetched[0] > 2 * len(names)


@settings(max_examples=60, deadline=None)
@given(
    draws=st.integers(1, 400),
    groups=st.integers(1, 50),
    window=st.integers(1, 500),
    epoch=st.integers(0, 9),
    whole=st.sampled_from([50, 1000]),
)
def test_a_window_keeps_the_draws_and_brings_groups_together(
    draws: int, groups: int, window: int, epoch: int, whole: int
) -> None:
    generator = np.random.default_rng(draws)
    groups_N = generator.integers(0, groups, 300)
    order = generator.integers(0, 300, draws)
    found = windowed(order, groups_N, window, 7, epoch, whole=whole)
    drawn = found[:]
    assert len(found) == draws
    assert np.array_equal(found[draws // 3 : draws // 2], drawn[draws // 3 : draws // 2])
    part = max(1, whole // window) * window
    for first in range(0, draws, part):
        here = slice(first, first + part)
        assert np.array_equal(np.sort(drawn[here]), np.sort(order[here]))  # every draw comes, just as often
        windows_of: dict[int, list[int]] = {}
        for place, row in enumerate(drawn[here]):
            windows_of.setdefault(int(groups_N[row]), []).append(place // window)
        for group, at in windows_of.items():  # a group fills windows that touch, no more than it needs
            assert max(at) - min(at) <= -(-len(at) // window), (group, at)


def test_epochs_have_other_windows_and_a_window_is_well_shuffled() -> None:
    groups_N = np.repeat(np.arange(400), 10)
    orders = [epoch_rows(np.arange(4000), {}, 0, epoch, uniform=False) for epoch in range(40)]
    found = [windowed(order, groups_N, 500, 0, epoch) for epoch, order in enumerate(orders)]
    again = windowed(orders[3], groups_N, 500, 0, 3)
    assert np.array_equal(found[3][:], again[:])
    files = [frozenset(groups_N[order[:500]].tolist()) for order in found]
    assert len(set(files)) == 40
    assert np.mean([len(one & other) for one in files for other in files if one != other]) == pytest.approx(6.4, abs=1)
    places = np.array([np.argsort(order[:]) for order in found])  # where each row comes, by epoch
    assert places.mean() == pytest.approx(1999.5)
    assert places.mean(axis=0).std() == pytest.approx(4000 / np.sqrt(12 * 40), rel=0.15)  # as of uniform draws
    same_batch = [len(set(groups_N[order[start : start + 20]].tolist())) for order in found for start in (0, 20, 480)]
    at_random = 50 * (1 - (1 - 1 / 50) ** 20)  # files among 20 draws from a window of 50 files
    assert np.mean(same_batch) == pytest.approx(at_random, rel=0.05)


def trained(begun: dict[str, Any] | None) -> tuple[Any, dict[str, Any], list[dict[str, Any]]]:
    """Losses and weights of two epochs with windows, or of the rest of them; and what was saved at the third step."""
    cfg = tiny_settings(
        {"train.epochs": 2, "train.batch_size": 8, "data.shuffle_window": 20, "train.uniform_clusters": False}
    )
    clips, classes_N = planted_clips(cfg, 64)
    clips.index.video = np.arange(64) // 4
    pair, kept, steps = build_pair(cfg), [], iter(range(1, 100))
    pair.renew_heads({"video": {"class": 4}, "audio": {"class": 4}}, torch.Generator().manual_seed(0))
    if begun:
        pair.load_state_dict(begun["pair"])

    def save(training: dict[str, Any], wish: int) -> None:
        kept.append(copy.deepcopy({"training": training, "pair": pair.state_dict()}))

    rows, labels = np.arange(len(clips)), {"class": classes_N.astype(np.int32)}
    keep = Keep(lambda: SAVE if next(steps) == 3 and not begun else GO_ON, save)
    how = {"first_epoch": 0, "train_rows": rows, "heldout_rows": rows[:0], "begun": begun and begun["training"]}
    learned = learn(pair, clips, labels, cfg.train, Numerics("cpu", "fp32", "contiguous"), keep=keep, **how)
    return learned.loss, pair.state_dict(), kept


def test_training_with_windows_goes_on_where_it_was() -> None:
    loss, weights, kept = trained(None)
    loss_again, weights_again, _ = trained(kept[0])
    assert loss == loss_again
    assert all(torch.equal(weights[name], weights_again[name]) for name in weights)
