"""Rows, clusters and ticks as queries, and as classes."""

from __future__ import annotations

import csv
import json
import shutil
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

import seehear
from seehear.cli.using import hit_rows
from seehear.errors import RunError, UsageError
from seehear.library import export_labels, open_run, search, search_like
from seehear.library.examples import direction, vectors
from seehear.library.trained import Trained
from seehear.runs.names import as_json, read_names, read_ticks, write_names


@pytest.fixture
def run(finished_run: Path, tmp_path: Path) -> Path:
    """A copy of the finished run."""
    return Path(shutil.copytree(finished_run, tmp_path / "run"))


@pytest.fixture(scope="module")
def trained(finished_run: Path) -> Trained:
    return open_run(finished_run, device="cpu")


@pytest.mark.parametrize(
    ("by", "space"), [("auto", "joint"), ("video", "video"), ("audio", "audio")]
)
def test_a_row_finds_itself_and_then_what_brute_force_finds(trained, by, space):
    hits = search_like(trained, [7], by=by, top=10)
    every_ND = vectors(trained, space, range(40)).numpy()
    expected = np.argsort(-(every_ND @ every_ND[7]), kind="stable")[:10]
    assert hits["row"].to_pylist() == expected.tolist()
    assert hits["row"][0].as_py() == 7
    assert hits["score"][0].as_py() == pytest.approx(1, abs=1e-5)
    assert hits["compared"][0].as_py() == f"{space} with {space}"


def test_a_row_finds_what_its_own_file_finds(trained):
    index = trained.index()
    by_row = search_like(trained, [3], by="audio", top=5)
    by_file = search(trained, index.original_path(3), by="audio", top=5)
    assert by_row["path"].to_pylist() == by_file["path"].to_pylist()


def test_crosses_tell_apart_what_examples_alone_do_not(trained, monkeypatch):
    generator = torch.Generator().manual_seed(0)
    axis = torch.nn.functional.normalize(torch.randn(16, generator=generator), dim=0)
    common = torch.randn(16, generator=generator) * 2
    kind_N = torch.arange(200) % 2 * 2.0 - 1
    rows_ND = common + kind_N[:, None] * axis + torch.randn(200, 16, generator=generator) * 0.4
    rows_ND = torch.nn.functional.normalize(rows_ND, dim=1)
    monkeypatch.setattr(
        "seehear.library.examples.vectors", lambda trained, space, rows: rows_ND[list(rows)]
    )
    like, unlike = [1, 3, 5, 7, 9], [0, 2, 4, 6]
    direction(trained, "video", like, unlike)  # imports
    begin = time.process_time()
    weights_D, bias = direction(trained, "video", like, unlike)
    assert time.process_time() - begin < 1
    right = ((rows_ND[10:] @ weights_D + bias > 0) == (kind_N[10:] > 0)).float().mean()
    assert right > 0.9


def test_a_tick_and_a_cross_find_what_is_like_the_tick(trained, monkeypatch):
    kinds = torch.tensor([[0.8, 0.6], [1.0, 0.0], [-0.8, 0.6]])  # the last is farthest from a cross
    kind_N = torch.arange(240) % 3
    noise = torch.randn(240, 16, generator=torch.Generator().manual_seed(0)) * 0.03
    rows_ND = noise + torch.nn.functional.pad(kinds[kind_N], (0, 14))
    rows_ND = torch.nn.functional.normalize(rows_ND, dim=1)
    monkeypatch.setattr(
        "seehear.library.examples.vectors", lambda trained, space, rows: rows_ND[list(rows)]
    )
    weights_D, _ = direction(trained, "video", [0], [1])
    best = torch.argsort(rows_ND @ weights_D, descending=True)[:60]
    assert (kind_N[best] == 0).float().mean() > 0.9


def test_hits_show_the_rows_to_go_on_with(trained):
    shown = hit_rows(search_like(trained, [7], top=3))
    assert shown[0][:2] == ["rank", "row"]
    assert shown[1][:2] == ["1", "7"]


def test_of_many_clusterings_hits_show_those_that_have_names():
    names = [f"{space}_{k}" for space in ("video", "audio", "joint") for k in (8, 16)]
    hit = {"rank": [1], "row": [4], "score": [0.5], "start_s": [0.0], "path": ["a.mp4"]}
    for name in names:
        hit |= {f"{name}_cluster": [3], f"{name}_name": [""]}
    head, row = hit_rows(pa.table(hit))
    assert (head[5:], row[5:]) == (["joint_8", "joint_16"], ["3", "3"])
    head, row = hit_rows(pa.table(hit | {"audio_16_name": ["rain"]}))
    assert (head[5:], row[5:]) == (["audio_16"], ["rain"])


