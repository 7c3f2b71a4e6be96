from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import make_blobs
from sklearn.metrics import normalized_mutual_info_score

import seehear
from planted import clips_in_memory
from seehear.config import Clip, Data
from seehear.data.index import Index
from seehear.data.segments import Segment
from seehear.errors import SettingsError
from seehear.evaluation.baselines import (
    baseline_features,
    colour_statistics,
    motion_statistics,
    sound_statistics,
)
from seehear.evaluation.classes import read_classes
from seehear.evaluation.classifiers import in_top, scores_of_linear
from seehear.evaluation.clusters import agreement
from seehear.evaluation.sets import of_index


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("file,class\na.mp4,x\n", "no column 'path'"),
        ("path,class\na.mp4,x\nb.mp4,\n", "line 3: every line must have"),
        ("path,class\na.mp4,x,train\n", "line 2"),
        ("path,class\na.mp4,x\na.mp4,y\n", "line 3.*already has the class 'x'"),
        ("path,class,split\na.mp4,x,train\nb.mp4,y,tset\n", "line 3: split is 'tset'"),
        ("path,class\na.mp4,x\nb.mp4,x\n", "1 class"),
        ("", "no column 'path'"),
    ],
)
def test_a_malformed_list_names_file_and_line(tmp_path, text, says):
    path = write(tmp_path / "c.csv", text)
    with pytest.raises(SettingsError, match=says) as caught:
        read_classes(path)
    assert "c.csv" in str(caught.value)


def test_classes_match_files_through_links_and_dots(tmp_path, videos, index_folder):
    (tmp_path / "link").symlink_to(videos)
    lines = (videos / "classes.csv").read_text().splitlines()
    moved = [lines[0], *(f"./link/./{line}" for line in lines[1:])]
    classes = read_classes(write(tmp_path / "c.csv", "\n".join(moved)))
    assert (classes.of_rows(Index.open(index_folder)) >= 0).all()


def test_without_a_split_column_videos_are_drawn_by_class_from_the_seed(
    tmp_path, videos, index_folder
):
    lines = [
        ",".join(line.split(",")[:2]) for line in (videos / "classes.csv").read_text().splitlines()
    ]
    classes = read_classes(write(videos / "nosplit.csv", "\n".join(lines)))
    (videos / "nosplit.csv").unlink()
    index = Index.open(index_folder)
    one, again, other = (of_index(index, classes, seed) for seed in (0, 0, 1))
    tests = [found.splits[0].test for found in (one, again, other)]
    assert np.array_equal(tests[0], tests[1])
    assert not np.array_equal(tests[0], tests[2])
    # a quarter of ten, rounded to even
    assert np.bincount(one.target_V[tests[0]]).tolist() == [
        2,
        2,
        2,
        2,
    ]


def test_videos_without_classes_or_with_one_class_are_errors(tmp_path, index_folder, videos):
    index = Index.open(index_folder)
    stranger = read_classes(write(tmp_path / "c.csv", "path,class\nx.mp4,a\ny.mp4,b\n"))
    with pytest.raises(SettingsError, match=r"No video of .* is in .*relative to its own folder"):
        of_index(index, stranger, 0)
    lines = (videos / "classes.csv").read_text().splitlines()
    all_train = [lines[0], *(f"{videos}/{line.rsplit(',', 1)[0]},train" for line in lines[1:])]
    with pytest.raises(SettingsError, match=r"test videos .* fewer than two classes"):
        of_index(index, read_classes(write(tmp_path / "d.csv", "\n".join(all_train))), 0)


def test_a_task_that_is_not_there_names_those_that_are(tmp_path):
    with pytest.raises(SettingsError, match=r"no task prob\. Did you mean probe"):
        seehear.evaluate(tmp_path, task="prob", data=tmp_path, classes=tmp_path)


def linear_accuracy(train_x, train_y, test_x, test_y, kind="logistic"):
    scores, _ = scores_of_linear(
        train_x, train_y, test_x, num_classes=int(train_y.max()) + 1, kind=kind
    )
    return in_top(scores, test_y, 1).mean()


@pytest.mark.parametrize("kind", ["logistic", "svm"])
def test_the_linear_probe_separates_blobs_and_finds_nothing_in_noise(kind):
    x, y = make_blobs(300, centers=4, n_features=10, cluster_std=1.0, random_state=0)
    assert linear_accuracy(x[:200], y[:200], x[200:], y[200:], kind) > 0.97
    noise = np.random.default_rng(0).normal(size=x.shape)
    assert linear_accuracy(noise[:200], y[:200], noise[200:], y[200:], kind) < 0.45


