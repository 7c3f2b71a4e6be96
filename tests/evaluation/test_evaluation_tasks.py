"""Every task on planted features, against scikit-learn or a slow obvious version; and through the
one door.
"""

from __future__ import annotations

import csv
import json

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from scipy.optimize import linear_sum_assignment
from sklearn.metrics import (
    adjusted_mutual_info_score,
    adjusted_rand_score,
    normalized_mutual_info_score,
)

import seehear
from seehear.config import Clip
from seehear.data.index import Index
from seehear.errors import RunError, SettingsError
from seehear.evaluation.clusters import agreement
from seehear.evaluation.datasets import Split
from seehear.evaluation.features import file_name
from seehear.evaluation.finetuning import load_classifier
from seehear.evaluation.retrieval import RANKS, random_recall, recall_over_splits
from seehear.evaluation.sets import LabelledSet
from seehear.evaluation.table import compare
from seehear.machine.console import Console
from seehear.machine.devices import Numerics
from seehear.method.encoders import Pair
from seehear.method.encoders.wrapping import wrap
from seehear.models.model import Model

CLIP = Clip(frames=4, frame_rate_hz=4.0, short_side_pixels=36, crop_pixels=32, sound_seconds=0.5)
QUIET = Console(quiet=True)


def plain_model() -> Model:
    """Mean colours over a grid, and mean log-mel bands: features without learning."""
    colours = torch.nn.Sequential(torch.nn.AdaptiveAvgPool3d((2, 2, 2)), torch.nn.Flatten())
    bands = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d((8, 4)), torch.nn.Flatten())
    video = wrap(colours, feature_dim=24, rgb_mean=(0.5, 0.5, 0.5), rgb_std=(0.2, 0.2, 0.2))
    pair = Pair(video, wrap(bands, takes="spectrogram", feature_dim=32))
    return Model(pair.eval(), CLIP, Numerics("cpu", "fp32", "contiguous"), {"name": "plain"})


def labelled(class_V, train, test):
    """A set without files, for what works on pooled features."""
    nobody = np.empty(0, dtype=np.int64)
    return LabelledSet(
        name="made",
        source="made up",
        index=Index.in_memory([], "/"),
        item_N=np.arange(len(class_V)),
        target_V=np.asarray(class_V),
        items=tuple(f"item {i}" for i in range(len(class_V))),
        classes=tuple("abcdefgh"),
        splits=(Split("one", np.asarray(train), np.asarray(test), nobody),),
        modalities=("video", "audio"),
        missing=(),
        unreadable={},
        num_official=len(class_V),
        digest="sha256:0",
    )


@pytest.mark.parametrize("gallery", ["train", "test"])
def test_recall_is_that_of_a_loop_over_queries(gallery):
    generator = np.random.default_rng(0)
    class_V, x = generator.integers(0, 8, 150), generator.normal(size=(150, 6))
    x += 0.8 * np.eye(8, 6)[class_V]
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    data = labelled(class_V, np.arange(100), np.arange(100, 150))
    found = recall_over_splits(data, np.ones(150, bool), unit, unit, 0, gallery=gallery)
    answers = np.arange(100) if gallery == "train" else np.arange(100, 150)
    for k in RANKS:
        right = []
        for query in range(100, 150):
            others = [a for a in answers if a != query]
            best = sorted(others, key=lambda a: -unit[query] @ unit[a])[:k]
            right.append(any(class_V[a] == class_V[query] for a in best))
        assert found["recall"][str(k)] == pytest.approx(np.mean(right))
    assert found["n_queries"] == 50
    low, high = found["interval"]
    assert low <= found["recall"]["1"] <= high


@pytest.mark.parametrize("own", [False, True])
def test_chance_is_what_a_random_order_reaches(own):
    generator = np.random.default_rng(1)
    classes = generator.integers(0, 5, 40)
    expected = random_recall(classes, classes, own=own)
    trials = []
    for _ in range(400):
        scores = generator.random((40, 40))
        if own:
            np.fill_diagonal(scores, -1)
        order = np.argsort(-scores, axis=1)[:, : 39 if own else 40]
        same = classes[order] == classes[:, None]
        trials.append([same[:, :k].any(axis=1).mean() for k in RANKS])
    assert np.mean(trials, axis=0) == pytest.approx(expected, abs=0.01)