def test_a_classifier_puts_its_ticks_first_and_its_crosses_last(trained):
    like, unlike = [1, 5, 9], [2, 6]
    search_like(trained, like, unlike, by="video", top=40)  # imports
    begin = time.process_time()
    hits = search_like(trained, like, unlike, by="video", top=40)
    assert time.process_time() - begin < 1
    score = dict(zip(hits["row"].to_pylist(), hits["score"].to_pylist(), strict=True))
    assert min(score[row] for row in like) > 0 > max(score[row] for row in unlike)


def test_a_cluster_finds_its_own(run):
    write_names(run, {"video": {1: "rain"}, "audio": {0: "two"}, "joint": {0: "two"}})
    trained = open_run(run, device="cpu")
    labels = trained.labels["video"]
    by_number = search_like(trained, "video:1", top=5)
    assert by_number.equals(search_like(trained, "rain", top=5))
    assert labels[by_number["row"][0].as_py()] == 1
    for called, says in (
        ("two", "two is the name of audio:0, joint:0"),
        ("video:999", r"no cluster 'video:999'. There are video:0 to video:\d+, audio:0 to audio"),
        ("snow", "no cluster 'snow'"),
    ):
        with pytest.raises(UsageError, match=says):
            search_like(trained, called)


def test_rows_that_are_not_there_are_told(trained):
    with pytest.raises(UsageError, match="no row 40: the run has rows 0 to 39"):
        search_like(trained, [1, 40])
    with pytest.raises(UsageError, match="no example"):
        search_like(trained, [])
    with pytest.raises(UsageError, match="Row 3 is named as an example and as none"):
        search_like(trained, [1, 3], [3])


def test_ticks_are_kept_beside_names(tmp_path):
    names, ticks = {"video": {0: "a dog"}}, {"a dog": {12: True, 3: False}, "empty": {}}
    path = write_names(tmp_path, names, ticks)
    assert read_names(tmp_path) == names
    assert read_ticks(tmp_path) == {"a dog": {12: True, 3: False}}
    assert json.loads(path.read_text()) == as_json(names, ticks)
    assert read_ticks(tmp_path / "elsewhere") == {}


@pytest.mark.parametrize(
    "ticks",
    [[], {"a": []}, {"a": {"1": 1}}, {"a": {"-1": True}}, {"a": {"x": True}}, {"x" * 81: {}}],
)
def test_what_are_no_ticks_is_an_error(tmp_path, ticks):
    (tmp_path / "names.json").write_text(json.dumps({"format": 1, "names": {}, "ticks": ticks}))
    with pytest.raises(RunError, match="cannot be read"):
        read_ticks(tmp_path)


def test_classes_are_ticks_and_else_the_names_of_clusters(run):
    trained = open_run(run, device="cpu")
    labels = trained.labels["video"]
    members = np.flatnonzero(labels == labels[0]).tolist()
    other = int(np.flatnonzero(labels != labels[0])[0])
    crossed, both = members[-1], members[0]
    write_names(
        run,
        {"video": {int(labels[0]): "rain"}},
        {"rain": {crossed: False, both: True}, "=dog": {other: True, both: True}},
    )
    out = run.parent / "c.csv"
    said = export_labels(run, "classes", out)
    with out.open(newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    index = trained.index()
    expected = {index.original_path(row): "rain" for row in members[1:-1]}
    expected[index.original_path(other)] = "'=dog"
    assert {line["path"]: line["class"] for line in lines} == expected
    assert said["classes"] == {"rain": len(members) - 2, "=dog": 1}
    write_names(run, {"video": {0: "only one"}})
    with pytest.raises(UsageError, match="has names for fewer than two kinds"):
        export_labels(run, "classes", out, overwrite=True)


@pytest.mark.thorough
def test_names_are_classes_of_an_evaluation(run, index_folder):
    trained = open_run(run, device="cpu")
    labels = trained.labels["video"]
    kinds = {int(k): f"kind {int(k) % 2}" for k in np.unique(labels)}
    write_names(run, {"video": kinds}, {"kind 0": {0: True}})
    export_labels(run, "classes", run.parent / "c.csv")
    result = seehear.evaluate(run, data=index_folder, classes=run.parent / "c.csv")
    assert result["num_classes"] == 2
    tuned = seehear.evaluate(
        run,
        task="finetune",
        data=index_folder,
        classes=run.parent / "c.csv",
        changes={"epochs": "1"},
    )
    assert tuned["num_classes"] == 2
