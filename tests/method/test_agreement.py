"""How far labellings agree beyond chance, and which number of clusters that chooses."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import adjusted_mutual_info_score

from seehear.method.agreement import ami, most_agreed, nmi
from seehear.method.clusters import UNLABELLED


@pytest.mark.parametrize("clusters", [2, 8, 40])
def test_beyond_chance_it_is_adjusted_mutual_information(clusters):
    rng = np.random.default_rng(clusters)
    labels_N = rng.integers(0, clusters, 500)
    others_N = np.where(rng.random(500) < 0.5, labels_N, 2 * rng.integers(0, clusters, 500))
    wanted = adjusted_mutual_info_score(labels_N, others_N)
    assert ami(labels_N, others_N) == pytest.approx(wanted, abs=0.02)
    assert ami(labels_N, labels_N) == pytest.approx(1)
    assert ami(labels_N, rng.permutation(labels_N)) < 0.02
    assert ami(0 * labels_N, 0 * labels_N) == ami(labels_N[:0], labels_N[:0]) == 0
    unread_N = np.full(100, UNLABELLED)
    more = np.concatenate([labels_N, unread_N]), np.concatenate([others_N, 0 * unread_N])
    assert ami(*more) == ami(labels_N, others_N)


def test_shown_first_is_the_number_of_clusters_on_which_the_senses_agree_beyond_chance():
    rng = np.random.default_rng(3)
    event_N = rng.integers(0, 6, 600)
    labels = {}
    for space in ("video", "audio", "joint"):
        # 3 clusters that no sense agrees on; 6 that are the events, with errors; 96 of the events'
        # parts, which agree in NMI as chance has it
        wrong_N = rng.random(600) < 0.3
        labels[f"{space}_3"] = rng.integers(0, 3, 600)
        labels[f"{space}_6"] = np.where(wrong_N, rng.integers(0, 6, 600), event_N)
        labels[f"{space}_96"] = event_N * 16 + rng.integers(0, 16, 600)
    plain = {k: nmi(labels[f"video_{k}"], labels[f"audio_{k}"]) for k in (6, 96)}
    assert plain[96] > plain[6]  # by NMI the many would win
    assert most_agreed(labels) == "joint_6"
    for space in ("video", "audio", "joint"):  # halves of events, on which both agree as well
        labels[f"{space}_12"] = labels[f"{space}_6"] * 2 + np.arange(600) % 2
    assert most_agreed(labels) == "joint_12"
    labels = {name: of for name, of in labels.items() if not name.endswith("_12")}
    assert most_agreed({n: of for n, of in labels.items() if n[0] != "j"}) == "video_6"
    assert most_agreed({"audio": labels["audio_3"]}) == "audio"
