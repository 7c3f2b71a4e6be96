from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from planted import planted_clips, tiny_settings
from seehear.config import Train
from seehear.errors import TrainingError
from seehear.model import build_pair
from seehear.numerics import Numerics
from seehear.sampling import epoch_rows, uniform_over_clusters
from seehear.trainer import learn, learning_rate, make_optimizer, saturated

CPU = Numerics("cpu", "fp32", "contiguous")


def learned(cfg, labels=None, heldout: int = 0):
    clips, classes_N = planted_clips(cfg)
    pair = build_pair(cfg)
    pair.renew_heads({"video": {"class": 4}, "audio": {"class": 4}}, torch.Generator().manual_seed(0))
    rows = np.arange(len(clips))
    labels = classes_N.astype(np.int32) if labels is None else labels
    learning = learn(
        pair,
        clips,
        {"class": labels},
        cfg.train,
        CPU,
        first_epoch=0,
        train_rows=rows[heldout:],
        heldout_rows=rows[:heldout],
    )
    return pair, learning


def test_encoders_learn_planted_labels_and_the_heldout_part_shows_it():
    cfg = tiny_settings({"train.epochs": 12, "train.lr": 3e-3, "encoders.video_width": 8})
    _, learning = learned(cfg, heldout=16)
    for student in ("video", "audio"):
        assert learning.loss[student][0] > learning.loss[student][-1]
        assert learning.heldout_accuracy[student][-1] >= 0.9
        assert len(learning.loss[student]) == learning.epochs == 12
    assert learning.clips == 12 * 48
    assert 0 <= learning.waiting_share < 1


def test_random_labels_are_not_predicted_on_heldout_clips():
    cfg = tiny_settings({"train.epochs": 4})
    _, learning = learned(cfg, labels=np.random.default_rng(0).integers(0, 4, 64).astype(np.int32), heldout=32)
    assert all(values[-1] < 0.6 for values in learning.heldout_accuracy.values())


def test_same_seed_same_bits_another_seed_others():
    first, _ = learned(tiny_settings())
    again, _ = learned(tiny_settings())
    other, _ = learned(tiny_settings({"seed": 1}))
    states = [p.state_dict() for p in (first, again, other)]
    assert all(torch.equal(a, b) for a, b in zip(states[0].values(), states[1].values(), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(states[0].values(), states[2].values(), strict=True))


def test_a_loss_that_is_not_finite_stops_and_says_what_to_do():
    cfg = tiny_settings({"train.lr": 1e30, "train.epochs": 3, "train.optimizer": "sgd", "train.warmup_share": 0})
    with pytest.raises(TrainingError, match=r"epoch \d+, step \d+.*train\.lr below"):
        learned(cfg)


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 12), st.integers(1, 300), st.integers(0, 5))
def test_every_cluster_is_drawn_equally_often_and_its_rows_evenly(clusters, count, seed):
    generator = np.random.default_rng(seed)
    rows = np.arange(100, 160)
    labels = generator.integers(0, clusters, len(rows)) ** 2
    drawn = uniform_over_clusters(rows, labels, count, generator)
    assert len(drawn) == count
    assert set(drawn) <= set(rows)
    per_cluster = np.array([np.isin(drawn, rows[labels == c]).sum() for c in np.unique(labels)])
    assert per_cluster.max() - per_cluster.min() <= 1
    for c in np.unique(labels):
        times = np.array([(drawn == row).sum() for row in rows[labels == c]])
        assert times.max() - times.min() <= 1


def test_an_epoch_is_as_long_as_the_rows_and_a_function_of_seed_and_epoch():
    rows = np.arange(50)
    labels = {"video": np.arange(50) % 7, "audio": np.arange(50) % 3}
    one = epoch_rows(rows, labels, seed=1, epoch=2, uniform=True)
    assert len(one) == 50
    assert np.array_equal(one, epoch_rows(rows, labels, seed=1, epoch=2, uniform=True))
    assert not np.array_equal(one, epoch_rows(rows, labels, seed=1, epoch=3, uniform=True))
    assert np.array_equal(np.sort(epoch_rows(rows, labels, seed=1, epoch=2, uniform=False)), rows)


def test_learning_rate_rises_then_falls_to_zero():
    cfg = Train(lr=0.1, warmup_share=0.1)
    rates = [learning_rate(step, 100, cfg) for step in range(100)]
    assert max(rates) == pytest.approx(0.1)
    assert rates.index(max(rates)) == 10
    assert all(a < b for a, b in pairwise(rates[:11]))
    assert all(a >= b for a, b in pairwise(rates[10:]))
    assert rates[-1] < 1e-4
    assert {learning_rate(s, 100, Train(lr=0.1, warmup_share=0, schedule="constant")) for s in range(1, 100)} == {0.1}


def test_a_round_is_saturated_when_the_best_is_patience_epochs_old():
    falling, rising = {"video": [3.0, 2.0, 1.0]}, {"video": [3.0, 1.0, 2.0, 2.5]}
    assert not saturated(falling, 1)
    assert saturated(rising, 2)
    assert not saturated(rising, 3)
    assert not saturated(rising, 0)
    assert not saturated({}, 2)


def test_weight_decay_spares_biases_and_norms():
    optimizer = make_optimizer(build_pair(tiny_settings()), Train(weight_decay=0.1))
    decays = {group["weight_decay"]: {p.ndim for p in group["params"]} for group in optimizer.param_groups}
    assert min(decays[0.1]) > 1
    assert max(decays[0.0]) == 1
    assert math.isclose(optimizer.param_groups[0]["momentum"], 0.9)