def test_cluster_measures_are_scikit_learns():
    generator = np.random.default_rng(0)
    classes = generator.integers(0, 4, 300)
    labels = np.where(generator.random(300) < 0.6, classes, generator.integers(0, 7, 300))
    found = agreement(labels, classes)
    assert found["nmi"] == pytest.approx(normalized_mutual_info_score(classes, labels))
    assert found["ami"] == pytest.approx(adjusted_mutual_info_score(classes, labels))
    assert found["ari"] == pytest.approx(adjusted_rand_score(classes, labels))
    table = np.array([[np.sum((labels == k) & (classes == c)) for k in range(7)] for c in range(4)])
    assert found["hungarian"] == pytest.approx(table[linear_sum_assignment(-table)].sum() / 300)
    shares = table / table.sum(axis=0)
    entropies = [-sum(s * np.log(s) for s in shares[:, k] if s) for k in range(7)]
    assert found["entropy"] == pytest.approx(np.average(entropies, weights=table.sum(axis=0)))
    assert found["largest_share"] == pytest.approx(shares.max(axis=0).mean())


@pytest.mark.thorough
def test_one_door_for_all_tasks_and_a_table_of_what_they_found(index_folder, videos, tmp_path):
    given = {
        "data": index_folder,
        "classes": videos / "classes.csv",
        "results": tmp_path / "plain",
        "console": QUIET,
    }
    probe = seehear.evaluate(plain_model(), task="probe", low_shot=[1, 3], baseline=True, **given)
    assert probe["values"]["audio"]["top1"] > 0.4  # four events
    assert set(probe["baseline"]) == {"colour", "motion", "log-mel"}
    assert set(probe["low_shot"]["video"]) == {"1", "3"}
    assert probe["chance"] == 0.25
    assert probe["data"]["num_present"] == probe["data"]["num_official"] == 40
    retrieval = seehear.evaluate(plain_model(), task="retrieval", **given)
    # such a model has no clusters to share
    assert set(retrieval["values"]) == {"video to video", "audio to audio"}
    clusters = seehear.evaluate(plain_model(), task="clusters", num_clusters=4, **given)
    assert clusters["values"]["audio"]["nmi"] > 0.1
    assert sum(c["size"] for c in clusters["values"]["audio"]["purest"]) <= 40
    for result in (probe, retrieval, clusters):
        assert json.loads((tmp_path / "plain" / f"{result['task']}-index.json").read_text())[
            "values"
        ]
    lines = compare([tmp_path / "plain"]).splitlines()
    assert len({line.count("|") for line in lines}) == 1
    assert any("audio to audio R@1 (train, split official), %" in line for line in lines)


@pytest.mark.thorough
def test_a_fine_tune_through_the_door(finished_run, index_folder, videos, tmp_path):
    given = {
        "data": index_folder,
        "classes": videos / "classes.csv",
        "results": tmp_path,
        "console": QUIET,
    }
    given |= {
        "task": "finetune",
        "num_clips": 1,
        "changes": {"epochs": 1, "batch_size": 4, "workers": 0},
    }
    result = seehear.evaluate(finished_run, low_shot=[2], **given)
    assert result["written"] == str(tmp_path / "finetune-2-shot-index.json")
    assert (result["chance"], result["clips"]["per_item"]) == (0.25, 1)
    classifier = load_classifier(result["folder"])
    assert classifier.classes == tuple(sorted(classifier.classes))
    assert len(classifier.classes) == 4
    scores = classifier.audio(torch.zeros(2, 8000))
    assert scores.sum(dim=1).tolist() == pytest.approx([1, 1])
    again = seehear.evaluate(finished_run, low_shot=2, resume=True, **given)
    assert again["values"] == result["values"]
    with pytest.raises(RunError, match="Go on with --resume"):
        seehear.evaluate(finished_run, low_shot=2, **given)
    with pytest.raises(SettingsError, match="takes one number"):
        seehear.evaluate(finished_run, low_shot=[2, 3], **given)
    with pytest.raises(SettingsError, match=r"finetune\.epoch"):
        seehear.evaluate(finished_run, **given | {"changes": {"epoch": 1}})
    new = seehear.evaluate(finished_run, low_shot=2, scratch=True, **given)
    assert new["variant"] == ["2-shot", "scratch"]
    lines = compare([tmp_path])
    assert "finetune 2-shot scratch" in lines
    assert "finetune 2-shot  " in lines


