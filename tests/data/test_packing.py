"""A packed index is the index: the same segments, frames and sound, read from shards; killed and
hostile, too.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import numpy as np
import pytest

import seehear
from media_files import grainy_picture, number_of, write_media
from seehear.data import media
from seehear.data.media.members import Member, member_of
from seehear.data.packing.encoding import Recipe, moments, sound_rate_hz
from seehear.errors import IndexFileError, MediaError, SettingsError, UsageError


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index of odd files: 25 fps, a variable rate, tall, smaller than packed, sound that starts
    late.

    With grain, on which an encoder that decides by what it has not written shows it.
    """
    grain = {"picture": grainy_picture}
    here = tmp_path_factory.mktemp("source")
    videos = here / "videos"
    videos.mkdir()
    write_media(videos / "a.mp4", seconds=5, size=(128, 96), **grain)
    uneven_s = np.cumsum([0.0, *np.tile([0.02, 0.06, 0.04], 40)])
    write_media(
        videos / "b.mp4",
        frame_times_s=uneven_s,
        seconds=float(uneven_s[-1]),
        size=(96, 64),
        **grain,
    )
    write_media(
        videos / "c.mkv", seconds=3, size=(48, 80), audio_codec="flac", audio_start_s=0.4, **grain
    )
    write_media(videos / "d.ts", seconds=3, size=(30, 26), video_options={"g": "20"}, **grain)
    seehear.index([videos], here / "index", segment_seconds=2.0, progress=False)
    return here / "index"


@pytest.fixture(scope="module")
def packed(source: Path) -> Path:
    folder = source.parent / "packed"
    seehear.pack(
        source, folder, short_side_pixels=48, frame_rate_hz=25.0, shard_segments=3, workers=1
    )
    return folder


def test_every_moment_shows_the_frame_that_the_original_shows(source, packed):
    plain, small = seehear.Index.open(source), seehear.Index.open(packed)
    assert len(plain) == len(small)
    assert np.array_equal(plain.seconds, small.seconds)
    assert np.array_equal(plain.start_s, small.original_start_s)
    assert np.array_equal(plain.video, small.video)
    for row in range(len(plain)):
        assert plain.path(row) == small.original_path(row)
        times_s = moments(0.0, plain.seconds[row], Recipe(48, 25.0, 16000, 20))
        expected = media.read_frames(
            plain.path(row), plain.start_s[row] + times_s, short_side_pixels=None
        )
        found = media.read_frames(small.path(row), times_s, short_side_pixels=None)
        assert [number_of(f) for f in found] == [number_of(f) for f in expected], row
        assert min(found.shape[1:3]) == min(48, plain.height[row], plain.width[row])
        assert (found.shape[2], found.shape[1]) == (small.width[row], small.height[row])


def test_sound_is_that_of_the_original_at_the_same_moment(source, packed):
    plain, small = seehear.Index.open(source), seehear.Index.open(packed)
    for row in range(len(plain)):
        ours = media.read_sound(small.path(row), 0.3, 0.8)
        theirs = media.read_sound(plain.path(row), plain.start_s[row] + 0.3, 0.8)
        # Matroska leaves up to 0.1 ms open, 1.6 samples
        assert np.sqrt(np.mean((ours - theirs) ** 2)) < 0.08, row
        lags = [
            float(np.mean(ours[20:-20] * theirs[20 + k : len(theirs) - 20 + k]))
            for k in range(-20, 21)
        ]
        assert abs(int(np.argmax(lags)) - 20) <= 1, row


def test_shards_are_tar_files_that_other_programs_read(packed):
    index = seehear.Index.open(packed)
    assert len(index.info["shards"]) > 1
    row = 0
    for shard in index.info["shards"]:
        with tarfile.open(packed / shard["name"]) as tar:
            members = tar.getmembers()
            for note, film in zip(members[::2], members[1::2], strict=True):
                assert (
                    note.name.removesuffix(".json")
                    == film.name.removesuffix(".mp4")
                    == f"{row:09d}"
                )
                assert (film.mtime, film.uid) == (0, 0)
                place = member_of(index.path(row))
                assert place is not None
                assert (place.offset, place.size, place.name) == (
                    film.offset_data,
                    film.size,
                    film.name,
                )
                record = json.loads(tar.extractfile(note).read())
                assert record["start_s"] == index.original_start_s[row]
                assert Path(index.info["root"], record["path"]) == Path(index.original_path(row))
                row += 1
    assert row == len(index)


def test_groups_are_short_and_nothing_needs_reordering(packed):
    import av

    index = seehear.Index.open(packed)
    place = member_of(index.path(0))
    content = Path(place.shard).read_bytes()[place.offset : place.offset + place.size]
    path = packed.parent / "member.mp4"
    path.write_bytes(content)
    with av.open(path) as file:
        packets = [p for p in file.demux(video=0) if p.size]
    assert [p.is_keyframe for p in packets] == [i % 12 == 0 for i in range(len(packets))]
    assert all(p.pts == p.dts for p in packets)


