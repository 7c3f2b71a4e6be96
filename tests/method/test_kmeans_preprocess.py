"""Do centring, PCA, whitening and normalising give what their definitions say?"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from kmeans_data import mixture
from seehear.errors import SettingsError
from seehear.method.kmeans import Preprocessing, fit_preprocessing
from seehear.method.kmeans.rows import _BLOCK_NUMBERS


@pytest.mark.parametrize("offset", [0.0, 500.0])
def test_whitening_agrees_with_scikit_learn(offset: float, monkeypatch: pytest.MonkeyPatch) -> None:
    mixing = torch.randn(12, 12, generator=torch.Generator().manual_seed(1))
    features_ND = mixture(2000, 12, 5) @ mixing + offset
    monkeypatch.setitem(_BLOCK_NUMBERS, "cpu", 12 * 300)  # several chunks
    ours = fit_preprocessing(features_ND, whiten=True, unit_length=False)
    theirs = PCA(whiten=True, svd_solver="full").fit(features_ND.double().numpy())
    expected = theirs.transform(features_ND.double().numpy())[:, :5]  # axes of distinct variance
    found = ours(features_ND).double().numpy()[:, :5]
    signs = np.sign((found * expected).sum(0))  # an axis has no sign of its own
    assert found == pytest.approx(expected * signs, abs=2e-3 * expected.std())


def test_whitened_rows_have_unit_covariance_and_flat_directions_stay_flat() -> None:
    features_ND = mixture(3000, 6, 3)
    features_ND = torch.cat([features_ND, features_ND[:, :2]], dim=1)  # rank 6 of 8
    white = fit_preprocessing(features_ND, whiten=True, unit_length=False)(features_ND)
    assert torch.isfinite(white).all()
    assert torch.cov(white[:, :6].T).numpy() == pytest.approx(np.eye(6), abs=1e-2)
    assert white[:, 6:].abs().max() < 1e-3


def test_centring_and_unit_length() -> None:
    features_ND = mixture(500, 7, 3) + 40
    fitted = fit_preprocessing(features_ND)
    assert fitted.mean_D is not None
    assert fitted.mean_D.numpy() == pytest.approx(features_ND.double().mean(0).numpy(), abs=1e-5)
    assert fitted(features_ND).norm(dim=1).numpy() == pytest.approx(np.ones(500), abs=1e-5)
    assert Preprocessing(None, None, True)(torch.zeros(2, 7)).tolist() == torch.zeros(2, 7).tolist()


def test_rows_of_another_width_are_refused() -> None:
    fitted = fit_preprocessing(mixture(400, 6, 3))
    with pytest.raises(SettingsError, match="have 5 columns; the fit had 6"):
        fitted(mixture(400, 5, 3))
