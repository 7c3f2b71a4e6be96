"""Frames by timestamp and sound by sample: compared with every frame decoded in turn, and with what
was written.
"""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from media_files import (
    all_frames,
    cut_with_edit_list,
    grainy_picture,
    number_of,
    numbered_picture,
    tone,
    write_media,
)
from seehear.data import media
from seehear.errors import MediaError

RATE_HZ = 16000


def expected_frames(path: Path, times_s: NDArray[np.float64]) -> NDArray[np.uint8]:
    """The last frame that is not after each time, found by decoding every frame."""
    frames = all_frames(path)
    starts_s = np.array([time_s for time_s, _ in frames])
    return np.stack([frames[max(int(np.sum(starts_s <= time_s)) - 1, 0)][1] for time_s in times_s])


def random_times(seconds: float, count: int = 24, seed: int = 0) -> NDArray[np.float64]:
    """Times that are nowhere near a millisecond's edge, where Matroska's rounding decides."""
    return np.random.default_rng(seed).integers(0, int(seconds * 1000), count) / 1000 + 0.0002


def lag_ms(sound_S: NDArray[np.float32], start_s: float) -> float:
    """By how much the tone that was written is heard late, from the middle half of a sound."""
    middle = slice(len(sound_S) // 4, -len(sound_S) // 4, 3)
    times_s = (start_s + np.arange(len(sound_S)) / RATE_HZ)[middle]

    def error(lag: float) -> float:
        return float(np.abs(sound_S[middle] - tone(times_s - lag / 1000)).max())

    best = min(np.arange(-4, 4, 0.02), key=error)
    assert error(best) < 0.05
    return float(best)


# Containers, codecs and groups of pictures: B-frames, open and closed groups, long and short ones,
# none at all.
KINDS = {
    "mp4": {"name": "v.mp4"},
    "mp4 long groups": {"name": "v.mp4", "video_options": {"g": "1000", "bf": "3"}},
    "mp4 short open groups": {
        "name": "v.mp4",
        "video_options": {"g": "8", "bf": "3", "x264-params": "open-gop=1"},
    },
    "mp4 no B": {"name": "v.mp4", "video_options": {"bf": "0", "g": "50"}},
    "mp4 fragmented": {
        "name": "v.mp4",
        "container_options": {"movflags": "frag_keyframe+empty_moov"},
    },
    "mp4 for streaming": {"name": "v.mp4", "container_options": {"movflags": "dash+frag_keyframe"}},
    "mkv": {
        "name": "v.mkv",
        "audio_codec": "flac",
        "video_options": {"bf": "3", "b-pyramid": "none"},
    },
    "mkv no audio": {"name": "v.mkv", "audio_codec": None},
    "ts": {"name": "v.ts", "video_options": {"g": "20"}},
    "flv": {"name": "v.flv"},
    "avi": {
        "name": "v.avi",
        "video_codec": "mpeg4",
        "audio_codec": "libmp3lame",
        "video_options": {"g": "12", "bf": "2"},
    },
    "mpg": {
        "name": "v.mpg",
        "video_codec": "mpeg2video",
        "audio_codec": "mp2",
        "size": (320, 240),
        "picture": grainy_picture,
        "video_options": {"g": "15", "bf": "2", "b": "3000000"},
    },
    "webm": {
        "name": "v.webm",
        "video_codec": "libvpx-vp9",
        "audio_codec": "libopus",
        "sample_rate_hz": 48000,
    },
    "hevc": {
        "name": "v.mp4",
        "video_codec": "libx265",
        "video_options": {"x265-params": "log-level=none:keyint=50"},
    },
    "hevc layers": {
        "name": "v.mp4",
        "video_codec": "libx265",
        "video_options": {"x265-params": "log-level=none:temporal-layers=3:keyint=100"},
    },
    "av1": {
        "name": "v.mp4",
        "video_codec": "libsvtav1",
        "video_options": {"preset": "12", "svtav1-params": "keyint=60"},
    },
    "intra refresh": {
        "name": "v.mp4",
        "video_options": {"x264-params": "intra-refresh=1:keyint=25"},
    },
    "mjpeg": {
        "name": "v.avi",
        "video_codec": "mjpeg",
        "pixel_format": "yuvj420p",
        "audio_codec": "pcm_s16le",
    },
}


@pytest.mark.skipif(not hasattr(os, "sched_getscheduler"), reason="no such scheduling")
def test_writing_av1_leaves_no_real_time_process(tmp_path: Path) -> None:
    """Or the processes of all later tests would run before everything else on the machine."""
    before = os.sched_getscheduler(0)
    write_media(tmp_path / "v.mp4", seconds=0.2, video_codec="libsvtav1", audio_codec=None)
    assert os.sched_getscheduler(0) == before


@pytest.mark.parametrize("kind", KINDS)
def test_frames_are_those_that_decoding_everything_gives(tmp_path: Path, kind: str) -> None:
    settings = dict(KINDS[kind])
    path = write_media(tmp_path / str(settings.pop("name")), seconds=6.0, **settings)
    times_s = random_times(5.9)
    with media.Reader(path) as reader:
        for some_s in (times_s[:1], times_s[1:9], np.sort(times_s), 3.3 + np.arange(12) / 16):
            np.testing.assert_array_equal(reader.frames(some_s), expected_frames(path, some_s))


@pytest.mark.parametrize("name", ["v.mp4", "v.mkv"])
@pytest.mark.parametrize("seed", [0, 1])
def test_frames_of_variable_rate_with_long_pauses(tmp_path: Path, name: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    pauses_s = rng.choice(
        [0.02, 0.04, 0.1, 0.35, 0.8, 3.0], 120, p=[0.3, 0.3, 0.2, 0.1, 0.07, 0.03]
    )
    frame_times_s = np.round(np.concatenate([[0.0], np.cumsum(pauses_s)]), 3)
    end_s = float(frame_times_s[-1])
    options = {"g": "70", "bf": "3"}
    path = write_media(
        tmp_path / name, frame_times_s=frame_times_s, video_options=options, seconds=end_s
    )
    times_s = random_times(end_s, 60, seed)
    wanted = [int(np.searchsorted(frame_times_s, time_s, side="right")) - 1 for time_s in times_s]
    with media.Reader(path) as reader:
        assert [number_of(frame) for frame in reader.frames(times_s)] == wanted
        assert [number_of(reader.frames([time_s])[0]) for time_s in times_s[:20]] == wanted[:20]


def test_frames_at_their_own_timestamps_and_before_the_first(tmp_path: Path) -> None:
    for name in ("v.mp4", "v.mkv"):  # 1 / 30 s is no whole number of Matroska's milliseconds
        path = write_media(tmp_path / name, fps=30.0)
        frames = media.read_frames(
            path, [-1.0, 0.0, *(np.arange(20, 40) / 30)], short_side_pixels=None
        )
        assert [number_of(frame) for frame in frames] == [0, 0, *range(20, 40)]


def test_times_in_any_order_and_repeated(tmp_path: Path) -> None:
    path = write_media(tmp_path / "v.mp4")
    frames = media.read_frames(path, [2.01, 0.01, 2.01, 1.01], short_side_pixels=None)
    assert [number_of(frame) for frame in frames] == [50, 0, 50, 25]


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("v.mp4", {}),
        ("v.mp4", {"sample_rate_hz": 8000, "layout": "mono"}),
        ("v.mkv", {"sample_rate_hz": 48000, "layout": "5.1", "audio_codec": "flac"}),
        ("v.mp4", {"sample_rate_hz": 48000, "layout": "5.1", "audio_codec": "ac3"}),
        ("v.mp4", {"sample_rate_hz": 16000}),
        ("v.mkv", {}),
        ("v.mkv", {"audio_codec": "flac"}),
        ("v.ts", {"shift_s": 1.4}),
        ("v.flv", {}),
        ("v.mov", {"audio_codec": "pcm_u8", "sample_rate_hz": 22050}),
        ("v.mkv", {"audio_codec": "pcm_s32le", "sample_rate_hz": 96000}),
        ("v.mkv", {"audio_codec": "pcm_f64le", "sample_rate_hz": 11025}),
        ("v.avi", {"video_codec": "mpeg4", "audio_codec": "pcm_s16le"}),
        (
            "v.mpg",
            {
                "video_codec": "mpeg2video",
                "audio_codec": "mp2",
                "size": (320, 240),
                "picture": grainy_picture,
            },
        ),
    ],
)
def test_sound_is_in_step_with_the_picture(
    tmp_path: Path, name: str, settings: dict[str, object]
) -> None:
    path = write_media(tmp_path / name, **settings)
    with media.Reader(path) as reader:
        video_start_s = reader.info().video_start_s
        for start_s in (0.0, 0.4, 1.23456, 2.0):
            sound_S = reader.sound(video_start_s + start_s, 0.9)
            assert sound_S.dtype == np.float32
            assert sound_S.shape == (14400,)
            # milliseconds
            assert abs(lag_ms(sound_S, start_s)) < (0.3 if name.endswith((".mkv", ".flv")) else 0.1)
            assert number_of(reader.frames([video_start_s + start_s + 0.011])[0]) == int(
                (start_s + 0.011) * 25
            )


