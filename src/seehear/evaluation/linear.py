"""How is a linear classifier fitted, to a hundred items or to a quarter of a million?

One way for all sizes: L-BFGS on all items and all classes at once, in PyTorch, where the features
are. The objectives are those of scikit-learn's `LinearSVC` (squared hinge, one class against the
rest, the intercept penalised like a weight) and `LogisticRegression` (softmax over classes; a
sigmoid each where items have several, or where there are two classes; the intercept free). Shapes:
n items, D features, E = D + 1 with the intercept last, K classes.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import softplus

Kind = Literal["logistic", "svm"]

# of the gradient's largest part, relative to that at zero weights: objectives agree to a thousandth
TOLERANCE = 1e-5
MOST_STEPS, MOST_EVALUATIONS = 500, 625
PART_ROWS = 2**15  # scored at once: with 400 classes some 50 MB a matrix


class Unconverged(UserWarning):
    """A fit stopped at its limit of steps."""


@contextmanager
def noted() -> Iterator[list[str]]:
    """Keep warnings of fits that stopped early from the terminal; the list that is given says
    afterwards, in one line, how many there were. Nothing is said of scikit-learn's; warnings of
    others are shown as ever.
    """
    notes: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.filterwarnings("ignore", module=r"sklearn(\.|$)")
        warnings.filterwarnings("always", category=Unconverged)
        yield notes
    stopped = [warning for warning in caught if issubclass(warning.category, Unconverged)]
    for w in caught:
        if w not in stopped:
            warnings.warn_explicit(w.message, w.category, w.filename, w.lineno)
    if stopped:
        notes.append(
            f"{len(stopped)} fits of linear classifiers, of all strengths and parts, stopped at "
            "their limit of steps before they had converged"
        )


class LinearFit:
    """Training items, ready to be fitted with any strength of the regularisation.

    Args:
        features_nD: as they are; they are standardised here.
        classes_n: (n,) int64, or (n, C) bool where items have several classes.
        kind: "logistic" or "svm".
        device: where the work is done.
    """

    def __init__(
        self, features_nD: np.ndarray, classes_n: np.ndarray, kind: Kind, device: str = "cpu"
    ) -> None:
        several = classes_n.ndim == 2
        self.kind, self.device = kind, device
        self.known = np.flatnonzero(classes_n.any(axis=0)) if several else np.unique(classes_n)
        self._mean_D, deviation_D = features_nD.mean(axis=0), features_nD.std(axis=0)
        constant_D = deviation_D <= 1e-7 * np.abs(self._mean_D)  # but for rounding
        self._scale_D = np.where(constant_D, 1.0, deviation_D)
        one_hot_nK = classes_n[:, self.known] if several else classes_n[:, None] == self.known
        # one column decides between two classes
        self.is_binary = not several and len(self.known) == 2
        self.is_softmax = kind == "logistic" and not several and not self.is_binary
        one_hot_nK = one_hot_nK[:, 1:] if self.is_binary else one_hot_nK
        self._items_nE = self._prepared(features_nD)
        self._signs_nK = torch.from_numpy(2 * one_hot_nK.astype(np.float32) - 1).to(device)
        doubled = (part.double() for part in parts(self._items_nE))
        self._gram_EE = torch.stack([part.T @ part for part in doubled]).sum(dim=0)

    def fit(self, strength: float) -> Tensor:
        """The weights (E, K) that minimise |w|^2 / 2 + `strength` * sum of the items' losses.

        Weights are sought as W = L^-T V, where L L^T is the Hessian at zero weights: the same for
        each class, exact for the squared hinge, and an upper bound for logistic regression. In V
        the curvature is about 1 in all directions, however much features repeat each other, and a
        few dozen steps do for what takes hundreds in W.
        """
        size, width = len(self._gram_EE), self._signs_nK.shape[1]
        curvature = 2.0 if self.kind == "svm" else 1 / width if self.is_softmax else 0.25
        penalty_E = torch.ones(size, 1, device=self.device)
        penalty_E[-1] = 1.0 if self.kind == "svm" else 0.0
        hessian_EE = torch.diag(penalty_E[:, 0].double()) + strength * curvature * self._gram_EE
        factor_EE = torch.linalg.cholesky(hessian_EE).mT.float()
        sought_EK = torch.zeros(size, width, device=self.device, requires_grad=True)
        optimizer = torch.optim.LBFGS(
            [sought_EK],
            max_iter=MOST_STEPS,
            max_eval=MOST_EVALUATIONS,
            history_size=10,
            tolerance_change=0.0,
            line_search_fn="strong_wolfe",
        )

        def weights_EK() -> Tensor:
            weights: Tensor = torch.linalg.solve_triangular(factor_EE, sought_EK, upper=True)
            return weights

        def objective() -> float:
            optimizer.zero_grad()
            weights = weights_EK()
            # so that parts of the items can be taken one after another
            shared = weights.detach().requires_grad_()
            total = (penalty_E * shared**2).sum() / 2
            total.backward()  # type: ignore[no-untyped-call]
            value = total.item()
            for items, signs in zip(parts(self._items_nE), parts(self._signs_nK), strict=True):
                part = strength * self._losses(items @ shared, signs).sum(dtype=torch.float64)
                part.backward()  # type: ignore[no-untyped-call]
                value += part.item()
            weights.backward(shared.grad)  # type: ignore[no-untyped-call]
            return value

        objective()
        gradient = sought_EK.grad
        assert gradient is not None
        optimizer.param_groups[0]["tolerance_grad"] = TOLERANCE * float(gradient.abs().max())
        with torch.no_grad():
            # Newton's step from zero; for the squared hinge that is ridge regression
            sought_EK -= gradient
        optimizer.step(objective)  # type: ignore[no-untyped-call]
        taken = optimizer.state[sought_EK]
        if taken["n_iter"] >= MOST_STEPS or taken["func_evals"] >= MOST_EVALUATIONS:
            warnings.warn("stopped before it had converged", Unconverged, stacklevel=2)
        return weights_EK().detach()

    def scores(self, weights_EK: Tensor, features_mD: np.ndarray, num_classes: int) -> np.ndarray:
        """Scores (m, C) of other items; minus infinity for classes that were not in training."""
        raw = torch.cat([part @ weights_EK for part in parts(self._prepared(features_mD))])
        found = raw.cpu().numpy()
        found = np.concatenate([-found, found], axis=1) if self.is_binary else found
        scores_mC = np.full((len(features_mD), num_classes), -np.inf)
        scores_mC[:, self.known] = found
        return scores_mC

    def _prepared(self, features_nD: np.ndarray) -> Tensor:
        """Standardised, with a column of ones, (n, E) float32."""
        standard_nD = ((features_nD - self._mean_D) / self._scale_D).astype(np.float32)
        ones_n1 = np.ones((len(standard_nD), 1), dtype=np.float32)
        return torch.from_numpy(np.concatenate([standard_nD, ones_n1], axis=1)).to(self.device)

    def _losses(self, scores_nK: Tensor, signs_nK: Tensor) -> Tensor:
        """The loss of each item, in each column where columns are apart."""
        if self.kind == "svm":
            return (1 - signs_nK * scores_nK).clamp(min=0).square()
        if self.is_softmax:
            return scores_nK.logsumexp(dim=1) - (scores_nK * (signs_nK > 0)).sum(dim=1)
        return softplus(-signs_nK * scores_nK)


def parts(items_nX: Tensor) -> list[Tensor]:
    """Views of the items, `PART_ROWS` at a time."""
    return [items_nX[start : start + PART_ROWS] for start in range(0, len(items_nX), PART_ROWS)]
