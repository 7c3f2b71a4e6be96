"""How well can a linear classifier tell classes from features, and how sure is that number?

Logistic regression or a linear SVM on standardised features. The strength of the regularisation is chosen on a part of
the training items; the test items are only scored. Shapes: features (n, D), scores (n, C).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

Kind = Literal["logistic", "svm"]

STRENGTHS: dict[str, tuple[float, ...]] = {"logistic": (0.01, 0.1, 1.0), "svm": (1e-4, 1e-3, 1e-2, 1e-1)}
"""Inverse regularisation C that is tried."""

VALIDATION_SHARE = 0.2
REPLICATES = 1000
MAP_ITEMS = 5000  # beyond which mean average precision gets no interval: each replicate sorts all scores again


def scores_of_linear(
    train_nD: np.ndarray,
    train_n: np.ndarray,
    test_mD: np.ndarray,
    *,
    num_classes: int,
    kind: Kind = "logistic",
    validation: tuple[np.ndarray, np.ndarray] | None = None,
) -> tuple[np.ndarray, float]:
    """Train a linear classifier and score other items.

    Args:
        train_nD, train_n: features and classes, (n,) int64 or, where items have several, (n, C) bool.
        test_mD: features to score.
        num_classes: C; a class that is not in training scores minus infinity.
        kind: "logistic" or "svm" (squared hinge, one against the rest).
        validation: features and classes on which the regularisation is chosen; by default a fifth of the training
            items, by class. Afterwards all training items are fitted.
    Returns:
        Scores (m, C), larger for likelier, and the C that was taken.
    """
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):  # these matrices are too small for threads to pay
        strengths = STRENGTHS[kind]
        (fit_x, fit_y), held = ((train_nD, train_n), validation) if validation else divided(train_nD, train_n)
        best = strengths[0]
        if held is not None:
            best = max(strengths, key=lambda c: quality(scored(kind, c, fit_x, fit_y, held[0], num_classes), held[1]))
        return scored(kind, best, train_nD, train_n, test_mD, num_classes), best


def scored(
    kind: Kind, strength: float, train_nD: np.ndarray, train_n: np.ndarray, test_mD: np.ndarray, num_classes: int
) -> np.ndarray:
    """Scores (m, C) of a classifier of one strength."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.multiclass import OneVsRestClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import LinearSVC

    several = train_n.ndim == 2
    known = np.flatnonzero(train_n.any(axis=0)) if several else np.unique(train_n)
    if kind == "svm":
        classifier: Any = LinearSVC(C=strength, max_iter=5000, tol=1e-3, random_state=0)
    else:
        classifier = LogisticRegression(C=strength, max_iter=2000, tol=1e-3)
    model = make_pipeline(StandardScaler(), OneVsRestClassifier(classifier) if several else classifier)
    model.fit(train_nD, train_n[:, known].astype(int) if several else train_n)
    found = model.decision_function(test_mD)
    if found.ndim == 1:  # two classes have one number
        found = np.stack([-found, found], axis=1)
    scores_mC = np.full((len(test_mD), num_classes), -np.inf)
    scores_mC[:, known] = found
    return scores_mC


def divided(features_nD: np.ndarray, classes_n: np.ndarray) -> tuple[Any, Any]:
    """Training items without a fifth, and that fifth, by class; None for it where there are too few."""
    from sklearn.model_selection import train_test_split

    if classes_n.ndim == 2:
        many, groups = np.ones(len(classes_n), dtype=bool), None
    else:
        many = np.bincount(classes_n)[classes_n] > 1  # a class of one item cannot be divided
        groups = classes_n[many]
    least = 2 if groups is None else len(np.unique(groups))
    if not many.any() or len(features_nD) * VALIDATION_SHARE < least or many.sum() * VALIDATION_SHARE < least:
        return (features_nD, classes_n), None
    fit_x, held_x, fit_y, held_y = train_test_split(
        features_nD[many], classes_n[many], test_size=VALIDATION_SHARE, random_state=0, stratify=groups
    )
    return (fit_x, fit_y), (held_x, held_y)


def quality(scores_mC: np.ndarray, classes_m: np.ndarray) -> float:
    """What is maximised: accuracy, or mean average precision where items have several classes."""
    if classes_m.ndim == 2:
        return float(np.mean(average_precisions(scores_mC, classes_m)))
    return float(in_top(scores_mC, classes_m, 1).mean())


def in_top(scores_mC: np.ndarray, classes_m: np.ndarray, k: int) -> np.ndarray:
    """Whether the true class is among the k best, (m,) bool; a tie counts against it."""
    own_m = np.take_along_axis(scores_mC, classes_m[:, None], axis=1)
    as_good_m = (scores_mC >= own_m).sum(axis=1)
    right_m: np.ndarray = (as_good_m <= k) & np.isfinite(own_m[:, 0])
    return right_m


def average_precisions(scores_mC: np.ndarray, classes_mC: np.ndarray) -> np.ndarray:
    """The average precision, in [0, 1], of each class that any item has; chance is the class's share."""
    from sklearn.metrics import average_precision_score

    present = classes_mC.any(axis=0)
    finite = np.nan_to_num(scores_mC[:, present], neginf=-1e30)
    return np.asarray(average_precision_score(classes_mC[:, present].astype(int), finite, average=None)).reshape(-1)


def interval(parts: Sequence[tuple[np.ndarray, np.ndarray]], *, seed: int = 0) -> tuple[float, float]:
    """A 95 % interval for the mean over splits of the mean over items, by bootstrap over items.

    Args:
        parts: for each split the numbers of its test items and a value for each, such as whether it was right.
        seed: draws the replicates; an item that is in several splits is drawn with all of them.
    """
    items = np.unique(np.concatenate([numbers for numbers, _ in parts]))
    places = [np.searchsorted(items, numbers) for numbers, _ in parts]
    generator = np.random.default_rng((seed, 0xB007))
    means = []
    for _ in range(REPLICATES):
        weights = np.bincount(generator.integers(len(items), size=len(items)), minlength=len(items))
        drawn = [
            np.average(values, weights=weights[place])
            for (_, values), place in zip(parts, places, strict=True)
            if weights[place].any()
        ]
        means.append(np.mean(drawn))
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def map_interval(scores_mC: np.ndarray, classes_mC: np.ndarray, *, seed: int = 0) -> tuple[float, float] | None:
    """The same for mean average precision on one split, with a fifth of the replicates; None above 5,000 items."""
    if len(scores_mC) > MAP_ITEMS:
        return None
    generator = np.random.default_rng((seed, 0xB007))
    means = []
    for _ in range(REPLICATES // 5):
        drawn = generator.integers(len(scores_mC), size=len(scores_mC))
        means.append(np.mean(average_precisions(scores_mC[drawn], classes_mC[drawn])))
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def few_of_each(classes_n: np.ndarray, count: int, generator: np.random.Generator) -> np.ndarray:
    """Positions of `count` items of each class, or of all where it has fewer, ascending."""
    chosen = [generator.permutation(np.flatnonzero(classes_n == c))[:count] for c in np.unique(classes_n)]
    return np.sort(np.concatenate(chosen))
