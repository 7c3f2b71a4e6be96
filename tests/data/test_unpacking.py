"""Videos in the containers of others come out as they went in."""

from __future__ import annotations

import io
import json
import tarfile
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from av.stream import Disposition

import seehear
from command_here import command
from media_files import all_frames, number_of, numbered_picture, write_media, write_wav
from seehear.data.index import Index
from seehear.data.media import Reader
from seehear.data.unpacking import unpack
from seehear.errors import SeehearError, UsageError
from seehear.evaluation.classes import read_classes
from seehear.machine.console import Console

QUIET = Console(quiet=True)


def sound_of(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        frames = [frame.to_ndarray() for frame in container.decode(audio=0)]
    return np.concatenate(frames, axis=1)


@pytest.fixture
def media(tmp_path) -> Path:
    """A video with sound, one without, and the sound that goes with it."""
    write_media(tmp_path / "both.mp4")
    write_media(tmp_path / "seen.mp4", audio_codec=None)
    write_wav(tmp_path / "heard.wav", 2.0)
    return tmp_path


def write_tar(path: Path, members: dict[str, bytes]) -> None:
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


def test_a_webdataset_becomes_files_with_their_sound_and_classes(media, tmp_path):
    both, seen, heard = (media / name for name in ("both.mp4", "seen.mp4", "heard.wav"))
    members = {
        "a/000.mp4": both.read_bytes(),
        "a/000.json": json.dumps({"label": "dog", "tags": [1], "fps": 25}).encode(),
        "a/001.mp4": seen.read_bytes(),
        "a/001.wav": heard.read_bytes(),
        "a/001.cls": b"cat\n",
        "../../002.mp4": both.read_bytes(),
        "003.jpg": b"no video",
    }
    write_tar(tmp_path / "shard-00.tar", members)
    found = unpack(tmp_path / "shard-00.tar", tmp_path / "out", console=QUIET)
    assert found["videos"] == 3
    assert (found["joined"], found["left_out"]) == (1, {"no video": 1})
    out = tmp_path / "out" / "shard-00"
    assert (out / "a" / "000.mp4").read_bytes() == both.read_bytes()
    assert sorted(p.name for p in out.rglob("*.m*")) == ["000.mp4", "001.mkv", "002.mp4"]
    joined = out / "a" / "001.mkv"
    for ours, theirs in zip(all_frames(joined), all_frames(seen), strict=True):
        assert ours[0] == pytest.approx(theirs[0], abs=1e-3)  # Matroska counts milliseconds
        np.testing.assert_array_equal(ours[1], theirs[1])
    np.testing.assert_array_equal(sound_of(joined), sound_of(heard))
    lines = [json.loads(x) for x in (tmp_path / "out" / "metadata.jsonl").read_text().splitlines()]
    assert lines[0] == {"file_name": "shard-00/a/000.mp4", "label": "dog", "fps": 25}
    assert lines[1] == {"file_name": "shard-00/a/001.mkv", "label": "cat"}

    before = {p: p.stat().st_mtime_ns for p in out.rglob("*.m*")}
    assert unpack(tmp_path / "shard-00.tar", tmp_path / "out", console=QUIET) == found
    assert {p: p.stat().st_mtime_ns for p in out.rglob("*.m*")} == before


def test_parquet_with_bytes_becomes_files_that_are_indexed_with_classes(media, tmp_path):
    both, seen, heard = (
        (media / name).read_bytes() for name in ("both.mp4", "seen.mp4", "heard.wav")
    )
    videos = [{"bytes": both, "path": "x/one.mp4"}, {"bytes": seen, "path": None}]
    columns = {"video": videos, "audio": [None, heard], "label": ["dog", "cat"], "n": [1, 2]}
    pq.write_table(pa.table(columns), tmp_path / "train.parquet")
    unpack([tmp_path / "train.parquet"], tmp_path / "out", console=QUIET)
    seehear.index(tmp_path / "out", tmp_path / "index", workers=1, progress=False)
    index = Index.open(tmp_path / "index")
    names = [Path(index.path(row)).name for row in range(len(index))]
    assert names == ["000000000-one.mp4", "000000001.mkv"]
    classes = read_classes(tmp_path / "out" / "metadata.jsonl")
    assert [classes.names[k] for k in classes.of_rows(index)] == ["dog", "cat"]


def write_picture(path: Path, number: int, width: int = 64, height: int = 48) -> Path:
    """A still picture that shows a number, in the format of its ending."""
    codec, pixels = ("png", "rgb24") if path.suffix == ".png" else ("mjpeg", "yuvj444p")
    frame = av.VideoFrame.from_ndarray(numbered_picture(number, width, height), format="rgb24")
    encoder = av.CodecContext.create(codec, "w")
    encoder.width, encoder.height, encoder.pix_fmt = width, height, pixels
    encoder.time_base = Fraction(1, 25)
    packets = [*encoder.encode(frame.reformat(format=pixels)), *encoder.encode(None)]
    path.write_bytes(b"".join(map(bytes, packets)))
    return path


def numbers_in(path: Path, times_s: list[float]) -> list[int]:
    """The numbers that a video shows at some times."""
    with Reader(path) as reader:
        return [number_of(picture) for picture in reader.frames(times_s)]


def indexed(videos: Path, index: Path, **how: bool) -> Index:
    seehear.index(videos, index, workers=1, progress=False, **how)
    return Index.open(index)


def test_pictures_with_a_sound_beside_them_become_videos(tmp_path, monkeypatch, capsys):
    """One picture, several in turn by their numbers, and what has no sound of its name."""
    folder, out = tmp_path / "photos", tmp_path / "out"
    (folder / "in").mkdir(parents=True)
    write_picture(folder / "one.JPG", 0x5A5A)
    for place, number in enumerate((3, 12, 240)):  # 10 comes after 2 and 3
        write_picture(folder / "in" / f"show_{(2, 3, 10)[place]}.png", number, 64, 48 - 8 * place)
    write_picture(folder / "alone.jpg", 1)
    write_wav(folder / "one.wav", 2.0)
    write_wav(folder / "in" / "show.wav", 3.0)
    write_wav(folder / "unseen.wav", 1.0)
    (folder / "one.txt").write_text("a dog")
    with (folder / "metadata.csv").open("w") as lines:
        lines.write("file_name,label\none.JPG,dog\nin/show_2.png,cat\n")

    assert command(monkeypatch, "unpack", folder, "--out", out, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    kinds = {name: found[name] for name in ("videos", "joined", "stills", "left_out")}
    assert kinds == {"videos": 2, "joined": 2, "stills": 1, "left_out": {}}
    one, show = out / "photos" / "one.mkv", out / "photos" / "in" / "show.mkv"
    assert numbers_in(one, [0.0, 1.0, 1.9]) == [0x5A5A] * 3
    assert numbers_in(show, [0.1, 0.9, 1.1, 1.9, 2.1, 2.9]) == [3, 3, 12, 12, 240, 240]
    np.testing.assert_array_equal(sound_of(one), sound_of(folder / "one.wav"))
    with Reader(show) as reader:
        assert reader.info().seconds == pytest.approx(3.0, abs=0.05)
        assert reader.frames([2.5])[0].shape == (480, 640, 3)  # of the first: black beside others
        assert reader.frames([2.5])[0][5].max() < 30
    lines = [json.loads(line) for line in (out / "metadata.jsonl").read_text().splitlines()]
    assert lines == [
        {"file_name": "photos/in/show.mkv", "class": "cat"},
        {"file_name": "photos/one.mkv", "class": "dog", "text": "a dog"},
    ]

    assert {Path(p).name for p in paths_of(indexed(out, tmp_path / "moving"))} == {"show.mkv"}
    with pytest.raises(UsageError, match="stills = 0, now it is 1"):
        indexed(out, tmp_path / "moving", stills=True)
    both = indexed(out, tmp_path / "both", stills=True)
    assert [Path(path).name for path in paths_of(both)] == ["show.mkv", "one.mkv"]
    assert indexed(out, tmp_path / "both").info["settings"]["stills"] == 1  # as it was made


def paths_of(index: Index) -> list[str]:
    return [index.path(row) for row in range(len(index))]


def test_pictures_and_sounds_in_containers_and_lines_become_videos(tmp_path):
    picture = write_picture(tmp_path / "p.jpg", 0x0FF0).read_bytes()
    other = write_picture(tmp_path / "q.png", 0x00FF).read_bytes()
    write_wav(tmp_path / "s.wav", 1.0)
    sound = (tmp_path / "s.wav").read_bytes()
    members = {"a.jpg": picture, "a.wav": sound, "b.2.png": other, "b.1.jpg": picture}
    write_tar(tmp_path / "shard.tar", {**members, "b.wav": sound, "c.jpg": picture})
    columns = {"image": [{"bytes": picture, "path": "p.jpg"}], "audio": [{"bytes": sound}]}
    images = {"images": [[{"bytes": picture}, {"bytes": other}]], "audio": [sound]}
    pq.write_table(pa.table(columns), tmp_path / "one.parquet")
    pq.write_table(pa.table(images), tmp_path / "two.parquet")
    lines = tmp_path / "lines"
    (lines / "sounds").mkdir(parents=True)
    (lines / "seen.jpg").write_bytes(picture)
    for name in ("x", "y"):  # one picture with two sounds
        (lines / "sounds" / f"{name}.wav").write_bytes(sound)
    rows = [{"image_file_name": "seen.jpg", "audio_file_name": f"sounds/{n}.wav"} for n in "xy"]
    pq.write_table(pa.Table.from_pylist(rows), lines / "metadata.parquet")

    sources = [tmp_path / name for name in ("shard.tar", "one.parquet", "two.parquet", "lines")]
    found = unpack(sources, tmp_path / "out", console=QUIET)
    assert (found["videos"], found["stills"], found["left_out"]) == (6, 4, {"no video": 1})
    seen = {
        path.relative_to(tmp_path / "out").as_posix(): numbers_in(path, [0.1, 0.9])
        for path in sorted((tmp_path / "out").rglob("*.mkv"))
    }
    assert seen == {
        "lines/000000000-seen.mkv": [0x0FF0, 0x0FF0],
        "lines/000000001-seen.mkv": [0x0FF0, 0x0FF0],
        "one/000000000-p.mkv": [0x0FF0, 0x0FF0],
        "shard/a.mkv": [0x0FF0, 0x0FF0],
        "shard/b.mkv": [0x0FF0, 0x00FF],
        "two/000000000.mkv": [0x0FF0, 0x00FF],
    }


def covered_with(path: Path, container_format: str) -> None:
    """Give a sound a cover picture, as music has."""
    content = io.BytesIO(path.read_bytes())
    with av.open(content) as bare, av.open(str(path), "w", format=container_format) as covered:
        sound = covered.add_stream_from_template(bare.streams.audio[0])
        cover = covered.add_stream("mjpeg", options={"strict": "unofficial"})
        cover.width, cover.height, cover.pix_fmt = 64, 48, "yuvj420p"
        cover.disposition = Disposition.attached_pic
        frame = av.VideoFrame.from_ndarray(numbered_picture(1), format="rgb24")
        frame.pts, frame.time_base = 0, Fraction(1, 25)
        covered.mux([*cover.encode(frame), *cover.encode(None)])
        for packet in bare.demux(bare.streams.audio[0]):
            if packet.dts is not None:
                packet.stream = sound
                covered.mux(packet)
    with av.open(str(path)) as covered:
        assert covered.streams.video[0].disposition & Disposition.attached_pic


@pytest.mark.parametrize("ending", ["mp3", "m4a", "flac"])
def test_a_sound_with_a_cover_picture_is_no_video(tmp_path, ending):
    """Nor for `index` beside a video, nor as the sound that goes with a picture."""
    folder = tmp_path / "sounds"
    folder.mkdir()
    write_picture(folder / "song.jpg", 0x5A5A)
    covered, codec = folder / f"song.{ending}", {"mp3": "libmp3lame", "m4a": "aac"}.get(ending)
    container = "mp4" if ending == "m4a" else ending
    write_media(covered, video_codec=None, audio_codec=codec or ending, container_format=container)
    covered_with(covered, container)
    write_media(folder / "video.mp4")
    index = indexed(folder, tmp_path / "index", stills=True)
    assert [Path(path).name for path in paths_of(index)] == ["video.mp4"]
    assert {r.reason for r in index.rejected_files()} == {"no video stream"}
    unpack(folder, tmp_path / "out", console=QUIET)
    (made,) = (tmp_path / "out").rglob("*.mkv")
    assert numbers_in(made, [0.1, 2.9]) == [0x5A5A] * 2
    with av.open(str(made)) as container:
        assert [stream.type for stream in container.streams] == ["video", "audio"]


def test_what_is_no_container_is_refused(media, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    (tmp_path / "bad.tar").write_bytes(b"x" * 2000)
    with pytest.raises(SeehearError, match=r"bad.tar cannot be read \("):
        unpack(tmp_path / "bad.tar", out, console=QUIET)
    write_tar(tmp_path / "good.tar", {"a.mp4": b"x"})
    with pytest.raises(UsageError, match="was unpacked from other files"):
        unpack(tmp_path / "good.tar", out, console=QUIET)
    with pytest.raises(UsageError, match="exists, and was not unpacked"):
        unpack(tmp_path / "good.tar", tmp_path, console=QUIET)
    assert command(monkeypatch, "unpack", media / "both.mp4", "--out", out) == 2
    assert "both.mp4 is neither: unpack reads files that end in .tar" in capsys.readouterr().err
    assert command(monkeypatch, "unpack", tmp_path / "good.tar", "--out", tmp_path / "new") == 0
    assert f"Next: seehear index {tmp_path}/new --out INDEX" in capsys.readouterr().out


def unpacked(members: dict[str, bytes], folder: Path) -> tuple[dict[str, Any], dict[str, bytes]]:
    """What `unpack` says of a tar file, and the videos that it made of it."""
    write_tar(folder / "shard.tar", members)
    found = unpack(folder / "shard.tar", folder / "out", console=QUIET)
    made = folder / "out" / "shard"
    files = [path for path in sorted(made.rglob("*")) if path.is_file()]
    return found, {path.relative_to(made).as_posix(): path.read_bytes() for path in files}


def test_each_key_has_a_file_of_its_own_however_it_is_spelt(tmp_path):
    """Also where only what file systems do not take, or a capital letter, tells two keys apart."""
    keys = ("a b", "a?b", "A_B", "x.mp4/y", "x", "k" * 300 + "1", "k" * 300 + "2", "\u2603" * 99)
    contents = {f"{key}.mp4": key.encode() for key in keys}
    found, made = unpacked(contents, tmp_path)
    assert (found["videos"], found["joined"], found["stills"]) == (len(keys), 0, 0)
    assert not any(type(count) is bool for count in found.values())
    assert sorted(made.values()) == sorted(contents.values())
    assert made["a_b.mp4"] == b"a b"
    assert made["a_b-2.mp4"] == b"a?b"
    assert made["x_mp4/y.mp4"] == b"x.mp4/y"
    lines = [json.loads(x) for x in (tmp_path / "out" / "metadata.jsonl").read_text().splitlines()]
    assert {line["file_name"].removeprefix("shard/") for line in lines} == set(made)
    assert unpacked(contents, tmp_path) == (found, made)  # the same names again


def test_a_source_that_has_changed_is_unpacked_anew(tmp_path):
    unpacked({"a.mp4": b"one", "b.mp4": b"other"}, tmp_path)
    for content in (b"two", b"two", b"three"):
        time.sleep(0.02)  # by the clock of file systems
        _, made = unpacked({"a.mp4": content, "b.mp4": b"other"}, tmp_path)
        assert made == {"a.mp4": content, "b.mp4": b"other"}


def test_a_tar_file_that_is_damaged_is_not_taken_for_a_shorter_one(tmp_path):
    write_tar(tmp_path / "shard.tar", {"a.mp4": b"a" * 700, "b.mp4": b"b" * 700, "c.mp4": b"c"})
    whole, second = (tmp_path / "shard.tar").read_bytes(), 512 + 1024
    for damaged in (
        whole[: second + 100],
        whole[: second + 1000],
        whole[:second] + b"x" * 512 + whole[second + 512 :],
    ):
        (tmp_path / "shard.tar").write_bytes(damaged)
        with pytest.raises(SeehearError, match=r"shard.tar cannot be read \("):
            unpack(tmp_path / "shard.tar", tmp_path / "out", console=QUIET)
    (tmp_path / "shard.tar").write_bytes(whole)
    assert unpack(tmp_path / "shard.tar", tmp_path / "out", console=QUIET)["videos"] == 3


def test_what_is_no_ordinary_file_in_a_tar_file_has_no_content(tmp_path):
    kinds = (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE)
    sparse = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "s.mp4"}
    with tarfile.open(tmp_path / "shard.tar", "w", format=tarfile.PAX_FORMAT) as tar:
        for number, kind in enumerate(kinds):
            info = tarfile.TarInfo(f"{number}.mp4")
            info.type, info.linkname = kind, "/etc/passwd"
            tar.addfile(info)
        info = tarfile.TarInfo("s.mp4")  # some bytes that stand for a terabyte
        info.size, info.pax_headers = 1024, sparse | {"GNU.sparse.realsize": str(2**40)}
        tar.addfile(info, io.BytesIO(b"1\n0\n1\n".ljust(512, b"\0") + bytes(512)))
        for name in ("/abs/a.mp4", "../../b.mp4"):
            info = tarfile.TarInfo(name)
            info.size = 1
            tar.addfile(info, io.BytesIO(b"x"))
    found = unpack(tmp_path / "shard.tar", tmp_path / "out", console=QUIET)
    assert (found["videos"], found["left_out"]) == (2, {"no video": 5})
    made = [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.mp4")]
    assert sorted(made) == ["out/shard/_/_/b.mp4", "out/shard/_/abs/a.mp4"]


def test_one_sample_that_makes_no_sense_costs_no_other(media, tmp_path, monkeypatch):
    """And none of them reads a file beside it: a video is no programme."""
    monkeypatch.chdir(media)
    playlist = b"ffconcat version 1.0\nfile both.mp4\n"
    seen, heard = (media / "seen.mp4").read_bytes(), (media / "heard.wav").read_bytes()
    members = {"a.mp4": seen, "a.json": b"{", "b.mp4": seen, "b.json": b"[" * 100_000}
    members |= {"c.mp4": playlist, "c.wav": heard, "d.mp4": seen, "d.wav": playlist}
    members |= {
        "e.mp4": seen[:2000],
        "e.wav": heard,
        "f.mp4": seen,
        "f.json": b'{"x": NaN, "y": 1}',
    }
    found, made = unpacked(members, tmp_path)
    assert found["left_out"] == {
        "its JSON cannot be read": 2,
        "video and sound could not be joined": 3,
    }
    assert made == {"f.mp4": seen}
    line = (tmp_path / "out" / "metadata.jsonl").read_text()
    assert json.loads(line) == {"file_name": "shard/f.mp4", "y": 1}
    with pytest.raises(SeehearError, match=r"has no videos.* Left out: 1 its JSON cannot be read."):
        unpack(_tar_of({"a.mp4": seen, "a.json": b"{"}, tmp_path), tmp_path / "no", console=QUIET)


def _tar_of(members: dict[str, bytes], folder: Path) -> Path:
    write_tar(folder / "other.tar", members)
    return folder / "other.tar"


def test_times_in_a_parquet_file_are_in_nobodys_way(tmp_path):
    when = pa.array([1_234_567_891], pa.timestamp("ns"))
    table = pa.table({"video": [b"x"], "when": when, "x": [float("inf")], "n": [1]})
    pq.write_table(table, tmp_path / "p.parquet")
    assert unpack(tmp_path / "p.parquet", tmp_path / "out", console=QUIET)["videos"] == 1
    line = json.loads((tmp_path / "out" / "metadata.jsonl").read_text())
    assert line == {"file_name": "p/000000000.mp4", "n": 1}


def test_metadata_that_name_what_is_not_there_or_nothing_are_told(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    write_picture(folder / "a.jpg", 1)
    write_wav(folder / "s.wav", 0.2)
    write_wav(tmp_path / "outside.wav", 0.2)
    lines = ["image_file_name,audio_file_name,label", "a.jpg,s.wav,dog", "a.jpg,s.wav,cat"]
    lines += ["a.jpg,nothing.wav,x", f"a.jpg,{tmp_path}/outside.wav,x", "a.jpg,../outside.wav,x"]
    (folder / "metadata.csv").write_text("\ufeff" + "\n".join(lines))
    found = unpack(folder, tmp_path / "out", console=QUIET)
    assert found["videos"] == 2
    assert found["left_out"] == {"named in the metadata, and not there": 3}
    made = [json.loads(x) for x in (tmp_path / "out" / "metadata.jsonl").read_text().splitlines()]
    assert [line["class"] for line in made] == ["dog", "cat"]
    for delimiter in ";\t":
        (folder / "metadata.csv").write_text("\n".join(lines).replace(",", delimiter))
        with pytest.raises(UsageError, match=r"name no file in it. .*with commas between columns"):
            unpack(folder, tmp_path / "out", console=QUIET)
    (folder / "metadata.csv").write_text("\n".join([*lines, "a.jpg,s.wav"]))
    with pytest.raises(UsageError, match=r"metadata.csv, line 7: 2 fields. The first line has 3"):
        unpack(folder, tmp_path / "out", console=QUIET)
