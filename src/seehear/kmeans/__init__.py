"""k-means for deep clustering: fast, exact in its counts, reproducible, over rows sharded on ranks.

Plain torch: nothing else is imported unless it is used (safetensors by the files, scikit-learn by `KMeans`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from seehear.kmeans.balanced import balanced_kmeans
from seehear.kmeans.clustering import Clustering
from seehear.kmeans.lloyd import assign, kmeans
from seehear.kmeans.preprocess import Preprocessing, fit_preprocessing

if TYPE_CHECKING:
    from seehear.kmeans.estimator import KMeans

__all__ = ["Clustering", "KMeans", "Preprocessing", "assign", "balanced_kmeans", "fit_preprocessing", "kmeans"]


def __getattr__(name: str) -> Any:
    if name == "KMeans":  # its base classes are scikit-learn's
        from seehear.kmeans.estimator import KMeans

        return KMeans
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
