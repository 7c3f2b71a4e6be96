"""How does k-means look to a program written for scikit-learn? As `KMeans`, with the names and habits expected there.

Parameters with scikit-learn's names mean what they mean there; the others are those of `seehear.kmeans.kmeans`.
Checks of scikit-learn's estimator suite that make no sense here are in `EXPECTED_FAILURES`, each with the reason.
"""

from __future__ import annotations

import warnings
from typing import Any, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, ClusterMixin, TransformerMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data
from torch import Tensor

from seehear.errors import SettingsError
from seehear.kmeans.lloyd import assign, kmeans
from seehear.kmeans.precision import Precision

EXPECTED_FAILURES = {
    "check_sample_weight_equivalence_on_dense_data": (
        "The first centroids are rows drawn by their number, so a row of weight 2 and the same row twice start other "
        "searches. From the same first centroids both give the same clusters. (scikit-learn's KMeans fails it too.)"
    ),
}


class KMeans(ClassNamePrefixFeaturesOutMixin, TransformerMixin, ClusterMixin, BaseEstimator):  # type: ignore[misc]
    """k-means with scikit-learn's interface.

    Args:
        n_clusters: K.
        init: "k-means++", "random", or an array of first centroids, (n_clusters, n_features).
        n_init: how many searches, of which the one with the least inertia is kept; "auto" makes one for "k-means++"
            and for an array, 10 for "random".
        max_iter: moves of the centroids per search, at most.
        tol: a search ends when the squared moves of all centroids add up to at most this times the mean variance.
        random_state: seed, generator or None, as everywhere in scikit-learn.
        precision: "auto", "fp32", "bf16" or "int8", for the search; the labels are those of float32 in any case.
        points_per_centroid, relaxation, spherical, device: as for `seehear.kmeans.kmeans`.

    Attributes:
        cluster_centers_: (n_clusters, n_features), of the type of the data: float32 or float64.
        labels_: (n_samples,) int32.
        inertia_: sum of (weighted) squared distances of the samples to their centroid.
        n_iter_: moves of the centroids in the best search.
        n_features_in_: width of the data.
    """

    def __init__(
        self,
        n_clusters: int = 8,
        *,
        init: Literal["k-means++", "random"] | NDArray[np.generic] = "k-means++",
        n_init: int | Literal["auto"] = "auto",
        max_iter: int = 300,
        tol: float = 1e-4,
        random_state: int | np.random.RandomState | None = None,
        precision: Precision = "auto",
        points_per_centroid: int | None = None,
        relaxation: float = 1.0,
        spherical: bool = False,
        device: str | None = None,
    ) -> None:
        self.n_clusters = n_clusters
        self.init = init
        self.n_init = n_init
        self.max_iter = max_iter
        self.tol = tol
        self.random_state = random_state
        self.precision = precision
        self.points_per_centroid = points_per_centroid
        self.relaxation = relaxation
        self.spherical = spherical
        self.device = device

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Self:
        """Find the clusters of X, (n_samples, n_features).

        Args:
            X: floats, an array or a tensor; float16 and bfloat16 tensors are read as they are.
            y: ignored.
            sample_weight: (n_samples,) or None for equal weights.

        Raises:
            ValueError: X cannot be clustered, as in scikit-learn.
        """
        features = self._checked(X, reset=True)
        weights = None if sample_weight is None else _check_sample_weight(sample_weight, X, dtype=np.float64)
        if len(features) < self.n_clusters:
            raise ValueError(f"n_samples={len(features)} should be >= n_clusters={self.n_clusters}.")
        random = check_random_state(self.random_state)
        best = None
        for _ in range(self._searches()):
            try:
                found = kmeans(
                    features,
                    self.n_clusters,
                    seed=int(random.randint(2**31 - 1)),
                    iterations=self.max_iter,
                    init=self.init if isinstance(self.init, str) else np.asarray(self.init),
                    precision=self.precision,
                    final_precision="fp32",
                    weights_N=weights,
                    points_per_centroid=self.points_per_centroid,
                    relaxation=self.relaxation,
                    spherical=self.spherical,
                    tolerance=self.tol,
                    device=self.device,
                )
            except SettingsError as error:
                raise ValueError(str(error)) from error
            if best is None or found.inertia < best.inertia:
                best = found
        assert best is not None
        distinct = int((best.sizes > 0).sum())
        if distinct < self.n_clusters:
            warnings.warn(
                f"Number of distinct clusters ({distinct}) found smaller than n_clusters ({self.n_clusters}). "
                "Possibly due to duplicate points in X.",
                ConvergenceWarning,
                stacklevel=2,
            )
        dtype = np.float64 if features.dtype == torch.float64 else np.float32
        self.cluster_centers_ = best.centroids.cpu().numpy().astype(dtype)
        self.labels_ = best.labels.cpu().numpy()
        self.inertia_ = best.inertia
        self.n_iter_ = max(best.iterations, 1)
        self._n_features_out = self.n_clusters
        return self

    def predict(self, X: Any) -> NDArray[np.int32]:
        """The nearest cluster of each sample, (n_samples,) int32."""
        check_is_fitted(self)
        labels = assign(self._checked(X, reset=False), self.cluster_centers_, device=self.device)
        return labels.cpu().numpy()

    def transform(self, X: Any) -> NDArray[np.floating]:
        """The distance of each sample to each centroid, (n_samples, n_clusters)."""
        from sklearn.metrics.pairwise import euclidean_distances

        check_is_fitted(self)
        features = self._checked(X, reset=False)
        exact = features if features.dtype == torch.float64 else features.float()
        distances: NDArray[np.floating] = euclidean_distances(exact.cpu().numpy(), self.cluster_centers_)
        return distances

    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """Minus the sum of (weighted) squared distances of the samples to their nearest centroid."""
        squares = self.transform(X).min(axis=1) ** 2
        weights = np.ones(len(squares)) if sample_weight is None else np.asarray(sample_weight)
        return -float((squares * weights).sum())

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    def _searches(self) -> int:
        if self.n_init == "auto":
            return 10 if isinstance(self.init, str) and self.init == "random" else 1
        return self.n_init

    def _checked(self, X: Any, reset: bool) -> Tensor:
        """X as a tensor; narrow floating types as they are, anything else as scikit-learn reads it."""
        if isinstance(X, Tensor) and X.dtype in (torch.float16, torch.bfloat16) and X.ndim == 2:
            if reset:
                self.n_features_in_ = X.shape[1]
            return X
        if isinstance(X, Tensor):
            X = X.detach().cpu().numpy()
        array = validate_data(self, X, reset=reset, dtype=[np.float64, np.float32], accept_sparse=False, order="C")
        return torch.tensor(array) if not array.flags.writeable else torch.from_numpy(array)
