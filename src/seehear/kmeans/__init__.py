"""k-means for deep clustering: fast, exact in its counts, reproducible, over rows sharded on ranks."""

from __future__ import annotations

from seehear.kmeans.clustering import Clustering
from seehear.kmeans.lloyd import assign, kmeans

__all__ = ["Clustering", "assign", "kmeans"]
