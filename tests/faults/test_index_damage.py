"""Is damage to an index found before anything is done with it, and does absurd content end in one
line?
"""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from seehear.data.index import Index
from seehear.data.index.columns import FACTS, SCHEMA, Video
from seehear.data.index.info import read_info, write_info
from seehear.data.index.rejected import Rejected
from seehear.data.index.writing import digests_of, write_index, write_table
from seehear.errors import IndexFileError

NAMES = ("index.arrow", "rejected.parquet", "index.json")
INFO: dict[str, Any] = {"root": "/videos", "paths": ["/videos"], "settings": None, "rejected": {}}


def write(folder: Path, names: str = "abcdefgh") -> Path:
    """An index of made-up videos with two segments each, and of three files that were left out."""
    facts = {name: "h264" if "codec" in name else 25 for name in FACTS}
    starts, seconds = np.array([0.0, 10.0]), np.array([10.0, 4.5])
    videos = [Video(f"/videos/{name}é.mp4", facts, starts, seconds) for name in names]
    rejected = [Rejected(f"/videos/{n}.txt", "not a media file", "", 7 + n, 9) for n in range(3)]
    write_index(folder, videos, rejected, INFO)
    return folder


def content(folder: Path) -> tuple[Any, ...]:
    """All that an index says to those who use it."""
    index = Index.open(folder)
    columns = {
        name: getattr(index, name).tolist()
        for name in SCHEMA.names
        if hasattr(index, name) and name != "path"
    }
    paths = [index.path(row) for row in range(len(index))]
    return (
        columns,
        paths,
        index.info,
        index.digest,
        index.rejected_files(),
        [v.facts for v in index.videos()],
    )


def refusal(folder: Path) -> str | None:
    """The one line by which an index is refused; None where it is used."""
    try:
        content(folder)
    except IndexFileError as error:
        line = str(error)
    else:
        return None
    assert "\n" not in line
    assert str(folder) in line
    return line


@pytest.mark.parametrize("name", NAMES)
def test_every_flipped_bit_is_found_or_changes_nothing(tmp_path: Path, name: str) -> None:
    folder = write(tmp_path / "index")
    whole, good, generator = (folder / name).read_bytes(), content(folder), random.Random(name)
    for _ in range(250):
        damaged = bytearray(whole)
        damaged[generator.randrange(len(whole))] ^= 1 << generator.randrange(8)
        (folder / name).write_bytes(damaged)
        assert refusal(folder) or content(folder) == good
    (folder / name).write_bytes(whole)
    assert content(folder) == good


