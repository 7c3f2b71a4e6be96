"""How well can a linear classifier tell classes from features, and how sure is that number?

Logistic regression or a linear SVM on standardised features (`linear`). The strength of the
regularisation is chosen on a part of the training items; the test items are only scored. Shapes:
features (n, D), scores (n, C).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from seehear.evaluation.linear import Kind, LinearFit

STRENGTHS: dict[str, tuple[float, ...]] = {
    "logistic": (0.01, 0.1, 1.0),
    "svm": (1e-4, 1e-3, 1e-2, 1e-1, 1.0),
}
"""Inverse regularisation C that is tried."""

VALIDATION_SHARE = 0.2
REPLICATES = 1000
# beyond which mean average precision gets no interval: each replicate sorts all scores again
MAP_ITEMS = 5000


def scores_of_linear(
    train_nD: np.ndarray,
    train_n: np.ndarray,
    test_mD: np.ndarray,
    *,
    num_classes: int,
    kind: Kind = "logistic",
    validation: tuple[np.ndarray, np.ndarray] | None = None,
    device: str = "cpu",
) -> tuple[np.ndarray, float]:
    """Train a linear classifier and score other items.

    Args:
        train_nD, train_n: features and classes, (n,) int64 or, where items have several, (n, C)
            bool.
        test_mD: features to score.
        num_classes: C; a class that is not in training scores minus infinity.
        kind: "logistic" or "svm" (squared hinge, one against the rest).
        validation: features and classes on which the regularisation is chosen; by default a fifth
            of the training items, by class. Afterwards all training items are fitted.
        device: where it is trained.
    Returns:
        Scores (m, C), larger for likelier, and the C that was taken.
    """
    best, fit = STRENGTHS[kind][0], (train_nD, train_n)
    if validation is None:
        fit, validation = divided(train_nD, train_n)
    if validation is not None:
        held_x, held_y = validation
        part = LinearFit(*fit, kind, device)
        scored = {c: part.scores(part.fit(c), held_x, num_classes) for c in STRENGTHS[kind]}
        best = max(scored, key=lambda c: quality(scored[c], held_y))
        del part  # and its copy of the features
    whole = LinearFit(train_nD, train_n, kind, device)
    return whole.scores(whole.fit(best), test_mD, num_classes), best


def divided(features_nD: np.ndarray, classes_n: np.ndarray) -> tuple[Any, Any]:
    """Training items without a fifth, and that fifth, by class; None where there are too few."""
    from sklearn.model_selection import train_test_split

    many, groups, least = np.ones(len(classes_n), dtype=bool), None, 2
    if classes_n.ndim == 1:
        many = np.bincount(classes_n)[classes_n] > 1  # a class of one item cannot be divided
        groups = classes_n[many]
        least = max(1, len(np.unique(groups)))
    if many.sum() * VALIDATION_SHARE < least:
        return (features_nD, classes_n), None
    x, y = features_nD[many], classes_n[many]
    fit_x, held_x, fit_y, held_y = train_test_split(
        x, y, test_size=VALIDATION_SHARE, random_state=0, stratify=groups
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
    """Average precision, in [0, 1], of each class that any item has; chance is its share."""
    from sklearn.metrics import average_precision_score

    present = classes_mC.any(axis=0)
    finite = np.nan_to_num(scores_mC[:, present], neginf=-1e30)
    return np.asarray(
        average_precision_score(classes_mC[:, present].astype(int), finite, average=None)
    ).reshape(-1)


def interval(
    parts: Sequence[tuple[np.ndarray, np.ndarray]], *, seed: int = 0
) -> tuple[float, float]:
    """A 95 % interval for the mean over splits of the mean over items, by bootstrap over items.

    `parts` has for each split the numbers of its test items and a value for each, such as whether
    it was right; an item that is in several splits is drawn with all of them.
    """
    items = np.unique(np.concatenate([numbers for numbers, _ in parts]))
    placed = [(np.searchsorted(items, numbers), values) for numbers, values in parts]

    def drawn(generator: np.random.Generator) -> float:
        weights = np.bincount(generator.integers(len(items), size=len(items)), minlength=len(items))
        means = [np.average(v, weights=weights[p]) for p, v in placed if weights[p].any()]
        return float(np.mean(means))

    return between(drawn, REPLICATES, seed)


def between(
    drawn: Callable[[np.random.Generator], float], replicates: int, seed: int
) -> tuple[float, float]:
    """The middle 95 % of what replicates come to."""
    generator = np.random.default_rng((seed, 0xB007))
    low, high = np.quantile([drawn(generator) for _ in range(replicates)], [0.025, 0.975])
    return float(low), float(high)


def map_interval(
    scores_mC: np.ndarray, classes_mC: np.ndarray, *, seed: int = 0
) -> tuple[float, float] | None:
    """The same for mean average precision on one split; None above 5,000 items."""
    if len(scores_mC) > MAP_ITEMS:
        return None

    def drawn(generator: np.random.Generator) -> float:
        some = generator.integers(len(scores_mC), size=len(scores_mC))
        return float(np.mean(average_precisions(scores_mC[some], classes_mC[some])))

    return between(drawn, REPLICATES // 5, seed)


def few_of_each(classes_n: np.ndarray, count: int, generator: np.random.Generator) -> np.ndarray:
    """Positions of `count` items of each class, or of all where it has fewer, ascending."""
    chosen = [
        generator.permutation(np.flatnonzero(classes_n == c))[:count] for c in np.unique(classes_n)
    ]
    return np.sort(np.concatenate(chosen))