def test_lossless_sound_is_that_which_was_written(tmp_path: Path) -> None:
    path = write_media(
        tmp_path / "v.mov", audio_codec="pcm_f32le", sample_rate_hz=48000, layout="stereo"
    )
    for start_s, tolerance in (
        (0.25, 2e-4),
        (1.0, 2e-4),
        (1.7003, 0.012),
    ):  # the last is between two samples
        sound_S = media.read_sound(path, start_s, 1.0)
        np.testing.assert_allclose(
            sound_S, tone(start_s + np.arange(16000) / RATE_HZ), atol=tolerance
        )
    path = write_media(tmp_path / "w.mov", audio_codec="pcm_f32le", sample_rate_hz=RATE_HZ)
    exact_S = tone(np.arange(4000, 20000) / RATE_HZ)
    np.testing.assert_allclose(media.read_sound(path, 0.25, 1.0), exact_S, atol=1e-6)


@pytest.mark.parametrize(
    ("layout", "codec"), [("7.1", "aac"), ("7.1", "libopus"), ("hexadecagonal", "aac")]
)
def test_sound_of_eight_channels_or_more_is_that_of_two(
    tmp_path: Path, layout: str, codec: str
) -> None:
    heard = []
    for which in ("stereo", layout):
        path = write_media(
            tmp_path / f"{which}.mkv", audio_codec=codec, sample_rate_hz=48000, layout=which
        )
        with media.Reader(path) as reader:
            heard.append(reader.sound(0.3, 0.5, sample_rate_hz=16000))
    assert np.corrcoef(heard)[0, 1] > 0.95


