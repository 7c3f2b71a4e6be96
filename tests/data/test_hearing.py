"""Which of a file's sound is heard: channels that cancel, tracks without sound, sound that begins
late.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray

import seehear
from media_files import silence, tone, write_media
from seehear.config import Clip, Data
from seehear.data import media
from seehear.data.clips import Clips
from seehear.data.index import Index

RATE_HZ = 16000
SAMPLE_KINDS = {
    "s16": np.int16,
    "s32": np.int32,
    "u8": np.uint8,
    "flt": np.float32,
    "dbl": np.float64,
}


def write_channels(
    path: Path,
    tracks: Sequence[NDArray[np.float64]],
    layout: str,
    codec: str = "pcm_s16le",
    seconds: float = 4.0,
) -> Path:
    """A file whose picture counts, with tracks of sound of (C, S) samples at 16 kHz."""
    with av.open(str(path), "w") as out:
        video = out.add_stream("libx264", rate=5)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        sounds = [out.add_stream(codec, rate=RATE_HZ, layout=layout) for _ in tracks]
        for number in range(round(seconds * 5)):
            frame = av.VideoFrame.from_ndarray(
                np.full((48, 64, 3), 40 * number % 200, np.uint8), format="rgb24"
            )
            frame.pts, frame.time_base = number, Fraction(1, 5)
            out.mux(video.encode(frame))
        out.mux(video.encode(None))
        for sound, samples_CS in zip(sounds, tracks, strict=True):
            _write_track(out, sound, samples_CS, layout)
    return path


def _write_track(out: Any, sound: Any, samples_CS: NDArray[np.float64], layout: str) -> None:
    whole = av.AudioFrame.from_ndarray(
        samples_CS.T.reshape(1, -1).astype(np.float32), format="flt", layout=layout
    )
    whole.sample_rate, whole.pts, whole.time_base = RATE_HZ, 0, Fraction(1, RATE_HZ)
    cut = av.AudioResampler(
        format=sound.codec_context.format, layout=layout, rate=RATE_HZ, frame_size=1024
    )
    position = 0
    for part in (*cut.resample(whole), *cut.resample(None)):
        part.pts, part.time_base = position, Fraction(1, RATE_HZ)
        position += part.samples
        out.mux(sound.encode(part))
    out.mux(sound.encode(None))


def sine(seconds: float = 4.0, pitch_hz: float = 440.0) -> NDArray[np.float64]:
    return np.asarray(
        0.5 * np.sin(2 * np.pi * pitch_hz * np.arange(round(seconds * RATE_HZ)) / RATE_HZ)
    )


def rms(sound_S: NDArray[np.float32]) -> float:
    return float(np.sqrt(np.mean(sound_S**2)))


@pytest.mark.parametrize(
    ("layout", "gains", "codec"),
    [
        ("stereo", (1, -1), "pcm_s16le"),
        ("stereo", (1, -1), "pcm_f32le"),
        ("stereo", (0.6, -1), "pcm_u8"),
        ("stereo", (-1, 0.9), "aac"),
        ("quad", (1, 1, -1, -1), "pcm_s32le"),
        ("5.1", (1, -1, 0.001, 0, 0, 0), "aac"),
        ("5.1", (1, -1, 0, 0.01, 0.5, -0.5), "pcm_s16le"),
        ("5.1", (0, 0, 0, 1, 0, 0), "pcm_s16le"),  # nothing but the low-frequency channel
        ("7.1", (0, 0, 0, 0, 1, -1, 0.5, -0.5), "pcm_f64le"),
    ],
)
def test_channels_that_cancel_are_heard_and_indexed(
    tmp_path: Path, layout: str, gains: tuple[float, ...], codec: str
) -> None:
    (tmp_path / "videos").mkdir()
    path = write_channels(tmp_path / "videos" / "v.mov", [np.outer(gains, sine())], layout, codec)
    assert rms(media.read_sound(path, 1.0, 1.0)) > 0.3  # the loudest channel has 0.354
    seehear.index(tmp_path / "videos", tmp_path / "index", progress=False, workers=1)
    index = Index.open(tmp_path / "index")
    with media.Reader(path) as reader:
        assert index.hearing(0) == reader.hearing
        assert abs(gains[reader.hearing.channel]) >= 0.9


@pytest.mark.parametrize("gains", [(1, 1), (1, 0), (1, 0.2), (1, -0.2)])
def test_other_channels_are_their_mean(tmp_path: Path, gains: tuple[float, float]) -> None:
    path = write_channels(tmp_path / "v.mov", [np.outer(gains, sine())], "stereo", "pcm_f32le")
    expected_S = np.mean(gains) * sine()[8000:24000]
    np.testing.assert_allclose(media.read_sound(path, 0.5, 1.0), expected_S, atol=1e-5)


def test_independent_channels_are_their_mean(tmp_path: Path) -> None:
    noise_CS = np.random.default_rng(0).uniform(-0.5, 0.5, (6, 4 * RATE_HZ))
    path = write_channels(tmp_path / "v.mov", [noise_CS], "5.1", "pcm_f32le")
    expected_S = noise_CS[[0, 1, 2, 4, 5], 8000:24000].mean(axis=0)
    np.testing.assert_allclose(media.read_sound(path, 0.5, 1.0), expected_S, atol=1e-5)


def test_channels_that_cancel_for_a_while_are_noticed(tmp_path: Path) -> None:
    left_S = sine(30.0)
    place = np.arange(len(left_S)) / len(left_S)
    right_S = np.where((place > 0.2) & (place < 0.34), -left_S, left_S)
    path = write_channels(tmp_path / "v.mov", [np.stack([left_S, right_S])], "stereo", seconds=30.0)
    assert rms(media.read_sound(path, 7.0, 2.0)) > 0.3


@pytest.mark.parametrize("ending", ["mov", "mkv"])
def test_a_file_that_cancels_in_part_sounds_the_same_wherever_it_is_read(
    tmp_path: Path, ending: str
) -> None:
    left_S = sine(6.0, 300.0)
    right_S = np.where(np.arange(len(left_S)) < 3 * RATE_HZ, left_S, -left_S)
    (tmp_path / "videos").mkdir()
    path = write_channels(
        tmp_path / "videos" / f"v.{ending}", [np.stack([left_S, right_S])], "stereo", seconds=6.0
    )
    whole_S = media.read_sound(path, 0.0, 6.0, sample_rate_hz=RATE_HZ)
    np.testing.assert_allclose(whole_S, left_S, atol=1e-4)
    seehear.index(
        tmp_path / "videos", tmp_path / "index", segment_seconds=2.0, progress=False, workers=1
    )
    clip = Clip(
        frames=2, frame_rate_hz=5.0, short_side_pixels=32, crop_pixels=32, sound_seconds=0.4
    )
    clips = Clips(
        Index.open(tmp_path / "index"), clip, Data(workers=0, cache_gigabytes=0.0), seed=0
    )
    for row in range(3):
        request = clips.request(row, 0)
        assert request.sound_s is not None
        first = round(request.sound_s[0] * RATE_HZ)
        (batch,) = clips.batches(np.array([row]), epoch=0, batch_size=1)
        assert batch.waveform_BL is not None
        heard_S = batch.waveform_BL[0].numpy()
        shift = request.sound_s[0] * RATE_HZ - first  # a clip may begin between two samples
        assert np.abs(heard_S - whole_S[first : first + len(heard_S)]).max() < 0.01 + 0.1 * abs(
            shift
        )


def test_the_first_track_with_sound_is_taken_and_kept(tmp_path: Path) -> None:
    tracks = [
        np.outer((1, 1), 0 * sine()),
        np.outer((1, -1), sine()),
        np.outer((1, 1), sine(pitch_hz=200.0)),
    ]
    (tmp_path / "videos").mkdir()
    path = write_channels(tmp_path / "videos" / "v.mkv", tracks, "stereo", "flac")
    np.testing.assert_allclose(media.read_sound(path, 0.0, 4.0), sine(), atol=1e-3)
    info = media.probe(path)
    assert (info.audio_track, info.audio_channel) == (1, 0)
    seehear.index(tmp_path / "videos", tmp_path / "index", progress=False, workers=1)
    assert Index.open(tmp_path / "index").hearing(0) == media.Hearing(1, 0)
    seehear.pack(tmp_path / "index", tmp_path / "packed", preset="debug", workers=1)
    packed = Index.open(tmp_path / "packed")
    heard_S = media.read_sound(packed.path(0), 0.5, 3.0)
    assert np.corrcoef(heard_S, sine()[8000:56000])[0, 1] > 0.99


def test_a_file_of_which_every_track_is_silent_says_so(tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    write_channels(tmp_path / "videos" / "v.mkv", [np.zeros((1, 4 * RATE_HZ))] * 2, "mono", "flac")
    with pytest.raises(seehear.SeehearError):
        seehear.index(tmp_path / "videos", tmp_path / "index", progress=False, workers=1)
    from pyarrow import parquet

    (line,) = parquet.read_table(tmp_path / "index-rejected.parquet").to_pylist()
    assert (line["reason"], line["detail"]) == ("silent audio", "zeros only, in all 2 tracks")


@pytest.mark.parametrize(("begin_s", "sounding_s"), [(391.3, 0.7), (130.0, 2.0), (1.5, 0.3)])
def test_little_sound_in_a_long_silence_is_found(
    tmp_path: Path, begin_s: float, sounding_s: float
) -> None:
    def seldom(times_s: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.where(
            (times_s >= begin_s) & (times_s < begin_s + sounding_s), tone(times_s), silence(times_s)
        )

    how: dict[str, Any] = {
        "video_codec": "mpeg4",
        "audio_codec": "pcm_s16le",
        "sample_rate_hz": 8000,
        "layout": "mono",
    }
    write_media(tmp_path / "v.avi", seconds=400.0, fps=1.0, waveform=seldom, **how)
    summary = seehear.index(tmp_path / "v.avi", tmp_path / "index", progress=False, workers=1)
    assert summary.videos == 1
