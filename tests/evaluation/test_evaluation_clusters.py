"""Clusters against classes for models and sets of one modality, with K as the run has it, as papers
have it, or any.
"""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import pytest
import torch

import seehear
from benchmark_folders import written
from seehear.config import Clip
from seehear.data.index import Index
from seehear.errors import SettingsError
from seehear.evaluation.table import compare
from seehear.machine.console import Console
from seehear.machine.devices import Numerics
from seehear.method.encoders import Pair
from seehear.method.encoders.wrapping import wrap
from seehear.models.model import Model

CLIP = Clip(frames=4, frame_rate_hz=8.0, short_side_pixels=36, crop_pixels=32, sound_seconds=0.5)
QUIET = Console(quiet=True)


def model_of(*modalities: str) -> Model:
    """Encoders without learning: mean colours over a grid, mean log-mel bands."""
    colours = torch.nn.Sequential(torch.nn.AdaptiveAvgPool3d((2, 2, 2)), torch.nn.Flatten())
    bands = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d((8, 4)), torch.nn.Flatten())
    video = wrap(colours, feature_dim=24, rgb_mean=(0.5, 0.5, 0.5), rgb_std=(0.2, 0.2, 0.2))
    audio = wrap(bands, takes="spectrogram", feature_dim=32)
    pair = Pair(video if "video" in modalities else None, audio if "audio" in modalities else None)
    return Model(
        pair.eval(), CLIP, Numerics("cpu", "fp32", "contiguous"), {"name": "-".join(modalities)}
    )


@pytest.mark.parametrize(
    ("layout", "modalities", "spaces"),
    [
        ("ucf101", ("video",), ["video"]),
        ("ucf101", ("video", "audio"), ["video"]),
        ("hmdb51", ("video", "audio"), ["video"]),
        ("esc50", ("audio",), ["audio"]),
        ("esc50", ("video", "audio"), ["audio"]),
        ("dcase2014", ("video", "audio"), ["audio"]),
        ("vggsound", ("video",), ["video"]),
        ("vggsound", ("audio",), ["audio"]),
        ("vggsound", ("video", "audio"), ["video", "audio", "joint"]),
    ],
)
def test_clusters_of_every_kind_of_model_on_every_kind_of_set(tmp_path, layout, modalities, spaces):
    data = written(tmp_path / "set", layout)
    given = {
        "data": data,
        "dataset": layout,
        "results": tmp_path / "r",
        "console": QUIET,
        "task": "clusters",
    }
    result = seehear.evaluate(model_of(*modalities), num_clusters=2, **given)
    assert list(result["values"]) == spaces
    for values in result["values"].values():
        assert values["num_clusters"] == 2
        assert 0 <= values["nmi"] <= 1
        assert values["sizes"]["largest"] < result["n"]
    assert "K = 2" in result["protocol"]
    assert "arithmetic mean" in result["protocol"]


def test_k_is_the_number_of_classes_or_what_is_asked_for_and_the_result_says_which(
    index_folder, videos, tmp_path
):
    given = {
        "data": index_folder,
        "classes": videos / "classes.csv",
        "results": tmp_path,
        "console": QUIET,
    }
    given |= {"task": "clusters", "modality": "audio"}
    for wanted, k, said in (
        (None, 4, "the number of classes"),
        ("classes", 4, "the number of classes"),
        ("3", 3, "as"),
    ):
        result = seehear.evaluate(model_of("audio"), num_clusters=wanted, **given)
        assert result["values"]["audio"]["num_clusters"] == k
        assert result["num_clusters_is"].startswith(said)
        assert result["nmi_normalisation"].startswith("arithmetic mean")
    given["results"].joinpath("clusters-index.json").rename(tmp_path / "three.json")
    seehear.evaluate(model_of("audio"), num_clusters=4, **given)
    lines = compare([tmp_path]).splitlines()
    assert [any(f"audio NMI, K = {k}" in line for line in lines) for k in (3, 4, 5)] == [
        True,
        True,
        False,
    ]
    for wanted, said in (
        ("run", "this model has no run"),
        ("many", "classes, run, or a whole number"),
    ):
        with pytest.raises(SettingsError, match=said):
            seehear.evaluate(model_of("audio"), num_clusters=wanted, **given)


@pytest.mark.thorough
def test_of_several_numbers_of_clusters_like_is_compared_with_like(index_folder, videos, tmp_path):
    two = {"rounds": 1, "cluster.num_clusters": "2,3"}
    out = tmp_path / "run"
    run = seehear.pretrain(index_folder, out, preset="debug", settings=two, console=QUIET).path
    given = {"data": index_folder, "classes": videos / "classes.csv", "console": QUIET}
    result = seehear.evaluate(run, task="clusters", **given)
    spaces = ("video", "audio", "joint")
    assert set(result["values"]) == {f"{space}_{k}" for space in spaces for k in (2, 3)}
    assert set(result["between"]) == {
        f"{one}_{k} and {other}_{k}" for one, other in combinations(spaces, 2) for k in (2, 3)
    }


def without_split(videos: Path, to: Path) -> Path:
    """The classes of the videos, all for training."""
    lines = (videos / "classes.csv").read_text().splitlines()
    path = to / "all.csv"
    path.write_text(
        "path,class,split\n"
        + "".join(f"{videos / p},{c},train\n" for p, c, *_ in map(split, lines[1:]))
    )
    return path


def split(line: str) -> list[str]:
    return line.split(",")


def test_clusters_and_features_need_no_test_items_and_probes_do(index_folder, videos, tmp_path):
    given = {
        "data": index_folder,
        "classes": without_split(videos, tmp_path),
        "results": tmp_path,
        "console": QUIET,
    }
    given["modality"] = "audio"
    result = seehear.evaluate(model_of("audio"), task="clusters", **given)
    assert result["n"] == len(Index.open(index_folder))
    assert (result["num_splits"], result["chance"]) == (0, None)
    written = seehear.evaluate(model_of("audio"), task="features", out=tmp_path / "out", **given)
    assert written["values"]["rows"] == result["n"]
    with pytest.raises(SettingsError, match=r"The test videos .* have fewer than two classes"):
        seehear.evaluate(model_of("audio"), task="probe", **given)


@pytest.mark.thorough
def test_a_runs_own_clusters_are_measured_on_its_training_index_and_may_be_made_anew(
    finished_run, index_folder, videos, tmp_path
):
    given = {
        "data": index_folder,
        "classes": without_split(videos, tmp_path),
        "results": tmp_path,
        "console": QUIET,
    }
    own = seehear.evaluate(finished_run, task="clusters", **given)
    assert "the run's final clusters" in own["protocol"]
    assert own["num_clusters_is"] == "the run's"
    anew = seehear.evaluate(finished_run, task="clusters", num_clusters="classes", **given)
    assert anew["num_clusters_is"] == "the number of classes"
    assert {v["num_clusters"] for v in anew["values"].values()} == {4}