@pytest.mark.thorough
def test_results_of_two_sets_of_the_same_name_do_not_overwrite_each_other(
    index_folder, videos, tmp_path
):
    given = {
        "classes": videos / "classes.csv",
        "results": tmp_path / "r",
        "console": QUIET,
        "modality": "audio",
    }
    one = seehear.evaluate(plain_model(), data=index_folder, **given)
    seehear.index(sorted(videos.rglob("*.mp4"))[:-1], tmp_path / "some" / "index", progress=False)
    other = seehear.evaluate(plain_model(), data=tmp_path / "some" / "index", **given)
    assert one["written"] != other["written"]
    assert seehear.evaluate(plain_model(), data=index_folder, **given)["written"] == one["written"]


def test_features_reach_other_programs(index_folder, videos, tmp_path):
    given = {
        "data": index_folder,
        "classes": videos / "classes.csv",
        "results": tmp_path / "r",
        "console": QUIET,
    }
    seehear.evaluate(plain_model(), task="features", out=tmp_path / "a", **given)
    table = pq.read_table(tmp_path / "a" / "features.parquet")
    assert len(table) == 40
    seehear.evaluate(plain_model(), task="features", out=tmp_path / "b", form="numpy", **given)
    audio = np.load(tmp_path / "b" / "audio.npy")
    assert np.array_equal(np.array(table["audio"].to_pylist(), dtype=np.float32), audio)
    with (tmp_path / "b" / "items.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [line["class"] for line in lines] == table["class"].to_pylist()
    with pytest.raises(SettingsError, match="exists"):
        seehear.evaluate(plain_model(), task="features", out=tmp_path / "b", **given)
    with pytest.raises(SettingsError, match="no format mat"):
        seehear.evaluate(plain_model(), task="features", out=tmp_path / "c", form="mat", **given)


def test_sequences_have_a_feature_every_stride(index_folder, videos, tmp_path):
    given = {
        "data": index_folder,
        "classes": videos / "classes.csv",
        "results": tmp_path / "r",
        "console": QUIET,
    }
    seehear.evaluate(
        plain_model(),
        task="features",
        out=tmp_path / "s",
        form="sequence",
        stride_seconds=0.25,
        modality="video",
        **given,
    )
    about = json.loads((tmp_path / "s" / "sequences.json").read_text())
    assert len(about["videos"]) == 40
    assert about["window_s"] == CLIP.span_seconds(("video",))
    for video in about["videos"][:5]:
        array = np.load(tmp_path / "s" / f"{video['file']}.npy")
        assert array.shape == (
            1 + int((video["duration_s"] - CLIP.span_seconds(("video",))) / 0.25 + 1e-6),
            24,
        )
        assert video["features"] == video["windows"] == len(array)


def test_names_of_files_stay_in_their_folder_and_apart():
    taken = set()
    assert file_name("a/b/clip.mp4", taken) == "clip"
    assert file_name("c/clip.avi", taken) == "clip-2"
    assert "/" not in file_name("../../etc/pass wd", taken)
    assert file_name("...", taken) == "video"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"task": "probes"}, r"no task probes\. Did you mean probe"),
        ({"modality": "smell"}, "no modality smell"),
        ({"num_clips": 0}, "--clips is 0"),
        ({"classifier": "tree"}, r"no classifier tree\. It must be logistic or svm"),
        ({"classes": None}, "is an index, which holds no classes"),
        ({"dataset": "esc50"}, "--dataset esc50 does not apply"),
        ({"task": "clusters", "num_clusters": 99}, "--num-clusters is 99.*40"),
    ],
)
def test_what_cannot_be_measured_is_said(index_folder, videos, tmp_path, changes, says):
    given = {
        "data": index_folder,
        "classes": videos / "classes.csv",
        "results": tmp_path,
        "console": QUIET,
    }
    with pytest.raises(SettingsError, match=says):
        seehear.evaluate(plain_model(), **{**given, **changes})
    assert not list(tmp_path.iterdir())


