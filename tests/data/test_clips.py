from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from planted import clips_in_memory, planted_clips, tiny_settings
from seehear.config import Clip, Data, override
from seehear.data.augment import CENTRE
from seehear.data.clips import Clips
from seehear.data.index import Index
from seehear.data.placing import CENTRED, start_of, window
from seehear.data.segments import Segment
from seehear.errors import MediaError, TrainingError
from seehear.presets import preset_settings


def all_of(clips: Clips, epoch: int, batch_size: int = 7) -> list:
    return list(clips.batches(np.arange(len(clips)), epoch=epoch, batch_size=batch_size))


def open_clips(index_folder, *, workers: int = 0, cached: bool = False, changes=None) -> Clips:
    cfg = override(preset_settings("debug"), {"data.workers": workers, **(changes or {})})
    clips = Clips(Index.open(index_folder), cfg.clip, cfg.data, seed=5)
    if cached:
        assert clips.fill()
    return clips


def same(a: list, b: list) -> bool:
    return len(a) == len(b) and all(
        np.array_equal(x.rows_B, y.rows_B)
        and torch.equal(x.frames_BTHWC, y.frames_BTHWC)
        and torch.equal(x.waveform_BL, y.waveform_BL)
        and torch.equal(x.draws_BD, y.draws_BD)
        for x, y in zip(a, b, strict=True)
    )


def test_a_batch_has_the_shapes_and_types_it_says(index_folder):
    clips = open_clips(index_folder)
    batch = next(clips.batches(np.array([3, 1, 3]), epoch=0, batch_size=8))
    assert batch.rows_B.tolist() == [3, 1, 3]
    assert batch.frames_BTHWC.shape == (3, 4, 36, 36, 3)
    assert batch.frames_BTHWC.dtype == torch.uint8
    assert batch.waveform_BL.shape == (3, 16000)
    assert batch.waveform_BL.dtype == torch.float32
    # the same row in the same epoch
    assert torch.equal(batch.frames_BTHWC[0], batch.frames_BTHWC[2])


@pytest.mark.parametrize("epoch", [3, CENTRED])
def test_the_number_of_workers_changes_nothing(index_folder, epoch):
    alone = all_of(open_clips(index_folder, workers=0), epoch)
    for workers in (1, 2):
        assert same(alone, all_of(open_clips(index_folder, workers=workers), epoch))


def test_epochs_differ_and_come_again(index_folder):
    clips = open_clips(index_folder)
    first, second = all_of(clips, 0), all_of(clips, 1)
    assert not same(first, second)
    assert same(first, all_of(clips, 0))


def test_clips_cut_from_memory_are_those_read_from_files(index_folder):
    cached, direct = open_clips(index_folder, cached=True), open_clips(index_folder)
    for epoch in (0, 1, CENTRED):
        for a, b in zip(all_of(cached, epoch), all_of(direct, epoch), strict=True):
            assert torch.equal(a.frames_BTHWC, b.frames_BTHWC)
            assert torch.equal(a.draws_BD, b.draws_BD)
            # A clip read by itself starts the audio decoder and the resampler a little before it,
            # not at the start.
            assert float((a.waveform_BL - b.waveform_BL).norm() / b.waveform_BL.norm()) < 0.01


def test_segments_that_do_not_fit_the_budget_are_not_kept(index_folder):
    clips = open_clips(index_folder, changes={"data.cache_gigabytes": 0.0001})
    assert clips.cache_bytes() > 100_000
    assert not clips.fill()
    assert not clips.cached


def test_the_budget_is_what_memory_holds(index_folder):
    clips = open_clips(index_folder, cached=True)
    held = sum(s.frames_GHWC.nbytes + s.waveform_L.nbytes for s in clips._cached)
    assert held == pytest.approx(clips.cache_bytes(), rel=0.01)


