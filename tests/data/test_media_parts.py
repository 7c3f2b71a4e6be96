"""Files whose clock starts again: every flash has its beep, and the index says what is left out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from media_files import write_media
from seehear.data import media
from seehear.data.index import Index, index
from seehear.data.media.parts import (
    CLOCK_HZ,
    PES_HEADER_BYTES,
    WRAP_TICKS,
    Stamps,
    decoding_tick,
    new_clocks,
)

RATE_HZ = 16000
SECONDS = 3.0
FIRST, SECOND = (0.8, 2.2), (0.4, 1.5)  # when flash and beep begin, in each of the two recordings
KINDS: dict[str, dict[str, Any]] = {
    "ts": {},
    "m2ts": {"audio_codec": "ac3", "sample_rate_hz": 48000},
    "mpg": {"video_codec": "mpeg2video", "audio_codec": "mp2"},
    "vob": {"video_codec": "mpeg2video", "audio_codec": "ac3", "sample_rate_hz": 48000},
    "mkv": {},
    "flv": {},
    "ogg": {"video_codec": None, "audio_codec": "flac"},
}


def recording(
    path: Path, marks_s: Sequence[float], shift_s: float = 0.0, size: tuple[int, int] = (96, 64)
) -> bytes:
    """A file that flashes and beeps for 0.1 s at some times."""

    def picture(number: int, width: int, height: int) -> NDArray[np.uint8]:
        noise = np.random.default_rng(number).integers(0, 20, (height, width, 1), np.uint8)
        is_bright = any(mark_s <= number / 25 + 1e-6 < mark_s + 0.1 for mark_s in marks_s)
        return np.repeat(noise + np.uint8(210 if is_bright else 30), 3, axis=2)

    def beeps(times_s: NDArray[np.float64]) -> NDArray[np.float64]:
        is_loud = np.any(
            [(times_s >= mark_s) & (times_s < mark_s + 0.1) for mark_s in marks_s], axis=0
        )
        return np.asarray(np.where(is_loud, 0.7 * np.sin(2 * np.pi * 1000 * times_s), 0))

    settings = KINDS[path.suffix[1:]]
    preset = {} if "video_codec" in settings else {"preset": "ultrafast"}
    write_media(
        path,
        seconds=SECONDS,
        size=size,
        picture=picture,
        waveform=beeps,
        shift_s=shift_s,
        video_options={"g": "25"} | preset,
        has_fine_clock=False,
        **settings,
    )
    return path.read_bytes()


def onsets(is_on: NDArray[np.bool_], step_s: float) -> NDArray[np.float64]:
    return np.asarray((np.flatnonzero(is_on[1:] & ~is_on[:-1]) + 1) * step_s)


def beeps_in(sound_S: NDArray[np.float32]) -> NDArray[np.float64]:
    level = np.abs(sound_S[: len(sound_S) // 160 * 160]).reshape(-1, 160).max(axis=1)
    return onsets(level > 0.2, 0.01)


def check(path: Path, marks_s: Sequence[float], parts: int) -> None:
    """All of what is read has flashes and beeps together, and so have clips that are read alone."""
    info = media.probe(path)
    assert info.parts == parts
    end_s = info.start_s + info.seconds
    times_s = np.arange(0, end_s - 0.1, 0.02)
    with media.Reader(path) as reader:
        flashes_s = onsets(reader.frames(times_s, short_side_pixels=16)[:, 8, 8, 0] > 120, 0.02)
        beeps_s = beeps_in(reader.sound(0, end_s))
    np.testing.assert_allclose(flashes_s, beeps_s, atol=0.05)
    np.testing.assert_allclose(flashes_s, np.array(marks_s), atol=0.1)
    for mark_s in marks_s:
        begin_s = mark_s - 0.3
        times_s = begin_s + np.arange(0, 0.6, 0.02)
        frames, sound_S = media.read_clip(path, times_s, begin_s, 0.6, short_side_pixels=16)
        assert abs(onsets(frames[:, 8, 8, 0] > 120, 0.02)[0] - beeps_in(sound_S)[0]) < 0.05


@pytest.mark.parametrize("ending", [ending for ending in KINDS if ending != "ogg"])
def test_joined_recordings(tmp_path: Path, ending: str) -> None:
    first = recording(tmp_path / f"a.{ending}", FIRST)
    second = recording(tmp_path / f"b.{ending}", SECOND)
    check(tmp_path / f"a.{ending}", FIRST, 1)
    path = tmp_path / f"joined.{ending}"
    path.write_bytes(first + second)
    check(path, FIRST, 2)
    assert media.probe(path).seconds == pytest.approx(SECONDS, abs=0.15)
    path.write_bytes(first + np.random.default_rng(0).bytes(5000) + second + first)
    check(path, FIRST, 3)


@pytest.mark.parametrize("ending", ["ts", "mpg", "vob", "m2ts"])
def test_cut_recordings_and_clocks_that_jump_by_hours(tmp_path: Path, ending: str) -> None:
    first = recording(tmp_path / f"a.{ending}", FIRST)
    later = recording(tmp_path / f"b.{ending}", SECOND, shift_s=7200.0)
    path = tmp_path / f"joined.{ending}"
    path.write_bytes(first + later)
    check(path, FIRST, 2)
    path.write_bytes(later + first)
    check(path, SECOND, 2)
    path.write_bytes(first[: len(first) * 2 // 3] + later[len(later) // 5 :])
    check(path, FIRST[:1], 2)
    # what a receiver still had of another programme
    path.write_bytes(later[: len(later) // 20] + first)
    check(path, FIRST, 2)


@pytest.mark.parametrize("ending", ["ts", "mpg"])
def test_a_clock_that_wraps_around_goes_on(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"v.{ending}"
    content = recording(path, FIRST, shift_s=WRAP_TICKS / CLOCK_HZ - 2.5, size=(320, 240))
    starts = [i for i in range(len(content) - 4) if content[i : i + 4] == b"\0\0\1\xe0"]
    ticks = [decoding_tick(content[i : i + PES_HEADER_BYTES]) for i in starts]
    known = [tick for tick in ticks if tick is not None]
    assert min(known) < 10 * CLOCK_HZ < WRAP_TICKS - 10 * CLOCK_HZ < max(known)
    check(path, FIRST, 1)


def test_a_chain_of_ogg_streams_is_read_up_to_the_second(tmp_path: Path) -> None:
    path = tmp_path / "chain.ogg"
    path.write_bytes(recording(tmp_path / "a.ogg", FIRST) + recording(tmp_path / "b.ogg", SECOND))
    with media.Reader(path) as reader:
        info = reader.info()
        sound_S = reader.sound(0, info.audio_seconds)
    assert info.parts == 2
    assert info.audio_seconds == pytest.approx(SECONDS, abs=0.1)
    np.testing.assert_allclose(beeps_in(sound_S), np.array(FIRST), atol=0.05)


def test_the_index_says_which_files_are_used_in_part(tmp_path: Path) -> None:
    videos = tmp_path / "videos"
    videos.mkdir()
    first, second = recording(videos / "a.ts", FIRST), recording(tmp_path / "b.ts", SECOND)
    (videos / "joined.ts").write_bytes(first + second)
    summary = index(videos, tmp_path / "index", progress=False, workers=1)
    assert summary.joined == [str(videos / "joined.ts")]
    assert "clock starts again: 1 files" in summary.describe()
    opened = Index.open(tmp_path / "index")
    assert [video.facts["parts"] for video in opened.videos()] == [1, 2]
    assert index(videos, tmp_path / "index", progress=False, workers=1).joined == summary.joined


def stamps(*streams: Sequence[float]) -> Stamps:
    """Stamps of streams in turn, a kilobyte apart; NaN where a stream has none."""
    rows = [
        (1000 * (i * len(streams) + kind), kind, round(tick_s * CLOCK_HZ) % WRAP_TICKS)
        for i, ticks_s in enumerate(zip(*streams, strict=True))
        for kind, tick_s in enumerate(ticks_s)
        if not np.isnan(tick_s)
    ]
    positions, kinds, ticks = np.array(rows, np.int64).T
    return Stamps(positions, kinds, ticks, positions)


def test_which_timestamps_are_another_clock() -> None:
    even = np.arange(200) * 0.04
    assert new_clocks(stamps(even, even + 0.5)) == []
    assert (
        new_clocks(stamps(even + WRAP_TICKS / CLOCK_HZ - 3, even + WRAP_TICKS / CLOCK_HZ - 3)) == []
    )
    again = np.where(np.arange(200) < 100, even, even - 4)
    assert new_clocks(stamps(again, again)) == [200_000]
    assert new_clocks(stamps(again)) == [100_000]
    late = np.where(np.arange(200) < 100, even, even + 50)
    assert new_clocks(stamps(late, late)) == [200_000]
    wrong = even.copy()
    wrong[[50, 51, 120]] += (9000, 9000, -3)  # two in a row, and one
    assert new_clocks(stamps(wrong, even)) == []
    slides = np.full(2000, np.nan)
    slides[::500] = np.arange(4) * 20  # a picture every 20 seconds, over sound that goes on
    assert new_clocks(stamps(slides, np.arange(2000) * 0.04)) == []
    times_only = even.reshape(-1, 4)[:, [0, 3, 1, 2]].ravel()  # of presentation, with B-frames
    assert new_clocks(stamps(times_only, even)) == []
