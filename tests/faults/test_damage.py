"""Damaged files of a run, and files that other programs have rewritten: read, or one line that
names the file.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import load_file, save_file

import seehear
from seehear.errors import SeehearError
from seehear.evaluation.clusters import final_groupings
from seehear.evaluation.table import compare
from seehear.library import assign, embed, export_labels, open_run
from seehear.library.gallery import gallery_of
from seehear.reporting.cards import read_groupings
from seehear.reporting.health import health
from seehear.runs.folder import Run

Mutation = Callable[[Path], None]


@pytest.fixture(scope="module")
def table(finished_run, videos) -> pa.Table:
    """The features of two videos."""
    return embed(finished_run, sorted(videos.rglob("*.mp4"))[:2], workers=1)


@pytest.fixture
def run(finished_run, tmp_path) -> Path:
    """A copy of a finished run; its files may be replaced, and are not written into."""
    shutil.copytree(finished_run, tmp_path / "run", copy_function=os.link)
    return tmp_path / "run"


def replaced(path: Path, content: bytes) -> None:
    """Put other content in a file's place, so that what it is linked with stays."""
    path.unlink(missing_ok=True)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)


BYTES = {
    "empty": b"",
    "brace": b"{",
    "list": b"[]",
    "null": b"null",
    "number": b"5",
    "object": b"{}",
    "zeros": bytes(50),
    "all bytes": bytes(range(256)),
    "deep": b"[" * 100_000,
    "one key": b'{"format": 1}',
    "wrong kinds": b'{"format": 1, "created": 1, "settings": [], "index": 7, "task": {}, "data": '
    b'5, "values": 1}\n\n{}',
}
READERS = {
    "run.json": ["assign", "report", "resume", "export", "clusters"],
    "names.json": ["assign", "report"],
    "log.jsonl": ["report"],
    "results/probe-x.json": ["table"],
    "rounds/001/labels.parquet": ["report"],
    "clusters/labels.parquet": ["export", "clusters", "report"],
    "clusters/centroids.safetensors": ["assign", "clusters", "report"],
    "features/audio.npy": ["assign", "clusters", "report"],
    "encoders/encoders.json": ["assign"],
    "encoders/matching.safetensors": ["assign"],
}


def readers(table: pa.Table, index: Path) -> dict[str, Callable[[Path], object]]:
    """What reads a run, without the parts that read none of its files."""

    def without_radii(run: Path) -> object:
        (run / "clusters" / "radii.safetensors").unlink(missing_ok=True)
        return assign(run, table)

    return {
        "assign": without_radii,
        "report": lambda run: (
            health(Run.open(run)),
            read_groupings(run),
            seehear.runs.names.read_names(run),
        ),
        "resume": lambda run: seehear.pretrain(index, run, resume=True),
        "export": lambda run: export_labels(run, "csv", run.parent / "labels.csv", overwrite=True),
        "clusters": final_groupings,
        "table": lambda run: compare([run]),
    }


def read_or_named(call: Callable[[Path], object], run: Path, name: str) -> bool:
    """Whether a reader could use a file; where not, it must have said which, in one line."""
    said = ""
    try:
        call(run)
    except SeehearError as error:
        said = str(error)
    # as encoders.json is called where it does not fit the weights
    names = (Path(name).name, "the record beside it")
    assert not said or (any(n in said for n in names) and "\n" not in said), said
    return not said


@pytest.mark.parametrize("name", READERS)
def test_content_of_any_kind_is_read_or_named(run, table, index_folder, name):
    call = readers(table, index_folder)
    original = (
        (run / name).read_bytes()
        if (run / name).exists()
        else b'{"task": "probe", "data": {}, "values": {}}'
    )
    half = len(original) // 2
    cut = {
        "half": original[:half],
        "without its last byte": original[:-1],
        "a byte": original[:half] + b"\xff" + original[half + 1 :],
    }
    for content in (BYTES | cut).values():
        replaced(run / name, content)
        for reader in READERS[name]:
            read_or_named(call[reader], run, name)
    (run / name).unlink()
    (run / name).mkdir()
    for reader in READERS[name]:
        read_or_named(call[reader], run, name)