def test_the_same_moment_sounds_the_same_whatever_the_start(tmp_path: Path) -> None:
    for name in ("v.mp4", "v.mkv"):
        path = write_media(tmp_path / name, seconds=5.0)
        with media.Reader(path) as reader:
            whole_S = reader.sound(0.0, 5.0)
            for first in (3, 16001, 40000):
                part_S = reader.sound(first / RATE_HZ, 1.0)
                np.testing.assert_allclose(part_S, whole_S[first : first + 16000], atol=0.03)


def test_sound_is_limited_and_finite(tmp_path: Path) -> None:
    def wild(times_s: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.where(times_s > 1, np.where(times_s > 2, np.nan, np.inf), 3 * tone(times_s))

    path = write_media(
        tmp_path / "v.mov", audio_codec="pcm_f32le", sample_rate_hz=RATE_HZ, waveform=wild
    )
    sound_S = media.read_sound(path, 0.0, 3.0)
    assert sound_S.max() == 1
    assert sound_S.min() == -1
    assert np.all(np.isfinite(sound_S))


@pytest.mark.parametrize("name", ["v.mp4", "v.mkv", "v.ts"])
def test_late_and_short_sound_keeps_its_place(tmp_path: Path, name: str) -> None:
    path = write_media(tmp_path / name, audio_start_s=1.0, audio_seconds=1.5, seconds=4.0)
    with media.Reader(path) as reader:
        info = reader.info()
        assert abs(info.start_s - 1.0) < 0.03
        assert abs(info.seconds - 1.5) < 0.08
        assert abs(info.video_seconds - 4.0) < 0.05
        sound_S = reader.sound(0.0, 4.0)
        assert not sound_S[: round(0.95 * RATE_HZ)].any()
        assert not sound_S[round(2.6 * RATE_HZ) :].any()
        # MP4's edit list is in milliseconds
        assert abs(lag_ms(sound_S[round(1.2 * RATE_HZ) : round(2.4 * RATE_HZ)], 1.2)) < 1
        assert not reader.sound(0.1, 0.5).any()
        assert not reader.sound(3.0, 0.5).any()
        assert number_of(reader.frames([3.51])[0]) == 87


@pytest.mark.parametrize("name", ["v.mp4", "v.mkv", "v.ts", "v.flv"])
def test_a_late_picture_is_its_first_frame_until_then(tmp_path: Path, name: str) -> None:
    path = write_media(tmp_path / name, frame_times_s=2 + np.arange(50) / 25, seconds=4.0)
    frames_THWC, sound_S = media.read_clip(
        path, [0.0, 1.5, 2.03, 3.03], 0.5, 1.0, short_side_pixels=None
    )
    assert [number_of(frame) for frame in frames_THWC] == [0, 0, 0, 25]
    assert sound_S.std() > 0.3
    info = media.probe(path)
    assert abs(info.start_s - 2.0) < 0.03
    assert abs(info.seconds - 2.0) < 0.08


@pytest.mark.parametrize("shift_s", [1.4, 3600.0, -0.5])
def test_transport_streams_start_where_they_like(tmp_path: Path, shift_s: float) -> None:
    options = {"avoid_negative_ts": "disabled"}
    path = write_media(
        tmp_path / "v.ts", shift_s=shift_s, audio_start_s=0.5, container_options=options
    )
    info = media.probe(path)
    assert abs(info.video_start_s) < 1e-5
    # the encoder's first frame, 23 ms, is before its first sample
    assert abs(info.audio_start_s - 0.5) < 0.03
    frames_THWC, sound_S = media.read_clip(
        path, [0.01, 1.01, 2.5], 1.0, 1.0, short_side_pixels=None
    )
    assert [number_of(frame) for frame in frames_THWC] == [0, 25, 62]
    assert abs(lag_ms(sound_S, 1.0)) < 0.1


def test_a_file_that_starts_before_zero(tmp_path: Path) -> None:
    options = {"avoid_negative_ts": "disabled"}  # MP4 hides what is before zero by an edit list
    path = write_media(tmp_path / "v.mp4", shift_s=-0.48, container_options=options)
    assert abs(media.probe(path).video_seconds - 2.52) < 1e-3
    frames_THWC, sound_S = media.read_clip(path, [0.01, 1.01], 0.7, 1.0, short_side_pixels=None)
    assert [number_of(frame) for frame in frames_THWC] == [12, 37]
    assert abs(lag_ms(sound_S, 1.18)) < 1


def test_edit_lists_are_honoured(tmp_path: Path) -> None:
    whole = write_media(tmp_path / "v.mp4", seconds=6.0, video_options={"g": "60"})
    path = cut_with_edit_list(whole, tmp_path / "cut.mp4", 3.48)  # the key frame before is at 2.4 s
    info = media.probe(path)
    assert abs(info.video_seconds - 2.52) < 0.05
    assert abs(info.audio_seconds - 2.52) < 0.05
    frames_THWC, sound_S = media.read_clip(
        path, [0.04, 0.535, 2.0], 0.5, 1.0, short_side_pixels=None
    )
    assert [number_of(frame) for frame in frames_THWC] == [
        int((3.48 + t) * 25) for t in (0.04, 0.535, 2.0)
    ]
    assert abs(lag_ms(sound_S, 3.98)) < 1


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_rotation_is_applied(tmp_path: Path, degrees: int) -> None:
    upright = write_media(tmp_path / "v.mp4", seconds=1.0)
    path = write_media(tmp_path / "r.mp4", seconds=1.0, rotation_degrees=degrees)
    stored_HWC, turned_HWC = (
        media.read_frames(p, [0.5], short_side_pixels=None)[0] for p in (upright, path)
    )
    with av.open(path) as container:
        counterclockwise = next(container.decode(video=0)).rotation
    np.testing.assert_array_equal(turned_HWC, np.rot90(stored_HWC, counterclockwise // 90))
    info = media.probe(path)
    assert (info.height, info.width) == turned_HWC.shape[:2]
    assert info.rotation_degrees == -counterclockwise % 360


def test_odd_sizes_and_scaling(tmp_path: Path) -> None:
    path = write_media(tmp_path / "v.mp4", size=(65, 49), pixel_format="yuv444p", seconds=1.0)
    assert media.read_frames(path, [0.5], short_side_pixels=None).shape == (1, 49, 65, 3)
    for short in (48, 33, 128):
        frame_HWC = media.read_frames(path, [0.5], short_side_pixels=short)[0]
        assert frame_HWC.shape == (short, round(65 * short / 49), 3)
        assert number_of(frame_HWC) == 12
    wide = write_media(tmp_path / "w.mp4", pixel_aspect=Fraction(4, 3), seconds=1.0)
    info = media.probe(wide)
    assert (info.width, info.height) == (85, 48)
    assert number_of(media.read_frames(wide, [0.5], short_side_pixels=24)[0]) == 12
    assert media.read_frames(wide, [0.5], short_side_pixels=24).shape == (1, 24, 43, 3)
    turned = write_media(tmp_path / "t.mp4", rotation_degrees=90, seconds=1.0)
    assert media.read_frames(turned, [0.5], short_side_pixels=24).shape == (1, 32, 24, 3)


@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuvj420p", "yuv422p10le"])
def test_colours_are_right(tmp_path: Path, pixel_format: str) -> None:
    def flat(number: int, width: int, height: int) -> NDArray[np.uint8]:
        return np.full((height, width, 3), [200, 40, 90], np.uint8)

    path = write_media(tmp_path / "v.mkv", pixel_format=pixel_format, picture=flat, seconds=0.5)
    frame_HWC = media.read_frames(path, [0.2], short_side_pixels=None)[0]
    np.testing.assert_allclose(frame_HWC, flat(0, 64, 48), atol=6)


def test_one_stream_alone(tmp_path: Path) -> None:
    deaf = write_media(tmp_path / "deaf.mp4", audio_codec=None)
    blind = write_media(tmp_path / "blind.m4a", video_codec=None)
    frames_THWC, sound_S = media.read_clip(deaf, [1.0], 0.0, 0.0, short_side_pixels=None)
    assert number_of(frames_THWC[0]) == 25
    assert sound_S.shape == (0,)
    frames_THWC, sound_S = media.read_clip(blind, [], 1.0, 1.0, short_side_pixels=64)
    assert frames_THWC.shape == (0, 0, 0, 3)
    assert abs(lag_ms(sound_S, 1.0)) < 0.1
    for path, read, reason in (
        (deaf, lambda path: media.read_sound(path, 0, 1), "no audio stream"),
        (
            blind,
            lambda path: media.read_frames(path, [0], short_side_pixels=None),
            "no video stream",
        ),
    ):
        with pytest.raises(MediaError) as caught:
            read(path)
        assert caught.value.reason == reason
        assert caught.value.path == str(path)
    assert media.probe(deaf).audio_codec == ""
    assert media.probe(deaf).seconds == 0
    assert media.probe(blind).video_codec == ""
    assert media.probe(blind).width == 0


def test_a_cover_picture_is_no_video(tmp_path: Path) -> None:
    path = tmp_path / "song.mp3"
    with av.open(path, "w") as container:
        audio = container.add_stream("libmp3lame", rate=44100, layout="mono")
        cover = container.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 64, 48, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        picture = av.VideoFrame.from_ndarray(numbered_picture(5), format="rgb24")
        container.mux(cover.encode(picture.reformat(format="yuvj420p")))
        container.mux(cover.encode(None))
        sound = av.AudioFrame.from_ndarray(
            np.zeros((1, 44100), np.float32), format="fltp", layout="mono"
        )
        sound.sample_rate = 44100
        container.mux(audio.encode(sound))
        container.mux(audio.encode(None))
    info = media.probe(path)
    assert info.video_codec == ""
    assert info.audio_codec.startswith("mp3")