def test_unreadable_rows_are_left_out_counted_and_never_replaced():
    cfg = tiny_settings()
    clips, _ = planted_clips(cfg, rows=60)
    whole = all_of(clips, 0, batch_size=10)
    clips._cached[25] = MediaError("gone.mp4", "unreadable")
    batches = all_of(clips, 0, batch_size=10)
    assert [len(b.rows_B) for b in batches] == [10, 10, 9, 10, 10, 10]
    assert 25 not in np.concatenate([b.rows_B for b in batches])
    keep = whole[2].rows_B != 25
    assert torch.equal(batches[2].frames_BTHWC, whole[2].frames_BTHWC[torch.from_numpy(keep)])
    assert clips.failures == {"unreadable": 1}


def test_too_many_unreadable_rows_stop_the_run_with_the_reasons():
    clips, _ = planted_clips(tiny_settings(), rows=60)
    for row in range(0, 60, 10):
        clips._cached[row] = MediaError(f"{row}.mp4", "truncated")
    with pytest.raises(TrainingError, match=r"of 60 rows.*truncated: 4.*30\.mp4.*seehear index"):
        all_of(clips, 0)


def test_a_vanished_file_is_a_reason_not_a_crash(videos, tmp_path):
    import shutil

    import seehear

    shutil.copytree(videos, tmp_path / "v")
    seehear.index([tmp_path / "v"], tmp_path / "i", progress=False)
    clips = open_clips(tmp_path / "i", changes={"data.max_failed_share": 0.1})
    gone = clips.index.path(4)
    Path(gone).unlink()
    rows = np.concatenate([b.rows_B for b in all_of(clips, 0)])
    assert rows.tolist() == [row for row in range(len(clips)) if row != 4]
    assert clips.failures == {"not found": 1}


def test_starts_cover_the_segment_and_stay_inside():
    clip = Clip(frames=4, frame_rate_hz=4.0, sound_seconds=1.0)
    draws = [np.full(8, u, dtype=np.float32) for u in (0.0, 0.5, 0.99999994)]
    assert [start_of(d, 3.0, clip) for d in draws] == [0, 4, 8]  # 8 frame spacings of slack
    assert [start_of(d, 0.7, clip) for d in draws] == [0, 0, 0]  # shorter than a clip


def test_the_window_is_the_middle_for_the_centre_draw_and_reaches_both_ends():
    clip = Clip(short_side_pixels=10, crop_pixels=8)
    frames = np.broadcast_to(np.arange(16)[None, None, :, None], (2, 10, 16, 3))
    assert window(frames, CENTRE, clip)[0, 0, 0, 0] == 3
    assert window(frames, np.zeros(8), clip)[0, 0, 0, 0] == 0
    assert window(frames, np.full(8, 0.999), clip)[0, 0, -1, 0] == 15


def test_the_split_keeps_recordings_whole_and_depends_on_the_seed():
    clips = clips_in_memory(
        [Segment(np.zeros((8, 36, 36, 3), np.uint8), np.zeros(16000, np.float32))] * 100,
        Clip(),
        Data(),
        1,
    )
    clips.index.recording = np.arange(100) // 4
    train, out = clips.split(0.2)
    assert np.array_equal(np.sort(np.concatenate([train, out])), np.arange(100))
    assert len(out) == 20
    recording = clips.index.recording
    assert not set(recording[train]) & set(recording[out])
    assert np.array_equal(out, clips.split(0.2)[1])
    clips.seed = 2
    assert not np.array_equal(out, clips.split(0.2)[1])
    assert len(clips.split(0.0)[1]) == 0


@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize("modality", ["video", "audio"])
def test_reading_one_sense_gives_the_same_clips_of_it_and_nothing_of_the_other(
    index_folder, cached, modality
):
    """From files and from memory: a batch for one student lies where a batch for both does."""
    clips, rows = open_clips(index_folder, cached=cached), np.array([7, 0, 7, 31])
    (both,) = clips.batches(rows, epoch=5, batch_size=4)
    (one,) = clips.batches(rows, epoch=5, batch_size=4, modalities=(modality,))
    read, other = (
        ("frames_BTHWC", "waveform_BL") if modality == "video" else ("waveform_BL", "frames_BTHWC")
    )
    assert torch.equal(getattr(one, read), getattr(both, read))
    assert getattr(one, other) is None
    assert torch.equal(one.draws_BD, both.draws_BD)
