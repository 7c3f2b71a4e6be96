"""k-means by itself: docs/kmeans.md. It lives in `seehear.method.kmeans`."""

from seehear.method.kmeans import Clustering, Preprocessing, assign, fit_preprocessing, kmeans

__all__ = ["Clustering", "Preprocessing", "assign", "fit_preprocessing", "kmeans"]