def test_a_benchmark_in_its_own_layout_is_measured_and_missing_files_are_counted(
    videos, index_folder, tmp_path
):
    index = Index.open(index_folder)
    for name, line in zip(
        range(40), (videos / "classes.csv").read_text().splitlines()[1:], strict=True
    ):
        path, label, split = line.split(",")
        folder = tmp_path / "set" / split / label
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.mp4").symlink_to(videos / path)
    broken = tmp_path / "set" / "train" / label / "broken.mp4"
    broken.write_bytes(b"nothing")
    result = seehear.evaluate(
        plain_model(),
        data=tmp_path / "set",
        results=tmp_path / "r",
        console=QUIET,
        modality="audio",
        low_shot=[5],
    )
    assert result["data"]["name"] == "folders"
    assert result["data"]["unopened"] == {"not a media file": 1}
    assert result["n_train"] + result["n_test"] == 40 == len(index)
    assert result["clips"]["per_item"] == 10
    # five draws: eight test items alone say little
    assert result["low_shot"]["audio"]["5"]["mean"] > 0.4


def test_a_folder_without_results_and_a_broken_result_are_said(tmp_path):
    with pytest.raises(RunError, match="has no results"):
        compare([tmp_path])
    (tmp_path / "probe-x.json").write_text("{")
    with pytest.raises(RunError, match=r"probe-x\.json cannot be read"):
        compare([tmp_path])


@pytest.mark.parametrize(
    "names", [["a.mp4", "b.mp4"], ["validation/a.mp4", "test/b.mp4"], ["one/a.mp4", "one/b.mp4"]]
)
def test_features_need_no_classes(videos, tmp_path, names):
    for name, source in zip(names, sorted(videos.rglob("*.mp4")), strict=False):
        (tmp_path / "set" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "set" / name).symlink_to(source)
    given = {
        "data": tmp_path / "set",
        "results": tmp_path / "r",
        "console": QUIET,
        "modality": "audio",
    }
    seehear.evaluate(plain_model(), task="features", out=tmp_path / "f", **given)
    table = pq.read_table(tmp_path / "f" / "features.parquet")
    assert sorted(table["item"].to_pylist()) == sorted(names)
    assert set(table["class"].to_pylist()) == {""}
    with pytest.raises(SettingsError, match=r"class\(es\)|No benchmark|and no train"):
        seehear.evaluate(plain_model(), **given)


def test_features_of_an_index_need_no_classes_and_class_folders_keep_theirs(
    videos, index_folder, tmp_path
):
    given = {
        "results": tmp_path / "r",
        "console": QUIET,
        "modality": "audio",
        "num_clips": 1,
        "task": "features",
    }
    seehear.evaluate(plain_model(), data=index_folder, out=tmp_path / "f", **given)
    assert set(pq.read_table(tmp_path / "f" / "features.parquet")["class"].to_pylist()) == {""}
    for number, source in enumerate(sorted(videos.rglob("*.mp4"))[:4]):
        folder = tmp_path / "set" / "xy"[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number}.mp4").symlink_to(source)
    seehear.evaluate(plain_model(), data=tmp_path / "set", out=tmp_path / "g", **given)
    assert set(pq.read_table(tmp_path / "g" / "features.parquet")["class"].to_pylist()) == {
        "x",
        "y",
    }
