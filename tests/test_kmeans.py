"""Does k-means agree with scikit-learn, give the same bits again, and do what each option says?"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import KMeans as Reference
from torch import Tensor

from kmeans_data import mixture
from seehear.errors import CheckpointError, SettingsError
from seehear.kmeans import Clustering, assign, kmeans
from seehear.kmeans.drawing import draw_rows
from seehear.kmeans.precision import Precision

PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16", "int8")


def inertia_of(features_ND: Tensor, result: Clustering) -> float:
    return float((features_ND.double() - result.centroids.double()[result.labels.long()]).square().sum())


def same(one: Clustering, other: Clustering) -> bool:
    return bool(torch.equal(one.labels, other.labels) and torch.equal(one.centroids, other.centroids))


# --- against scikit-learn ------------------------------------------------------------------------------------------


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
    ours = kmeans(features_ND, clusters, seed=0, init=first_KD, iterations=100, precision="fp32")
    theirs = Reference(clusters, init=first_KD.numpy(), n_init=1, max_iter=100, tol=0).fit(features_ND.numpy())
    assert np.array_equal(ours.labels.numpy(), theirs.labels_)
    assert ours.inertia == pytest.approx(theirs.inertia_, rel=1e-4)


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 10**6), clusters=st.integers(2, 30))
def test_on_overlapping_data_inertia_equals_that_of_scikit_learn(seed: int, clusters: int) -> None:
    features_ND = torch.relu(mixture(1500, 24, 40, seed, apart=0.7))
    first_KD = features_ND[:clusters].clone()
    ours = kmeans(features_ND, clusters, seed=0, init=first_KD, iterations=8, precision="fp32")
    theirs = Reference(clusters, init=first_KD.numpy(), n_init=1, max_iter=8, tol=0).fit(features_ND.numpy())
    assert ours.inertia == pytest.approx(theirs.inertia_, rel=1e-4)
    assert ours.inertia == pytest.approx(inertia_of(features_ND, ours), rel=1e-6)


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 10**6), clusters=st.integers(2, 30), precision=st.sampled_from(["bf16", "int8"]))
def test_an_assignment_by_codes_is_as_good_as_one_in_float32(seed: int, clusters: int, precision: Precision) -> None:
    features_ND = torch.relu(mixture(1500, 24, 40, seed, apart=0.7))
    first_KD = features_ND[:clusters].clone()
    coded, exact = (
        kmeans(features_ND, clusters, seed=0, init=first_KD, iterations=0, precision=p) for p in (precision, "fp32")
    )
    assert coded.inertia == pytest.approx(exact.inertia, rel=1e-3)
    assert coded.inertia == pytest.approx(inertia_of(features_ND, coded), rel=1e-6)


def test_the_history_falls_and_ends_at_the_inertia() -> None:
    features_ND = mixture(3000, 16, 30)
    for precision in PRECISIONS:
        result = kmeans(features_ND, 20, seed=1, precision=precision)
        assert all(
            later <= earlier * 1.0001 for earlier, later in zip(result.history, result.history[1:], strict=False)
        )
        assert result.inertia == pytest.approx(result.history[-1], rel=2e-3)
        assert result.precision == precision
        assert result.sizes.dtype == torch.int64
        assert torch.equal(result.sizes, torch.bincount(result.labels, minlength=20))


# --- the same bits -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", ["int8", "bf16"])
@pytest.mark.parametrize("kind", ["plain", "weights", "warm", "sample", "plus", "spherical", "relaxed", "far"])
def test_codes_give_the_same_bits_for_any_chunks_and_threads(precision: Precision, kind: str) -> None:
    features_ND = torch.relu(mixture(700, 40, 30, apart=0.5)) * torch.linspace(0.1, 3, 40)
    if kind == "far":
        features_ND = features_ND + 300
    options: dict[str, Any] = {
        "weights": {"weights_N": torch.rand(700, generator=torch.Generator().manual_seed(3))},
        "warm": {"init": torch.arange(700) % 17},
        "sample": {"points_per_centroid": 20},
        "plus": {"init": "k-means++"},
        "spherical": {"spherical": True},
        "relaxed": {"relaxation": 1.4},
    }.get(kind, {})
    threads, results = torch.get_num_threads(), []
    try:
        for chunk_rows, many in ((None, threads), (41, 1), (333, 3)):
            torch.set_num_threads(many)
            results.append(kmeans(features_ND, 17, seed=5, precision=precision, chunk_rows=chunk_rows, **options))
    finally:
        torch.set_num_threads(threads)
    assert all(same(results[0], other) for other in results[1:])
    assert len(results[0].labels.unique()) == 17


def test_the_kernels_of_int8_give_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    from seehear.kmeans import kernels

    features_ND = mixture(500, 33, 9, apart=0.6)
    results = []
    for name in ("float", "int_mm", kernels.int8_kernel(torch.device("cpu"))):
        monkeypatch.setattr(kernels, "int8_kernel", lambda device, name=name: name)
        results.append(kmeans(features_ND, 9, seed=0, precision="int8"))
    assert all(same(results[0], other) for other in results[1:])


def test_the_same_seed_gives_the_same_bits_and_another_seed_other_ones() -> None:
    features_ND = mixture(600, 8, 12)
    one, two, three = (kmeans(features_ND, 12, seed=seed, precision="fp32") for seed in (0, 0, 1))
    assert same(one, two)
    assert not same(one, three)


def test_float32_stays_float32_where_the_process_permits_less() -> None:
    features_ND = mixture(3000, 64, 20, apart=0.3)
    expected = kmeans(features_ND, 20, seed=0, precision="fp32")
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("medium")  # bfloat16 operands, on a CPU with AMX
        assert same(kmeans(features_ND, 20, seed=0, precision="fp32"), expected)
    finally:
        torch.set_float32_matmul_precision(before)


# --- starts, samples, options --------------------------------------------------------------------------------------


def test_a_warm_start_reaches_in_three_moves_what_a_cold_one_does_in_twenty() -> None:
    features_ND = mixture(3000, 16, 40, apart=0.8)
    cold = kmeans(features_ND, 30, seed=0)
    moved = features_ND + 0.02 * torch.randn(features_ND.shape, generator=torch.Generator().manual_seed(1))
    for precision in PRECISIONS:
        warm = kmeans(moved, 30, seed=9, init=cold.labels, iterations=3, precision=precision)
        assert warm.inertia < 1.01 * cold.inertia
        assert (warm.labels == cold.labels).float().mean() > 0.9  # and keeps the clusters' numbers


def test_a_warm_start_does_with_unknown_labels_and_missing_clusters() -> None:
    features_ND = mixture(500, 6, 5)
    labels = torch.arange(500) % 3
    labels[:50] = -1
    result = kmeans(features_ND, 5, seed=0, init=labels.numpy())
    assert result.sizes.sum() == 500
    assert int(result.sizes.min()) > 0


def test_k_means_plus_plus_finds_separated_clusters() -> None:
    features_ND = mixture(2000, 10, 20, apart=40)
    for precision in PRECISIONS:
        result = kmeans(features_ND, 20, seed=3, init="k-means++", precision=precision)
        assert result.inertia < 1.5 * 2000 * 10


def test_a_search_on_a_sample_comes_close() -> None:
    features_ND = mixture(6000, 16, 30, apart=0.5)
    full = kmeans(features_ND, 10, seed=0)
    for precision in PRECISIONS:
        sampled = kmeans(features_ND, 10, seed=0, points_per_centroid=200, precision=precision)
        assert sampled.inertia < 1.01 * full.inertia
        assert sampled.sizes.sum() == 6000
    warm = kmeans(features_ND, 10, seed=0, points_per_centroid=200, init=full.labels)
    assert warm.inertia < 1.005 * full.inertia


def test_over_relaxation_gets_further_in_the_same_moves() -> None:
    features_ND = mixture(4000, 24, 60, apart=0.4)
    plain, relaxed = (kmeans(features_ND, 40, seed=0, iterations=10, relaxation=r).inertia for r in (1.0, 1.4))
    assert relaxed < plain


def test_spherical_centroids_have_unit_length() -> None:
    features_ND = torch.nn.functional.normalize(mixture(1500, 12, 9), dim=1)
    for precision in PRECISIONS:
        result = kmeans(features_ND, 9, seed=0, spherical=True, precision=precision)
        assert result.centroids.norm(dim=1).numpy() == pytest.approx(np.ones(9), abs=1e-5)
        assert (result.labels == (features_ND @ result.centroids.T).argmax(1)).float().mean() > 0.99


def test_the_tolerance_stops_early() -> None:
    features_ND = mixture(2000, 8, 30, apart=0.3)
    early, late = (kmeans(features_ND, 20, seed=0, iterations=200, tolerance=t) for t in (1e-2, 0.0))
    assert early.converged
    assert early.iterations < late.iterations


def test_more_clusters_than_a_tile_of_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    features_ND = mixture(10_000, 6, 50)
    found = {p: kmeans(features_ND, 4999, seed=0, iterations=1, precision=p) for p in PRECISIONS}
    for result in found.values():
        assert result.sizes.sum() == 10_000
    monkeypatch.setattr("seehear.kmeans.scores._TILE_CLUSTERS", 8192)
    whole = kmeans(features_ND, 4999, seed=0, iterations=1, precision="int8")
    assert torch.equal(whole.labels, found["int8"].labels)


def test_auto_takes_float32_when_small_and_otherwise_what_is_as_good(monkeypatch: pytest.MonkeyPatch) -> None:
    assert kmeans(mixture(100, 4, 3), 3, seed=0).precision == "fp32"
    features_ND = mixture(20_000, 64, 30, apart=0.5)
    monkeypatch.setattr("seehear.kmeans.precision._SMALL", 0)
    result = kmeans(features_ND, 256, seed=0, iterations=1)
    assert result.precision in PRECISIONS
    exact = kmeans(features_ND, 256, seed=0, iterations=1, precision="fp32")
    assert result.inertia == pytest.approx(exact.inertia, rel=2e-3)


def test_the_final_assignment_in_float32_is_that_of_assign() -> None:
    features_ND = mixture(2000, 32, 40, apart=0.3)
    for precision in PRECISIONS:
        result = kmeans(features_ND, 30, seed=0, precision=precision, final_precision="fp32")
        assert torch.equal(result.labels, assign(features_ND, result.centroids))


def test_unusable_arguments_say_what_to_give() -> None:
    features_ND = mixture(20, 3, 2)
    calls: list[tuple[Callable[[], object], str]] = [
        (lambda: kmeans(features_ND, 21, seed=0), "num_clusters is 21"),
        (lambda: kmeans(features_ND, 0, seed=0), "num_clusters is 0"),
        (lambda: kmeans(features_ND[0], 1, seed=0), "must be .rows, columns."),
        (lambda: kmeans(features_ND.long(), 1, seed=0), "must be float32"),
        (lambda: kmeans(features_ND, 2, seed=0, iterations=-1), "iterations is -1"),
        (lambda: kmeans(features_ND, 2, seed=0, relaxation=2.0), "relaxation is 2.0"),
        (lambda: kmeans(features_ND, 2, seed=0, precision="fp8"), "precision is 'fp8'"),  # type: ignore[arg-type]
        (lambda: kmeans(features_ND, 2, seed=0, init="best"), "init is 'best'"),  # type: ignore[arg-type]
        (lambda: kmeans(features_ND, 2, seed=0, init=torch.zeros(3, 3)), r"First centroids are \(2, 3\)"),
        (lambda: kmeans(features_ND, 2, seed=0, init=torch.full((20,), 2)), "labels from 2 to 2"),
        (lambda: kmeans(features_ND, 2, seed=0, init=torch.zeros(19, dtype=torch.int64)), "one for each of the 20"),
        (lambda: kmeans(features_ND, 2, seed=0, weights_N=-torch.ones(20)), "20 weights are negative"),
        (lambda: kmeans(features_ND, 2, seed=0, weights_N=torch.zeros(20)), "All weights are 0"),
        (lambda: kmeans(features_ND, 2, seed=0, points_per_centroid=0), "points_per_centroid is 0"),
        (lambda: assign(features_ND, torch.zeros(2, 4)), "rows have 3 columns"),
    ]
    for call, message in calls:
        with pytest.raises(SettingsError, match=message):
            call()


# --- the file, and the draw ----------------------------------------------------------------------------------------


def test_a_clustering_survives_its_file(tmp_path: Path) -> None:
    result = kmeans(mixture(200, 4, 3), 3, seed=0)
    loaded = Clustering.load(result.save(tmp_path / "clusters.safetensors"))
    assert same(result, loaded)
    assert torch.equal(result.sizes, loaded.sizes)
    assert (loaded.inertia, loaded.history, loaded.precision) == (result.inertia, result.history, result.precision)
    assert [path.name for path in tmp_path.iterdir()] == ["clusters.safetensors"]


def test_a_file_that_is_no_clustering_is_an_error(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    (tmp_path / "broken").write_bytes(b"\x08" + bytes(40))
    save_file({"labels": torch.zeros(1)}, tmp_path / "other")
    for name, message in (("broken", "cannot be read"), ("other", "is of the format"), ("missing", "cannot be read")):
        with pytest.raises(CheckpointError, match=message):
            Clustering.load(tmp_path / name)


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
