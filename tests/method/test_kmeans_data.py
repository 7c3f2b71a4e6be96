"""Does k-means stay right on data that breaks others: huge clusters, duplicates, constants, far
offsets, files?
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans as Reference

from kmeans_data import equal_rows, mixture
from seehear.errors import SettingsError
from seehear.method.kmeans import kmeans
from seehear.method.kmeans.rows import _BLOCK_NUMBERS

# --- counts and totals
# ---------------------------------------------------------------------------------------------


def test_means_are_right_beyond_the_rows_that_float32_can_count() -> None:
    rows = 2**24 + 1000  # from here on, adding 1 to a float32 count changes nothing
    result = kmeans(equal_rows(rows), 1, seed=0, iterations=1)
    assert result.sizes.tolist() == [rows]
    assert float(result.centroids[0, 0]) == pytest.approx(0.1, rel=1e-7)
    assert result.inertia == pytest.approx(0, abs=1e-7)


@pytest.mark.slow
def test_means_are_right_at_40_million_rows_in_one_cluster() -> None:
    result = kmeans(equal_rows(40_000_000), 1, seed=0, iterations=2)
    assert result.sizes.tolist() == [40_000_000]
    assert float(result.centroids[0, 0]) == pytest.approx(0.1, rel=1e-5)


def test_a_cluster_that_empties_leaves_no_residue_in_the_totals() -> None:
    features_ND = torch.cat([torch.full((100_000, 2), 1000.1), torch.full((3, 2), -1000.7)])
    first_KD = torch.tensor([[900.0, 900.0], [3000.0, 3000.0]])
    result = kmeans(features_ND, 2, seed=0, init=first_KD)
    assert sorted(result.sizes.tolist()) == [3, 100_000]
    small = result.centroids[int(result.sizes.argmin())]
    assert small.numpy() == pytest.approx(np.full(2, -1000.7), rel=1e-6)


# --- hard data ------------------------------------------------------------------------------------


def test_fewer_distinct_rows_than_clusters_leave_some_empty_and_nothing_is_nan() -> None:
    features_ND = torch.tensor([[1.0, 2.0], [1.0, 2.0], [5.0, 5.0]]).repeat(10, 1)
    result = kmeans(features_ND, 6, seed=0)
    assert torch.isfinite(result.centroids).all()
    assert result.sizes.sum() == 30
    assert sorted(result.sizes.tolist())[-2:] == [10, 20]
    assert result.inertia < 0.05
    assert result.reseeded > 0


@pytest.mark.parametrize("value", [0.0, 3.0, -1e6])
def test_constant_features_give_an_answer(value: float) -> None:
    result = kmeans(torch.full((50, 4), value), 3, seed=0)
    assert torch.isfinite(result.centroids).all()
    assert result.sizes.sum() == 50
    assert result.inertia <= 1e-6 * max(value**2, 1)


def test_as_many_clusters_as_rows_gives_each_its_own() -> None:
    result = kmeans(mixture(64, 5, 64), 64, seed=0)
    assert result.sizes.tolist() == [1] * 64
    assert result.inertia == pytest.approx(0, abs=1e-6)


def test_empty_clusters_are_reseeded_by_splitting_the_largest() -> None:
    features_ND = mixture(2000, 12, 8)
    far = torch.full((8, 12), 1e4) + torch.arange(8)[:, None]
    far[0] = 0  # all rows start in one cluster
    result = kmeans(features_ND, 8, seed=0, init=far, iterations=40)
    assert result.reseeded >= 7
    assert int(result.sizes.min()) > 0
    good = Reference(8, n_init=5, random_state=0).fit(features_ND.numpy())
    assert result.inertia < 3 * good.inertia_


@pytest.mark.parametrize("first", range(100, 220, 40))
def test_a_cluster_that_loses_all_of_its_rows_is_reseeded_as_well(first) -> None:
    """Of sums that rows were added to and taken from, rounding is left."""
    reseeded = 0
    for seed in range(first, first + 40):
        draws = np.random.default_rng(seed)
        centres_KD = draws.normal(size=(40, 2))[draws.integers(40, size=200)]
        features_ND = (centres_KD + draws.normal(size=(200, 2)) / 20).astype(np.float32)
        result = kmeans(features_ND, 30, seed=seed)
        assert result.inertia < 100, seed  # 200 rows around their mean have 400
        reseeded += result.reseeded
    assert reseeded > 0


def test_features_far_from_the_origin_cluster_as_well_as_centred_ones() -> None:
    features_ND = mixture(1000, 8, 6, apart=10)
    first_KD = features_ND[:6].clone()
    near = kmeans(features_ND, 6, seed=0, init=first_KD)
    far = kmeans(features_ND + 4096, 6, seed=0, init=first_KD + 4096)
    assert (near.labels == far.labels).float().mean() > 0.99
    assert far.inertia == pytest.approx(near.inertia, rel=1e-2)


def test_columns_of_very_different_scale_are_clustered_like_scikit_learn_does() -> None:
    features_ND = mixture(2000, 64, 10) * torch.logspace(0, -3, 64)
    first_KD = features_ND[:10].clone()
    ours = kmeans(features_ND, 10, seed=0, init=first_KD)
    theirs = Reference(10, init=first_KD.numpy(), n_init=1, max_iter=20, tol=0)
    assert ours.inertia == pytest.approx(theirs.fit(features_ND.numpy()).inertia_, rel=1e-3)


@pytest.mark.slow
def test_a_hundred_thousand_clusters() -> None:
    features_ND = mixture(150_000, 8, 1000)
    result = kmeans(features_ND, 100_000, seed=0, iterations=1)
    assert result.sizes.sum() == 150_000
    assert int(result.labels.max()) > 99_000
    sample = slice(0, 2000)
    distances = torch.cdist(features_ND[sample], result.centroids)
    chosen = distances.gather(1, result.labels[sample].long()[:, None]).flatten()
    assert (chosen <= distances.min(dim=1).values + 0.2).all()


def test_the_first_bad_rows_are_named_by_their_number(monkeypatch: pytest.MonkeyPatch) -> None:
    features_ND = mixture(100, 4, 3)
    features_ND[17, 2] = float("nan")
    with pytest.raises(SettingsError, match="Row 17 is not finite"):
        kmeans(features_ND, 3, seed=0)
    features_ND[[3, 50, 60, 70, 80, 99], 0] = float("inf")
    monkeypatch.setitem(_BLOCK_NUMBERS, "cpu", 40)  # chunks of ten rows
    with pytest.raises(
        SettingsError, match=r"Rows 3, 17, 50, 60, 70 are not finite \(there may be more\)"
    ):
        kmeans(features_ND, 3, seed=0)


# --- what may be clustered
# -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floating_types_cluster_like_float32(dtype: torch.dtype) -> None:
    features_ND = mixture(800, 8, 6, apart=8).to(dtype)
    result = kmeans(features_ND, 6, seed=0)
    assert torch.equal(result.labels, kmeans(features_ND.float(), 6, seed=0).labels)


def test_arrays_and_read_only_files_are_read_where_they_lie(tmp_path: Path) -> None:
    features_ND = mixture(900, 8, 6)
    np.save(tmp_path / "features.npy", features_ND.numpy())
    expected = kmeans(features_ND, 6, seed=0)
    for array in (
        np.load(tmp_path / "features.npy", mmap_mode="r"),
        np.asfortranarray(features_ND.numpy()),
        features_ND.numpy().astype(">f4"),
        np.flip(np.flip(features_ND.numpy(), 0).copy(), 0),
    ):
        assert torch.equal(kmeans(array, 6, seed=0).labels, expected.labels)
