"""Are the synthetic videos what they promise: reproducible, synchronous, hard for one modality, and
whole on disk?
"""

from __future__ import annotations

import csv
import io
import json
import sys
from pathlib import Path

import av
import numpy as np
import pytest

from seehear.data.synthetic import EVENTS, FRAMES_PER_SECOND, SAMPLE_RATE_HZ, render, synth
from seehear.data.synthetic.pictures import Canvas
from seehear.data.synthetic.scenes import CATALOGUE, OBJECT_CONTRAST, colours
from seehear.data.synthetic.timing import LONG_AGO_S, draw_timing
from seehear.errors import SeehearError, SettingsError, UsageError
from seehear.evaluation.baselines import motion_statistics
from seehear.evaluation.classifiers import scores_of_linear


def rows_of(classes_csv: Path) -> list[dict[str, str]]:
    with classes_csv.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def decode(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """All frames_THWC and the waveform_S of a file, by the plainest use of the decoder."""
    with av.open(path) as container:
        frames_THWC = np.stack(
            [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        )
    with av.open(path) as container:
        parts = [(frame.pts, frame.to_ndarray()[0]) for frame in container.decode(audio=0)]
    assert parts[0][0] == 0
    return frames_THWC, np.concatenate([part for _, part in parts])


@pytest.fixture(scope="module")
def small_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """48 videos, written by two processes."""
    return synth(tmp_path_factory.mktemp("synth") / "set", videos=48, seed=3, workers=2).parent


# One video.


def test_a_video_is_a_function_of_seed_and_number():
    frames, waveform, name = render(0, 7)
    again = render(0, 7)
    assert np.array_equal(frames, again[0])
    assert np.array_equal(waveform, again[1])
    assert name == again[2]
    assert not np.array_equal(frames, render(1, 7)[0])
    assert not np.array_equal(frames, render(0, 8)[0])


@pytest.mark.parametrize("event", EVENTS)
def test_shapes_ranges_and_life(event: str):
    for number in range(4):
        frames_THWC, waveform_S, name = render(5, number, event=event, seconds=1.5, size_pixels=48)
        assert name == event
        assert frames_THWC.shape == (24, 48, 48, 3)
        assert frames_THWC.dtype == np.uint8
        assert waveform_S.shape == (24000,)
        assert waveform_S.dtype == np.float32
        assert 0.01 < np.abs(waveform_S).max() <= 1
        assert frames_THWC.std() > 10  # something is to be seen


@pytest.mark.parametrize("event", EVENTS)
def test_the_object_covers_enough_and_moves(event: str):
    """Cover is in [0, 1], at least 6 by 6 pixels of 32 by 32 somewhere in the video, and it
    changes.
    """
    place_P = (np.arange(32, dtype=np.float32) + 0.5) / 16 - 1
    t_T11 = np.arange(8, dtype=np.float32)[:, None, None] / 4
    still = np.zeros_like(t_T11)
    canvas = Canvas(
        place_P[None, None, :] + still, place_P[None, :, None] + still, t_T11, pixel=1 / 16
    )
    kind = CATALOGUE[event]
    for number in range(10):
        rng = np.random.default_rng(number)
        timing = draw_timing(rng, 2.0, kind.period_s, kind.unevenness)
        cover_THW = kind.paint(canvas, timing, rng)
        assert cover_THW.shape == (8, 32, 32)
        assert cover_THW.min() >= 0
        assert cover_THW.max() <= 1
        assert cover_THW.sum(axis=(1, 2)).max() > 30
        assert np.abs(np.diff(cover_THW, axis=0)).sum(axis=(1, 2)).max() > 20


def test_the_timing_rests_until_the_onset_and_counts_its_beats():
    rng = np.random.default_rng(0)
    for unevenness in (0.0, 0.25):
        timing = draw_timing(rng, 2.0, (0.4, 0.8), unevenness)
        gaps_s = np.diff(timing.beats_s)
        assert np.all(gaps_s > 0)
        assert timing.beats_s[0] <= timing.onset_s
        assert timing.beats_s[-1] > 2
        heard_s = timing.beats_s[(timing.beats_s >= timing.onset_s) & (timing.beats_s < 2)]
        assert len(heard_s) >= 2
        np.testing.assert_allclose(timing.turns(heard_s) % 1, 0, atol=1e-5)
        np.testing.assert_allclose(timing.since(heard_s + 0.1), 0.1, atol=1e-5)
        np.testing.assert_allclose(
            timing.until(heard_s - 0.1 * gaps_s.min()), 0.1 * gaps_s.min(), atol=1e-5
        )
        early_s = np.linspace(0, timing.onset_s, 5)
        assert np.ptp(timing.turns(early_s)) == 0
        assert np.all(timing.since(np.minimum(early_s, heard_s[0] - 1e-3)) == LONG_AGO_S)


@pytest.mark.parametrize(
    "event", ["bouncing ball", "pendulum", "drips", "bursting ring", "blinking lamp"]
)
def test_sound_starts_on_the_beat_that_the_picture_shows(event: str):
    """The clean sound is silent just before a beat and loud just after: the picture asks the same
    clock.
    """
    kind = CATALOGUE[event]
    rng = np.random.default_rng(2)
    timing = draw_timing(rng, 2.0, kind.period_s, kind.unevenness)
    t_S = np.arange(2 * SAMPLE_RATE_HZ, dtype=np.float32) / SAMPLE_RATE_HZ
    sound_S = kind.sound(t_S, timing, 1.0, rng)
    for beat_s in timing.beats_s[(timing.beats_s >= timing.onset_s) & (timing.beats_s < 1.9)]:
        sample = round(beat_s * SAMPLE_RATE_HZ)
        before = (
            np.square(sound_S[max(sample - 300, 0) : sample - 60]).mean() if sample > 400 else 0
        )
        after = np.square(sound_S[sample + 60 : sample + 300]).mean()
        assert after > 20 * before


def test_the_object_stands_out_from_its_background():
    rng = np.random.default_rng(0)
    weights = np.array([0.299, 0.587, 0.114])
    for _ in range(200):
        first, second, thing = (colour_C @ weights for colour_C in colours(rng))
        assert min(abs(thing - first), abs(thing - second)) >= OBJECT_CONTRAST - 1e-6


def test_a_nuisance_says_nothing_about_the_event():
    """The same video number with another event keeps camera, background, exposure and grain: only
    what the object covers differs.
    """
    ball, lamp = (render(0, 11, event=name)[0] for name in ("bouncing ball", "blinking lamp"))
    same = (ball == lamp).all(axis=-1)
    assert 0.6 < same.mean() < 1


@pytest.mark.thorough
def test_motion_told_by_hand_tells_few_events():
    videos = [render(7, number) for number in range(480)]
    motion = np.stack([motion_statistics(frames_THWC[::4]) for frames_THWC, _, _ in videos])
    classes = np.array([EVENTS.index(name) for _, _, name in videos])
    scores, _ = scores_of_linear(motion[:360], classes[:360], motion[360:], num_classes=12)
    accuracy = np.mean(scores.argmax(axis=1) == classes[360:])
    assert 0.2 < accuracy < 0.65  # chance is 0.08


# A folder.


def test_every_class_gets_its_share_and_a_fifth_is_for_testing_in_a_folder_of_its_own(
    small_set: Path,
):
    rows = rows_of(small_set / "classes.csv")
    assert len(rows) == 48
    for event in EVENTS:
        splits = [row["split"] for row in rows if row["class"] == event]
        assert sorted(splits) == ["test", "train", "train", "train"]
    assert [row["path"] for row in rows] == [
        f"{row['split']}/00/{i:06d}.mp4" for i, row in enumerate(rows)
    ]
    names = [row["class"] for row in rows]
    assert names[:12] != names[12:24]  # a number does not give the class away


def test_files_are_real_video_and_sound_at_the_same_time(small_set: Path):
    for number, row in list(enumerate(rows_of(small_set / "classes.csv")))[::8]:
        path = small_set / row["path"]
        frames_THWC, waveform_S, name = render(3, number)
        assert name == row["class"]
        seen_THWC, heard_S = decode(path)
        assert seen_THWC.shape == frames_THWC.shape
        error = np.square(seen_THWC.astype(float) - frames_THWC).mean()
        assert 10 * np.log10(255**2 / error) > 22  # dB; the grain is what is lost
        assert np.corrcoef(heard_S[: len(waveform_S)], waveform_S)[0, 1] > 0.97
        with av.open(path) as container:
            video, audio = container.streams.video[0], container.streams.audio[0]
            assert (video.codec_context.name, audio.codec_context.name) == ("h264", "aac")
            assert video.average_rate == FRAMES_PER_SECOND
            assert audio.sample_rate == SAMPLE_RATE_HZ
            assert float(video.duration * video.time_base) == pytest.approx(2)
            assert float(audio.duration * audio.time_base) == pytest.approx(2)
            assert not container.metadata.keys() & {"title", "comment", "creation_time"}


def test_neither_the_workers_nor_the_size_of_the_set_change_a_video(
    small_set: Path, tmp_path: Path
):
    other = synth(tmp_path / "other", videos=16, seed=3, workers=1).parent
    for path in sorted(other.rglob("*.mp4")):
        # maybe in the other split
        assert path.read_bytes() == next(small_set.rglob(path.name)).read_bytes()
    assert [row["class"] for row in rows_of(other / "classes.csv")] == [
        row["class"] for row in rows_of(small_set / "classes.csv")[:16]
    ]


def test_the_same_call_finds_its_work_done(small_set: Path):
    before = {path: path.stat().st_mtime_ns for path in small_set.rglob("*")}
    assert synth(small_set, videos=48, seed=3) == small_set / "classes.csv"
    assert before == {path: path.stat().st_mtime_ns for path in small_set.rglob("*")}


def test_another_folder_is_never_touched(small_set: Path, tmp_path: Path):
    with pytest.raises(UsageError, match=r"other settings \(seed 3 there, 4 wanted\)"):
        synth(small_set, videos=48, seed=4)
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(UsageError, match="holds no synthetic videos"):
        synth(tmp_path, videos=12)
    with pytest.raises(UsageError, match="holds no synthetic videos"):
        synth(tmp_path / "mine.txt", videos=12)
    (tmp_path / "synth.json").write_text("[]")
    with pytest.raises(UsageError, match="holds no synthetic videos"):
        synth(tmp_path, videos=12)
    assert (tmp_path / "mine.txt").read_text() == "mine"


def test_a_folder_that_lost_a_video_is_an_error(tmp_path: Path):
    out = tmp_path / "set"
    synth(out, videos=4, classes=2, workers=1)
    next(out.rglob("000002.mp4")).unlink()
    with pytest.raises(UsageError, match="lost 1 of its 4 videos"):
        synth(out, videos=4, classes=2)


def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(json, "dumps", full)  # the disk is full at the very end
    with pytest.raises(SeehearError, match="No space left"):
        synth(tmp_path / "set", videos=2, classes=2, workers=1)
    assert list(tmp_path.iterdir()) == []


def test_an_empty_folder_may_be_there_and_parents_are_made(tmp_path: Path):
    (tmp_path / "empty").mkdir()
    assert synth(tmp_path / "empty", videos=2, classes=2, workers=1).is_file()
    assert synth(tmp_path / "a/b", videos=2, classes=2, workers=1).is_file()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "empty"]


def test_fewer_classes_take_the_first_events(tmp_path: Path):
    rows = rows_of(synth(tmp_path / "set", videos=5, classes=2, workers=1))
    assert {row["class"] for row in rows} == set(EVENTS[:2])
    for event in EVENTS[:2]:
        assert {row["split"] for row in rows if row["class"] == event} == {"train", "test"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"classes": 1}, "classes is 1.* between 2 and 12"),
        ({"classes": 13}, "classes is 13.* between 2 and 12"),
        ({"videos": 11}, "videos is 11.* between 12 and"),
        ({"seed": -1}, "seed is -1"),
        ({"seconds": float("nan")}, "seconds is nan"),
        ({"seconds": 0.5}, "seconds is 0.5"),
        ({"size_pixels": 65}, "must be even"),
        ({"size_pixels": 16}, "size_pixels is 16"),
        ({"workers": 0}, "workers is 0"),
    ],
)
def test_settings_out_of_range_name_their_limits(
    tmp_path: Path, settings: dict[str, float], message: str
):
    with pytest.raises(SettingsError, match=message):
        synth(tmp_path / "set", **settings)
    assert list(tmp_path.iterdir()) == []


def test_a_bar_is_drawn_only_on_a_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    synth(tmp_path / "silent", videos=2, classes=2, workers=1)
    assert capsys.readouterr() == ("", "")

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    synth(tmp_path / "bar", videos=2, classes=2, workers=1)
    assert "2/2" in terminal.getvalue()


def test_larger_and_longer_videos_work(tmp_path: Path):
    out = synth(tmp_path / "set", videos=2, classes=2, seconds=3, size_pixels=112, workers=1).parent
    frames_THWC, waveform_S = decode(next(out.rglob("000001.mp4")))
    assert frames_THWC.shape == (48, 112, 112, 3)
    assert 48000 <= len(waveform_S) < 48000 + 1024


def test_the_folder_holds_what_it_says_and_nothing_else(small_set: Path):
    files = {
        path.relative_to(small_set).as_posix() for path in small_set.rglob("*") if path.is_file()
    }
    assert files == {row["path"] for row in rows_of(small_set / "classes.csv")} | {
        "classes.csv",
        "synth.json",
    }