def test_test_labels_do_not_influence_the_choice_of_regularisation():
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=(60, 20)), np.arange(60) % 3
    tests = generator.permutation(y[40:])
    right = linear_accuracy(x[:40], y[:40], x[40:], tests)
    wrong = linear_accuracy(x[:40], y[:40], x[40:], (tests + 1) % 3)
    also_wrong = linear_accuracy(x[:40], y[:40], x[40:], (tests + 2) % 3)
    assert right + wrong + also_wrong == pytest.approx(1.0)  # the same predictions each time


def test_agreement_is_scikit_learns_and_ignores_rows_without_label_or_class():
    generator = np.random.default_rng(0)
    labels, classes = generator.integers(0, 6, 200), generator.integers(0, 3, 200)
    labels[:100] = classes[:100]
    found = agreement(np.append(labels, [-1, 2]), np.append(classes, [1, -1]))
    assert found["nmi"] == pytest.approx(normalized_mutual_info_score(classes, labels))
    majority = sum(np.bincount(classes[labels == k]).max() for k in np.unique(labels))
    assert found["purity"] == pytest.approx(majority / 200)


def test_plain_statistics_are_what_they_say():
    frames = np.zeros((4, 36, 36, 3), np.uint8)
    frames[..., 0] = 255
    frames[2:, ..., 1] = 128
    found = colour_statistics(frames)
    assert found[:8].tolist() == [0, 0, 0, 0, 0, 0, 0, 1]
    assert found[8:16].tolist() == [0.5, 0, 0, 0, 0.5, 0, 0, 0]
    assert found[24:].tolist() == pytest.approx([0, 64 / 255, 0])
    clip = Clip(
        frames=4, frame_rate_hz=4.0, short_side_pixels=36, crop_pixels=32, sound_seconds=1.0
    )
    clips = clips_in_memory([Segment(frames, np.zeros(16000, np.float32))] * 3, clip, Data(), 0)
    rows, features = baseline_features(clips)
    assert rows.tolist() == [0, 1, 2]
    assert {name: x.shape for name, x in features.items()} == {
        "colour": (3, 27),
        "motion": (3, 512),
        "log-mel": (3, 400),
    }


@pytest.mark.parametrize("frames", [1, 2, 3])
def test_clips_too_short_to_move_have_finite_motion(frames):
    noise = np.random.default_rng(0).integers(0, 256, (frames, 9, 17, 3), dtype=np.uint8)
    assert np.isfinite(motion_statistics(noise)).all()


def test_the_way_a_square_moves_is_told_by_motion_and_not_by_colour():
    generator = np.random.default_rng(0)
    ways = generator.integers(0, 4, 200)
    squares = []
    for right, down in np.array([(1, 0), (-1, 0), (0, 1), (0, -1)])[ways]:
        x, y = generator.integers(12, 20, 2)
        frames = np.full((6, 40, 40, 3), generator.integers(0, 256, 3), np.uint8)
        colour = generator.integers(0, 256, 3)
        for t in range(6):
            top, left = y + 2 * t * down, x + 2 * t * right
            frames[t, top : top + 8, left : left + 8] = colour
        squares.append(frames)
    motion, colour = (
        linear_accuracy(x[:150], ways[:150], x[150:], ways[150:])
        for x in (np.stack([f(s) for s in squares]) for f in (motion_statistics, colour_statistics))
    )
    assert motion > 0.9
    assert colour < 0.5


def test_a_sound_that_breaks_out_and_one_that_breaks_off_differ_in_steps_alone():
    generator = np.random.default_rng(0)
    backward = generator.integers(0, 2, 120)
    out_S = np.tile(np.exp(-np.arange(40) / 15), 3)
    images = generator.normal(0, 0.1, (120, 10, 120))
    images += np.stack([np.roll(out_S, generator.integers(40)) for _ in backward])[:, None]
    images[backward == 1] = images[backward == 1, :, ::-1]
    found = np.stack([sound_statistics(image) for image in images])
    levels, steps = (
        linear_accuracy(x[:80], backward[:80], x[80:], backward[80:])
        for x in np.split(found, 2, axis=1)
    )
    assert levels < 0.75
    assert steps > 0.9
