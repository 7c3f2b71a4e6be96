"""Does k-means agree with a reference, and keep its promises?"""

from __future__ import annotations

import torch
from sklearn.cluster import KMeans as Reference

from seehear.kmeans import kmeans


def test_agrees_with_scikit_learn_from_the_same_centroids() -> None:
    generator = torch.Generator().manual_seed(0)
    features_ND = (
        torch.randn(2000, 24, generator=generator)
        + 3 * torch.randn(10, 24, generator=generator)[torch.randint(10, (2000,), generator=generator)]
    )
    first = features_ND[:10].clone()
    ours = kmeans(features_ND, 10, seed=0, init=first, iterations=50)
    theirs = Reference(10, init=first.numpy(), n_init=1, max_iter=50, tol=0).fit(features_ND.numpy())
    assert ours.labels.tolist() == theirs.labels_.tolist()
    assert abs(ours.inertia / theirs.inertia_ - 1) < 1e-5
    assert ours.sizes.sum() == 2000


def test_duplicated_rows_leave_clusters_empty_and_no_nan() -> None:
    result = kmeans(torch.ones(20, 3), 5, seed=0)
    assert torch.isfinite(result.centroids).all()
    assert sorted(result.sizes.tolist()) == [0, 0, 0, 0, 20]
    assert result.inertia < 1e-6
