from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from seehear.method.clusters import Space


def features(rows: int = 200, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (
        torch.randn(rows, 6, generator=generator) * torch.tensor([5.0, 3.0, 1.0, 0.5, 0.2, 0.1])
        + 10
    )


def test_l2_centres_and_gives_unit_length():
    x = features()
    prepared = Space.fit([x], "l2")([x])
    expected = (x - x.mean(dim=0)) / (x - x.mean(dim=0)).norm(dim=1, keepdim=True)
    torch.testing.assert_close(prepared, expected, rtol=1e-4, atol=1e-5)


def test_whitening_agrees_with_scikit_learn_up_to_rotation():
    x = features()
    ours = Space.fit([x], "whiten")
    theirs = PCA(whiten=True).fit_transform(x.double().numpy())
    projected = ((x - ours.parts[0].mean_D) @ ours.parts[0].axes_DD).numpy()
    scale = len(x) / (len(x) - 1)  # scikit-learn divides by N - 1
    np.testing.assert_allclose(projected @ projected.T, theirs @ theirs.T * scale, atol=5e-3)
    assert np.allclose(np.cov(projected.T, bias=True), np.eye(6), atol=1e-3)


def test_directions_without_variance_are_dropped_not_blown_up():
    x = features()
    x[:, 5] = x[:, 4] * 2
    space = Space.fit([x], "whiten")
    assert bool(space([x]).isfinite().all())
    projected = (x - space.parts[0].mean_D) @ space.parts[0].axes_DD
    assert int((projected.std(dim=0) > 1e-3).sum()) == 5


def test_the_joint_space_weighs_both_modalities_alike():
    a, b = features(seed=1), features(seed=2) * 1000
    joint = Space.fit([a, b], "l2")([a, b])
    assert joint.shape == (200, 12)
    torch.testing.assert_close(joint[:, :6].norm(dim=1), joint[:, 6:].norm(dim=1))
    torch.testing.assert_close(joint.norm(dim=1), torch.ones(200))


@pytest.mark.parametrize("kind", ["l2", "whiten", "none"])
def test_a_space_survives_saving_and_assigns_new_rows_alike(kind):
    parts = [features(seed=1), features(seed=2)]
    space = Space.fit(parts, kind)
    again = Space.from_state_dict(space.state_dict())
    new = [features(7, seed=3), features(7, seed=4)]
    assert torch.equal(space(new), again(new))


def test_none_leaves_features_alone():
    x = features()
    assert torch.equal(Space.fit([x], "none")([x]), x)
