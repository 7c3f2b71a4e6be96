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


def planted(variant):
    """A pair whose heads were fitted to clusters that follow six events, with features of both
    modalities.
    """
    generator = torch.Generator().manual_seed(0)
    event_N = torch.arange(ROWS) % EVENTS
    features = {}
    for modality in MODALITIES:
        centres = torch.randn(EVENTS, WIDTH, generator=generator) * 2
        features[modality] = centres[event_N] + torch.randn(ROWS, WIDTH, generator=generator) * 0.5
    clusters = {}
    for space in {space for taught in TEACHERS[variant].values() for space in taught}:
        # clusters have numbers of their own in each space
        order = torch.randperm(EVENTS, generator=generator)
        labels = order[event_N].int()
        dim = WIDTH * (2 if space == "joint" else 1)
        clustering = Clustering(
            labels, torch.zeros(EVENTS, dim), torch.bincount(labels), 0.0, reseeded=0, iterations=1
        )
        clusters[space] = Clusters(labels.numpy(), clustering, Space(()))
    twins = {name: Nothing() for name in TEACHERS[variant] if name in TWINS}
    pair = Pair(Nothing(), Nothing()).add_twins(twins)
    pair.register_parameter("somewhere", torch.nn.Parameter(torch.zeros(1)))
    pair.renew_heads(heads_of(clusters, TEACHERS[variant]), torch.Generator().manual_seed(1))
    optimizer = torch.optim.Adam(pair.heads.parameters(), lr=0.1)
    for _ in range(60):
        loss = sum(
            F.cross_entropy(
                head(features[modality_of(student)]),
                torch.from_numpy(clusters[name].labels_N).long(),
            )
            for student, heads in pair.heads.items()
            for name, head in heads.items()
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return (
        fit_matching(
            pair, Features(np.arange(ROWS), features), clusters, Cluster(), np.arange(ROWS)
        ),
        features,
        event_N,
    )


@pytest.mark.parametrize("variant", TEACHERS)
def test_sights_find_sounds_of_the_same_event_and_the_reverse(variant):
    matching, features, event_N = planted(variant)
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
    for variant in TEACHERS:
        matching, features, _ = planted(variant)
        again = Matching.from_state_dict(matching.state_dict())
        for modality in MODALITIES:
            torch.testing.assert_close(
                again.describe(modality, features[modality]),
                matching.describe(modality, features[modality]),
            )
