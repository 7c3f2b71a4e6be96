"""A balanced part takes as many of each cluster as can be, and is a list or an index."""

from __future__ import annotations

import csv

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

import seehear
from seehear.data.index import Index
from seehear.errors import SettingsError, UsageError
from seehear.library import open_run
from seehear.library.assigning import save_labels
from seehear.library.balancing import middles, shares
from seehear.library.copies import SCHEMA


@pytest.mark.parametrize("size", [0, 1, 7, 20, 33, 1000])
def test_shares_are_as_even_as_what_is_there_allows(size):
    counts_K = np.array([0, 1, 3, 40, 9, 9, 2])
    share_K = shares(counts_K, size, seed=0)
    assert share_K.sum() == min(size, counts_K.sum())
    assert (share_K <= counts_K).all()
    for cluster in np.flatnonzero(share_K < counts_K):  # nobody who has more left got less by two
        assert share_K[cluster] >= share_K.max() - 1
    assert np.array_equal(share_K, shares(counts_K, size, seed=0))


def test_middles_are_distinct_rows_one_of_each_lump():
    generator = torch.Generator().manual_seed(0)
    lumps = torch.randn(5, 8, generator=generator) * 50
    rows_nD = lumps.repeat_interleave(12, 0) + torch.randn(60, 8, generator=generator)
    # k-means may put two first centroids into one lump; no row is taken twice all the same
    assert len(set(middles(rows_nD, 20, 0).tolist())) == 20
    found = middles(rows_nD, 5, seed=3) // 12
    assert len(set(found.tolist())) >= 4
    same = torch.ones(6, 3)
    assert sorted(middles(same, 4, 0).tolist()) == sorted(set(middles(same, 4, 0).tolist()))


def labels_of(run, by: str, rows) -> np.ndarray:
    return open_run(run).labels[by][np.asarray(rows)]


@pytest.mark.parametrize("within", ["spread", "nearest"])
def test_a_part_is_balanced_and_the_same_again(finished_run, tmp_path, within):
    said = seehear.subset(finished_run, 12, tmp_path / "a.parquet", by="video", within=within)
    again = seehear.subset(finished_run, 12, tmp_path / "b.parquet", by="video", within=within)
    table = pq.read_table(tmp_path / "a.parquet")
    assert table.equals(pq.read_table(tmp_path / "b.parquet"))
    assert {**said, "path": ""} == {**again, "path": ""}
    rows = table["row"].to_pylist()
    assert len(set(rows)) == said["segments"] == 12
    every_N = open_run(finished_run).labels["video"]
    counts = np.bincount(labels_of(finished_run, "video", rows), minlength=every_N.max() + 1)
    left = np.bincount(every_N) > counts
    assert counts[left].min(initial=99) >= counts.max() - 1
    assert said["clusters"] == (counts > 0).sum()
    assert said["clusters"] >= said["random"]["clusters"]


def test_the_nearest_are_those_that_numpy_finds(finished_run, tmp_path):
    seehear.subset(finished_run, 9, tmp_path / "n.parquet", by="audio", within="nearest")
    trained = open_run(finished_run)
    clustering = trained.clusterings["audio"]
    prepared_ND = clustering.prepared(
        {"audio": torch.tensor(np.array(trained.features["audio"], np.float32))}
    )
    label_N = trained.labels["audio"]
    distance_N = np.linalg.norm(prepared_ND - clustering.centroids_KD[label_N], axis=1)
    for row in pq.read_table(tmp_path / "n.parquet")["row"].to_pylist():
        nearer = (label_N == label_N[row]) & (distance_N < distance_N[row] - 1e-5)
        chosen = pq.read_table(tmp_path / "n.parquet")["row"].to_pylist()
        assert set(np.flatnonzero(nearer).tolist()) <= set(chosen)


def test_a_list_goes_into_an_index_and_an_index_is_the_same(finished_run, videos, tmp_path):
    seehear.subset(finished_run, 10, tmp_path / "s.csv")
    seehear.subset(finished_run, 10, tmp_path / "part")
    with (tmp_path / "s.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    summary = seehear.index(
        videos, tmp_path / "listed", segments=tmp_path / "s.csv", workers=1, progress=False
    )
    listed, part = Index.open(tmp_path / "listed"), Index.open(tmp_path / "part")
    assert summary.rows == len(part) == len(lines) == 10
    places = [
        {(i.original_path(row), float(i.start_s[row]), float(i.seconds[row])) for row in range(10)}
        for i in (listed, part)
    ]
    assert places[0] == places[1]
    part.check()


@pytest.mark.thorough
def test_a_part_is_pretrained_on_as_any_index_is(finished_run, tmp_path):
    seehear.subset(finished_run, 16, tmp_path / "part")
    settings = {"compute.precision": "fp32", "data.workers": 0, "rounds": 1}
    run = seehear.pretrain(tmp_path / "part", tmp_path / "run", preset="debug", settings=settings)
    assert run.field("index", "rows") == 16


def test_copies_are_left_out(finished_run, tmp_path):
    index = open_run(finished_run).index()
    lines = [
        dict.fromkeys(SCHEMA.names)
        | {"path": index.original_path(row), "start_s": float(index.start_s[row]), "keep": row < 2}
        for row in range(30)
    ]
    pq.write_table(pa.Table.from_pylist(lines, SCHEMA), tmp_path / "c.parquet")
    out = tmp_path / "s.parquet"
    said = seehear.subset(finished_run, 1000, out, without=tmp_path / "c.parquet")
    assert said["segments"] == len(index) - 28
    assert set(pq.read_table(out)["row"].to_pylist()) & set(range(30)) == {0, 1}
    save_labels(pa.Table.from_pylist(lines, SCHEMA), tmp_path / "c.csv", as_csv=True)
    again = seehear.subset(finished_run, 1000, tmp_path / "t.csv", without=tmp_path / "c.csv")
    assert again["segments"] == said["segments"]
    with pytest.raises(UsageError, match=r"s\.parquet is no file of `seehear duplicates`"):
        seehear.subset(finished_run, 5, tmp_path / "x.csv", without=out)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"by": "smell"}, "The run has video, audio, joint"),
        ({"within": "all"}, "spread or nearest"),
        ({"size": 0}, "size is 0"),
    ],
)
def test_what_cannot_be_is_refused(finished_run, tmp_path, given, says):
    with pytest.raises(SettingsError, match=says):
        seehear.subset(finished_run, **({"size": 5, "out": tmp_path / "s.csv"} | given))
