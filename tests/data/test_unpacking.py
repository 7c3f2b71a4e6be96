"""Videos in the containers of others come out as they went in."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import seehear
from command_here import command
from media_files import all_frames, write_media, write_wav
from seehear.data.index import Index
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
