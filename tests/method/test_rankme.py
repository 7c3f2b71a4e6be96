"""RankMe, against NumPy's singular values."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from seehear.method import rankme as room
from seehear.method.rankme import rankme


def slowly(features_ND: np.ndarray) -> float:
    share = np.linalg.svd(features_ND.astype(np.float64), compute_uv=False)
    share = share[share > 0] / share.sum()
    return float(np.exp(-(share * np.log(share)).sum()))


@pytest.mark.parametrize(("rows", "rank"), [(200, 8), (200, 3), (5, 8)])
def test_it_is_the_entropy_of_the_singular_values(rows, rank):
    draws = np.random.default_rng(rank)
    features_ND = draws.normal(size=(rows, rank)) @ draws.normal(size=(rank, 8)) + 1
    found = rankme(torch.from_numpy(features_ND).float(), np.arange(rows), rows)
    assert found == pytest.approx(slowly(features_ND), rel=1e-3)


def test_it_tells_collapse_from_none():
    rows_N = np.arange(64)
    assert rankme(torch.ones(64, 16), rows_N, 64) == pytest.approx(1, abs=1e-3)
    assert rankme(torch.eye(64), rows_N, 64) == pytest.approx(64)
    assert rankme(torch.zeros(64, 16), rows_N, 64) == 0


def test_of_many_rows_every_so_many_is_taken_whoever_has_them(monkeypatch):
    monkeypatch.setattr(room, "MOST_ROWS", 50)
    features_ND = np.random.default_rng(0).normal(size=(120, 6))
    features_ND[1::3] = features_ND[2::3] = 0  # 120 / 50, rounded up
    found = rankme(torch.from_numpy(features_ND), np.arange(120), 120)
    assert found == pytest.approx(slowly(features_ND[::3]))
    readable_n = np.setdiff1d(np.arange(120), [0, 3, 4])
    found = rankme(torch.from_numpy(features_ND[readable_n]), readable_n, 120)
    assert found == pytest.approx(slowly(features_ND[6::3]))