def test_the_same_segments_make_the_same_bytes_and_a_second_call_does_nothing(
    source, packed, tmp_path
):
    before = {p.name: (p.stat().st_mtime_ns, p.stat().st_ino) for p in packed.iterdir()}
    options = {"short_side_pixels": 48, "frame_rate_hz": 25.0, "shard_segments": 3}
    again = seehear.pack(source, packed, **options)
    assert {p.name: (p.stat().st_mtime_ns, p.stat().st_ino) for p in packed.iterdir()} == before
    other = seehear.pack(source, tmp_path / "other", workers=2, **options)
    assert other.digest == again.digest
    with pytest.raises(
        UsageError,
        match="was packed with recipe short_side_pixels 48, now it is short_side_pixels 32",
    ):
        seehear.pack(source, packed, short_side_pixels=32, frame_rate_hz=25.0, shard_segments=3)
    assert (
        seehear.pack(source, tmp_path / "other", short_side_pixels=32, overwrite=True).digest
        != again.digest
    )


@pytest.mark.thorough
def test_a_killed_pack_goes_on_and_ends_the_same(source, packed, tmp_path):
    out = tmp_path / "out"
    command = [
        sys.executable,
        "-m",
        "seehear",
        "pack",
        str(source),
        "--out",
        str(out),
        "--short-side",
        "48",
    ]
    command += ["--fps", "25", "--shard-segments", "3", "--workers", "1"]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while (
        not list(out.glob(".packing/parts/*.json"))
        and time.monotonic() < deadline
        and process.poll() is None
    ):
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (out / "index.json").exists()
    with pytest.raises(IndexFileError, match="not packed to the end"):
        seehear.Index.open(out)
    kept = {p: p.stat().st_mtime_ns for p in out.glob(".packing/parts/*.json")}
    assert kept
    (out / ".packing" / "parts" / ".unfinished-000000003.mp4").write_bytes(b"half")
    victim = min(kept).with_suffix(".mp4")
    victim.write_bytes(victim.read_bytes()[:100])  # as a lost power supply leaves it
    options = {"short_side_pixels": 48, "frame_rate_hz": 25.0, "shard_segments": 3}
    assert (
        seehear.pack(source, out, workers=1, **options).digest == seehear.Index.open(packed).digest
    )
    assert not (out / ".packing").exists()
    assert not list(out.glob(".unfinished*"))


