"""k-means for deep clustering: exact in its counts, seeded, over rows sharded on ranks.

Which cluster does each row belong to? `lloyd.py` answers, from top to bottom; open it first. Rows
come in chunks (`rows.py`), are scored against all centroids in float32 (`scores.py`), and add up to
the next centroids (`totals.py`). First centroids and empty clusters: `seeding.py`, from hashes of
the seed. What is clustered is centred, whitened and scaled before (`preprocess.py`).

Plain torch; nothing else of seehear is imported but its errors and its collectives.
"""

from __future__ import annotations

from seehear.method.kmeans.lloyd import Clustering, assign, kmeans
from seehear.method.kmeans.preprocess import Preprocessing, fit_preprocessing

__all__ = ["Clustering", "Preprocessing", "assign", "fit_preprocessing", "kmeans"]
