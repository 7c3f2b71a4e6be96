from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import make_blobs, make_multilabel_classification
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, top_k_accuracy_score
from sklearn.preprocessing import StandardScaler

from seehear.evaluation.classifiers import (
    average_precisions,
    few_of_each,
    in_top,
    interval,
    map_interval,
    scores_of_linear,
)


def test_ranks_are_scikit_learns_where_there_are_no_ties_and_ties_count_against():
    generator = np.random.default_rng(0)
    scores, classes = generator.normal(size=(300, 9)), generator.integers(0, 9, 300)
    for k in (1, 3, 5):
        expected = top_k_accuracy_score(classes, scores, k=k, labels=np.arange(9))
        assert in_top(scores, classes, k).mean() == pytest.approx(expected)
    assert not in_top(np.zeros((4, 3)), np.array([0, 1, 2, 0]), 1).any()
    assert not in_top(np.full((2, 3), -np.inf), np.array([0, 2]), 3).any()


def test_a_class_that_is_not_in_training_is_never_right_and_leaves_the_others_alone():
    x, y = make_blobs(120, centers=4, n_features=6, cluster_std=0.5, random_state=1)
    known = y != 2
    scores, _ = scores_of_linear(x[known], y[known], x, num_classes=4)
    assert np.isneginf(scores[:, 2]).all()
    assert not in_top(scores, y, 1)[y == 2].any()
    assert in_top(scores, y, 1)[known].all()


def test_the_official_validation_part_chooses_the_strength():
    generator = np.random.default_rng(3)
    x, y = generator.normal(size=(60, 40)), generator.integers(0, 2, 60)
    held = generator.normal(size=(40, 40)), generator.integers(0, 2, 40)
    _, taken = scores_of_linear(x, y, x, num_classes=2, validation=held)
    scaler = StandardScaler().fit(x)
    found = {
        c: LogisticRegression(C=c, max_iter=2000, tol=1e-3)
        .fit(scaler.transform(x), y)
        .score(scaler.transform(held[0]), held[1])
        for c in (0.01, 0.1, 1.0)
    }
    assert found[taken] == max(found.values())


@pytest.mark.parametrize("kind", ["logistic", "svm"])
def test_items_of_several_classes_are_ranked_class_by_class(kind):
    x, y = make_multilabel_classification(300, n_features=20, n_classes=5, random_state=0)
    scores, _ = scores_of_linear(x[:200], y[:200].astype(bool), x[200:], num_classes=5, kind=kind)
    mine = average_precisions(scores, y[200:].astype(bool))
    assert mine == pytest.approx(average_precision_score(y[200:], scores, average=None))
    assert mine.mean() > y[200:].mean(axis=0).mean() + 0.15
    low, high = map_interval(scores, y[200:].astype(bool))
    assert low < mine.mean() < high


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    generator = np.random.default_rng(0)
    covered = 0
    for trial in range(30):
        right = generator.random(150) < 0.7
        low, high = interval([(np.arange(150), right.astype(float))], seed=trial)
        covered += low <= 0.7 <= high
    assert 25 <= covered <= 30  # 28.5 expected


def test_the_interval_of_several_splits_draws_an_item_with_all_of_them():
    right = np.r_[np.ones(50), np.zeros(50)]
    once = interval([(np.arange(100), right)], seed=1)
    thrice = interval([(np.arange(100), right)] * 3, seed=1)
    assert once == pytest.approx(thrice)  # the same items three times are no more evidence than once


def test_few_of_each_takes_so_many_of_every_class():
    classes = np.repeat(np.arange(4), [10, 3, 7, 1])
    found = few_of_each(classes, 3, np.random.default_rng(0))
    assert np.bincount(classes[found]).tolist() == [3, 3, 3, 1]
    assert (np.diff(found) > 0).all()
