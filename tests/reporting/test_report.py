"""Is what the report says what the run holds? Everything is computed again, plainly; hostile and
missing files.
"""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import urllib.request
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from safetensors.torch import load_file
from sklearn.metrics.cluster import contingency_matrix

import seehear
from report_run import CLASSES, CLUSTERS, FIXED, NAMES, VIDEOS, data
from seehear.data.index import Index
from seehear.errors import IndexFileError, RunError, SettingsError, UsageError
from seehear.evaluation import read_classes
from seehear.method.clusters import Space
from seehear.method.features import read_features
from seehear.reporting import cards, matrix, projection
from seehear.reporting.health import verdict
from seehear.reporting.previews import choose
from seehear.reporting.scripts import script


@pytest.fixture
def copy(shown: Path, tmp_path: Path) -> Path:
    """A copy of the run, to spoil."""
    return Path(shutil.copytree(shown / "run", tmp_path / "run"))


def plain_distances(run: Path, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Labels (N,) and the distance of every row to every centroid (N, K), without any chunk or
    shortcut.
    """
    tensors = load_file(run / "clusters" / "centroids.safetensors")
    features = read_features(run / "features")
    parts = {
        "video": [features.video],
        "audio": [features.audio],
        "joint": [features.video, features.audio],
    }[name]
    head = f"{name}.space."
    prepared = Space.from_state_dict(
        {k.removeprefix(head): v for k, v in tensors.items() if k.startswith(head)}
    )(parts)
    distance_NK = np.linalg.norm(
        prepared.numpy()[:, None] - tensors[f"{name}.centroids"].numpy()[None], axis=2
    )
    labels_N = pq.read_table(run / "clusters" / "labels.parquet")[name].to_numpy()
    return labels_N, distance_NK


@pytest.mark.parametrize("name", ["video", "audio", "joint"])
def test_cards_and_members_are_what_plain_code_computes(shown, name):
    run = shown / "run"
    labels_N, distance_NK = plain_distances(run, name)
    index = Index.open(shown / "index")
    class_N = read_classes(shown / "classes.csv").of_rows(index)
    report = data(run / "report", "report")
    space = next(s for s in report["spaces"] if s["name"] == name)
    assert report["classes"] == sorted(CLASSES)
    assert {card["cluster"] for card in space["cards"]} == set(labels_N.tolist())
    for card in space["cards"]:
        k = card["cluster"]
        members = np.flatnonzero(labels_N == k)
        own = distance_NK[members, k]
        order = members[np.argsort(own, kind="stable")]
        assert card["size"] == len(members)
        assert card["compactness"] == pytest.approx(own.mean(), abs=1e-3)
        assert distance_NK[card["nearest"], k] == pytest.approx(
            np.sort(own)[: len(card["nearest"])], abs=1e-4
        )
        assert card["nearest"] == order[: cards.SHOWN].tolist()
        columns = data(run / "report", f"members/{name}-{k}")
        assert columns["row"] == order.tolist()
        assert columns["distance"] == pytest.approx(np.sort(own).tolist(), abs=1e-3)
        assert columns["path"] == [Path(index.path(row)).name for row in order]
        assert columns["class"] == class_N[order].tolist()
        counts = np.bincount(class_N[members], minlength=4)
        assert card["purity"] == pytest.approx(counts.max() / len(members), abs=1e-4)
        assert dict(card["classes"]) == {c: int(n) for c, n in enumerate(counts) if n}
        for partner in card["partners"]:
            others_N = pq.read_table(run / "clusters" / "labels.parquet")[
                partner["name"]
            ].to_numpy()
            assert partner["share"] == pytest.approx(
                np.bincount(others_N[members]).max() / len(members), abs=1e-4
            )


def test_the_matrix_counts_every_segment_once_in_its_cell(shown):
    table = pq.read_table(shown / "run" / "clusters" / "labels.parquet")
    found = data(shown / "run" / "report", "meetings")[0]
    wanted = contingency_matrix(table["video"].to_numpy(), table["audio"].to_numpy())
    ours = np.zeros((len(found["rows"]), len(found["columns"])), int)
    for r, c, n in found["cells"]:
        ours[r, c] = n
    assert (ours[np.argsort(found["rows"])][:, np.argsort(found["columns"])] == wanted).all()


@pytest.mark.parametrize("shape", [(8, 8), (8, 5), (5, 9), (1, 1), (1, 4), (3, 2)])
def test_the_matrix_is_a_reordering_that_finds_planted_blocks(shape):
    generator = np.random.default_rng(7)
    table = np.zeros(shape, np.int64)
    pairs = min(shape)
    rows, columns = generator.permutation(shape[0]), generator.permutation(shape[1])
    table[rows[:pairs], columns[:pairs]] = 50 + np.arange(pairs)
    table[rows[pairs:], columns[0]] = 3  # what has no partner joins another's
    table[rows[0], columns[pairs:]] = 3
    r, c = matrix.order(table)
    assert sorted(r) == list(range(shape[0]))
    assert sorted(c) == list(range(shape[1]))
    heavy = np.argwhere(table[np.ix_(r, c)] >= 50)
    assert len(heavy) == pairs
    assert (np.diff(heavy, axis=0) > 0).all()  # along the diagonal


def test_pairs_that_share_segments_are_neighbours_in_the_matrix():
    table = np.zeros((9, 9), np.int64)
    for group in ([0, 4, 8], [1, 5, 6], [2, 3, 7]):
        table[np.ix_(group, group)] = 10
        table[group, group] = 40
    mixed = np.random.default_rng(1).permutation(9)
    r, _ = matrix.order(table[mixed])
    groups = [{0: 0, 4: 0, 8: 0, 1: 1, 5: 1, 6: 1}.get(int(mixed[row]), 2) for row in r]
    assert sum(a != b for a, b in pairwise(groups)) == 2


def test_long_lists_are_cut_but_every_cluster_and_every_cell_keeps_its_nearest(monkeypatch):
    generator = np.random.default_rng(0)
    n, k = 4000, 6

    def grouping(name: str) -> cards.Grouping:
        labels_N = generator.integers(-1, k, n).astype(np.int32)
        distance_N = np.where(labels_N < 0, np.nan, generator.random(n)).astype(np.float32)
        return cards.Grouping(name, k, labels_N, distance_N, cards.ranks(labels_N, distance_N))

    video, audio = grouping("video"), grouping("audio")
    assert sorted(cards.listed_rows(video, audio)) == np.flatnonzero(video.labels_N >= 0).tolist()
    monkeypatch.setattr(cards, "LISTED_ROWS", 600)
    listed = cards.listed_rows(video, audio)
    assert len(listed) < 2000
    for v in range(k):
        members = np.flatnonzero(video.labels_N == v)
        nearest = members[np.argsort(video.distance_N[members])]
        assert set(nearest[:100]) <= set(listed)
        for a in range(k):
            cell = nearest[audio.labels_N[nearest] == a]
            assert set(cell[: cards.LISTED_OF_CELL]) <= set(listed)
    assert (np.diff(video.labels_N[listed]) >= 0).all()


def test_previews_go_to_what_is_nearest_first_and_never_over_the_budget():
    labels_N = np.arange(300) % 10
    rank_N = (np.arange(300) // 10).astype(np.int32)
    assert choose({"video": rank_N}, np.zeros(0, np.int64), 10).tolist() == list(range(10))
    chosen = choose({"video": rank_N, "audio": rank_N[::-1]}, np.array([123]), 45)
    assert len(chosen) == len(set(chosen.tolist())) == 45
    assert set(range(20)) | set(range(280, 300)) <= set(chosen.tolist())
    everything = choose({"video": rank_N}, np.array([123]), 10_000)
    assert sorted(everything.tolist()) == list(range(300))
    assert len(labels_N) == 300


def test_the_map_is_scikit_learns_pca_and_holds_every_row_in_order(shown):
    from sklearn.decomposition import PCA

    run = shown / "run"
    found = data(run / "report", "map")
    rows = np.frombuffer(base64.b64decode(found["segments"]["row"]), "<i4")
    assert rows.tolist() == list(range(VIDEOS))
    for modality in ("video", "audio"):
        x = np.load(run / "features" / f"{modality}.npy").astype(np.float32)
        x -= x.mean(axis=0)
        x /= np.linalg.norm(x, axis=1, keepdims=True)
        fitted = PCA(2).fit(x)
        ours, share = projection.project(np.load(run / "features" / f"{modality}.npy"), "pca")
        theirs = fitted.transform(x)
        for axis in range(2):
            assert abs(np.corrcoef(ours[:, axis], theirs[:, axis])[0, 1]) > 0.9999
        assert share == pytest.approx(fitted.explained_variance_ratio_.sum(), rel=1e-3)
        packed = np.frombuffer(base64.b64decode(found["positions"][modality]), "<u2").reshape(-1, 2)
        assert (packed == projection.to_uint16(ours)).all()
    labels = pq.read_table(run / "rounds" / "001" / "labels.parquet")["audio"].to_numpy()
    assert (
        np.frombuffer(base64.b64decode(data(run / "report", "rounds/1")["audio"]), "<i4").tolist()
        == labels.tolist()
    )


@pytest.mark.parametrize("modality", ["video", "audio"])
def test_what_the_page_compares_by_is_what_the_run_does(shown, modality):
    from seehear.library import open_run
    from seehear.library.examples import vectors

    run = shown / "run"
    found = data(run / "report", "map")["vectors"][modality]
    few = np.frombuffer(base64.b64decode(found), np.int8).reshape(VIDEOS, -1).astype(np.float32)
    few /= np.linalg.norm(few, axis=1, keepdims=True)
    whole = vectors(open_run(run, device="cpu"), modality, range(VIDEOS)).numpy()
    assert np.abs(few @ few.T - whole @ whole.T).max() < 0.05  # int8, and most of all directions


def test_a_large_map_is_a_sample_that_keeps_what_has_a_preview():
    readable_N = np.ones(5000, bool)
    readable_N[::10] = False
    first = np.array([1, 10, 4999])
    rows = projection.choose_points(readable_N, first, most=100)
    assert len(rows) == 100
    assert (np.diff(rows) > 0).all()
    assert {1, 4999} <= set(rows.tolist())
    assert readable_N[rows].all()


def test_hostile_names_are_data_and_nothing_else(shown):
    report = shown / "run" / "report"
    for path in report.glob("data/**/*.js"):
        text = path.read_text(encoding="ascii")  # no separators of lines, no marks of direction
        assert not set("<>&") & set(text), path
        assert text.count("\n") == 1
    paths = [p for k in range(CLUSTERS) for p in data(report, f"members/video-{k}")["path"]]
    assert set(NAMES) <= set(paths)
    assert script("x", "</script>\u2028") == b'SEEHEAR.put("x", "\\u003c/script\\u003e\\u2028");\n'
    page = (report / "index.html").read_text(encoding="utf-8")
    assert "http:" not in page
    assert "https:" not in page


def test_previews_are_cut_once_and_are_whole_files(shown, copy):
    import av

    shutil.rmtree(copy / "report")
    again = seehear.report(copy, classes=shown / "classes.csv", workers=1)
    assert (again.previews, again.previews_cut, again.previews_failed) == (VIDEOS, 0, {})
    keys = data(copy / "report", "map")["segments"]["key"]
    for suffix in (".mp4", ".webp", ".spectrogram.webp"):
        assert (copy / "report" / "previews" / f"{keys[0]}{suffix}").stat().st_size > 100
    with av.open(str(copy / "report" / "previews" / f"{keys[0]}.mp4")) as film:
        assert film.streams.video[0].codec_context.name == "h264"
        assert film.streams.audio[0].codec_context.name == "aac"
        assert max(film.streams.video[0].width, film.streams.video[0].height) <= 160
        assert 1.8 <= film.duration / av.time_base <= 2.2
    few = seehear.report(copy, previews=7, workers=1)
    assert few.previews == 7
    assert len(list((copy / "report" / "previews").glob("*.mp4"))) == 7
    assert seehear.report(copy, previews=0).previews == 0


def test_videos_that_changed_or_vanished_cost_their_own_preview(shown, copy):
    index = Index.open(shown / "index")
    keys = data(copy / "report", "map")["segments"]["key"]
    for row in (3, 20):
        (copy / "previews" / f"{keys[row]}.mp4").unlink()
    gone, changed = Path(index.path(3)), Path(index.path(20))
    before = changed.read_bytes(), changed.stat().st_mtime_ns
    gone.rename(shown / "hidden")
    changed.write_bytes(b"x")
    try:
        built = seehear.report(copy, workers=1)
    finally:
        (shown / "hidden").rename(gone)
        changed.write_bytes(before[0])
        os.utime(changed, ns=(before[1], before[1]))
    assert built.previews_failed == {"not found": 1, "changed since it was indexed": 1}
    segments = data(copy / "report", "map")["segments"]
    assert segments["failed"][3] == "not found"
    assert segments["key"][3] == ""
    assert built.previews == VIDEOS - 2
    assert seehear.report(copy, workers=1).previews_cut == 2


def test_a_run_that_is_not_finished_gets_a_report_of_its_health(copy):
    for name in ("clusters", "encoders", "features", "report"):
        shutil.rmtree(copy / name)
    built = seehear.report(copy)
    found = data(copy / "report", "report")
    # 24 videos: one or two are held out
    assert built.verdict in ("not known", "not learning", "collapsed")
    assert "spaces" not in found
    assert [r["round"] for r in found["health"]["rounds"]] == [0, 1, 2]
    labels = pq.read_table(copy / "rounds" / "002" / "labels.parquet")["video"].to_numpy()
    assert found["health"]["sizes"]["video"]["largest"] == np.bincount(labels).max()
    assert sum(found["health"]["sizes"]["video"]["histogram"]["counts"]) == CLUSTERS
    shutil.rmtree(copy / "rounds")
    (copy / "log.jsonl").unlink()
    assert seehear.report(copy).verdict == "no round"


def test_an_index_that_is_missing_or_another_one(shown, copy):
    record = json.loads((copy / "run.json").read_text())
    record["index"] |= {"path": str(shown / "nowhere"), "absolute": str(shown / "nowhere")}
    (copy / "run.json").write_text(json.dumps(record))
    built = seehear.report(copy, classes=shown / "classes.csv")
    assert "not found at" in built.notes[0]
    assert data(copy / "report", "report")["notes"] == built.notes
    assert "path" not in data(copy / "report", "map")["segments"]
    assert seehear.report(copy, index=shown / "index", workers=1).previews == VIDEOS
    seehear.index([shown / "made" / "train"], shown / "other", workers=1, progress=False)
    with pytest.raises(IndexFileError, match=r"other is not the index that .* was trained on"):
        seehear.report(copy, index=shown / "other")
    record["index"] |= {"path": str(shown / "other"), "absolute": str(shown / "other")}
    (copy / "run.json").write_text(json.dumps(record))
    assert "has changed" in seehear.report(copy).notes[0]


def test_rows_that_could_not_be_read_are_in_no_cluster_and_not_on_the_map(copy):
    import pyarrow as pa

    for path in (copy / "clusters" / "labels.parquet", copy / "rounds" / "002" / "labels.parquet"):
        table = pq.read_table(path)
        columns = {name: table[name].to_numpy().copy() for name in table.column_names}
        for name in columns.keys() - {"row"}:
            columns[name][[0, 17]] = -1
        pq.write_table(pa.table(columns), path)
    for modality in ("video", "audio"):
        array = np.load(copy / "features" / f"{modality}.npy")
        array[[0, 17]] = np.nan
        np.save(copy / "features" / f"{modality}.npy", array)
    seehear.report(copy, workers=1)
    found = data(copy / "report", "report")
    assert [sum(card["size"] for card in space["cards"]) for space in found["spaces"]] == [
        VIDEOS - 2
    ] * 3
    assert found["map"]["points"] == VIDEOS - 2
    assert all(not {0, 17} & set(space["segments"]["row"]) for space in found["spaces"])


def test_several_numbers_of_clusters_are_several_clusterings(shown, tmp_path):
    settings = {**FIXED, "rounds": 1, "cluster.num_clusters": (3, 6)}
    seehear.pretrain(shown / "index", tmp_path / "run", preset="debug", settings=settings)
    seehear.report(tmp_path / "run", previews=0)
    found = data(tmp_path / "run" / "report", "report")
    assert {s["name"] for s in found["spaces"]} == {
        f"{m}_{k}" for m in ("video", "audio", "joint") for k in (3, 6)
    }
    assert [(m["video"], m["audio"]) for m in found["meetings"]] == [
        ("video_3", "audio_3"),
        ("video_6", "audio_6"),
    ]
    assert found["opening"] in ("joint_3", "joint_6")
    assert seehear.subset(tmp_path / "run", 6, tmp_path / "part")["by"] == found["opening"]
    six = next(s for s in found["spaces"] if s["name"] == "joint_6")
    assert [p["name"] for p in six["cards"][0]["partners"]] == ["video_6", "audio_6"]


def test_nothing_that_is_no_report_is_overwritten(shown, copy, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "index.html").write_text("mine")
    with pytest.raises(UsageError, match=r"mine exists and is no report"):
        seehear.report(copy, out=tmp_path / "mine")
    assert (tmp_path / "mine" / "index.html").read_text() == "mine"
    built = seehear.report(copy, out=tmp_path / "elsewhere")
    assert Path(built.path) == tmp_path / "elsewhere" / "index.html"
    assert seehear.report(copy, out=tmp_path / "elsewhere").previews == VIDEOS


def test_wrong_arguments_say_what_to_do(copy, tmp_path):
    with pytest.raises(SettingsError, match="one of: pca, umap"):
        seehear.report(copy, projection="tsne")
    with pytest.raises(SettingsError, match="previews is -1"):
        seehear.report(copy, previews=-1)
    with pytest.raises(RunError, match="does not exist"):
        seehear.report(tmp_path / "nothing")
    with pytest.raises(SettingsError, match=r"none\.csv does not exist"):
        seehear.report(copy, classes=tmp_path / "none.csv")
    (tmp_path / "others.csv").write_text("path,class\na.mp4,dog\nb.mp4,cat\n")
    with pytest.raises(SettingsError, match="a class for none of the segments, such as /"):
        seehear.report(copy, classes=tmp_path / "others.csv")
    (copy / "names.json").write_text("[]")
    with pytest.raises(RunError, match=r"names\.json cannot be read"):
        seehear.report(copy)


@pytest.mark.parametrize(
    "name", ["features/audio.npy", "clusters/labels.parquet", "clusters/centroids.safetensors"]
)
@pytest.mark.parametrize("way", ["gone", "cut short"])
def test_damaged_files_of_a_run_are_one_line_and_cost_no_report(copy, name, way):
    before = (copy / "report" / "index.html").stat().st_mtime_ns
    if way == "gone":
        (copy / name).unlink()
    else:
        (copy / name).write_bytes((copy / name).read_bytes()[:100])
    with pytest.raises(RunError, match=r"cannot be read .*--resume"):
        seehear.report(copy)
    assert (copy / "report" / "index.html").stat().st_mtime_ns == before


@pytest.mark.thorough
def test_the_command_prints_json_and_serves_until_it_is_interrupted(copy):
    command = [
        sys.executable,
        "-W",
        "error",
        "-m",
        "seehear",
        "report",
        str(copy),
        "--previews",
        "0",
    ]
    done = subprocess.run(
        [*command, "--json"], capture_output=True, text=True, timeout=120, check=True
    )
    assert json.loads(done.stdout)["path"] == str(copy / "report" / "index.html")
    process = subprocess.Popen(
        [*command, "--serve"],
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    with process, ExitStack() as at_the_end:
        at_the_end.callback(process.kill)
        assert process.stdout is not None
        lines = iter(process.stdout)
        assert "index.html" in next(lines)
        address = re.search(r"http://127\.0\.0\.1:\d+/", next(lines))
        assert address is not None
        with urllib.request.urlopen(address[0], timeout=20) as answer:
            assert b"seehear" in answer.read()
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0


def entry(**changes: object) -> dict[str, object]:
    """A line of the log of a healthy round."""
    of = {
        "num_clusters": 8,
        "largest": 20,
        "smallest": 3,
        "effective": 7.0,
        "reseeded": 0,
        "nmi_last": 0.9,
        "centred": False,
    }
    healthy = {
        "round": 4,
        "loss": {"video": [1.2], "audio": [1.0]},
        "accuracy": {"video": [0.6], "audio": [0.7]},
        "heldout_accuracy": {"video": [0.5], "audio": [0.6]},
        "heldout_recordings": 200,
        "guessing": {"video": 0.1, "audio": 0.1},
        "clusters": {"video": of, "audio": of},
        "between_recordings": {"video": 0.2, "audio": 0.2, "chance": 0.1},
        "rows": 100,
        "unreadable": {},
        "timing": {"waiting_share": 0.01, "clips_per_second": 100.0, "seconds": 1.0},
    }
    return healthy | changes


@pytest.mark.parametrize(
    ("changes", "kind", "advice"),
    [
        ({}, "healthy", []),
        (
            {
                "clusters": {
                    "video": {"num_clusters": 8, "largest": 70, "effective": 3.0, "centred": False}
                }
            },
            "collapsed",
            ["whiten"],
        ),
        (
            {
                "clusters": {
                    "video": {
                        "num_clusters": 256,
                        "largest": 10,
                        "effective": 250.0,
                        "centred": False,
                    }
                }
            },
            "collapsed",
            ["one of 256"],
        ),
        (
            {
                "clusters": {
                    "video": {
                        "num_clusters": 256,
                        "largest": 5,
                        "effective": 20.0,
                        "centred": False,
                    }
                }
            },
            "collapsed",
            ["20 even"],
        ),
        ({"heldout_accuracy": {"video": [0.0], "audio": [0.6]}}, "not generalising", ["kept out"]),
        (
            {"heldout_accuracy": {"video": [0.5], "audio": [0.12]}},
            "not generalising",
            ["audio encoder"],
        ),
        (
            {"heldout_accuracy": {"video": [1.0], "audio": [1.0]}, "heldout_recordings": 1},
            "not known",
            [],
        ),
        (
            {"heldout_accuracy": {"video": [0.0], "audio": [0.0]}, "heldout_recordings": 1},
            "not known",
            [],
        ),
        ({"heldout_accuracy": {}, "heldout_recordings": 0}, "not known", []),
        ({"loss": {"video": [2.079], "audio": [1.0]}}, "not learning", ["train.lr"]),
        (
            {"between_recordings": {"video": 0.97, "audio": 0.3, "chance": 0.1}},
            "recordings",
            ["video clusters tell recordings apart"],
        ),
        ({"timing": {"waiting_share": 0.4}}, "healthy", ["data.workers"]),
        ({"unreadable": {"truncated": 2}}, "healthy", ["truncated: 2"]),
        (
            {"accuracy": {"video": [0.9], "audio": [0.7]}, "heldout_accuracy": {"video": [0.2]}},
            "healthy",
            ["by heart"],
        ),
    ],
)
def test_the_verdict_names_what_is_wrong_and_what_to_change(changes, kind, advice):
    found = verdict([entry(), entry(**changes)], 10, {})
    assert found["kind"] == kind
    assert len(found["advice"]) == len(advice)
    assert all(word in text for word, text in zip(advice, found["advice"], strict=True))
    assert "round 5 of 10" in found["text"]


def test_empty_clusters_are_told(shown):
    sizes = {"video": {"empty": 3, "clusters": 8}}
    assert "3 of 8 video clusters are empty" in verdict([entry()], 10, sizes)["advice"][0]


def test_umap_says_how_to_install_it_or_lays_points_out():
    from importlib.util import find_spec

    if find_spec("umap") is None:
        with pytest.raises(SettingsError, match=r"pip install 'seehear\[umap\]'"):
            projection.check_projection("umap")
        return
    x = (
        np.random.default_rng(0).normal(size=(60, 8))
        + np.repeat([[0], [30]], 30, axis=0) * np.eye(8)[0]
    )
    points, share = projection.project(x, "umap")
    assert share is None
    assert points.shape == (60, 2)
