"""Does k-means on a CUDA device find what it finds on the CPU?"""

from __future__ import annotations

import pytest
import torch

from kmeans_data import mixture
from seehear.method.kmeans import assign, fit_preprocessing, kmeans

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
]


def test_labels_agree_with_those_of_the_cpu() -> None:
    features_ND = torch.relu(mixture(20_000, 96, 50, apart=0.5))
    there = kmeans(features_ND.cuda(), 64, seed=0)
    here = kmeans(features_ND, 64, seed=0)
    assert there.labels.is_cuda
    assert (there.labels.cpu() == here.labels).float().mean() > 0.99
    assert there.inertia == pytest.approx(here.inertia, rel=1e-3)


def test_features_in_memory_are_streamed_to_the_device() -> None:
    features_ND = mixture(5000, 33, 20, apart=0.6).half()
    streamed = kmeans(features_ND.numpy(), 20, seed=0, device="cuda")
    resident = kmeans(features_ND.cuda(), 20, seed=0)
    assert not streamed.labels.is_cuda
    assert (streamed.labels == resident.labels.cpu()).float().mean() > 0.99


def test_float32_stays_float32_where_tf32_is_permitted() -> None:
    features_ND = mixture(5000, 64, 20, apart=0.3).cuda()
    expected = kmeans(features_ND, 20, seed=0)
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("high")
        assert torch.equal(kmeans(features_ND, 20, seed=0).labels, expected.labels)
    finally:
        torch.set_float32_matmul_precision(before)


def test_the_rest_works_there_too() -> None:
    features_ND = mixture(3000, 24, 12, apart=0.7).cuda()
    white = fit_preprocessing(features_ND, whiten=True)(features_ND)
    found = kmeans(white, 10, seed=0)
    assert torch.equal(assign(white, found.centroids), found.labels)
