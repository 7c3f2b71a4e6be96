from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from sklearn.metrics import homogeneity_score

from planted import AS_DEBUG, planted_clips, tiny_settings
from seehear.errors import MediaError
from seehear.journal import line, nmi, summary, warnings_of
from seehear.method import TEACHERS, cluster, deep_cluster
from seehear.model import build_pair
from seehear.numerics import Numerics
from seehear.spaces import UNLABELLED

CPU = Numerics("cpu", "fp32", "contiguous")


def rounds_of(cfg, last=None, pair=None, **kwargs):
    clips, classes_N = planted_clips(cfg, **kwargs)
    pair = pair or build_pair(cfg)
    return pair, list(deep_cluster(pair, clips, cfg, CPU, last)), classes_N


def test_the_table_of_teachers_is_that_of_the_paper():
    other = {"video": "audio", "audio": "video"}
    for student, crossed in other.items():
        assert TEACHERS["sdc"][student] == (student,)
        assert TEACHERS["mdc"][student] == (student, crossed)
        assert TEACHERS["cdc"][student] == ("joint",)
        assert TEACHERS["xdc"][student] == (crossed,)


@pytest.mark.parametrize("variant", TEACHERS)
def test_planted_clusters_are_recovered_by_every_variant(variant):
    # Twice as many clusters as classes: k-means with K right needs luck to put one seed into each.
    learning = {"cluster.num_clusters": 8, "train.epochs": 3, "train.lr": 3e-3, "rounds": 3}
    cfg = tiny_settings({"variant": variant, **learning, **AS_DEBUG})
    _, rounds, classes_N = rounds_of(cfg)
    assert set(rounds[0].clusters) == {space for spaces in TEACHERS[variant].values() for space in spaces}
    for name, c in rounds[-1].clusters.items():
        assert homogeneity_score(classes_N, c.labels_N) > 0.95, name


@pytest.mark.parametrize("variant", TEACHERS)
def test_each_student_has_one_head_for_every_clustering_of_its_teachers(variant):
    cfg = tiny_settings({"variant": variant, "rounds": 1, "cluster.num_clusters": "3,5"})
    pair, rounds, _ = rounds_of(cfg, rows=24)
    for student, spaces in TEACHERS[variant].items():
        heads = {name: head.out_features for name, head in pair.heads[student].items()}
        assert heads == {f"{space}_{k}": k for space in spaces for k in (3, 5)}
    assert all(c.labels_N.max() < int(name.split("_")[1]) for name, c in rounds[0].clusters.items())


def test_xdc_moves_each_encoder_only_by_the_other_ones_labels():
    """Scrambling what the audio says changes the video encoder's lesson, and not its own."""
    cfg = tiny_settings({"rounds": 1})
    (pair, rounds, _) = rounds_of(cfg)
    assert set(pair.heads["video"]) == {"audio"}
    assert set(pair.heads["audio"]) == {"video"}
    assert rounds[0].learning.loss.keys() == {"video", "audio"}


def test_same_seed_same_bits_and_another_seed_not():
    runs = [rounds_of(tiny_settings({"seed": seed}))[:2] for seed in (0, 0, 1)]
    labels = [np.stack([c.labels_N for r in rounds for c in r.clusters.values()]) for _, rounds in runs]
    states = [torch.cat([p.flatten() for p in pair.parameters()]) for pair, _ in runs]
    assert np.array_equal(labels[0], labels[1])
    assert torch.equal(states[0], states[1])
    assert not np.array_equal(labels[0], labels[2])


def test_going_on_after_a_round_is_the_same_as_never_stopping():
    cfg = tiny_settings({"rounds": 3})
    whole_pair, whole, _ = rounds_of(cfg)
    pair = build_pair(cfg)
    clips, _ = planted_clips(cfg)
    first = next(iter(deep_cluster(pair, clips, cfg, CPU)))
    pair, rest, _ = rounds_of(cfg, last=first, pair=pair)
    assert [r.number for r in rest] == [1, 2]
    assert np.array_equal(rest[-1].clusters["video"].labels_N, whole[-1].clusters["video"].labels_N)
    assert all(torch.equal(a, b) for a, b in zip(pair.parameters(), whole_pair.parameters(), strict=True))