def test_a_segment_that_cannot_be_packed_is_left_out_with_its_reason(tmp_path):
    videos = tmp_path / "videos"
    videos.mkdir()
    for name in "abc":
        fast = {"movflags": "faststart"}
        write_media(
            videos / f"{name}.mp4", seconds=4, picture=grainy_picture, container_options=fast
        )
    seehear.index([videos], tmp_path / "index", segment_seconds=2.0, progress=False)
    stamp, content = (videos / "b.mp4").stat(), (videos / "b.mp4").read_bytes()
    (videos / "b.mp4").write_bytes(
        content[: len(content) // 4] + bytes(len(content) - len(content) // 4)
    )
    # damage that the file system does not show
    os.utime(videos / "b.mp4", ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    summary = seehear.pack(tmp_path / "index", tmp_path / "packed", preset="debug", workers=1)
    index = seehear.Index.open(tmp_path / "packed")
    assert summary.rows + sum(summary.rejected.values()) == 6
    assert sum(summary.rejected.values()) >= 1
    assert set(index.rejected["path"].to_pylist()) == {"b.mp4"}
    assert set(index.rejected["reason"].to_pylist()) <= set(media.REASONS)
    assert sorted(set(index.video.tolist())) == list(range(index.num_videos))
    for row in range(len(index)):
        media.read_clip(index.path(row), [0.1], 0.0, 1.0, short_side_pixels=36)


def test_what_cannot_be_is_said_before_anything_is_written(source, packed, tmp_path, monkeypatch):
    for wrong, message in (
        ({"short_side_pixels": 47}, "even"),
        ({"quality": 99}, "0 to 51"),
        ({"workers": 0}, "1"),
    ):
        with pytest.raises(SettingsError, match=message):
            seehear.pack(source, tmp_path / "p", **wrong)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    for overwrite in (False, True):
        with pytest.raises(UsageError, match="nothing was touched"):
            seehear.pack(source, tmp_path / "mine", overwrite=overwrite)
    with pytest.raises(UsageError, match="holds a packed index"):
        seehear.index([source.parent / "videos"], packed, overwrite=True, progress=False)
    before = (source / "index.json").read_bytes()
    with pytest.raises(UsageError):
        seehear.pack(source, source, overwrite=True)
    assert (source / "index.json").read_bytes() == before
    import shutil

    monkeypatch.setattr(
        shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**6, 10**6, 1000)
    )
    with pytest.raises(UsageError, match="MB are free"):
        seehear.pack(source, tmp_path / "full", preset="debug", workers=1)
    assert not (tmp_path / "full" / "index.json").exists()


def test_an_estimate_comes_near_and_packs_nothing_whole(source, packed, tmp_path):
    options = {"short_side_pixels": 48, "frame_rate_hz": 25.0, "shard_segments": 3}
    guess = seehear.pack(source, tmp_path / "p", estimate=True, workers=1, **options)
    real = sum(shard["bytes"] for shard in seehear.Index.open(packed).info["shards"]) / 1e9
    assert guess.digest == ""
    assert real / 1.5 < guess.gigabytes < real * 1.5
    assert not list((tmp_path / "p").glob("shard-*"))


def test_a_path_into_a_shard_leads_nowhere_else(packed, tmp_path):
    index = seehear.Index.open(packed)
    good = member_of(index.path(0))
    assert Member(good.shard, good.name, good.offset, good.size).path == index.path(0)
    content = bytearray(Path(good.shard).read_bytes())
    copy = tmp_path / "s.tar"

    def reason(member: Member) -> str:
        with pytest.raises(MediaError) as caught:
            media.read_frames(member.path, [0.0], short_side_pixels=None)
        return caught.value.reason

    copy.write_bytes(content)
    media.read_frames(
        Member(str(copy), good.name, good.offset, good.size).path, [0.0], short_side_pixels=None
    )
    assert reason(Member(str(copy), good.name, good.offset + 512, good.size)) == "unreadable"
    assert reason(Member(str(copy), "000000009.mp4", good.offset, good.size)) == "unreadable"
    assert reason(Member(str(copy), good.name, good.offset, good.size - 1)) == "unreadable"
    assert reason(Member(str(copy), good.name, 10**17, good.size)) == "truncated"
    assert (
        reason(Member(str(tmp_path / "none.tar"), good.name, good.offset, good.size)) == "not found"
    )
    os.mkfifo(tmp_path / "pipe.tar")
    assert (
        reason(Member(str(tmp_path / "pipe.tar"), good.name, good.offset, good.size))
        == "not a regular file"
    )
    playlist = b"#EXTM3U\n/etc/passwd\n"
    with tarfile.open(copy, "w") as tar:
        (tmp_path / "000000000.mp4").write_bytes(playlist)
        tar.add(tmp_path / "000000000.mp4", "000000000.mp4")
    assert reason(Member(str(copy), "000000000.mp4", 512, len(playlist))) in (
        "playlist",
        "unreadable",
    )
    real = tmp_path / "x.tar!000000000.mp4@512+20"  # a file may really be called so
    write_media(real.with_name("plain.mp4")).rename(real)
    assert member_of(str(real)) is None
    media.read_frames(real, [0.0], short_side_pixels=None)


def test_a_damaged_or_missing_shard_is_noticed_before_training(packed, tmp_path):
    import shutil

    shutil.copytree(packed, tmp_path / "copy")  # copying is allowed, also with new times
    seehear.Index.open(tmp_path / "copy").check()
    with (tmp_path / "copy" / "shard-00000.tar").open("ab") as file:
        file.write(b"more")
    (tmp_path / "copy" / "shard-00001.tar").unlink()
    with pytest.raises(IndexFileError, match="2 of"):
        seehear.Index.open(tmp_path / "copy").check()


def test_rates_of_sound_that_aac_has():
    assert [sound_rate_hz(hz) for hz in (1000, 16000, 16001, 192000)] == [8000, 16000, 22050, 96000]


@pytest.mark.thorough
def test_everything_takes_a_packed_index(index_folder, videos, tmp_path):
    seehear.pack(index_folder, tmp_path / "packed", preset="debug", workers=1)
    settings = {
        "compute.precision": "fp32",
        "compute.memory_format": "contiguous",
        "data.workers": 0,
        "rounds": 1,
    }
    run = seehear.pretrain(tmp_path / "packed", tmp_path / "run", preset="debug", settings=settings)
    result = seehear.evaluate(
        tmp_path / "run", data=tmp_path / "packed", classes=videos / "classes.csv"
    )
    assert result["n_train"] + result["n_test"] == 40
    paths = seehear.embed(tmp_path / "run", tmp_path / "packed", workers=1)["path"].to_pylist()
    assert sorted(paths) == sorted(str(p) for p in videos.rglob("*.mp4"))
    seehear.report(run.path, previews=6, workers=1)
    assert len(list((run.path / "previews").glob("*.mp4"))) == 6
