"""Features of new files: what is in them, what odd files come to, and what a kill costs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import seehear
from media_files import write_media, write_wav
from seehear.data.index import Index
from seehear.data.media import REASONS
from seehear.errors import MediaError, SettingsError, UsageError
from seehear.library import embed, embed_to_file
from seehear.library.gallery import matrix

HOSTILE = ["-rf.mp4", "a\nb.mp4", "[bold]c.mp4", "q\"u'o$te;.mp4", "雨 🌧 ‮gpj.mp4", "%03d.mp4"]


@pytest.fixture(scope="module")
def model(finished_run: Path) -> seehear.Model:
    return seehear.load(finished_run, device="cpu")


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of files that are no ordinary videos."""
    folder = tmp_path_factory.mktemp("odd")
    write_media(folder / "long.mp4", seconds=5.5)
    write_media(folder / "mute.mp4", seconds=2.0, audio_codec=None)
    write_media(folder / "short.mp4", seconds=0.4)
    write_wav(folder / "sound.wav", 2.0)
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "text.mp4").write_text("no video at all")
    (folder / "broken.mp3").write_bytes(b"ID3" + bytes(50))
    (folder / "notes.txt").write_text("nobody takes this for a video")
    return folder


def test_features_of_an_index_are_those_that_the_run_clustered(finished_run, index_folder):
    table = embed(finished_run, index_folder, workers=1, device="cpu")
    index = Index.open(index_folder)
    assert table["path"].to_pylist() == [index.path(row) for row in range(len(index))]
    assert np.array_equal(table["start_s"], index.start_s)
    for modality in ("video", "audio"):
        kept = np.load(finished_run / "features" / f"{modality}.npy")
        found = matrix(table[modality].combine_chunks())
        assert found.dtype == np.float16
        np.testing.assert_allclose(found.astype(float), kept.astype(float), rtol=0.01, atol=0.002)
    assert table["reason"].null_count == len(table)


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf")])
def test_a_timeout_that_no_file_could_meet_is_refused(model, odd, seconds):
    with pytest.raises(SettingsError, match="timeout_s"):
        embed(model, odd, timeout_s=seconds)


def test_odd_files_have_what_they_have_and_a_reason_for_the_rest(model, odd):
    table = embed(model, odd, segment_seconds=2.0, workers=1)
    rows = {}
    for row in table.to_pylist():
        rows.setdefault(Path(row["path"]).name, []).append(row)
    assert list(rows) == sorted(rows)
    assert "notes.txt" not in rows
    long = rows["long.mp4"]
    assert [row["start_s"] for row in long] == pytest.approx(
        [long[0]["start_s"], 2.0, 4.0], abs=0.05
    )
    assert [row["seconds"] for row in long] == pytest.approx([2.0, 2.0, 1.5], abs=0.06)
    streams = {
        name: {m for m in ("video", "audio") if found[0][m] is not None}
        for name, found in rows.items()
    }
    assert streams["long.mp4"] == streams["short.mp4"] == {"video", "audio"}
    assert streams["mute.mp4"] == {"video"}
    assert streams["sound.wav"] == {"audio"}
    reasons = {name: found[0]["reason"] for name, found in rows.items() if found[0]["reason"]}
    assert reasons.keys() == {"empty.mp4", "text.mp4", "broken.mp3"}
    assert reasons["empty.mp4"] == "empty file"
    assert set(reasons.values()) <= REASONS.keys()
    assert all(rows[name][0]["start_s"] is None for name in reasons)


def test_one_stream_alone_gives_the_feature_that_both_give(model, odd, tmp_path):
    write_media(tmp_path / "both.mp4", seconds=2.0)
    write_media(tmp_path / "alone.mp4", seconds=2.0, audio_codec=None)
    table = embed(model, tmp_path, workers=1)
    alone, both = table["video"].to_pylist()
    assert alone == both


def test_hostile_names_are_just_names(model, odd, tmp_path):
    for name in HOSTILE:
        (tmp_path / name).write_bytes((odd / "short.mp4").read_bytes())
    undecodable = os.fsencode(tmp_path) + b"/\xff.mp4"
    with open(undecodable, "wb") as file:  # noqa: PTH123
        file.write(b"x")
    summary = embed_to_file(model, tmp_path, tmp_path / "f.parquet", workers=1)
    assert summary["rows"] == len(HOSTILE)
    assert summary["unreadable"] == {"unusable name": 1}
    table = pq.read_table(tmp_path / "f.parquet")
    assert {Path(path).name for path in table["path"].to_pylist()} == {*HOSTILE, "\\xff.mp4"}
    assert len({tuple(feature) for feature in table["video"].to_pylist() if feature}) == 1
    assert not list(tmp_path.glob(".*"))


