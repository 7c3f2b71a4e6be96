from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import make_blobs, make_classification, make_multilabel_classification
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, top_k_accuracy_score
from sklearn.multiclass import OneVsRestClassifier
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from seehear.evaluation.classifiers import (
    STRENGTHS,
    average_precisions,
    few_of_each,
    in_top,
    interval,
    map_interval,
    scores_of_linear,
)
from seehear.evaluation.linear import LinearFit


def of_scikit_learn(kind, strength, x, y):
    """Weights (E, K) of scikit-learn's classifier at a tight tolerance."""
    if kind == "svm":
        one = LinearSVC(C=strength, max_iter=200_000, tol=1e-8, dual=False)
    else:
        one = LogisticRegression(C=strength, max_iter=20_000, tol=1e-8)
    found = (OneVsRestClassifier(one) if y.ndim == 2 else one).fit(x, y)
    parts = found.estimators_ if y.ndim == 2 else [found]
    return np.concatenate([np.c_[part.coef_, part.intercept_] for part in parts]).T


def objective_of(kind, strength, x, y, weights_EK):
    """As scikit-learn's documentation has it, written down once more."""
    scores = np.c_[x, np.ones(len(x))] @ weights_EK.astype(np.float64)
    one_hot = y if y.ndim == 2 else y[:, None] == np.unique(y)
    signs = 2.0 * (one_hot[:, 1:] if y.ndim == 1 and one_hot.shape[1] == 2 else one_hot) - 1
    penalised = weights_EK if kind == "svm" else weights_EK[:-1]
    if kind == "svm":
        losses = np.maximum(0, 1 - signs * scores) ** 2
    elif y.ndim == 1 and one_hot.shape[1] > 2:
        losses = np.log(np.exp(scores).sum(axis=1)) - scores[one_hot]
    else:
        losses = np.log1p(np.exp(-signs * scores))
    return (penalised.astype(np.float64) ** 2).sum() / 2 + strength * losses.sum()


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("num_classes", [2, 5])
@pytest.mark.parametrize("kind", ["logistic", "svm"])
def test_the_objective_that_is_reached_is_scikit_learns(kind, num_classes, several):
    if several:
        x, y = make_multilabel_classification(
            150, n_features=25, n_classes=num_classes, random_state=0
        )
        y = y.astype(bool)
    else:
        x, y = make_classification(
            150,
            25,
            n_informative=8,
            n_redundant=10,
            n_classes=num_classes,
            class_sep=0.7,
            random_state=0,
        )
    # any scale, and a feature that never changes
    x = np.c_[x * np.logspace(-3, 3, 25), np.full(150, 7.0)]
    standard = StandardScaler().fit_transform(x)
    fit = LinearFit(x, y, kind)
    for strength in STRENGTHS[kind]:
        theirs = of_scikit_learn(kind, strength, standard, y)
        mine = fit.fit(strength)
        assert mine.shape == theirs.shape
        best, reached = (
            objective_of(kind, strength, standard, y, w) for w in (theirs, mine.numpy())
        )
        assert best * (1 - 1e-6) < reached < best * (1 + 1e-3)
        scores = fit.scores(mine, x, num_classes)
        expected = np.c_[standard, np.ones(150)] @ theirs
        assert np.corrcoef(scores[:, -expected.shape[1] :].ravel(), expected.ravel())[0, 1] > 0.9999


def test_features_that_repeat_each_other_and_more_features_than_items_are_fitted():
    generator = np.random.default_rng(0)
    few = generator.normal(size=(40, 5))
    x, y = few @ generator.normal(size=(5, 200)), np.arange(40) % 4
    weights = LinearFit(x, y, "svm").fit(0.1)
    standard = StandardScaler().fit_transform(x)
    best = objective_of("svm", 0.1, standard, y, of_scikit_learn("svm", 0.1, standard, y))
    assert objective_of("svm", 0.1, standard, y, weights.numpy()) < best * 1.001


def test_items_in_several_parts_are_all_fitted(monkeypatch):
    x, y = make_blobs(90, centers=3, n_features=6, cluster_std=4.0, random_state=1)
    whole = LinearFit(x, y, "logistic").fit(0.1)
    monkeypatch.setattr("seehear.evaluation.linear.PART_ROWS", 7)
    assert LinearFit(x, y, "logistic").fit(0.1).numpy() == pytest.approx(whole.numpy(), abs=1e-4)


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
        for c in STRENGTHS["logistic"]
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
    # the same items three times are no more evidence than once
    assert once == pytest.approx(thrice)


def test_few_of_each_takes_so_many_of_every_class():
    classes = np.repeat(np.arange(4), [10, 3, 7, 1])
    found = few_of_each(classes, 3, np.random.default_rng(0))
    assert np.bincount(classes[found]).tolist() == [3, 3, 3, 1]
    assert (np.diff(found) > 0).all()
