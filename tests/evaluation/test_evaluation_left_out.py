"""What is said of items that cannot be measured, and that they never make a result look better."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pytest
from test_evaluation_clusters import QUIET, model_of
from test_evaluation_tasks import labelled

import seehear
from media_files import silence, write_media
from seehear.cli.evaluating import show
from seehear.errors import SeehearError
from seehear.evaluation.datasets import Split
from seehear.evaluation.finetuning.testing import ItemScores, values_of, with_unread
from seehear.evaluation.linear import LinearFit, noted
from seehear.evaluation.probe import few_shot_all, measured
from seehear.evaluation.retrieval import recall_over_splits


def planted(seed: int = 0):
    """60 items of 3 classes that can be told apart, a set of 36 to train on and 24 to test on."""
    class_V = np.arange(60) % 3
    x = np.random.default_rng(seed).normal(size=(60, 8)) * 0.3 + 3 * np.eye(3, 8)[class_V]
    return labelled(class_V, np.arange(36), np.arange(36, 60)), x


def test_test_items_that_cannot_be_read_count_as_wrong_in_a_probe():
    data, x = planted()
    there = np.ones(60, bool)
    assert measured(data, x, there, "logistic", 0)["top1"] == 1
    there[[40, 50, 55]] = False
    assert measured(data, x, there, "logistic", 0)["top1"] == pytest.approx(21 / 24)
    few = few_shot_all(data, {"video": x}, there, "logistic", [5], 0)["video"]["5"]
    assert few["most"] <= 21 / 24
    several = replace(data, target_V=np.eye(8, dtype=bool)[data.target_V])
    assert measured(several, x, there, "logistic", 0)["map"] < 1


def test_queries_that_cannot_be_read_find_nothing():
    data, x = planted()
    there = np.ones(60, bool)
    there[[40, 50, 55]] = False
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    found = recall_over_splits(data, there, unit, unit, 0)
    assert found["recall"]["1"] == found["recall"]["50"] == pytest.approx(21 / 24)
    assert found["n_queries"] == 24


def test_items_without_a_clip_count_as_wrong_after_a_fine_tune():
    scores = np.eye(7)[[0, 1, 2]] * 0.9
    found = with_unread(
        ItemScores(np.array([4, 6, 9]), {"video": scores}, 3, {"video": {1: 1.0, 5: 1.0}}),
        np.arange(10),
    )
    class_V = np.zeros(10, dtype=np.int64)
    class_V[[4, 6, 9]] = 0, 1, 2
    values = values_of(found, class_V)["video"]
    assert (values["top1"], values["top5"]) == (pytest.approx(0.3), pytest.approx(0.3))


def test_the_result_says_which_items_are_not_in_the_index_and_why(tmp_path, capsys):
    folder = tmp_path / "v"
    folder.mkdir()
    rows = []
    for number in range(8):
        rows.append((f"{number}.mp4", "ab"[number % 2]))
        write_media(folder / rows[-1][0], seconds=0.6, size=(48, 48))
    write_media(folder / "mute.mp4", seconds=0.6, waveform=silence)
    write_media(folder / "quiet.mp4", seconds=0.6, waveform=silence)
    (folder / "text.mp4").write_text("no video at all" * 99)
    seehear.index(folder, tmp_path / "index", workers=1, progress=False)
    write_media(folder / "later.mp4", seconds=0.6)
    rows += [(f"{name}.mp4", "a") for name in ("mute", "quiet", "text", "later", "gone", "never")]
    classes = folder / "classes.csv"
    classes.write_text("path,class\n" + "".join(f"{path},{label}\n" for path, label in rows))
    result = seehear.evaluate(
        model_of("audio"),
        data=tmp_path / "index",
        classes=classes,
        modality="audio",
        results=tmp_path,
        console=QUIET,
    )
    assert result["data"]["left_out"] == {
        "no file": 2,
        "silent audio": 2,
        "not a media file": 1,
        "not indexed": 1,
    }
    assert result["data"]["left_out_items"][str(folder / "mute.mp4")] == "silent audio"
    show(result)
    said = capsys.readouterr().out
    assert (
        "6 of 14 items are not in the index: 2 no file, 2 silent audio, 1 not a media file, 1 not "
        "indexed" in said
    )


def test_a_segment_has_its_own_reason_and_not_that_of_another_of_its_file(tmp_path):
    folder = tmp_path / "v"
    folder.mkdir()
    write_media(folder / "a.mp4", seconds=2.0, size=(48, 48))
    segments = ["0,0.5,x", "0.5,1,y", "1,1.5,x", "1.5,2,y"]
    beyond, unlisted = "7,8,x", "0.25,0.75,y"
    for name, lines in (("cut", [*segments, beyond]), ("asked", [*segments, beyond, unlisted])):
        text = "".join(f"a.mp4,{line}\n" for line in lines)
        (folder / f"{name}.csv").write_text(f"path,start_s,end_s,class\n{text}")
    listed = folder / "cut.csv"
    seehear.index(folder, tmp_path / "index", segments=listed, workers=1, progress=False)
    result = seehear.evaluate(
        model_of("audio"),
        task="clusters",
        data=tmp_path / "index",
        classes=folder / "asked.csv",
        modality="audio",
        results=tmp_path,
        console=QUIET,
    )
    assert result["data"]["left_out_items"] == {
        f"{folder / 'a.mp4'}#t=7.0,8.0": "unusable segment",
        f"{folder / 'a.mp4'}#t=0.25,0.75": "not indexed",
    }


def test_items_of_a_benchmark_that_cannot_be_read_are_in_the_denominator_and_named(
    tmp_path, capsys
):
    for part, count in (("train", 3), ("test", 3)):
        for label in "ab":
            (tmp_path / "set" / part / label).mkdir(parents=True)
            for number in range(count):
                sound = {"video_codec": None, "audio_codec": "pcm_s16le", "container_format": "wav"}
                write_media(tmp_path / "set" / part / label / f"{number}.wav", seconds=0.6, **sound)
    (tmp_path / "set" / "test" / "a" / "broken.wav").write_bytes(b"nothing")
    result = seehear.evaluate(
        model_of("audio"), data=tmp_path / "set", results=tmp_path / "r", console=QUIET
    )
    assert (result["n_test"], result["num_unread_test"]) == (7, 1)
    assert result["values"]["audio"]["top1"] * 7 == pytest.approx(
        round(result["values"]["audio"]["top1"] * 7)
    )
    assert result["values"]["audio"]["top1"] <= 6 / 7
    show(result)
    said = capsys.readouterr().out
    assert "1 of 13 items cannot be measured: 1 not a media file" in said
    assert "1 test items that could not be read count as wrong" in said


def test_fits_that_stop_early_are_a_line_of_the_result_and_scikit_learn_warns_of_nothing(
    recwarn, monkeypatch
):
    from sklearn.linear_model import LogisticRegression

    x = np.random.default_rng(0).normal(size=(40, 30))
    with noted() as notes:
        LinearFit(x, np.arange(40) % 2, "logistic").fit(1.0)
        LogisticRegression().fit(x, np.arange(40))  # a class an item, of which scikit-learn warns
    assert notes == []
    monkeypatch.setattr("seehear.evaluation.linear.MOST_STEPS", 2)
    with noted() as notes:
        LinearFit(x, np.arange(40) % 2, "logistic").fit(1.0)
        LinearFit(x, np.arange(40) % 3, "logistic").fit(1.0)
    assert len(notes) == 1
    assert notes[0].startswith("2 fits of linear classifiers")
    assert not recwarn.list


def test_warnings_of_others_are_shown_as_ever_and_errors_pass():
    with pytest.warns(UserWarning, match="mine"), noted() as notes:
        warnings.warn("mine", UserWarning, stacklevel=1)
    assert notes == []
    with pytest.raises(SeehearError), noted():
        raise SeehearError("out")


def test_one_shot_probing_of_many_classes_warns_of_nothing():
    class_V = np.concatenate([np.arange(8), np.arange(8)])
    data = labelled(class_V, np.arange(8), np.arange(8, 16))
    data = replace(
        data, splits=(Split("one", np.arange(8), np.arange(8, 16), np.empty(0, np.int64)),)
    )
    x = np.random.default_rng(0).normal(size=(16, 6)) + 4 * np.eye(8, 6)[class_V]
    with warnings.catch_warnings(record=True) as caught, noted():
        few_shot_all(data, {"audio": x}, np.ones(16, bool), "svm", [1], 0)
    assert not caught
