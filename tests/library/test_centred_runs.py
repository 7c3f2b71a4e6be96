"""A run that compares rows with their recording: are new rows compared so as well, everywhere?"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file
from scipy.special import softmax

import seehear
from report_run import data
from seehear.evaluation.clusters import final_groupings
from seehear.library import assign, embed, embed_to_file, export_labels, open_run, search
from seehear.library.trained import Trained
from seehear.machine.console import Console
from seehear.reporting.cards import read_groupings
from seehear.reporting.projection import project

# cut from memory sound differs at a clip's edges from sound that is read
SETTINGS = {"compute.precision": "fp32", "compute.memory_format": "contiguous", "data.workers": 0}
SETTINGS |= {"data.cache_gigabytes": 0, "cluster.centre": "recording", "train.heldout_share": 0.2}
CLOSE = 0.02  # features are kept as float16: a row nearer to two centroids than this may go to both


@pytest.fixture(scope="module")
def index_folder(videos: Path, tmp_path_factory) -> Path:
    """Two segments each of 16 videos; three videos a recording but for the last, which is alone and
    of one segment.
    """
    folder = tmp_path_factory.mktemp("films")
    listed = folder / "segments.csv"
    paths = sorted(videos.rglob("*.mp4"))[:16]
    with listed.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "start_s", "end_s", "recording", "class"])
        for number, path in enumerate(paths):
            for start in (0, 1) if number < 15 else (0,):
                name = f"film {number // 3}"
                writer.writerow([path, start, start + 1, name, "ab"[number % 2]])
    seehear.index([videos], folder / "index", segments=listed, progress=False)
    return folder / "index"


@pytest.fixture(scope="module")
def trained(index_folder: Path, tmp_path_factory) -> Trained:
    run = tmp_path_factory.mktemp("centred") / "run"
    seehear.pretrain(index_folder, run, preset="debug", settings=SETTINGS)
    return open_run(run, device="cpu")


@pytest.fixture(scope="module")
def table(trained, index_folder) -> pa.Table:
    return embed(trained.model, index_folder, workers=1)


def features_of(table: pa.Table, modality: str) -> np.ndarray:
    return np.array(table[modality].to_pylist(), dtype=np.float64)


def centred(trained: Trained, table: pa.Table, modality: str) -> np.ndarray:
    """Features less the mean of their recording plus that of all training rows, computed apart."""
    x_ND, names = features_of(table, modality), np.array(table["recording"].to_pylist())
    everything_D = np.load(trained.path / "features" / f"{modality}.npy").astype(np.float64).mean(0)
    out_ND = x_ND.copy()
    for name in np.unique(names):
        if (names == name).sum() > 1:
            out_ND[names == name] += everything_D - x_ND[names == name].mean(axis=0)
    return out_ND


def prepared(trained: Trained, name: str, parts: list[np.ndarray]) -> np.ndarray:
    """What is clustered: centre, unit length, both joined, unit length."""
    tensors, scaled = load_file(trained.path / "clusters" / "centroids.safetensors"), []
    for i, part in enumerate(parts):
        x = part - tensors[f"{name}.space.{i}.mean"].numpy()
        scaled.append(x / np.linalg.norm(x, axis=1, keepdims=True))
    joined = np.concatenate(scaled, axis=1)
    return joined / np.linalg.norm(joined, axis=1, keepdims=True)


def parts_of(trained: Trained, table: pa.Table, name: str) -> list[np.ndarray]:
    return [
        centred(trained, table, m) for m in (("video", "audio") if name == "joint" else (name,))
    ]


def distances(trained: Trained, table: pa.Table, name: str) -> np.ndarray:
    centroids_KD = trained.clusterings[name].centroids_KD.double().numpy()
    x_ND = prepared(trained, name, parts_of(trained, table, name))
    return np.linalg.norm(x_ND[:, None] - centroids_KD, axis=2)


def test_assign_on_the_training_segments_gives_the_training_labels(trained, index_folder, tmp_path):
    export_labels(trained, "parquet", tmp_path / "kept.parquet")
    kept, labels = pq.read_table(tmp_path / "kept.parquet"), assign(trained, index_folder)
    for name in trained.clusterings:
        ours, theirs = (t[f"{name}_cluster"].to_numpy() for t in (labels, kept))
        same = (ours == theirs) | (labels[f"{name}_margin"].to_numpy() < CLOSE)
        assert same.all(), name
        assert (trained.labels[name] == theirs).all()
        assert (ours == theirs).mean() > 0.9


@pytest.mark.parametrize("name", ["video", "audio", "joint"])
def test_assign_compares_each_segment_with_its_recording(trained, table, name):
    distance_NK = distances(trained, table, name)
    shuffled = np.random.default_rng(0).permutation(len(table))
    for rows in (np.arange(len(table)), shuffled):  # also where a recording's lie scattered
        labels = assign(trained, table.take(pa.array(rows)))
        assert labels[f"{name}_cluster"].to_pylist() == distance_NK.argmin(axis=1)[rows].tolist()
        np.testing.assert_allclose(
            labels[f"{name}_distance"], distance_NK.min(axis=1)[rows], atol=2e-3
        )
    alone = features_of(table, "video") - centred(trained, table, "video")
    assert np.flatnonzero((alone == 0).all(axis=1)).tolist() == [len(table) - 1]


def test_files_of_a_folder_are_recordings_and_one_of_one_segment_is_compared_with_all(
    trained, videos, capsys
):
    paths = sorted(videos.rglob("*.mp4"))[:4]
    halves = assign(trained, paths, segment_seconds=1.0, workers=1, console=Console())
    assert "0 of 8 are of recordings with too few" in capsys.readouterr().err
    features = embed(trained.model, paths, segment_seconds=1.0, workers=1)
    named = features.append_column("recording", features["path"])
    assert "recording" not in features.column_names
    expected = distances(trained, named, "audio").argmin(axis=1).tolist()
    assert halves["audio_cluster"].to_pylist() == expected
    whole = assign(trained, paths[0], segment_seconds=2.0, workers=1)
    one = embed(trained.model, paths[0], segment_seconds=2.0, workers=1)
    x = prepared(trained, "audio", [features_of(one, "audio")])
    nearest = np.linalg.norm(x - trained.clusterings["audio"].centroids_KD.numpy(), axis=1).argmin()
    assert whole["audio_cluster"].to_pylist() == [nearest]


def test_a_segment_of_the_gallery_finds_itself_first(trained, table, tmp_path):
    """The last file is one segment there: it has the recording that the gallery says."""
    last = table.slice(len(table) - 1).to_pylist()[0]
    names = [
        "film 4" if path == last["path"] else name
        for path, name in zip(
            table["path"].to_pylist(), table["recording"].to_pylist(), strict=True
        )
    ]
    at = table.column_names.index("recording")
    gallery = table.set_column(at, table.schema.field("recording"), pa.array(names))
    assert "film 4" in table["recording"].to_pylist()[:-1]
    expected = centred(trained, gallery, "audio")
    assert not np.allclose(expected[-1], features_of(table, "audio")[-1])
    x_ND = prepared(trained, "audio", [expected])
    one = embed(trained.model, last["path"], workers=1)
    assert len(one) == 1
    q_D = prepared(
        trained,
        "audio",
        [features_of(one, "audio") + expected[-1] - features_of(table, "audio")[-1]],
    )[0]
    hits = search(trained, last["path"], gallery, by="audio", top=len(table))
    np.testing.assert_allclose(hits["score"], np.sort(x_ND @ q_D)[::-1], atol=2e-3)


@pytest.mark.parametrize("by", ["auto", "audio"])
def test_a_file_that_is_not_in_the_gallery_is_compared_with_all_training_rows(
    trained, table, videos, by, capsys
):
    query = sorted(videos.rglob("*.mp4"))[-1]
    name = "joint" if by == "auto" else by
    modalities = ("video", "audio") if by == "auto" else (by,)
    asked = embed(trained.model, query, workers=1)
    q_D = prepared(trained, name, [features_of(asked, m) for m in modalities])[0]
    scores = prepared(trained, name, parts_of(trained, table, name)) @ q_D
    hits = search(trained, query, table, by=by, top=99, console=Console())
    np.testing.assert_allclose(hits["score"], np.sort(scores)[::-1], atol=2e-3)
    assert capsys.readouterr().err.count("its recording is not known") == 1
    assert search(trained, query, by=by).num_rows  # the run's own rows as well
    clusters = dict(zip(hits["row"].to_pylist(), hits[f"{name}_cluster"].to_pylist(), strict=True))
    expected = distances(trained, table, name).argmin(axis=1)
    assert [clusters[row] for row in range(len(table))] == expected.tolist()


def test_sights_and_sounds_are_matched_by_clusters_of_centred_features(trained, table, videos):
    """The head takes features as they are; the prototypes what is left without the recording."""
    query = sorted(videos.rglob("*.mp4"))[-1]
    asked = embed(trained.model, query, workers=1)
    matching, q = trained.matching, features_of(asked, "audio")
    weight, bias = (t.double().numpy() for t in matching.heads["video"]["audio"])
    seen_NK = softmax(features_of(table, "video") @ weight.T + bias, axis=1)
    tensors = load_file(trained.path / "encoders" / "matching.safetensors")

    def own(modality: str, x_ND: np.ndarray) -> np.ndarray:
        x_ND = x_ND - tensors[f"space/{modality}/0.mean"].numpy()
        x_ND /= np.linalg.norm(x_ND, axis=1, keepdims=True)
        products = x_ND @ tensors[f"prototypes/{modality}"].numpy().T
        return softmax(matching.sharpness[modality] * products, axis=1)

    heard_K = own("audio", q)[0]
    weight, bias = (t.double().numpy() for t in matching.heads["audio"]["video"])
    named_K = softmax(q @ weight.T + bias, axis=1)[0]
    agree = [seen_NK @ heard_K, own("video", centred(trained, table, "video")) @ named_K]
    scores = np.mean([np.log(a + 1e-6) for a in agree], axis=0)
    hits = search(trained, query, table, by="video", use="audio", top=99)
    np.testing.assert_allclose(hits["score"], np.sort(scores)[::-1], atol=5e-3)


def test_prototypes_are_means_of_centred_features(trained):
    tensors = load_file(trained.path / "encoders" / "matching.safetensors")
    assert "space/video/0.centre" in tensors
    recordings = trained.recordings
    features = {m: torch.from_numpy(np.array(a, np.float32)) for m, a in trained.features.items()}
    x_ND = recordings.without(np.arange(len(features["video"])), features)["video"]
    np.testing.assert_allclose(x_ND.mean(0), tensors["space/video/0.mean"], atol=1e-2)


@pytest.mark.parametrize("name", ["video", "audio", "joint"])
def test_report_evaluation_and_radii_measure_the_same_distances(trained, table, name):
    stored = table
    for modality in ("video", "audio"):
        array = np.load(trained.path / "features" / f"{modality}.npy")
        column = pa.FixedSizeListArray.from_arrays(pa.array(array.reshape(-1)), array.shape[1])
        at = stored.column_names.index(modality)
        stored = stored.set_column(at, stored.schema.field(modality), column)
    labels_N = trained.labels[name]
    own_N = distances(trained, stored, name)[np.arange(len(labels_N)), labels_N]
    page = next(g for g in read_groupings(trained.path) if g.name == name)
    np.testing.assert_allclose(page.distance_N, own_N, atol=2e-3)
    np.testing.assert_allclose(final_groupings(trained.path)[name].distance_N, own_N, atol=2e-3)
    everywhere = np.percentile(own_N, 99)
    for k, radius in enumerate(trained.radii[name].tolist()):
        mine = own_N[labels_N == k]
        expected = np.percentile(mine, 99) if len(mine) >= 20 else everywhere
        assert radius == pytest.approx(expected, abs=3e-3)


def test_the_page_says_how_features_are_centred_and_draws_its_map_of_these(trained, tmp_path):
    built = seehear.report(trained.path, previews=0, out=tmp_path / "page", workers=1)
    said = data(Path(built.path).parent, "report")
    assert said["run"]["centre"] == "recording"
    assert said["health"]["rounds"][-1]["between_recordings"]["chance"] < 0.2
    rows = np.arange(len(trained.labels["video"]))
    features = {m: torch.from_numpy(np.array(a, np.float32)) for m, a in trained.features.items()}
    for modality, part in trained.recordings.without(rows, features).items():
        share = project(part.numpy(), "pca")[1]
        assert said["map"]["explained"][modality] == pytest.approx(share, abs=1e-3)
        assert share != pytest.approx(project(features[modality].numpy(), "pca")[1], abs=1e-3)


def test_new_clusters_of_a_runs_features_are_centred_as_the_run(trained, index_folder, tmp_path):
    listed = index_folder.parent / "segments.csv"
    found = seehear.evaluate(
        trained.path, task="clusters", data=index_folder, classes=listed, num_clusters=3,
        results=tmp_path,
    )  # fmt: skip
    assert "cluster.centre recording" in found["protocol"]


def test_what_is_kept_out_of_training_is_counted_by_recording(trained, index_folder):
    """A fifth of six recordings is one, of three files or of one."""
    assert [entry["heldout_recordings"] for entry in trained.run.read_log()] == [1, 1]


def test_a_file_of_features_keeps_the_names_of_recordings(trained, index_folder, table, tmp_path):
    out = tmp_path / "features.parquet"
    embed_to_file(trained.model, index_folder, out, workers=1)
    assert pq.read_table(out)["recording"].to_pylist() == table["recording"].to_pylist()
    a, b = assign(trained, out), assign(trained, table)
    assert a.equals(b)
