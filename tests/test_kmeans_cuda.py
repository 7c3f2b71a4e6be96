"""Does k-means on a CUDA device find what it finds on the CPU?"""

from __future__ import annotations

import pytest
import torch

from kmeans_data import mixture
from seehear.kmeans import assign, balanced_kmeans, fit_preprocessing, kmeans
from seehear.kmeans.precision import Precision

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")]


@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
@pytest.mark.parametrize("init", [None, "k-means++"])
def test_labels_agree_with_those_of_the_cpu(precision: Precision, init: str | None) -> None:
    features_ND = torch.relu(mixture(20_000, 96, 50, apart=0.5))
    there = kmeans(features_ND.cuda(), 64, seed=0, precision=precision, init=init)  # type: ignore[arg-type]
    here = kmeans(features_ND, 64, seed=0, precision=precision, init=init)  # type: ignore[arg-type]
    assert there.labels.is_cuda
    assert (there.labels.cpu() == here.labels).float().mean() > 0.99
    assert there.inertia == pytest.approx(here.inertia, rel=1e-3)


def test_features_in_memory_are_streamed_to_the_device() -> None:
    features_ND = mixture(5000, 33, 20, apart=0.6).half()
    for precision in ("fp32", "bf16", "int8"):
        streamed = kmeans(features_ND.numpy(), 20, seed=0, precision=precision, device="cuda", chunk_rows=700)
        resident = kmeans(features_ND.cuda(), 20, seed=0, precision=precision)
        assert not streamed.labels.is_cuda
        assert (streamed.labels == resident.labels.cpu()).float().mean() > 0.99


def test_codes_give_the_same_bits_for_any_chunks() -> None:
    features_ND = mixture(7001, 40, 30, apart=0.5).cuda()
    for precision in ("bf16", "int8"):
        results = [kmeans(features_ND, 17, seed=5, precision=precision, chunk_rows=rows) for rows in (None, 333, 5000)]
        assert all(torch.equal(results[0].labels, other.labels) for other in results[1:])


def test_float32_stays_float32_where_tf32_is_permitted() -> None:
    features_ND = mixture(5000, 64, 20, apart=0.3).cuda()
    expected = kmeans(features_ND, 20, seed=0, precision="fp32")
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("high")
        assert torch.equal(kmeans(features_ND, 20, seed=0, precision="fp32").labels, expected.labels)
    finally:
        torch.set_float32_matmul_precision(before)


def test_the_rest_works_there_too() -> None:
    features_ND = mixture(3000, 24, 12, apart=0.7).cuda()
    white = fit_preprocessing(features_ND, components=8, whiten=True)(features_ND)
    balanced = balanced_kmeans(white, 10, seed=0)
    assert balanced.sizes.tolist() == [300] * 10
    assert assign(white, balanced.centroids, prices_K=balanced.prices).is_cuda
