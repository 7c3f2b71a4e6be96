"""Which files get into an index and why the others do not; what survives crashes, hangs and
changes.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.feather
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

import seehear
from media_files import number_of, numbered_picture, silence, tone, write_media
from seehear.data.index import Index, index
from seehear.data.index.columns import FACTS, Video
from seehear.data.index.writing import write_index
from seehear.data.media import REASONS, read_clip
from seehear.data.stretches import cut
from seehear.errors import IndexFileError, SettingsError, UsageError


def build(paths: Any, out: Path, **settings: Any) -> Any:
    return index(paths, out, **({"workers": 2, "progress": False} | settings))


def reasons(folder: Path) -> dict[str, str]:
    """Path -> reason of each file left out."""
    return {row["path"]: row["reason"] for row in Index.open(folder).rejected.to_pylist()}


def table_rows(folder: Path) -> list[dict[str, Any]]:
    return pyarrow.feather.read_table(folder / "index.arrow").to_pylist()


@pytest.fixture(scope="module")
def good_bytes(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A video of 2 s that can be used."""
    return write_media(tmp_path_factory.mktemp("good") / "v.mp4", seconds=2.0).read_bytes()


def still(number: int, width: int, height: int) -> NDArray[np.uint8]:
    return numbered_picture(5, width, height)


