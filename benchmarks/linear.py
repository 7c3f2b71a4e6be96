"""How long does a linear SVM on frozen features take, here and with scikit-learn's LinearSVC?

    python benchmarks/linear.py --items 4000 --classes 100 --against-scikit-learn

Features are made: a centre a class, noise, a spectrum that falls, half of the values cut off at
zero as in encoders. CPU seconds of this process on one thread, accuracy on 2,000 other items, and
the objective that was reached.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch
from common import arguments
from sklearn.svm import LinearSVC

from seehear.evaluation.classifiers import STRENGTHS, in_top
from seehear.evaluation.linear import LinearFit

TEST_ITEMS = 2000


def made(items: int, classes: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Features (items + TEST_ITEMS, width), standardised by the first `items`, with classes."""
    generator = np.random.default_rng(0)
    mixing = generator.normal(size=(width, width)) * (np.arange(1, width + 1) ** -0.7)[:, None]
    centres = 0.7 * generator.normal(size=(classes, width))
    class_n = generator.integers(0, classes, items + TEST_ITEMS)
    noise = generator.normal(size=(len(class_n), width))
    features_nD = np.maximum((centres[class_n] + noise) @ mixing, 0)
    train_nD = features_nD[:items]
    return (features_nD - train_nD.mean(axis=0)) / train_nD.std(axis=0), class_n


def objective(
    strength: float, features_nD: np.ndarray, class_n: np.ndarray, weights_EK: np.ndarray
) -> float:
    """Half the squared weights and the squared hinges."""
    scores = features_nD @ weights_EK[:-1] + weights_EK[-1]
    signs = np.where(class_n[:, None] == np.unique(class_n), 1.0, -1.0)
    hinges = (np.maximum(0, 1 - signs * scores) ** 2).sum()
    return float((weights_EK**2).sum() / 2 + strength * hinges)


def main() -> None:
    """One line a strength, or two."""
    parser = arguments(__doc__)
    parser.add_argument("--items", type=int, default=4000)
    parser.add_argument("--classes", type=int, default=100)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--against-scikit-learn", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1)
    x, y = made(args.items, args.classes, args.width)
    train, test = slice(0, args.items), slice(args.items, None)
    fit: Any = LinearFit(x[train], y[train], "svm", args.device)
    fit.fit(1.0)  # PyTorch imports its optimisers when they are first asked for
    for strength in STRENGTHS["svm"]:
        begin = time.process_time()
        weights = fit.fit(strength)
        seconds = time.process_time() - begin
        right = in_top(fit.scores(weights, x[test], args.classes), y[test], 1).mean()
        value = objective(strength, x[train], y[train], weights.cpu().double().numpy())
        line = f"C {strength:g}: seehear {seconds:.2f} s, {right:.2%}, objective {value:.4f}"
        if args.against_scikit_learn:
            begin = time.process_time()
            theirs = LinearSVC(C=strength, max_iter=5000, tol=1e-3, random_state=0)
            theirs.fit(x[train], y[train])
            seconds, right = time.process_time() - begin, theirs.score(x[test], y[test])
            weights_EK = np.c_[theirs.coef_, theirs.intercept_].T
            value = objective(strength, x[train], y[train], weights_EK)
            line += f"; LinearSVC {seconds:.2f} s, {right:.2%}, objective {value:.4f}"
        print(line, flush=True)


if __name__ == "__main__":
    main()
