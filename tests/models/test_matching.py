from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from seehear.config import Cluster
from seehear.data.placing import MODALITIES
from seehear.method.clusters import Clusters, Space, heads_of
from seehear.method.encoders import Pair
from seehear.method.encoders.pair import TWINS, modality_of
from seehear.method.features import Features
from seehear.method.kmeans import Clustering
from seehear.method.method import TEACHERS
from seehear.models.matching import Matching, fit_matching

ROWS, EVENTS, WIDTH = 240, 6, 12


class Nothing(torch.nn.Module):
    feature_dim = WIDTH


def planted(variant, turns=False):
    """A pair whose heads were fitted to clusters that follow six events, with features of both
    modalities. With turns the video encoder learned from clusters that have other numbers.
    """
    generator = torch.Generator().manual_seed(0)
    event_N = torch.arange(ROWS) % EVENTS
    features = {}
    for modality in MODALITIES:
        centres = torch.randn(EVENTS, WIDTH, generator=generator) * 2
        features[modality] = centres[event_N] + torch.randn(ROWS, WIDTH, generator=generator) * 0.5
    clusters, older = {}, {}
    for found in (clusters, older):
        for space in {space for taught in TEACHERS[variant].values() for space in taught}:
            # clusters have numbers of their own in each space
            order = torch.randperm(EVENTS, generator=generator)
            labels = order[event_N].int()
            centroids = torch.zeros(EVENTS, WIDTH * (2 if space == "joint" else 1))
            sizes = torch.bincount(labels)
            clustering = Clustering(labels, centroids, sizes, 0.0, reseeded=0, iterations=1)
            found[space] = Clusters(labels.numpy(), clustering, Space(()))
    outdated = {"video": {s: older[s] for s in TEACHERS[variant]["video"]}} if turns else {}
    twins = {name: Nothing() for name in TEACHERS[variant] if name in TWINS}
    pair = Pair(Nothing(), Nothing()).add_twins(twins)
    pair.register_parameter("somewhere", torch.nn.Parameter(torch.zeros(1)))
    pair.renew_heads(heads_of(clusters, TEACHERS[variant]), torch.Generator().manual_seed(1))
    optimizer = torch.optim.Adam(pair.heads.parameters(), lr=0.1)
    for _ in range(60):
        loss = sum(
            F.cross_entropy(
                head(features[modality_of(student)]),
                torch.from_numpy((clusters | outdated.get(student, {}))[name].labels_N).long(),
            )
            for student, heads in pair.heads.items()
            for name, head in heads.items()
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    rows = np.arange(ROWS)
    how = (clusters, Cluster(), rows, outdated)
    return fit_matching(pair, Features(rows, features), *how), features, event_N


@pytest.mark.parametrize(
    ("variant", "turns"),
    [*((variant, False) for variant in TEACHERS), ("mdc", True), ("cdc", True)],
)
def test_sights_find_sounds_of_the_same_event_and_the_reverse(variant, turns):
    matching, features, event_N = planted(variant, turns)
    described = {m: matching.describe(m, features[m]) for m in MODALITIES}
    scores_NN = matching.scores(described["video"], described["audio"])
    assert (scores_NN <= 1e-5).all()
    for scores in (scores_NN, scores_NN.T):
        assert (event_N[scores.argmax(dim=1)] == event_N).float().mean() > 0.97


@pytest.mark.parametrize("variant", TEACHERS)
def test_what_is_described_is_probability(variant):
    matching, features, _ = planted(variant)
    for modality in MODALITIES:
        described_NS = matching.describe(modality, features[modality])
        assert (described_NS >= 0).all()
        shared = matching.shared()
        torch.testing.assert_close(described_NS.sum(dim=1), torch.full((ROWS,), float(len(shared))))


def test_xdc_compares_by_a_head_on_one_side_and_prototypes_on_the_other():
    matching, features, _ = planted("xdc")
    assert matching.shared() == ("audio", "video")
    weight, bias = matching.heads["video"]["audio"]
    video = matching.distributions("video", features["video"])
    torch.testing.assert_close(
        video["audio"], F.softmax(features["video"] @ weight.T + bias, dim=1)
    )
    prepared = matching.spaces["video"]((features["video"],))
    own = F.softmax(matching.sharpness["video"] * prepared @ matching.prototypes["video"].T, dim=1)
    torch.testing.assert_close(video["video"], own)


def test_it_comes_back_from_its_tensors():
    for variant, turns in [*((variant, False) for variant in TEACHERS), ("mdc", True)]:
        matching, features, _ = planted(variant, turns)
        again = Matching.from_state_dict(matching.state_dict())
        for modality in MODALITIES:
            torch.testing.assert_close(
                again.describe(modality, features[modality]),
                matching.describe(modality, features[modality]),
            )
