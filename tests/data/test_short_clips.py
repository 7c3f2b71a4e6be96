"""Which frames and which sound does a clip get of a video that is hardly longer, or shorter, than
the clip?

Every frame shows its number, and the sound is a ramp that tells the time, so both can be compared
with arithmetic.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from media_files import number_of, write_media
from seehear.config import Clip, Data
from seehear.data.clips import Clips, Position, evenly
from seehear.data.index import Index, index
from seehear.data.index.lookup import look_up
from seehear.data.media import Reader
from seehear.data.stretches import Stretch
from seehear.presets import PRESETS, preset_settings

FPS, RATE_HZ = 30, 16000
NUM_FRAMES = (1, 2, 6, 8, 12, 18, 33, 45, 60, 65, 90)  # up to 3 s
CLIP = Clip(frames=8, frame_rate_hz=30.0, short_side_pixels=48, crop_pixels=48, sound_seconds=2.0)
MODALITIES = [("video",), ("audio",), ("video", "audio")]


def ramp(times_s):
    return times_s / 4 - 0.4


def times_of(waveform_L) -> np.ndarray:
    return 4 * (np.asarray(waveform_L) + 0.4)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """A video of so many frames each, and of sound as long."""
    folder = tmp_path_factory.mktemp("short")
    sound = {
        "audio_codec": "pcm_f32le",
        "sample_rate_hz": RATE_HZ,
        "layout": "mono",
        "waveform": ramp,
    }
    made = [
        write_media(folder / f"{n:02d}.mov", seconds=n / FPS, fps=FPS, size=(48, 48), **sound)
        for n in NUM_FRAMES
    ]
    return [str(path) for path in made]


@pytest.fixture(scope="module")
def opened(files) -> dict[tuple[str, ...], Index]:
    """Their index for each choice of modalities: no file is left out."""
    found = {
        wanted: look_up([Stretch(path) for path in files], wanted, workers=1)
        for wanted in MODALITIES
    }
    assert not any(one.rejected for one in found.values())
    return {wanted: one.index for wanted, one in found.items()}


def clips_of(index: Index, modalities, clip=CLIP) -> Clips:
    return Clips(index, clip, Data(workers=0, max_failed_share=0.0), 0, modalities)


def at(clips: Clips, row: int, epoch):
    return next(clips.batches(np.array([row]), epoch=epoch, batch_size=1))


@pytest.mark.parametrize("frames", [8, 32])
def test_frames_of_ten_test_clips_are_as_distinct_as_the_video_allows(opened, frames):
    clips = clips_of(opened["video",], ("video",), replace(CLIP, frames=frames))
    for row, there in enumerate(NUM_FRAMES):
        starts = max(1, there - frames + 1)
        taken = [
            [number_of(f) for f in at(clips, row, place).frames_BTHWC[0].numpy()]
            for place in evenly(10)
        ]
        expected = [
            [(int(place.share * starts) + i) % there for i in range(frames)] for place in evenly(10)
        ]
        assert taken == expected, there
        assert len({tuple(numbers) for numbers in taken}) == min(10, starts)
        assert {len(set(numbers)) for numbers in taken} == {min(frames, there)}


def test_unread_sound_takes_no_temporal_jitter_away(opened):
    clips = clips_of(opened["video",], ("video",))
    for row, there in enumerate(NUM_FRAMES):
        if there - 8 <= 10:
            first = {
                number_of(at(clips, row, epoch).frames_BTHWC[0][0].numpy()) for epoch in range(80)
            }
            assert first == set(range(max(1, there - 8 + 1))), there


def test_sound_that_is_longer_than_the_file_begins_with_it_and_repeats(opened):
    clips = clips_of(opened["audio",], ("audio",))
    for row, there in enumerate(NUM_FRAMES):
        heard = [at(clips, row, place).waveform_BL[0] for place in evenly(10)]
        num_samples = round(there / FPS * RATE_HZ)
        starts = max(1, there - 60 + 1)
        for place, waveform_L in zip(evenly(10), heard, strict=True):
            first = int(place.share * starts) / FPS
            expected_s = (
                (first + np.arange(2 * RATE_HZ) / RATE_HZ)
                if there >= 60
                else np.arange(num_samples) / RATE_HZ
            )
            np.testing.assert_allclose(
                times_of(waveform_L), np.resize(expected_s, 2 * RATE_HZ), atol=1e-3
            )
        assert len({w.numpy().tobytes() for w in heard}) == min(10, starts)


def test_the_same_instants_are_seen_and_heard_together(opened):
    clips = clips_of(opened["video", "audio"], ("video", "audio"))
    for row, there in enumerate(NUM_FRAMES):
        for place in (Position(0.0), Position(0.99)):
            batch = at(clips, row, place)
            seen_s = np.array([number_of(f) for f in batch.frames_BTHWC[0].numpy()]) / FPS
            heard_s = times_of(batch.waveform_BL[0])
            if there >= 60:  # centred on the same instant
                assert seen_s.mean() + 0.5 / FPS == pytest.approx(heard_s.mean(), abs=1 / FPS)
            # every instant of the file is heard; pictures that fit are not broken by the end of a
            # turn
            else:
                assert heard_s.max() == pytest.approx(there / FPS, abs=0.002)
                assert len(set(seen_s)) == min(8, there)
                assert there < 8 or np.diff(seen_s) == pytest.approx(1 / FPS)


@pytest.mark.parametrize("modalities", MODALITIES)
@pytest.mark.parametrize("sound_seconds", [0.1, 2.0])
def test_whole_short_segments_in_memory_give_the_clips_that_are_read(
    opened, modalities, sound_seconds
):
    clip = replace(CLIP, sound_seconds=sound_seconds)
    read, kept = (clips_of(opened[modalities], modalities, clip) for _ in range(2))
    assert kept.fill()
    held = sum(
        part.nbytes
        for s in kept._cached
        for part in (s.frames_GHWC, s.waveform_L)
        if part is not None
    )
    assert held == pytest.approx(kept.cache_bytes(), rel=0.01)
    rows = np.arange(len(NUM_FRAMES))
    for epoch in (0, 1, *evenly(3)):
        one, other = (
            next(c.batches(rows, epoch=epoch, batch_size=len(rows))) for c in (read, kept)
        )
        assert one.rows_B.tolist() == other.rows_B.tolist() == rows.tolist()
        if "video" in modalities:
            assert np.array_equal(one.frames_BTHWC, other.frames_BTHWC)
        if "audio" in modalities:
            assert float((one.waveform_BL - other.waveform_BL).abs().max()) < 2e-3


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_every_preset_reads_every_video_that_the_index_takes(files, tmp_path, preset):
    summary = index(files[3:], tmp_path / "index", workers=1, progress=False)
    assert summary.videos == len(files) - 3
    clip = replace(preset_settings(preset).clip, short_side_pixels=36, crop_pixels=32)
    for modalities in MODALITIES:
        clips = clips_of(Index.open(tmp_path / "index"), modalities, clip)
        for epoch in (0, Position(0.5)):
            batch = next(clips.batches(np.arange(len(clips)), epoch=epoch, batch_size=len(clips)))
            assert len(batch.rows_B) == len(clips)
            assert (
                batch.waveform_BL is None
                or batch.waveform_BL.shape[1] == clip.sound_seconds * clip.sample_rate_hz
            )


def test_a_single_frame_whose_file_does_not_say_how_long_it_is_seen_can_be_read(tmp_path: Path):
    path = write_media(
        tmp_path / "one.flv", video_codec="flv1", audio_codec=None, frame_times_s=[0.0]
    )
    with Reader(path) as reader:
        assert 0 < reader.info().video_seconds < 0.2
    clips = clips_of(look_up([Stretch(str(path))], ("video",), workers=1).index, ("video",))
    assert {number_of(f) for f in at(clips, 0, Position(0.5)).frames_BTHWC[0].numpy()} == {0}
