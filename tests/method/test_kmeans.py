"""Does k-means agree with scikit-learn, give the same bits again, and do what each option says?"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn.cluster import KMeans as Reference
from torch import Tensor

from kmeans_data import mixture
from seehear.errors import SettingsError
from seehear.method.kmeans import Clustering, assign, kmeans, rows, scores
from seehear.method.kmeans.seeding import draw_rows


def inertia_of(features_ND: Tensor, result: Clustering) -> float:
    return float(
        (features_ND.double() - result.centroids.double()[result.labels.long()]).square().sum()
    )


def least_margin(features_ND: torch.Tensor, centroids_KD: torch.Tensor, iterations: int) -> float:
    """How nearly a row was as near to a second centroid, in float64 and over all iterations; by the
    square of distances. Below the rounding of float32 either may be taken, and all that follows
    depends on it.
    """
    features_ND, centroids_KD, least = features_ND.double(), centroids_KD.double(), math.inf
    for _ in range(iterations + 1):
        nearest, numbers = torch.cdist(features_ND, centroids_KD).square().topk(2, largest=False)
        least = min(least, float((nearest[:, 1] - nearest[:, 0]).min()))
        members = torch.nn.functional.one_hot(numbers[:, 0], len(centroids_KD)).double().T
        centroids_KD = members @ features_ND / members.sum(1, keepdim=True)
    return least


def same(one: Clustering, other: Clustering) -> bool:
    return bool(
        torch.equal(one.labels, other.labels) and torch.equal(one.centroids, other.centroids)
    )


# --- against scikit-learn -------------------------------------------------------------------------


@settings(max_examples=12, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    clusters=st.integers(1, 12),
    width=st.integers(4, 40),
    offset=st.sampled_from([0.0, 5.0, 1000.0]),
)
def test_on_separated_data_labels_equal_those_of_scikit_learn(
    seed: int, clusters: int, width: int, offset: float
) -> None:
    features_ND = mixture(400, width, clusters, seed, apart=30.0, in_turn=True) + offset
    first_KD = features_ND[:clusters].clone()  # one row of each centre
    ours = kmeans(features_ND, clusters, seed=0, init=first_KD, iterations=100)
    theirs = Reference(clusters, init=first_KD.numpy(), n_init=1, max_iter=100, tol=0).fit(
        features_ND.numpy()
    )
    assert np.array_equal(ours.labels.numpy(), theirs.labels_)
    assert ours.inertia == pytest.approx(theirs.inertia_, rel=1e-4)


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 10**6), clusters=st.integers(2, 30))
def test_on_overlapping_data_inertia_equals_that_of_scikit_learn(seed: int, clusters: int) -> None:
    features_ND = torch.relu(mixture(1500, 24, 40, seed, apart=0.7))
    first_KD = features_ND[:clusters].clone()
    # Squared distances are about 20, and rounded by some 1e-6.
    assume(least_margin(features_ND, first_KD, 8) > 5e-6)
    ours = kmeans(features_ND, clusters, seed=0, init=first_KD, iterations=8)
    theirs = Reference(clusters, init=first_KD.numpy(), n_init=1, max_iter=8, tol=0).fit(
        features_ND.numpy()
    )
    assert ours.inertia == pytest.approx(theirs.inertia_, rel=1e-4)
    assert ours.inertia == pytest.approx(inertia_of(features_ND, ours), rel=1e-6)


def test_the_history_falls_and_ends_at_the_inertia() -> None:
    result = kmeans(mixture(3000, 16, 30), 20, seed=1)
    assert all(later <= earlier * 1.0001 for earlier, later in pairwise(result.history))
    assert result.inertia == pytest.approx(result.history[-1], rel=2e-3)
    assert result.sizes.dtype == torch.int64
    assert torch.equal(result.sizes, torch.bincount(result.labels, minlength=20))


# --- the same bits --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["plain", "warm", "sample", "far"])
def test_chunks_and_threads_change_no_label(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    features_ND = torch.relu(mixture(700, 40, 30, apart=0.5)) * torch.linspace(0.1, 3, 40)
    if kind == "far":
        features_ND = features_ND + 300
    options: dict[str, Any] = {
        "warm": {"init": torch.arange(700) % 17},
        "sample": {"points_per_centroid": 20},
    }.get(kind, {})
    threads, results = torch.get_num_threads(), []
    try:
        for chunk_rows, many in ((None, threads), (41, 1), (333, 3)):
            torch.set_num_threads(many)
            if chunk_rows:
                monkeypatch.setitem(rows._BLOCK_NUMBERS, "cpu", chunk_rows * 40)
            results.append(kmeans(features_ND, 17, seed=5, **options))
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(results[0].labels, other.labels) for other in results[1:])
    assert len(results[0].labels.unique()) == 17


def test_the_same_seed_gives_the_same_bits_and_another_seed_other_ones() -> None:
    features_ND = mixture(600, 8, 12)
    one, two, three = (kmeans(features_ND, 12, seed=seed) for seed in (0, 0, 1))
    assert same(one, two)
    assert not same(one, three)


def test_float32_stays_float32_where_the_process_permits_less() -> None:
    features_ND = mixture(3000, 64, 20, apart=0.3)
    expected = kmeans(features_ND, 20, seed=0)
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("medium")  # bfloat16 operands, on a CPU with AMX
        assert same(kmeans(features_ND, 20, seed=0), expected)
    finally:
        torch.set_float32_matmul_precision(before)


# --- starts, samples, options
# --------------------------------------------------------------------------------------


def test_a_warm_start_reaches_in_three_moves_what_a_cold_one_does_in_twenty() -> None:
    features_ND = mixture(3000, 16, 40, apart=0.8)
    cold = kmeans(features_ND, 30, seed=0)
    moved = features_ND + 0.02 * torch.randn(
        features_ND.shape, generator=torch.Generator().manual_seed(1)
    )
    warm = kmeans(moved, 30, seed=9, init=cold.labels, iterations=3)
    assert warm.inertia < 1.01 * cold.inertia
    assert (warm.labels == cold.labels).float().mean() > 0.9  # and keeps the clusters' numbers


def test_a_warm_start_does_with_unknown_labels_and_missing_clusters() -> None:
    features_ND = mixture(500, 6, 5)
    labels = torch.arange(500) % 3
    labels[:50] = -1
    result = kmeans(features_ND, 5, seed=0, init=labels.numpy())
    assert result.sizes.sum() == 500
    assert int(result.sizes.min()) > 0


def test_a_search_on_a_sample_comes_close() -> None:
    features_ND = mixture(6000, 16, 30, apart=0.5)
    full = kmeans(features_ND, 10, seed=0)
    sampled = kmeans(features_ND, 10, seed=0, points_per_centroid=200)
    assert sampled.inertia < 1.01 * full.inertia
    assert sampled.sizes.sum() == 6000
    warm = kmeans(features_ND, 10, seed=0, points_per_centroid=200, init=full.labels)
    assert warm.inertia < 1.005 * full.inertia


def test_more_clusters_than_a_tile_of_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    features_ND = mixture(10_000, 6, 50)
    found = kmeans(features_ND, 4999, seed=0, iterations=1)
    assert found.sizes.sum() == 10_000
    monkeypatch.setitem(scores._TILE, "cpu", (512, 8192))
    whole = kmeans(features_ND, 4999, seed=0, iterations=1)
    assert (whole.labels == found.labels).float().mean() > 0.999


def test_the_final_assignment_is_that_of_assign() -> None:
    features_ND = mixture(2000, 32, 40, apart=0.3)
    result = kmeans(features_ND, 30, seed=0)
    assert torch.equal(result.labels, assign(features_ND, result.centroids))


def test_unusable_arguments_say_what_to_give() -> None:
    features_ND = mixture(20, 3, 2)
    calls: list[tuple[Callable[[], object], str]] = [
        (lambda: kmeans(features_ND, 21, seed=0), "num_clusters is 21"),
        (lambda: kmeans(features_ND, 0, seed=0), "num_clusters is 0"),
        (lambda: kmeans(features_ND[0], 1, seed=0), "must be .rows, columns."),
        (lambda: kmeans(features_ND.long(), 1, seed=0), "must be float32"),
        (lambda: kmeans(features_ND, 2, seed=0, iterations=-1), "iterations is -1"),
        (lambda: kmeans(features_ND, 2, seed=0, init="best"), "init is 'best'"),  # type: ignore[arg-type]
        (
            lambda: kmeans(features_ND, 2, seed=0, init=torch.zeros(3, 3)),
            r"First centroids are \(2, 3\)",
        ),
        (lambda: kmeans(features_ND, 2, seed=0, init=torch.full((20,), 2)), "labels from 2 to 2"),
        (
            lambda: kmeans(features_ND, 2, seed=0, init=torch.zeros(19, dtype=torch.int64)),
            "one for each of the 20",
        ),
        (lambda: kmeans(features_ND, 2, seed=0, points_per_centroid=0), "points_per_centroid is 0"),
        (lambda: assign(features_ND, torch.zeros(2, 4)), "rows have 3 columns"),
    ]
    for call, message in calls:
        with pytest.raises(SettingsError, match=message):
            call()


# --- the draw -------------------------------------------------------------------------------------


@given(seed=st.integers(-5, 2**70), num_rows=st.integers(1, 3000), share=st.floats(0, 1))
def test_drawn_rows_are_different_and_in_range(seed: int, num_rows: int, share: float) -> None:
    count = int(share * num_rows)
    drawn = draw_rows(seed, num_rows, count)
    assert len(np.unique(drawn)) == len(drawn) == count
    assert count == 0 or (drawn.min() >= 0 and drawn.max() < num_rows)


def test_drawn_rows_are_uniform_and_depend_on_the_seed() -> None:
    drawn = np.concatenate([draw_rows(seed, 1000, 100) for seed in range(2000)])
    counts = np.bincount(drawn, minlength=1000)  # 200 expected of each, 13.4 the standard deviation
    assert counts.min() > 140
    assert counts.max() < 260
