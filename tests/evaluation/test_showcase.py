from __future__ import annotations

import json

import numpy as np
import pytest

from seehear.errors import RunError, UsageError
from seehear.evaluation.clusters import agreement
from seehear.reporting.demo import demo, nmi_with_classes, table


@pytest.mark.slow
def test_a_small_demo_goes_through_and_a_second_call_reuses_it(tmp_path):
    arguments = {
        "seeds": (7,),
        "videos": 48,
        "settings": {
            "rounds": 2,
            "train.epochs": 1,
            "compute.threads": 1,
            "cluster.num_clusters": (4, 16),
        },
    }
    report = demo(tmp_path / "demo", **arguments)
    assert json.loads((tmp_path / "demo" / "demo.json").read_text())["seeds"].keys() == {"7"}
    ways = report["seeds"]["7"]["ways"]
    learned = ["random", "sdc", "xdc", "supervised"]
    assert list(ways) == ["colour", "motion", "log-mel", *learned]
    assert [list(ways[way]) for way in list(ways)[:3]] == [
        ["video", "video_1"],
        ["video", "video_1"],
        ["audio", "audio_1"],
    ]
    probed = ("video", "audio", "video_1", "audio_1")
    assert all(0 <= ways[way][key] <= 1 for way in learned for key in probed)
    assert all(
        0 <= ways[way][f"nmi_{m}"] <= 1 for way in ("sdc", "xdc") for m in ("video", "audio")
    )
    assert report["seeds"]["7"]["n_train"] + report["seeds"]["7"]["n_test"] == 48
    encoders = (
        (tmp_path / "demo" / "seed7" / "xdc" / "encoders" / "video.safetensors").stat().st_mtime_ns
    )
    again = demo(tmp_path / "demo", **arguments)
    assert (
        encoders
        == (tmp_path / "demo" / "seed7" / "xdc" / "encoders" / "video.safetensors")
        .stat()
        .st_mtime_ns
    )
    assert again["seeds"]["7"]["ways"]["xdc"]["video"] == ways["xdc"]["video"]


@pytest.mark.slow
def test_an_error_of_one_way_ends_the_others(tmp_path):
    (tmp_path / "demo" / "seed7" / "sdc").mkdir(parents=True)
    (tmp_path / "demo" / "seed7" / "sdc" / "notes.txt").touch()
    settings = {"rounds": 99, "train.epochs": 1, "compute.threads": 1, "cluster.num_clusters": (4,)}
    with pytest.raises(RunError, match=r"sdc exists and is no run"):
        demo(tmp_path / "demo", seeds=(7,), videos=48, settings=settings)
    assert not (tmp_path / "demo" / "seed7" / "xdc" / "encoders").exists()


def test_a_demo_of_nothing_is_refused_before_anything_is_made(tmp_path):
    for arguments in ({"variants": ()}, {"seeds": ()}):
        with pytest.raises(UsageError, match="needs a variant and a seed"):
            demo(tmp_path / "demo", **arguments)
    assert not any(tmp_path.iterdir())


def test_clusters_are_compared_with_classes_where_there_is_one_for_each():
    draws = np.random.default_rng(0)
    class_N = np.arange(120) % 12
    of = {
        k: np.where(draws.random(120) < 0.5, class_N, draws.integers(k, size=120)) % k
        for k in (8, 16, 32)
    }
    several = {
        f"{space}_{k}": labels_N for space in ("video", "audio") for k, labels_N in of.items()
    }
    want = agreement(of[16], class_N)["nmi"]
    assert nmi_with_classes(several, class_N) == {"nmi_video": want, "nmi_audio": want}
    assert (
        nmi_with_classes({"joint": of[32]}, class_N)["nmi_joint"]
        == agreement(of[32], class_N)["nmi"]
    )
    few = {"video_4": class_N % 4, "video_8": of[8]}
    nearest = {"nmi_video": agreement(of[8], class_N)["nmi"]}
    assert nmi_with_classes(few, class_N) == nearest


def test_the_table_gives_mean_and_range():
    ways = [
        {"video": 0.9, "audio": 0.8, "video_1": 0.3, "audio_1": 0.2, "nmi_audio": 0.4},
        {"video": 1.0, "audio": 0.6, "video_1": 0.5, "audio_1": 0.2, "nmi_audio": 0.4},
    ]
    ways[0]["nmi_video"], ways[1]["nmi_video"] = 0.5, 0.7
    report = {
        "seeds": {str(i): {"chance": 0.25, "ways": {"xdc": way}} for i, way in enumerate(ways)}
    }
    for seed in report["seeds"].values():
        seed["ways"]["motion"] = {"video": 0.5}
    head, chance, xdc, motion = table(report)
    assert head[1] == "NMI, video clusters"
    assert chance == ["chance", "0", "0", "25.0", "25.0", "25.0", "25.0"]
    assert xdc == [
        "XDC",
        "0.60 (0.50-0.70)",
        "0.40 (0.40-0.40)",
        "40.0 (30.0-50.0)",
        "20.0 (20.0-20.0)",
        "95.0 (90.0-100.0)",
        "70.0 (60.0-80.0)",
    ]
    assert motion == ["motion", "", "", "", "", "50.0 (50.0-50.0)", ""]
