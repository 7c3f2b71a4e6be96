"""Do balanced clusters have the sizes asked for, and are they clusters?"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from kmeans_data import mixture
from seehear.errors import SettingsError
from seehear.kmeans import assign, balanced_kmeans, kmeans
from seehear.kmeans.rounding import move_to_sizes, whole_sizes


def test_sizes_are_equal_and_clusters_are_tight() -> None:
    features_ND = mixture(1200, 8, 6, apart=0.6)
    plain = kmeans(features_ND, 12, seed=0)
    result = balanced_kmeans(features_ND, 12, seed=0)
    assert torch.bincount(result.labels).tolist() == [100] * 12 == result.sizes.tolist()
    assert int(plain.sizes.max()) > 110  # it was not balanced by itself
    assert result.inertia < 1.1 * plain.inertia
    assert result.inertia == pytest.approx(
        float((features_ND - result.centroids[result.labels.long()]).square().sum()), rel=1e-5
    )
    assert result.prices is not None
    nearest = assign(features_ND, result.centroids, prices_K=result.prices)
    assert (nearest == result.labels).float().mean() > 0.9


def test_sizes_are_those_given_and_ragged_ones_are_whole() -> None:
    features_ND = mixture(503, 5, 4, apart=1.0)
    result = balanced_kmeans(features_ND, 4, seed=0, sizes_K=torch.tensor([1.0, 2.0, 3.0, 4.0]))
    assert torch.bincount(result.labels).tolist() == result.sizes.tolist()
    assert result.sizes.tolist() == [50, 101, 151, 201]
    even = balanced_kmeans(features_ND, 10, seed=0, chunk_rows=100)
    assert sorted(even.sizes.tolist()) == [50] * 7 + [51] * 3


def test_equal_rows_are_balanced_too() -> None:
    result = balanced_kmeans(torch.ones(30, 3), 3, seed=0)
    assert result.sizes.tolist() == [10, 10, 10]
    assert result.inertia == pytest.approx(0, abs=1e-6)


def test_the_assignment_is_near_the_best_there_is() -> None:
    features_ND = mixture(600, 6, 12, apart=1.0)
    result = balanced_kmeans(features_ND, 15, seed=1)
    costs = torch.cdist(features_ND.double(), result.centroids.double()).square().repeat_interleave(40, dim=1)
    rows, columns = linear_sum_assignment(costs.numpy())
    assert result.inertia < 1.03 * costs.numpy()[rows, columns].sum()


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), clusters=st.integers(1, 9), rows=st.integers(1, 80))
def test_rounding_meets_any_sizes(seed: int, clusters: int, rows: int) -> None:
    random = np.random.default_rng(seed)
    costs = torch.from_numpy(random.random((rows, clusters)))
    labels = torch.from_numpy(random.integers(0, clusters, rows)).int()
    target = whole_sizes(torch.from_numpy(random.dirichlet(np.ones(clusters)) * rows))
    assert int(target.sum()) == rows

    def propose(some: torch.Tensor, room: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        best, where = costs[some].masked_fill(~room, torch.inf).min(dim=1)
        return where, (best - costs[some, labels[some].long()]).float()

    move_to_sizes(labels, torch.bincount(labels, minlength=clusters), target, propose)
    assert torch.equal(torch.bincount(labels, minlength=clusters), target)


def test_unusable_arguments_say_what_to_give() -> None:
    features_ND = mixture(20, 3, 2)
    with pytest.raises(SettingsError, match="entropy is 0"):
        balanced_kmeans(features_ND, 2, seed=0, entropy=0)
    with pytest.raises(SettingsError, match="must be 2 positive numbers"):
        balanced_kmeans(features_ND, 2, seed=0, sizes_K=torch.tensor([1.0, 0.0]))
    with pytest.raises(SettingsError, match="num_clusters is 30"):
        balanced_kmeans(features_ND, 30, seed=0)