def of_json(data: object, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The ways to all values of nested objects."""
    for key, value in data.items() if isinstance(data, dict) else ():
        yield (*path, key)
        yield from of_json(value, (*path, key))


@pytest.mark.parametrize("name", ["run.json", "encoders/encoders.json"])
def test_values_of_another_kind_are_read_or_named(run, table, index_folder, name):
    call, original = readers(table, index_folder), (run / name).read_bytes()
    for number, way in enumerate(of_json(json.loads(original))):
        data = json.loads(original)
        place = data
        for key in way[:-1]:
            place = place[key]
        value = (None, "x", [1], -1, {}, 10**30)[number % 6]
        place[way[-1]] = value
        replaced(run / name, json.dumps(data).encode())
        reader = READERS[name][number % len(READERS[name][:2])]
        read_or_named(call[reader], run, name)


def test_a_log_with_a_damaged_line_names_it_and_going_on_mends_it(run, index_folder):
    lines = (run / "log.jsonl").read_text().splitlines()
    replaced(run / "log.jsonl", "\n".join([lines[0][:40], lines[1]]).encode())
    with pytest.raises(SeehearError, match=r"log\.jsonl is damaged: line 1"):
        Run.open(run).read_log()
    replaced(run / "rounds" / "000" / "round.json", b"{")
    # a crash cut the last line short
    replaced(run / "log.jsonl", "\n".join([*lines, '{"round": 2, "lo']).encode())
    assert len(Run.open(run).read_log()) == 2
    seehear.pretrain(index_folder, run, resume=True)
    assert [json.dumps(entry) for entry in Run.open(run).read_log()] == lines


@pytest.mark.parametrize(
    "where", ["rounds", "midway", "rounds/001", "clusters", "features", "encoders", "results", "."]
)
def test_copies_notes_and_what_systems_leave_are_in_nobodys_way(run, index_folder, where):
    folder = run / where
    folder.mkdir(exist_ok=True)
    left = [
        ".DS_Store",
        "notes.txt",
        "001~",
        "#001#",
        "Thumbs.db",
        "000-000000001-0123456789abcdef copy.pt",
        "a copy.json",
    ]
    for name in left:
        (folder / name).write_text("mine")
    for name in ("000 copy", "000 (1)", "1", "backup-001"):
        (folder / name).mkdir()
        (folder / name / "round.json").write_text("{}")
    before = {str(path.relative_to(run)) for path in folder.rglob("*")}
    shutil.rmtree(run / "encoders", ignore_errors=True) if where != "encoders" else (
        run / "encoders" / "encoders.json"
    ).unlink()
    settings = {"rounds": 3} if where == "rounds" else {}
    seehear.pretrain(index_folder, run, resume=True, settings=settings)
    there = {str(path.relative_to(run)) for path in folder.rglob("*")} | {"encoders/encoders.json"}
    # only the last are kept
    lost = {Path(name).name for name in before - there} - {
        ".DS_Store",
        "Thumbs.db",
        "checkpoint.pt",
    }
    assert {name for name in lost if not name.endswith(".safetensors")} == set()
    assert open_run(run).clusterings


def same_labels(run: Path) -> dict[str, list[int]]:
    """What a run says of its rows, and how far each is from its centroid."""
    return {
        g.name: [*g.labels_N.tolist(), *g.distance_N.round(2).tolist()] for g in read_groupings(run)
    }


def test_features_and_labels_that_other_programs_wrote_in_another_way_are_read(run):
    wanted = same_labels(run)
    for change in (
        np.asfortranarray,
        lambda a: a.astype(np.float64),
        lambda a: a.astype(">f4"),
        np.ascontiguousarray,
    ):
        for modality in ("video", "audio"):
            path = run / "features" / f"{modality}.npy"
            array = np.load(path)
            path.unlink()
            np.save(path, change(array))
        assert same_labels(run) == wanted
    labels = pq.read_table(run / "clusters" / "labels.parquet")
    shuffled = labels.take(np.random.default_rng(0).permutation(len(labels))).select(
        labels.column_names[::-1]
    )
    floats = pa.schema(
        [(name, pa.int64() if name == "row" else pa.float64()) for name in shuffled.column_names]
    )
    for other in (shuffled, shuffled.cast(floats)):
        (run / "clusters" / "labels.parquet").unlink()
        pq.write_table(other, run / "clusters" / "labels.parquet")
        assert same_labels(run) == wanted


@pytest.mark.parametrize(
    "change",
    [
        lambda a: a[:-1],
        lambda a: a[:, :-1],
        lambda a: a[:, 0],
        lambda a: a[None],
        lambda a: np.nan_to_num(a).astype(int),
        lambda a: a.astype(complex),
        lambda a: np.array([{}], dtype=object),
    ],
)
def test_features_of_another_shape_or_kind_are_named(run, table, index_folder, change):
    array = np.load(run / "features" / "audio.npy")
    (run / "features" / "audio.npy").unlink()
    np.save(run / "features" / "audio.npy", change(array), allow_pickle=True)
    for name in ("assign", "report", "clusters"):
        with pytest.raises(SeehearError, match=r"audio\.npy|features/"):
            readers(table, index_folder)[name](run)


def test_centroids_of_another_shape_are_named(run, table, index_folder):
    path = run / "clusters" / "centroids.safetensors"
    original = load_file(path)
    for key, value in original.items():
        path.unlink()
        save_file({**original, key: np.ascontiguousarray(value.reshape(-1)[:1])}, path)
        for name in READERS["clusters/centroids.safetensors"]:
            read_or_named(readers(table, index_folder)[name], run, "centroids.safetensors")
        path.unlink()
        save_file({k: v for k, v in original.items() if k != key}, path)
        for name in READERS["clusters/centroids.safetensors"]:
            read_or_named(readers(table, index_folder)[name], run, "centroids.safetensors")


def rewritten(table: pa.Table, **kinds: pa.DataType) -> pa.Table:
    """A table whose columns have other types, with its metadata."""
    names = table.column_names
    columns = [table[name].cast(kinds[name]) if name in kinds else table[name] for name in names]
    return pa.table(dict(zip(names, columns, strict=True))).replace_schema_metadata(
        table.schema.metadata
    )


def test_tables_of_features_that_other_programs_rewrote_are_read_or_refused_in_one_line(
    finished_run, table, tmp_path
):
    trained = open_run(finished_run)
    wanted = assign(trained, table)
    as_list = {m: pa.list_(pa.float32()) for m in ("video", "audio")}
    as_large = {m: pa.large_list(pa.float64()) for m in ("video", "audio")}
    good = [
        rewritten(table, **as_list),
        rewritten(table, **as_large, path=pa.large_string()),
        rewritten(table, path=pa.dictionary(pa.int32(), pa.string())),
        rewritten(table, start_s=pa.float32()),
        table.select(table.column_names[::-1]),
        table.drop(["reason"]),
        table.append_column("note", pa.array(["x"] * len(table))),
    ]
    for number, other in enumerate(good):
        path = tmp_path / f"{number}.parquet"
        pq.write_table(other, path)
        for given in (other, path):
            found = assign(trained, given)
            for name in found.column_names:
                if "distance" in name or "margin" in name:
                    np.testing.assert_allclose(found[name], wanted[name], atol=1e-3)
                else:
                    assert found[name].to_pylist() == wanted[name].to_pylist()
        assert len(list(gallery_of(trained, path).blocks(("audio",)))) == 1
    short = [row[:-1] for row in table["video"].to_pylist()]
    at = table.column_names.index("video")
    bad = [
        table.replace_schema_metadata({}),
        table.drop(["path"]),
        table.drop(["video", "audio"]),
        table.replace_schema_metadata({**table.schema.metadata, b"model": b"\xff\xfe"}),
        table.replace_schema_metadata({b"format": table.schema.metadata[b"format"]}),
        table.set_column(at, "video", pa.array(short, pa.list_(pa.float16()))),
        table.set_column(at, "video", pa.array(["x"] * len(table))),
        table.set_column(
            table.column_names.index("start_s"), "start_s", pa.array(["soon"] * len(table))
        ),
    ]
    for number, other in enumerate(bad):
        path = tmp_path / f"bad{number}.parquet"
        pq.write_table(other, path)
        with pytest.raises(SeehearError, match=f"bad{number}.parquet") as error:
            assign(trained, path)
        assert "\n" not in str(error.value)


def test_features_without_a_place_are_no_hits(finished_run, table, tmp_path):
    for name in ("path", "start_s", "seconds"):
        nothing = pa.nulls(len(table), table[name].type)
        path = tmp_path / f"no-{name}.parquet"
        pq.write_table(table.set_column(table.column_names.index(name), name, nothing), path)
        with pytest.raises(
            SeehearError, match=f"no-{name}.parquet has features of rows without"
        ) as error:
            gallery_of(open_run(finished_run), path).places([0])
        assert "\n" not in str(error.value)
