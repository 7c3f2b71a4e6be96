"""Does k-means stay right on data that breaks others: huge clusters, duplicates, constants, far offsets, files?"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch

from kmeans_data import equal_rows, mixture
from seehear.errors import SettingsError
from seehear.kmeans import kmeans
from seehear.kmeans.precision import Precision
from seehear.kmeans.rows import Rows, measure

PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16", "int8")


# --- counts and totals ---------------------------------------------------------------------------------------------


def test_means_are_right_beyond_the_rows_that_float32_can_count() -> None:
    rows = 2**24 + 1000  # from here on, adding 1 to a float32 count changes nothing
    result = kmeans(equal_rows(rows), 1, seed=0, iterations=1, precision="fp32")
    assert result.sizes.tolist() == [rows]
    assert float(result.centroids[0, 0]) == pytest.approx(0.1, rel=1e-7)
    assert result.inertia == pytest.approx(0, abs=1e-7)


@pytest.mark.slow
@pytest.mark.parametrize("precision", PRECISIONS)
def test_means_are_right_at_40_million_rows_in_one_cluster(precision: Precision) -> None:
    result = kmeans(equal_rows(40_000_000), 1, seed=0, iterations=2, precision=precision)
    assert result.sizes.tolist() == [40_000_000]
    assert float(result.centroids[0, 0]) == pytest.approx(0.1, rel=1e-5)


def test_a_cluster_that_empties_leaves_no_residue_in_the_totals() -> None:
    features_ND = torch.cat([torch.full((100_000, 2), 1000.1), torch.full((3, 2), -1000.7)])
    first_KD = torch.tensor([[900.0, 900.0], [3000.0, 3000.0]])
    result = kmeans(features_ND, 2, seed=0, init=first_KD, precision="fp32")
    assert sorted(result.sizes.tolist()) == [3, 100_000]
    small = result.centroids[int(result.sizes.argmin())]
    assert small.numpy() == pytest.approx(np.full(2, -1000.7), rel=1e-6)


def test_weights_count_like_repeated_rows() -> None:
    features_ND = mixture(300, 6, 5)
    times = torch.randint(0, 4, (300,), generator=torch.Generator().manual_seed(0))
    first_KD = features_ND[:5].clone()
    plain = kmeans(features_ND.repeat_interleave(times, dim=0), 5, seed=0, init=first_KD, precision="fp32")
    for precision in PRECISIONS:
        close = 1e-6 if precision == "fp32" else 1e-2
        weighted = kmeans(features_ND, 5, seed=0, init=first_KD, weights_N=times, precision=precision)
        assert weighted.inertia == pytest.approx(plain.inertia, rel=close)
        assert weighted.history[0] == pytest.approx(plain.history[0], rel=close)
        assert weighted.sizes.sum() == 300


def test_the_measured_spread_is_right_and_ignores_a_few_far_rows() -> None:
    features_ND = mixture(4000, 20, 1, apart=0.0) * 2 + 7
    features_ND[5] = 1e9
    spread = measure(Rows(features_ND), seed=0)
    assert spread.centre_D.numpy() == pytest.approx(np.full(20, 7), abs=0.3)
    assert spread.typical == pytest.approx(2, rel=0.1)
    assert spread.typical <= spread.widest < 3


# --- hard data -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", PRECISIONS)
def test_fewer_distinct_rows_than_clusters_leave_some_empty_and_nothing_is_nan(precision: Precision) -> None:
    features_ND = torch.tensor([[1.0, 2.0], [1.0, 2.0], [5.0, 5.0]]).repeat(10, 1)
    result = kmeans(features_ND, 6, seed=0, precision=precision)
    assert torch.isfinite(result.centroids).all()
    assert result.sizes.sum() == 30
    assert sorted(result.sizes.tolist())[-2:] == [10, 20]
    assert result.inertia < 0.05
    assert result.reseeded > 0


@pytest.mark.parametrize("value", [0.0, 3.0, -1e6])
@pytest.mark.parametrize("init", ["random", "k-means++"])
def test_constant_features_give_an_answer(value: float, init: Literal["random", "k-means++"]) -> None:
    for precision in PRECISIONS:
        result = kmeans(torch.full((50, 4), value), 3, seed=0, init=init, precision=precision)
        assert torch.isfinite(result.centroids).all()
        assert result.sizes.sum() == 50
        assert result.inertia <= 1e-6 * max(value**2, 1)


def test_as_many_clusters_as_rows_gives_each_its_own() -> None:
    features_ND = mixture(64, 5, 64)
    for init in (None, "k-means++"):
        result = kmeans(features_ND, 64, seed=0, init=init)  # type: ignore[arg-type]
        assert result.sizes.tolist() == [1] * 64
        assert result.inertia == pytest.approx(0, abs=1e-6)


def test_empty_clusters_are_reseeded_by_splitting_the_largest() -> None:
    features_ND = mixture(2000, 12, 8)
    far = torch.full((8, 12), 1e4) + torch.arange(8)[:, None]
    far[0] = 0  # all rows start in one cluster
    for precision in PRECISIONS:
        result = kmeans(features_ND, 8, seed=0, init=far, precision=precision, iterations=40)
        assert result.reseeded >= 7
        assert int(result.sizes.min()) > 0
        good = kmeans(features_ND, 8, seed=0, init="k-means++", precision=precision, iterations=40)
        assert result.inertia < 3 * good.inertia


def test_features_far_from_the_origin_cluster_as_well_as_centred_ones() -> None:
    features_ND = mixture(1000, 8, 6, apart=10)
    first_KD = features_ND[:6].clone()
    for precision in PRECISIONS:
        near = kmeans(features_ND, 6, seed=0, init=first_KD, precision=precision)
        far = kmeans(features_ND + 4096, 6, seed=0, init=first_KD + 4096, precision=precision)
        assert (near.labels == far.labels).float().mean() > 0.99
        assert far.inertia == pytest.approx(near.inertia, rel=1e-2)


def test_columns_of_very_different_scale_survive_the_codes() -> None:
    features_ND = mixture(2000, 64, 10) * torch.logspace(0, -3, 64)
    exact = kmeans(features_ND, 10, seed=0, precision="fp32")
    for precision in PRECISIONS:
        coded = kmeans(features_ND, 10, seed=0, init=exact.labels, precision=precision)
        assert coded.inertia == pytest.approx(exact.inertia, rel=5e-3)


def test_wide_rows_keep_integer_scores_exact() -> None:
    features_ND = mixture(300, 5000, 6, apart=0.5)
    found = [kmeans(features_ND, 6, seed=0, precision=p) for p in PRECISIONS]
    for coded in found[1:]:
        assert coded.inertia == pytest.approx(found[0].inertia, rel=1e-3)
        assert (coded.labels == found[0].labels).float().mean() > 0.98


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["int8", "bf16"])
def test_a_hundred_thousand_clusters(precision: Precision) -> None:
    features_ND = mixture(150_000, 8, 1000)
    result = kmeans(features_ND, 100_000, seed=0, iterations=1, precision=precision)
    assert result.sizes.sum() == 150_000
    assert int(result.labels.max()) > 99_000
    sample = slice(0, 2000)
    distances = torch.cdist(features_ND[sample], result.centroids)
    chosen = distances.gather(1, result.labels[sample].long()[:, None]).flatten()
    assert (chosen <= distances.min(dim=1).values + 0.2).all()


def test_the_first_bad_rows_are_named_by_their_number() -> None:
    features_ND = mixture(100, 4, 3)
    features_ND[17, 2] = float("nan")
    with pytest.raises(SettingsError, match="Row 17 is not finite"):
        kmeans(features_ND, 3, seed=0)
    features_ND[[3, 50, 60, 70, 80, 99], 0] = float("inf")
    with pytest.raises(SettingsError, match=r"Rows 3, 17, 50, 60, 70 are not finite \(there may be more\)"):
        kmeans(features_ND, 3, seed=0, chunk_rows=10)


# --- what may be clustered -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floating_types_cluster_like_float32(dtype: torch.dtype) -> None:
    features_ND = mixture(800, 8, 6, apart=8).to(dtype)
    for precision in PRECISIONS:
        result = kmeans(features_ND, 6, seed=0, precision=precision)
        assert torch.equal(result.labels, kmeans(features_ND.float(), 6, seed=0, precision=precision).labels)


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
