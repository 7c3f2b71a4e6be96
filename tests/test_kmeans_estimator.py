"""Is `KMeans` what a program written for scikit-learn expects?"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.cluster import KMeans as Reference
from sklearn.exceptions import ConvergenceWarning
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

from kmeans_data import mixture
from seehear.kmeans import KMeans
from seehear.kmeans.estimator import EXPECTED_FAILURES


def test_scikit_learns_checks_pass() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # skipped checks and tiny data warn
        results = check_estimator(KMeans(), on_fail=None, on_skip=None, expected_failed_checks=EXPECTED_FAILURES)
    status = {result["check_name"]: result["status"] for result in results}
    assert not [name for name, what in status.items() if what == "failed"]
    assert {name for name, what in status.items() if what == "xfail"} == set(EXPECTED_FAILURES)
    assert sum(what == "passed" for what in status.values()) > 40


@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
def test_it_finds_the_clusters_that_scikit_learn_finds(precision: Any) -> None:
    features = mixture(1500, 10, 6, apart=12).numpy()
    ours = KMeans(6, random_state=0, n_init=3, precision=precision).fit(features)
    theirs = Reference(6, random_state=0, n_init=3).fit(features)
    assert ours.inertia_ == pytest.approx(theirs.inertia_, rel=1e-3)
    assert np.array_equal(ours.labels_, ours.predict(features))
    assert ours.score(features) == pytest.approx(-ours.inertia_, rel=1e-5)
    assert ours.transform(features).shape == (1500, 6)
    assert np.array_equal(ours.transform(features).argmin(1), ours.labels_)
    assert list(ours.get_feature_names_out()) == [f"kmeans{i}" for i in range(6)]


def test_it_is_cloned_and_piped_and_reads_tensors() -> None:
    features = mixture(300, 4, 3, apart=9)
    model = make_pipeline(StandardScaler(), clone(KMeans(3, random_state=1)))
    assert len(set(model.fit_predict(features.numpy()))) == 3
    narrow = KMeans(3, random_state=1, init="random").fit(features.bfloat16())
    assert np.array_equal(narrow.predict(features.bfloat16()), narrow.labels_)
    assert KMeans(3, random_state=0).fit(torch.as_tensor(features)).cluster_centers_.dtype == np.float32
    assert KMeans(3, random_state=0).fit(features.double().numpy()).cluster_centers_.dtype == np.float64


def test_too_few_samples_and_duplicates_are_said() -> None:
    with pytest.raises(ValueError, match="n_samples=2 should be >= n_clusters=3"):
        KMeans(3).fit(np.zeros((2, 2)))
    with pytest.warns(ConvergenceWarning, match=r"distinct clusters \(1\)"):
        KMeans(3, random_state=0).fit(np.ones((9, 2)))
    with pytest.raises(ValueError, match="relaxation is 3"):
        KMeans(3, relaxation=3).fit(np.ones((9, 2)))
