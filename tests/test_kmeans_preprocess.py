"""Do centring, PCA, whitening and normalising give what their definitions say?"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from kmeans_data import mixture
from seehear.errors import CheckpointError, SettingsError
from seehear.kmeans import Preprocessing, fit_preprocessing


@pytest.mark.parametrize("whiten", [False, True])
@pytest.mark.parametrize("offset", [0.0, 500.0])
def test_components_agree_with_scikit_learn(whiten: bool, offset: float) -> None:
    features_ND = mixture(2000, 12, 5) @ torch.randn(12, 12, generator=torch.Generator().manual_seed(1)) + offset
    ours = fit_preprocessing(features_ND, components=5, whiten=whiten, unit_length=False, chunk_rows=300)
    theirs = PCA(5, whiten=whiten, svd_solver="full").fit(features_ND.double().numpy())
    expected = theirs.transform(features_ND.double().numpy())
    found = ours(features_ND, chunk_rows=77).double().numpy()
    signs = np.sign((found * expected).sum(0))  # an axis has no sign of its own
    assert found == pytest.approx(expected * signs, abs=2e-3 * expected.std())
    assert ours.explained_d is not None
    assert ours.explained_d.numpy() == pytest.approx(theirs.explained_variance_, rel=2e-3)


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
    alone = fit_preprocessing(features_ND, centre=False)
    assert alone.mean_D is None
    assert alone(torch.zeros(2, 7)).tolist() == torch.zeros(2, 7).tolist()


def test_rows_are_written_where_asked_in_the_type_asked() -> None:
    features_ND = mixture(400, 6, 3)
    fitted = fit_preprocessing(features_ND)
    expected = fitted(features_ND)
    out = torch.empty(400, 6, dtype=torch.float16)
    assert fitted(features_ND, out=out) is out
    assert out.float().numpy() == pytest.approx(expected.numpy(), abs=1e-3)
    in_place = features_ND.clone()
    fitted(in_place, out=in_place, chunk_rows=33)
    assert torch.equal(in_place, expected)
    with pytest.raises(SettingsError, match="out has the shape"):
        fitted(features_ND, out=torch.empty(3, 6))
    with pytest.raises(SettingsError, match="have 5 columns; the fit had 6"):
        fitted(features_ND[:, :5])
    with pytest.raises(SettingsError, match="components is 7"):
        fit_preprocessing(features_ND, components=7)


def test_a_preprocessing_survives_its_file(tmp_path: Path) -> None:
    features_ND = mixture(300, 6, 3)
    for options in ({"components": 3, "whiten": True}, {}, {"centre": False}, {"unit_length": False}):
        fitted = fit_preprocessing(features_ND, **options)  # type: ignore[arg-type]
        loaded = Preprocessing.load(fitted.save(tmp_path / "fit.safetensors"))
        assert torch.equal(loaded(features_ND), fitted(features_ND))
    (tmp_path / "broken").write_bytes(bytes(3))
    with pytest.raises(CheckpointError, match="cannot be read"):
        Preprocessing.load(tmp_path / "broken")
