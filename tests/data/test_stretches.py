from __future__ import annotations

import wave
from dataclasses import replace

import numpy as np
import pytest

from media_files import write_wav
from seehear.config import Clip, Data
from seehear.data.clips import Clips, evenly
from seehear.data.index import Index
from seehear.data.index.lookup import look_up
from seehear.data.stretches import Stretch

CLIP = Clip(frames=4, frame_rate_hz=4.0, short_side_pixels=36, crop_pixels=32, sound_seconds=0.5)


def test_rows_are_the_stretches_that_can_be_read_and_the_others_have_a_reason(
    videos, index_folder, tmp_path
):
    path = Index.open(index_folder).path(0)
    sound = write_wav(tmp_path / "a.wav", 3.0)
    (tmp_path / "b.wav").write_bytes(b"not sound")
    stretches = [
        Stretch(path),
        Stretch(sound, 1.0, 1.0),
        Stretch(str(tmp_path / "b.wav")),
        Stretch(str(tmp_path / "absent.mp4")),
        Stretch(sound, 0.5),
        Stretch(sound, 9.0, 1.0),
    ]
    found = look_up(stretches, ("audio",), workers=1)
    assert found.stretch_N.tolist() == [0, 1, 4]
    assert found.index.start_s.tolist() == pytest.approx([found.index.start_s[0], 1.0, 0.5])
    assert found.index.seconds.tolist()[1:] == pytest.approx([1.0, 2.5], abs=0.01)
    assert found.index.video.tolist() == [0, 1, 1]
    assert [found.index.path(row) for row in range(3)] == [path, sound, sound]
    assert {n: r.reason for n, r in found.rejected.items()} == {
        2: "not a media file",
        3: "not found",
        5: "past the end",
    }


def test_a_file_without_the_wanted_stream_is_rejected_and_silence_is_not(tmp_path):
    sound = write_wav(tmp_path / "a.wav", 1.0)
    assert look_up([Stretch(sound)], ("video",), workers=1).rejected[0].reason == "no video stream"
    with wave.open(str(tmp_path / "silent.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(bytes(16000))
    assert not look_up([Stretch(str(tmp_path / "silent.wav"))], ("audio",), workers=1).rejected


def test_a_file_as_long_as_a_stretch_that_begins_after_its_end_is_the_stretch_cut_out(tmp_path):
    cut, longer = write_wav(tmp_path / "cut.wav", 10.4), write_wav(tmp_path / "longer.wav", 12.0)
    found = look_up([Stretch(cut, 47.0, 10.0), Stretch(longer, 47.0, 10.0)], ("audio",), workers=1)
    assert (found.index.start_s.tolist(), found.index.seconds.tolist()) == (
        [0.0],
        pytest.approx([10.4], abs=0.01),
    )
    assert found.rejected[1].reason == "past the end"


def test_nothing_is_an_empty_index():
    found = look_up([], ("audio",))
    assert len(found.index) == 0


def test_clips_of_sound_alone_have_no_frames_and_agree_with_clips_of_both_where_sound_is_the_longer(
    index_folder,
):
    index = Index.open(index_folder)
    clip = replace(CLIP, sound_seconds=1.5)
    both = Clips(index, clip, Data(workers=0), 0)
    alone = Clips(index, clip, Data(workers=0), 0, modalities=("audio",))
    rows = np.arange(6)
    for epoch in (3, evenly(4)[1]):
        for one, other in zip(
            both.batches(rows, epoch=epoch, batch_size=4),
            alone.batches(rows, epoch=epoch, batch_size=4),
            strict=True,
        ):
            assert other.frames_BTHWC is None
            assert one.frames_BTHWC is not None
            assert np.array_equal(one.waveform_BL, other.waveform_BL)
            assert np.array_equal(one.draws_BD, other.draws_BD)


def test_the_whole_segment_in_memory_gives_the_same_clips_of_pictures_alone(index_folder):
    index = Index.open(index_folder)
    read, kept = (Clips(index, CLIP, Data(workers=0), 0, modalities=("video",)) for _ in range(2))
    assert kept.fill()
    assert kept.cache_bytes() < Clips(index, CLIP, Data(workers=0), 0).cache_bytes()
    for position in evenly(3):
        one, other = (
            next(c.batches(np.arange(3), epoch=position, batch_size=3)) for c in (read, kept)
        )
        assert np.array_equal(one.frames_BTHWC, other.frames_BTHWC)
        assert one.waveform_BL is other.waveform_BL is None