def test_epochs_are_counted_over_the_whole_run_so_that_no_draw_comes_twice():
    _, rounds, _ = rounds_of(tiny_settings({"rounds": 3, "train.epochs": 2}))
    assert [r.next_epoch for r in rounds] == [2, 4, 6]


def test_warm_start_keeps_the_names_of_clusters():
    cfg = tiny_settings({"rounds": 3, "cluster.warm_start": True, "variant": "sdc"})
    _, rounds, _ = rounds_of(cfg)
    for before, after in pairwise(rounds[1:]):
        assert np.mean(before.clusters["audio"].labels_N == after.clusters["audio"].labels_N) > 0.8


def test_rows_that_cannot_be_read_have_no_label_and_are_not_trained_on():
    cfg = tiny_settings({"rounds": 1})
    clips, _ = planted_clips(cfg)
    clips._cached[10] = MediaError("bad.mp4", "unreadable")
    only = next(deep_cluster(build_pair(cfg), clips, cfg, CPU))
    for c in only.clusters.values():
        assert c.labels_N[10] == UNLABELLED
        assert (np.delete(c.labels_N, 10) >= 0).all()
        assert int(c.clustering.sizes.sum()) == 63


def test_clustering_all_spaces_joins_the_modalities():
    cfg = tiny_settings()
    clips, _ = planted_clips(cfg)
    found = cluster(build_pair(cfg), clips, cfg, CPU, 0, ("video", "audio", "joint"))
    widths = {name: c.clustering.centroids.shape[1] for name, c in found.items()}
    assert widths == {"video": 32, "audio": 32, "joint": 64}


def test_the_journal_says_what_happened_and_warns():
    cfg = tiny_settings({"rounds": 2})
    _, rounds, _ = rounds_of(cfg)
    entry = summary(rounds[1], rounds[0], {"unreadable": 2}, TEACHERS["xdc"], 3)
    assert entry["clusters"]["video"]["nmi_last"] == nmi(
        rounds[1].clusters["video"].labels_N, rounds[0].clusters["video"].labels_N
    )
    assert 0 <= entry["nmi_video_audio"] <= 1
    assert entry["unreadable"] == {"unreadable": 2}
    assert summary(rounds[0], None, {}, TEACHERS["xdc"], 3)["clusters"]["audio"]["nmi_last"] is None
    assert "round 2/2" in line(entry, 2)
    healthy = {**entry, "timing": {"waiting_share": 0.0}, "loss": {"video": [1.3, 0.5], "audio": [1.3, 0.4]}}
    healthy["clusters"] = {name: {**c, "largest": 20, "effective": 3.5} for name, c in entry["clusters"].items()}
    assert warnings_of(healthy) == []
    collapsed = {**healthy, "clusters": {"video": {**healthy["clusters"]["video"], "largest": 40}}}
    assert "video clusters collapse: one of 4 holds 62% of all rows, and 50% is alarming" in warnings_of(collapsed)[0]
    assert "video encoder learns nothing" in warnings_of({**healthy, "loss": {"video": [1.39, 1.385]}})[0]
    assert "waits for data 30%" in warnings_of({**healthy, "timing": {"waiting_share": 0.3}})[0]


@pytest.mark.parametrize(
    "changes",
    [
        {"cluster.points_per_centroid": 4},
        {"cluster.features": "whiten"},
        {"cluster.features": "none"},
    ],
)
def test_every_way_of_clustering_runs_and_keeps_its_word(changes):
    _, rounds, _ = rounds_of(tiny_settings({"rounds": 2, **changes}))
    for c in rounds[-1].clusters.values():
        assert int(c.clustering.sizes.sum()) == 64
