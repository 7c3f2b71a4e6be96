"""Lists in the formats that others write are read as CSV is."""

from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from seehear.errors import SettingsError
from seehear.evaluation.classes import read_classes
from seehear.machine.lists import read_table

ROWS = [{"file_name": "a.mp4", "label": "dog"}, {"file_name": "b/c.mp4", "label": "cat", "n": 3}]


def written(path):
    table = pa.table({k: [row.get(k) for row in ROWS] for k in ("file_name", "label", "n")})
    if path.suffix == ".csv":
        pyarrow.csv.write_csv(table, path)
    elif path.suffix == ".parquet":
        pq.write_table(table.append_column("video", pa.array([b"x", b"y"])), path)
    else:
        path.write_text("\n".join(map(json.dumps, ROWS)) + "\n\n")
    return path


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_metadata_of_a_video_folder_are_classes(tmp_path, ending):
    path = written(tmp_path / f"metadata.{ending}")
    header, *rows = read_table(str(path))
    assert list(header.fields) == ["path", "class", "n"]
    assert [list(row.fields) for row in rows] == [["a.mp4", "dog", ""], ["b/c.mp4", "cat", "3"]]
    classes = read_classes(path)
    assert classes.names == ("cat", "dog")
    assert classes.of[str(tmp_path / "b" / "c.mp4")] == 0


@pytest.mark.parametrize(
    ("name", "content"),
    [("a.jsonl", b"{"), ("a.jsonl", b"[1]"), ("a.parquet", b"PAR1"), ("b", b"")],
)
def test_what_is_no_list_is_one_line(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SettingsError, match=r"jsonl cannot|parquet cannot|b has no column"):
        read_classes(tmp_path / name)