@pytest.mark.parametrize("name", NAMES)
def test_cut_or_longer_or_missing_files_are_found(tmp_path: Path, name: str) -> None:
    folder = write(tmp_path / "index")
    whole = (folder / name).read_bytes()
    pieces = [
        whole[:length] for length in (0, 1, 8, len(whole) // 2, len(whole) - 8, len(whole) - 1)
    ]
    for damaged in (*pieces, whole + b"\0", whole + whole, whole[1:], bytes(len(whole))):
        (folder / name).write_bytes(damaged)
        # the last line end of index.json
        assert refusal(folder) or damaged.strip() == whole.strip()
    (folder / name).unlink()
    assert refusal(folder)
    (folder / name).mkdir()
    assert refusal(folder)


@pytest.mark.parametrize("name", NAMES)
def test_a_file_of_another_index_is_found(tmp_path: Path, name: str) -> None:
    """Whatever they share: here the same rows, other times of change, and another file left out."""
    folder, other = write(tmp_path / "index"), tmp_path / "other"
    facts = {name: "h264" if "codec" in name else 25 for name in FACTS} | {"modified_ns": 7}
    videos = [
        Video(video.path, facts, video.start_s, video.seconds)
        for video in Index.open(folder).videos()
    ]
    write_index(other, videos, [], INFO)
    assert Index.open(other).digest == Index.open(folder).digest
    shutil.copy(other / name, folder / name)
    assert refusal(folder)


def forged(folder: Path, table: pa.RecordBatch, **changes: Any) -> None:
    """Make the index in a folder one of this table, with all digests as they should be."""
    write_table(folder, table, [], INFO)
    write_info(folder / "index.json", read_info(folder) | changes)


def with_column(table: pa.RecordBatch, name: str, values: Any) -> pa.RecordBatch:
    place = table.schema.get_field_index(name)
    return table.set_column(
        place, table.schema.field(name), pa.array(values, table.schema.field(name).type)
    )


def renumbered(table: pa.RecordBatch, numbers: list[int]) -> pa.RecordBatch:
    paths = pa.DictionaryArray.from_arrays(
        pa.array(numbers, pa.int32()), table["path"].dictionary, safe=False
    )
    return table.set_column(0, table.schema.field(0), paths)


ABSURD: dict[str, Callable[[pa.RecordBatch], pa.RecordBatch]] = {
    "seconds goes from": lambda t: with_column(t, "seconds", [np.nan] + [1.0] * 15),
    "seconds goes": lambda t: with_column(t, "seconds", [-1.0] + [1.0] * 15),
    "start_s goes from": lambda t: with_column(t, "start_s", [0.0] * 15 + [np.inf]),
    "start_s goes": lambda t: with_column(t, "start_s", [1e300] + [0.0] * 15),
    "fps goes from": lambda t: with_column(t, "fps", [-25.0] * 16),
    "width goes from": lambda t: with_column(t, "width", [0] * 16),
    "height goes from": lambda t: with_column(t, "height", [-(2**31)] * 16),
    "file_bytes goes from": lambda t: with_column(t, "file_bytes", [-1] * 16),
    "channels lacks values": lambda t: with_column(t, "channels", [None] * 16),
    "video_codec lacks values": lambda t: with_column(t, "video_codec", [None] * 16),
    "index.arrow cannot be used": lambda t: renumbered(t, [0] * 15 + [999]),
    "its rows are of files 0 to 7, and it has 16": lambda t: pa.RecordBatch.from_arrays(
        [
            pa.DictionaryArray.from_arrays(
                t["path"].indices, pa.array(["x"] * 16, pa.large_string())
            ),
            *t.columns[1:],
        ],
        schema=t.schema,
    ),
    "not next to each other": lambda t: renumbered(
        t, [0, 1, 0, 1, 2, 3, 4, 5, 6, 7, 6, 7, 6, 7, 6, 7]
    ),
    "zero byte": lambda t: pa.RecordBatch.from_arrays(
        [
            pa.DictionaryArray.from_arrays(
                t["path"].indices, pa.array(["x\0y"] * 8, pa.large_string())
            ),
            *t.columns[1:],
        ],
        schema=t.schema,
    ),
}


@pytest.mark.parametrize("says", ABSURD)
def test_a_table_that_makes_no_sense_is_refused_though_its_digest_is_right(
    tmp_path: Path, says: str
) -> None:
    folder = write(tmp_path / "index")
    table = Index.open(folder)._table
    forged(folder, ABSURD[says](table))
    assert says in (refusal(folder) or "")


@pytest.mark.parametrize(
    "changes",
    [
        {"rows": 17},
        {"videos": 3},
        {"format": 4},
        {"format": 4, "shards": []},
        {"format": 4, "shards": [{"name": "../x.tar", "bytes": 1, "sha256": ""}]},
        {"paths": None},
        {"paths": [3]},
        {"rejected": {"too short": "many"}},
        {"root": "relative"},
        {"files": {}},
    ],
)
def test_facts_that_do_not_belong_to_the_table_are_refused(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    folder = write(tmp_path / "index")
    write_info(folder / "index.json", read_info(folder) | changes)
    assert refusal(folder)


def test_a_line_of_index_json_that_was_changed_is_found(tmp_path: Path) -> None:
    folder = write(tmp_path / "index")
    stored = json.loads((folder / "index.json").read_text())
    for name, value in {
        "root": "/elsewhere",
        "rejected": {"too short": 4},
        "rows": 15,
        "note": 3,
    }.items():
        (folder / "index.json").write_text(json.dumps(stored | {name: value}))
        assert "index.json" in (refusal(folder) or "")


HOSTILE = """
import random, sys
sys.path += ["../faults"]
from pathlib import Path
from seehear.data.index.info import read_info, write_info
from seehear.data.index.writing import digests_of
from test_index_damage import content, refusal

folder, name, generator = Path(sys.argv[1]), sys.argv[2], random.Random(sys.argv[2])
whole, info = (folder / name).read_bytes(), read_info(folder)
for _ in range(int(sys.argv[3])):
    damaged = bytearray(whole)
    for _ in range(generator.choice([1, 1, 3])):
        place, what = generator.randrange(len(damaged)), generator.randrange(4)
        if what < 2:
            damaged[place] ^= 1 << generator.randrange(8)
        elif what == 2:
            damaged[place : place + 4] = generator.choice([b"\\xff" * 4, b"\\0" * 4, b"\\x7f" * 4])
        else:
            damaged[place:place] = bytes(generator.randrange(1, 9))
    (folder / name).unlink()
    (folder / name).write_bytes(damaged)
    write_info(folder / "index.json", info | {"files": digests_of(folder)})
    refusal(folder)
"""


@pytest.mark.parametrize("name", ["index.arrow", "rejected.parquet"])
def test_no_damage_ends_the_process_though_the_digest_is_right(tmp_path: Path, name: str) -> None:
    """In a process of its own, since what this is about would end the tests."""
    folder = write(tmp_path / "index")
    command = [sys.executable, "-c", HOSTILE, str(folder), name, "50"]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[1] / "helpers",
        timeout=200,
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_an_index_that_is_open_stays_as_it_was_when_it_is_updated(tmp_path: Path) -> None:
    folder = write(tmp_path / "index")
    index, before = Index.open(folder), content(folder)
    write(folder, "xyz")
    assert [index.path(row) for row in range(len(index))] == before[1]
    assert index.seconds.tolist() == before[0]["seconds"]
    assert Index.open(folder).num_videos == 3
    write_index(folder, Index.open(folder).videos(), [], INFO)  # other files are left out now
    with pytest.raises(IndexFileError, match="updated since it was opened"):
        _ = index.rejected


READING = """
import sys
from pathlib import Path
from seehear.data.index import Index
found = set()
print("ready", flush=True)
while not Path(sys.argv[1] + ".done").exists():
    found.add(Index.open(sys.argv[1]).num_videos)
assert found == {3, 8}, found
"""


def test_who_opens_an_index_while_it_is_updated_sees_the_old_one_or_the_new_one(
    tmp_path: Path,
) -> None:
    folder = write(tmp_path / "index")
    command = [sys.executable, "-c", READING, str(folder)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as reader:
        assert reader.stdout is not None
        reader.stdout.readline()
        for number in range(24):
            write(folder, "xyz" if number % 2 else "abcdefgh")
        (tmp_path / "index.done").touch()
        _, errors = reader.communicate(timeout=100)
    assert reader.returncode == 0, errors[-2000:]


def test_index_json_has_the_digests_of_all_other_files(tmp_path: Path) -> None:
    folder = write(tmp_path / "index")
    assert read_info(folder)["files"] == digests_of(folder)
    assert {path.name for path in folder.iterdir()} == set(NAMES)