def test_a_mutilated_folder(tmp_path: Path, good_bytes: bytes) -> None:
    videos = tmp_path / "videos"
    deep = videos / "a" / "b b" / "ü 影片 'quoted' \"twice\""
    deep.mkdir(parents=True)
    usable = [
        "plain.mp4",
        "UPPER.MP4",
        "wrong ending.jpg",
        "no ending",
        "a/b b/ü 影片 'quoted' \"twice\"/c:d|e%03d.mp4",
    ]
    for number, name in enumerate(usable):  # of different lengths, so that they are different files
        (videos / name).write_bytes(good_bytes + bytes(number))
    write_media(videos / "a" / "v.mkv", seconds=2.0)
    write_media(videos / "a" / "late.mkv", seconds=4.0, audio_start_s=1.0)
    usable += ["a/v.mkv", "a/late.mkv"]

    write_media(videos / "fast.mp4", seconds=8, container_options={"movflags": "faststart"})
    fast = (videos / "fast.mp4").read_bytes()
    (videos / "fast.mp4").unlink()
    (videos / "truncated late.mp4").write_bytes(fast[: len(fast) * 6 // 10])
    (videos / "truncated.mp4").write_bytes(good_bytes[: len(good_bytes) // 2])
    (videos / "empty.mp4").write_bytes(b"")
    (videos / "zeros.mov").write_bytes(bytes(4000))
    (videos / "text.mp4").write_text("This is a text. " * 200)
    (videos / "page.avi").write_text("<html>Not found</html>")
    (videos / "list.mkv").write_text("#EXTM3U\nplain.mp4\n")
    write_media(videos / "silent.mp4", waveform=silence)
    write_media(videos / "quiet.mp4", waveform=lambda times_s: tone(times_s) / 2000)
    write_media(videos / "deaf.mp4", audio_codec=None)
    write_media(videos / "blind.mp4", video_codec=None)
    write_media(videos / "one frame.mp4", frame_times_s=[0.0])
    write_media(videos / "still.mp4", picture=still)
    write_media(videos / "short.mp4", seconds=0.5)
    usable.append("short.mp4")
    write_media(
        videos / "apart.mkv", seconds=5.0, frame_times_s=np.arange(40) / 25, audio_start_s=2.0
    )
    (videos / "broken link.mp4").symlink_to("nowhere")
    os.mkfifo(videos / "pipe.mp4")
    (videos / "notes.txt").write_text("no video")
    (videos / "code.ts").write_text("export const a = 1;")
    (videos / "picture.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(500))
    write_media(videos / "sound.mp3", video_codec=None, audio_codec="libmp3lame")
    (videos / ".hidden.mp4").write_bytes(good_bytes)

    summary = build(videos, tmp_path / "index")
    opened = Index.open(tmp_path / "index")
    found = {os.path.relpath(opened.path(row), videos) for row in range(len(opened))}
    assert found == set(usable)
    assert reasons(tmp_path / "index") == {
        "truncated late.mp4": "truncated",
        "truncated.mp4": "unreadable",
        "empty.mp4": "empty file",
        "zeros.mov": "not a media file",
        "text.mp4": "not a media file",
        "page.avi": "not a media file",
        "list.mkv": "playlist",
        "silent.mp4": "silent audio",
        "quiet.mp4": "silent audio",
        "deaf.mp4": "no audio stream",
        "blind.mp4": "no video stream",
        "sound.mp3": "no video stream",
        "one frame.mp4": "still picture",
        "still.mp4": "still picture",
        "apart.mkv": "too short",
        "broken link.mp4": "not found",
        "pipe.mp4": "not a regular file",
    }
    assert set(reasons(tmp_path / "index").values()) <= set(REASONS)
    assert summary.videos == len(usable) == summary.added
    assert sum(summary.rejected.values()) == 17
    assert "17" in summary.describe()
    assert json.loads(json.dumps(summary.to_dict()))["rows"] == len(opened)
    opened.check()
    for row in range(len(opened)):  # what is in the index can be read, to its end
        times_s = opened.start_s[row] + np.array([0.0, opened.seconds[row] - 0.05])
        frames_THWC, sound_S = read_clip(
            opened.path(row),
            times_s,
            opened.start_s[row],
            opened.seconds[row],
            short_side_pixels=32,
        )
        assert number_of(frames_THWC[1]) > number_of(frames_THWC[0])
        assert sound_S.std() > 0.1


def test_columns_and_segments(tmp_path: Path) -> None:
    write_media(tmp_path / "v.mp4", seconds=7.4, fps=10.0, rotation_degrees=90)
    summary = build(tmp_path / "v.mp4", tmp_path / "index", segment_seconds=2.0, min_seconds=1.0)
    assert (summary.rows, summary.videos, summary.seconds) == (4, 1, pytest.approx(7.4, abs=0.05))
    opened = Index.open(tmp_path / "index")
    np.testing.assert_allclose(opened.start_s, [0, 2, 4, 6])
    np.testing.assert_allclose(opened.seconds, [2, 2, 2, 1.4], atol=0.05)
    assert opened.path(3) == str(tmp_path / "v.mp4")
    assert (opened.width[0], opened.height[0], opened.rotation_degrees[0]) == (48, 64, 270)
    assert (opened.sample_rate_hz[0], opened.channels[0], opened.fps[0]) == (
        44100,
        2,
        pytest.approx(10),
    )
    assert opened.file_bytes[0] == (tmp_path / "v.mp4").stat().st_size
    assert opened.info["settings"] == {"segment_seconds": 2.0, "min_seconds": 1.0, "stills": 0.0}
    assert [row["path"] for row in table_rows(tmp_path / "index")] == ["v.mp4"] * 4
    assert table_rows(tmp_path / "index")[0]["video_codec"] == "h264"
    assert Index is seehear.Index


def test_cutting_covers_a_stretch_without_overlap() -> None:
    rng = np.random.default_rng(0)
    for _ in range(300):
        start_s, seconds = float(rng.uniform(0, 5)), float(rng.uniform(0.1, 60))
        segment_seconds = float(rng.choice([1.0, 2.5, 10.0]))
        starts_N, seconds_N = cut(start_s, seconds, segment_seconds, 0.7)
        assert len(starts_N) == len(seconds_N)
        assert np.all(seconds_N[:-1] == segment_seconds)
        assert np.all((seconds_N >= 0.7) & (seconds_N <= segment_seconds + 1e-6))
        np.testing.assert_allclose(starts_N[1:], (starts_N + seconds_N)[:-1], atol=2e-6)
        if seconds < 0.7:
            assert len(starts_N) == 0
        else:
            assert seconds - 0.7 < seconds_N.sum() <= seconds + 1e-5
    assert [list(x) for x in cut(0.0, 30.0, 10.0, 1.0)] == [[0, 10, 20], [10, 10, 10]]


@pytest.mark.parametrize("workers", [1, 3])
def test_the_number_of_workers_does_not_matter(
    tmp_path: Path, good_bytes: bytes, workers: int
) -> None:
    videos = tmp_path / "videos"
    for number in range(12):
        path = videos / f"{number * 7 % 12}" / "v.mp4"
        path.parent.mkdir(parents=True)
        path.write_bytes(good_bytes + bytes(number) if number % 4 else b"broken")
    build(videos, tmp_path / "one", workers=1)
    build([videos / "3", videos], tmp_path / "many", workers=workers)
    assert table_rows(tmp_path / "one") == table_rows(tmp_path / "many")
    assert reasons(tmp_path / "one") == reasons(tmp_path / "many")
    assert Index.open(tmp_path / "one").digest == Index.open(tmp_path / "many").digest


def test_links_and_loops(tmp_path: Path, good_bytes: bytes) -> None:
    videos, elsewhere = tmp_path / "videos", tmp_path / "elsewhere"
    (videos / "z").mkdir(parents=True)
    elsewhere.mkdir()
    (videos / "z" / "v.mp4").write_bytes(good_bytes)
    (elsewhere / "w.mp4").write_bytes(good_bytes + b"0")
    (videos / "a.mp4").symlink_to(videos / "z" / "v.mp4")
    (videos / "loop").symlink_to(videos)
    (videos / "z" / "up").symlink_to("..")
    (videos / "away").symlink_to(elsewhere)
    (elsewhere / "back").symlink_to(videos)
    os.link(videos / "z" / "v.mp4", videos / "z" / "zz.mp4")
    build(videos, tmp_path / "index")
    assert [row["path"] for row in table_rows(tmp_path / "index")] == ["away/w.mp4", "z/v.mp4"]


def test_names_that_are_no_text(tmp_path: Path, good_bytes: bytes) -> None:
    (tmp_path / "v.mp4").write_bytes(good_bytes)
    (tmp_path / os.fsdecode(b"odd-\xff.mp4")).write_bytes(good_bytes + b"0")
    for _ in range(2):
        build(tmp_path, tmp_path / "index")
        assert reasons(tmp_path / "index") == {"odd-\\xff.mp4": "unusable name"}


def test_running_again_adds_drops_and_leaves_alone(tmp_path: Path, good_bytes: bytes) -> None:
    videos, folder = tmp_path / "videos", tmp_path / "index"
    videos.mkdir()
    for name in ("b", "d", "f"):
        (videos / f"{name}.mp4").write_bytes(good_bytes + name.encode())
    (videos / "bad.mp4").write_text("no video")
    assert build(videos, folder).added == 3
    first = (
        table_rows(folder),
        Index.open(folder).digest,
        (folder / "index.arrow").stat().st_mtime_ns,
    )
    summary = build(videos, folder)  # nothing has changed: not even the file is written
    assert (summary.added, summary.changed, summary.dropped) == (0, 0, 0)
    assert first == (
        table_rows(folder),
        Index.open(folder).digest,
        (folder / "index.arrow").stat().st_mtime_ns,
    )

    (folder / "notes.txt").write_text("mine")
    (videos / "a.mp4").write_bytes(good_bytes + b"a")
    (videos / "d.mp4").unlink()
    summary = build(videos, folder)
    assert (summary.added, summary.changed, summary.dropped) == (1, 0, 1)
    assert "1 new, 0 changed, 1 dropped" in summary.describe()
    # old rows keep their order
    assert [row["path"] for row in table_rows(folder)] == ["b.mp4", "f.mp4", "a.mp4"]
    assert Index.open(folder).digest != first[1]
    assert table_rows(folder)[0] == first[0][0]
    assert (folder / "notes.txt").read_text() == "mine"

    write_media(videos / "b.mp4", seconds=3.0)
    (videos / "bad.mp4").write_bytes(good_bytes + b"now good")
    (videos / "f.mp4").write_text("now bad")
    summary = build(videos, folder)
    assert (summary.added, summary.changed, summary.dropped) == (1, 1, 1)
    assert [row["path"] for row in table_rows(folder)] == ["b.mp4", "a.mp4", "bad.mp4"]
    assert table_rows(folder)[0]["seconds"] == pytest.approx(3, abs=0.05)
    assert reasons(folder) == {"f.mp4": "not a media file"}
    names = {"index.arrow", "rejected.parquet", "index.json", "notes.txt"}
    assert {path.name for path in folder.iterdir()} == names


def test_adding_a_folder_to_an_index(tmp_path: Path, good_bytes: bytes) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "v.mp4").write_bytes(good_bytes + name.encode())
    folder = tmp_path / "index"
    build(tmp_path / "two", folder)
    with pytest.raises(UsageError, match="would be dropped"):
        build(tmp_path / "one", folder)
    assert build([tmp_path / "one", tmp_path / "two"], folder).added == 1
    opened = Index.open(folder)
    assert [opened.path(row) for row in range(2)] == [
        str(tmp_path / "two" / "v.mp4"),
        str(tmp_path / "one" / "v.mp4"),
    ]
    assert opened.info["root"] == str(tmp_path)
    assert build(tmp_path / "one", folder, overwrite=True).videos == 1


def test_other_settings_are_an_error(tmp_path: Path, good_bytes: bytes) -> None:
    (tmp_path / "v.mp4").write_bytes(good_bytes)
    folder = tmp_path / "index"
    build(tmp_path / "v.mp4", folder)
    with pytest.raises(UsageError, match=r"segment_seconds = 10, now it is 1\.5"):
        build(tmp_path / "v.mp4", folder, segment_seconds=1.5)
    assert build(tmp_path / "v.mp4", folder, segment_seconds=1.0, overwrite=True).rows == 2
    (tmp_path / "w.mp4").write_bytes(good_bytes + b" ")
    updated = build([tmp_path / "v.mp4", tmp_path / "w.mp4"], folder)
    assert updated.rows == 4, "without settings, an index is updated with its own"
    for wrong in (
        {"segment_seconds": 0},
        {"min_seconds": -1},
        {"segment_seconds": 0.5},
        {"workers": 0},
        {"timeout_s": 0},
    ):
        with pytest.raises(SettingsError, match=next(iter(wrong))):
            build(tmp_path / "v.mp4", folder, **wrong)


def test_wrong_use(tmp_path: Path, good_bytes: bytes) -> None:
    with pytest.raises(UsageError, match="nowhere does not exist"):
        build(tmp_path / "nowhere", tmp_path / "index")
    (tmp_path / "empty").mkdir()
    with pytest.raises(IndexFileError, match="There is no video below"):
        build(tmp_path / "empty", tmp_path / "index")
    bad = tmp_path / "bad"
    bad.mkdir()
    write_media(bad / "deaf.mp4", audio_codec=None)
    (bad / "text.mp4").write_text("text")
    with pytest.raises(
        IndexFileError, match=r"None of 2 files.*1 no audio stream, 1 not a media file"
    ) as caught:
        build(bad, tmp_path / "index")
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "index").exists()
    listing = pq.read_table(tmp_path / "index-rejected.parquet").to_pylist()
    assert {row["path"]: row["reason"] for row in listing} == {
        "deaf.mp4": "no audio stream",
        "text.mp4": "not a media file",
    }
    (tmp_path / "v.mp4").write_bytes(good_bytes)
    with pytest.raises(UsageError, match="is no index"):
        build(tmp_path / "v.mp4", bad)
    assert (bad / "text.mp4").exists()


def test_opening_what_is_no_index(tmp_path: Path, good_bytes: bytes) -> None:
    with pytest.raises(
        IndexFileError, match=r"does not exist. Make one: seehear index VIDEOS --out"
    ):
        Index.open(tmp_path / "nowhere")
    with pytest.raises(IndexFileError, match=r"no index\.json.* --out "):
        Index.open(tmp_path)
    (tmp_path / "v.mp4").write_bytes(good_bytes)
    with pytest.raises(
        IndexFileError, match=rf"Make one: seehear index {re.escape(str(tmp_path))} --out INDEX$"
    ):
        Index.open(tmp_path)  # a folder of videos
    with pytest.raises(IndexFileError, match=r"Make one: seehear index VIDEOS --out INDEX$"):
        Index.open(tmp_path / "v.mp4")
    folder = tmp_path / "index"
    build(tmp_path / "v.mp4", folder)
    info = json.loads((folder / "index.json").read_text())
    (folder / "index.json").write_text(json.dumps(info | {"format": 99}))
    with pytest.raises(IndexFileError, match="index format 99"):
        Index.open(folder)
    (folder / "index.json").write_text(json.dumps(info | {"digest": f"sha256:{0:064}"}))
    with pytest.raises(IndexFileError, match="not as it was written"):
        Index.open(folder)
    (folder / "index.json").write_text("{")
    with pytest.raises(IndexFileError, match="damaged"):
        Index.open(folder)
    (folder / "index.json").write_text(json.dumps(info))
    (folder / "index.arrow").write_bytes(b"ARROW1 and no more")
    with pytest.raises(IndexFileError, match=r"index\.arrow cannot be used"):
        Index.open(folder)
    build(tmp_path / "v.mp4", folder, overwrite=True)
    assert len(Index.open(folder)) == 1


def test_files_that_have_changed_are_named(tmp_path: Path, good_bytes: bytes) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / f"{name}.mp4").write_bytes(good_bytes + name.encode())
    build(tmp_path, tmp_path / "index")
    opened = Index.open(tmp_path / "index")
    opened.check()
    (tmp_path / "b.mp4").unlink()
    os.utime(tmp_path / "c.mp4", ns=(1, 1))
    with pytest.raises(
        IndexFileError,
        match=r"2 of 3 files.*b\.mp4 has vanished.*c\.mp4 has changed.*seehear index",
    ):
        opened.check()
    opened.check([0])
    with pytest.raises(IndexFileError, match="1 of 2"):
        opened.check([0, 2])


def test_motion_and_sound_between_the_first_samples_are_found(tmp_path: Path) -> None:
    def mostly_still(number: int, width: int, height: int) -> NDArray[np.uint8]:
        return numbered_picture(number if 20 < number < 30 else 5, width, height)

    def mostly_silent(times_s: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.where((times_s > 3.0) & (times_s < 3.5), tone(times_s), 0)

    write_media(
        tmp_path / "v.mp4", seconds=10.0, fps=10.0, picture=mostly_still, waveform=mostly_silent
    )
    assert build(tmp_path, tmp_path / "index").videos == 1


@pytest.mark.parametrize("codec", ["libx264", "libvpx-vp9"])
def test_a_picture_that_only_the_codec_changes_is_still(tmp_path: Path, codec: str) -> None:
    def landscape(number: int, width: int, height: int) -> NDArray[np.uint8]:
        y, x = np.mgrid[:height, :width] / height
        waves = (
            120
            + 60 * np.sin(9 * x + 4 * y)
            + 40 * np.cos(30 * y * x)
            + np.random.default_rng(0).normal(0, 8, x.shape)
        )
        return np.stack([waves, waves[::-1], 255 - waves], axis=-1).clip(0, 255).astype(np.uint8)

    write_media(
        tmp_path / "still.mkv",
        size=(320, 240),
        picture=landscape,
        video_codec=codec,
        video_options={"g": "50"},
    )
    with pytest.raises(IndexFileError, match="1 still picture"):
        build(tmp_path, tmp_path / "index")


def test_an_index_of_many_videos(tmp_path: Path) -> None:
    facts = {name: "h264" if "codec" in name else 25 for name in FACTS}
    starts, seconds = np.array([0.0, 10.0]), np.array([10.0, 4.0])
    videos = [
        Video(f"/videos/{number:06d}.mp4", facts, starts, seconds) for number in range(20_000)
    ]
    info = write_index(
        tmp_path / "index", videos, [], {"root": "/videos", "rejected": {}, "paths": ["/videos"]}
    )
    opened = Index.open(tmp_path / "index")
    assert (len(opened), opened.num_videos, opened.digest) == (40_000, 20_000, info["digest"])
    assert np.array_equal(opened.recording, opened.video)  # no recording is named
    assert opened.path(39_999) == "/videos/019999.mp4"
    np.testing.assert_array_equal(opened.video, np.repeat(np.arange(20_000), 2))
    again = opened.videos()
    assert [video.path for video in again] == [video.path for video in videos]
    assert write_index(tmp_path / "index", again, [], info)["digest"] == info["digest"]