def test_a_folder_of_other_files_is_an_empty_table(model, tmp_path):
    (tmp_path / "v").mkdir()
    (tmp_path / "v" / "notes.txt").write_text("x")
    assert len(embed(model, tmp_path / "v", workers=1)) == 0
    (tmp_path / "w").mkdir()
    with pytest.raises(UsageError, match="There is no file below"):
        embed(model, tmp_path / "w")


SCRIPT = """
    import sys
    import seehear.library.sources as sources
    from seehear.library import embed_to_file

    sources.FILES_A_GROUP = 5
    if __name__ == "__main__":
        embed_to_file(sys.argv[1], sys.argv[2], sys.argv[3], workers=1, device="cpu")
"""


@pytest.mark.slow
def test_killed_and_called_again_equals_never_killed(
    finished_run, videos, model, tmp_path, monkeypatch
):
    (tmp_path / "embed.py").write_text(textwrap.dedent(SCRIPT))
    out = tmp_path / "f.parquet"
    command = [sys.executable, str(tmp_path / "embed.py"), str(finished_run), str(videos), str(out)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    seen = tmp_path / ".f.parquet.parts" / "000001.parquet"
    until = time.monotonic() + 120
    while not seen.exists() and process.poll() is None and time.monotonic() < until:
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "it was over before it could be killed"
    assert not out.exists()
    monkeypatch.setattr("seehear.library.sources.FILES_A_GROUP", 5)
    with pytest.raises(UsageError, match=r"begun with other settings.*--overwrite"):
        embed_to_file(model, videos, out, workers=1, segment_seconds=3.0)
    before = seen.stat().st_mtime_ns
    summary = embed_to_file(model, videos, out, workers=1)
    assert summary["rows"] == 40
    assert not seen.exists()
    assert before  # the part of the killed call was used: the whole is as if never killed
    whole = embed_to_file(model, videos, tmp_path / "whole.parquet", workers=1)
    assert whole["rows"] == 40
    assert pq.read_table(out).equals(pq.read_table(tmp_path / "whole.parquet"))
    with pytest.raises(UsageError, match=r"exists.*--overwrite"):
        embed_to_file(model, videos, out)


def test_changed_files_are_not_mixed_with_parts_of_old_ones(model, odd, tmp_path):
    folder, out = tmp_path / "v", tmp_path / "f.parquet"
    folder.mkdir()
    (folder / "a.mp4").write_bytes((odd / "short.mp4").read_bytes())
    (tmp_path / ".f.parquet.parts").mkdir()
    embed_to_file(model, folder, tmp_path / "first.parquet", workers=1)
    metadata = pq.read_schema(tmp_path / "first.parquet").metadata
    import json

    plan = {
        key.decode(): value.decode()
        for key, value in metadata.items()
        if not key.startswith(b"ARROW")
    }
    noted = {"work": "features", "groups": 1, "of": plan}
    (tmp_path / ".f.parquet.parts" / "plan.json").write_text(json.dumps(noted))
    (folder / "b.mp4").write_bytes((odd / "short.mp4").read_bytes())
    with pytest.raises(UsageError, match="other files"):
        embed_to_file(model, folder, out, workers=1)
    assert embed_to_file(model, folder, out, workers=1, overwrite=True)["rows"] == 2
    assert isinstance(pq.read_table(out), pa.Table)


def test_one_file_is_the_row_that_it_is_in_a_table(model, odd, tmp_path):
    for name in ("mute.mp4", "short.mp4", "sound.wav"):
        (row,) = embed(model, odd / name, workers=1, num_clips=2).to_pylist()
        found = seehear.embed_file(model, odd / name, num_clips=2)
        assert {m for m in ("video", "audio") if row[m]} == found.keys()
        for modality, feature_D in found.items():
            assert feature_D.astype(np.float16).tolist() == row[modality]
    unnamed = os.fsdecode(os.fsencode(tmp_path) + b"/\xff.mp4")
    write_media(tmp_path / "a.mp4", seconds=0.4)
    os.rename(tmp_path / "a.mp4", unnamed)  # noqa: PTH104
    with pytest.raises(MediaError, match="unusable name"):
        seehear.embed_file(model, unnamed)
    with pytest.raises(UsageError, match="num_clips is 0"):
        embed(model, odd, num_clips=0, workers=1)
