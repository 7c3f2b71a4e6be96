from __future__ import annotations

import copy
import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from driven import learn
from planted import planted_clips, tiny_settings
from seehear.config import Train
from seehear.data.order import (
    MOST_DRAWS,
    epoch_rows,
    equal_shares,
    share_seen,
    uniform_over_clusters,
)
from seehear.errors import TrainingError
from seehear.method.encoders.building import build_pair
from seehear.method.learning import SAVE, Sums
from seehear.method.step import make_optimizer
from seehear.method.train import learning_rate, saturated


def fresh_pair(cfg):
    pair = build_pair(cfg)
    pair.renew_heads(
        {"video": {"class": 4}, "audio": {"class": 4}}, torch.Generator().manual_seed(0)
    )
    return pair


def learned(cfg, labels=None, heldout: int = 0, pair=None, clips=None, **how):
    planted, classes_N = planted_clips(cfg)
    clips, pair = clips or planted, pair or fresh_pair(cfg)
    rows = np.arange(len(clips))
    labels = classes_N.astype(np.int32) if labels is None else labels
    learning = learn(
        pair,
        clips,
        {"class": labels},
        cfg.train,
        train_rows=rows[heldout:],
        heldout_rows=rows[:heldout],
        **how,
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
    _, learning = learned(
        cfg, labels=np.random.default_rng(0).integers(0, 4, 64).astype(np.int32), heldout=32
    )
    assert all(values[-1] < 0.6 for values in learning.heldout_accuracy.values())


def test_same_seed_same_bits_another_seed_others():
    first, _ = learned(tiny_settings())
    again, _ = learned(tiny_settings())
    other, _ = learned(tiny_settings({"seed": 1}))
    states = [p.state_dict() for p in (first, again, other)]
    assert all(
        torch.equal(a, b) for a, b in zip(states[0].values(), states[1].values(), strict=True)
    )
    assert not all(
        torch.equal(a, b) for a, b in zip(states[0].values(), states[2].values(), strict=True)
    )


def test_a_loss_that_is_not_finite_stops_and_says_what_to_do():
    cfg = tiny_settings(
        {"train.lr": 1e30, "train.epochs": 3, "train.optimizer": "sgd", "train.warmup_share": 0}
    )
    with pytest.raises(TrainingError, match=r"epoch \d+, step \d+.*train\.lr below"):
        learned(cfg)


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.sampled_from([1, 1, 1, 2, 3, 9, 40]), min_size=1, max_size=30),
    share=st.floats(0.1, 1.0),
    seed=st.integers(0, 5),
)
def test_clusters_are_drawn_equally_often_and_no_row_more_than_ten_times(sizes, share, seed):
    """Singletons and as many clusters as rows among them."""
    generator = np.random.default_rng(seed)
    labels_n = generator.permutation(np.repeat(np.arange(len(sizes)) ** 2, sizes))
    rows = np.arange(100, 100 + len(labels_n))
    count = max(1, int(share * len(rows)))
    drawn = uniform_over_clusters(rows, labels_n, count, generator)
    assert len(drawn) == count
    assert set(drawn) <= set(rows)
    times_n = np.array([(drawn == row).sum() for row in rows])
    assert times_n.max() <= MOST_DRAWS
    per_cluster = {c: times_n[labels_n == c] for c in np.unique(labels_n)}
    for times in per_cluster.values():
        assert times.max() - times.min() <= 1
    free = [times.sum() for times in per_cluster.values() if times.sum() < MOST_DRAWS * len(times)]
    full = [times.sum() for times in per_cluster.values() if times.sum() == MOST_DRAWS * len(times)]
    assert not free or max(free) - min(free) <= 1
    # what the cap frees goes to those that can take it
    assert not free or not full or max(full) <= max(free)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 50), min_size=1, max_size=20), st.floats(0, 1), st.integers(0, 3))
def test_shares_are_those_of_dealing_one_by_one(most, part, seed):
    """The slow reference: each turn, all that can still take get one, as long as there are enough
    for all of them.
    """
    count = int(part * sum(most))
    found = equal_shares(count, np.array(most), np.random.default_rng(seed))
    assert found.sum() == count
    assert (found <= most).all()
    slow, left = np.zeros(len(most), int), count
    while (can := slow < most).any() and left >= can.sum():
        slow[can] += 1
        left -= can.sum()
    assert (found - slow).min() >= 0
    assert (found - slow).max() <= 1


def test_an_epoch_is_as_long_as_the_rows_and_derives_from_its_seeds():
    rows = np.arange(50, dtype=np.int32)
    labels = {"video": np.arange(50) % 7, "audio": np.arange(50) % 3}
    one = epoch_rows(rows, labels, (1, 2), uniform=True)
    assert len(one) == 50
    assert one.dtype == np.int32
    assert np.array_equal(one, epoch_rows(rows, labels, (1, 2), uniform=True))
    assert not np.array_equal(one, epoch_rows(rows, labels, (1, 3), uniform=True))
    assert np.array_equal(np.sort(epoch_rows(rows, labels, (1, 2), uniform=False)), rows)


def test_each_clustering_has_its_share_of_the_draws_and_together_they_keep_the_cap():
    rows = np.arange(1000)
    # a singleton each
    labels = {"audio": (rows > 0).astype(int), "video": 1 - (rows == 999).astype(int)}
    drawn = epoch_rows(rows, labels, (0,), uniform=True)
    times = np.bincount(drawn, minlength=1000)
    assert times.max() <= MOST_DRAWS
    assert times[0] >= MOST_DRAWS // 2
    assert times[999] >= MOST_DRAWS // 2
    assert share_seen(drawn, rows) == len(set(drawn)) / 1000


def test_the_rate_rises_stays_and_falls_to_zero_in_the_last_epoch_whichever_that_is():
    cfg = Train(lr=0.1, warmup_share=0.1, epochs=4)
    for last in (1, 2, 3):  # epochs of 25 steps, of which at most 4
        rates = [
            learning_rate(step, 25, step // 25 == last, cfg) for step in range(25 * (last + 1))
        ]
        assert rates.index(max(rates)) == 10
        assert all(a < b for a, b in pairwise(rates[:11]))
        assert set(rates[10 : 25 * last + 1]) == {0.1}
        assert all(a > b for a, b in pairwise(rates[25 * last :]))
        assert rates[-1] < 0.1 * 0.02
    alone = [
        learning_rate(step, 100, True, Train(lr=0.1, warmup_share=0.1, epochs=1))
        for step in range(100)
    ]
    assert alone.index(max(alone)) == 10
    assert alone[-1] < 1e-4


def test_a_round_is_saturated_when_the_best_is_patience_epochs_old():
    falling, rising = {"video": [3.0, 2.0, 1.0]}, {"video": [3.0, 1.0, 2.0, 2.5]}
    assert not saturated(falling, 1)
    assert saturated(rising, 2)
    assert not saturated(rising, 3)
    assert not saturated(rising, 0)
    assert not saturated({}, 2)


def test_weight_decay_spares_biases_and_norms():
    optimizer = make_optimizer(build_pair(tiny_settings()), Train(weight_decay=0.1))
    decays = {
        group["weight_decay"]: {p.ndim for p in group["params"]} for group in optimizer.param_groups
    }
    assert min(decays[0.1]) > 1
    assert max(decays[0.0]) == 1
    assert math.isclose(optimizer.param_groups[0]["momentum"], 0.9)


# --- one student at a time


@pytest.mark.parametrize("student", ["video", "audio"])
def test_a_student_is_taught_by_itself_and_nothing_of_the_other_one_is_read_or_moves(
    student, monkeypatch
):
    cfg = tiny_settings({"train.epochs": 2})
    clips, _ = planted_clips(cfg)
    read, cut = set(), clips._cut

    def watched(row, epoch, modalities):
        read.update(modalities)
        crops = cut(row, epoch, modalities)
        read.update(
            [
                m
                for frames, sound, _ in crops
                for m, x in (("video", frames), ("audio", sound))
                if x is not None
            ]
        )
        return crops

    monkeypatch.setattr(clips, "_cut", watched)
    before = fresh_pair(cfg).state_dict()
    pair, learning = learned(cfg, heldout=8, clips=clips, students=(student,))
    assert read == {student}
    assert learning.loss.keys() == learning.heldout_loss.keys() == learning.seen.keys() == {student}
    for name, value in pair.state_dict().items():
        if name.split(".")[1] != student:
            assert torch.equal(value, before[name]), name
        elif value.ndim > 1:
            assert not torch.equal(value, before[name]), name


def test_after_saturation_the_last_epoch_begins_at_the_best_weights(monkeypatch):
    """The held-out losses are made up; which weights each epoch begins and ends with is looked
    at.
    """
    losses = iter([3.0, 1.0, 2.0, 2.5, 0.9])
    cfg = tiny_settings({"train.epochs": 9, "train.patience": 2, "train.warmup_share": 0.0})
    pair, rates, ends, begins = fresh_pair(cfg), [], [], []
    weights = lambda: copy.deepcopy(pair.state_of(["video"]))  # noqa: E731

    def measure(state, *_):
        yield from ()
        ends.append(weights())
        sums = Sums(["video"], "cpu")
        sums.add(torch.tensor([[next(losses) * 8, 0.0]], dtype=torch.float64), 8)
        return sums, False

    def rate(step, steps, is_last, train):
        if step % steps == 0:
            begins.append(weights())
        rates.append(learning_rate(step, steps, is_last, train))
        return rates[-1]

    monkeypatch.setattr("seehear.method.train.measure", measure)
    _, learning = learned(cfg, heldout=8, pair=pair, students=("video",), rate=rate)
    assert learning.epochs == 5
    assert learning.heldout_loss["video"] == [3.0, 1.0, 2.0, 2.5, 0.9]
    steps = len(rates) // 5
    assert set(rates[1 : 4 * steps]) == {cfg.train.lr}  # the first step alone warms up
    assert rates[-1] < 0.1 * cfg.train.lr
    for epoch, before in ((1, ends[0]), (2, ends[1]), (3, ends[2]), (4, ends[1])):
        assert all(torch.equal(value, before[name]) for name, value in begins[epoch].items()), epoch
    assert not all(torch.equal(value, ends[3][name]) for name, value in begins[4].items())


def test_a_round_that_does_not_saturate_ends_with_its_epochs_and_falls_to_zero_too():
    cfg = tiny_settings({"train.epochs": 3, "train.patience": 9})
    seen = []
    rate = lambda *at: seen.append((at[2], learning_rate(*at))) or seen[-1][1]  # noqa: E731
    _, learning = learned(cfg, heldout=8, students=("audio",), rate=rate)
    assert learning.epochs == 3
    assert [is_last for is_last, _ in seen] == [False] * (2 * len(seen) // 3) + [True] * (
        len(seen) // 3
    )
    assert seen[-1][1] < 0.1 * cfg.train.lr


@pytest.mark.parametrize("share", [0.1, 0.6, 0.95])
def test_going_on_at_any_step_gives_the_same_bits_also_after_saturation(share):
    """Patience 1 and a rate so high that the held-out loss turns: the best weights travel in the
    checkpoint.
    """
    cfg = tiny_settings({"train.epochs": 6, "train.patience": 1, "train.lr": 0.05})
    wanted_pair, wanted = learned(cfg, heldout=16, students=("video",))
    assert wanted.epochs < 6
    assert np.argmin(wanted.heldout_loss["video"][:-1]) < wanted.epochs - 2, (
        "the last epoch went back to an earlier one"
    )
    kept, again = [], fresh_pair(cfg)
    save = lambda state, request: kept.append(copy.deepcopy(state.state_dict()))  # noqa: E731
    learned(cfg, heldout=16, students=("video",), ask=lambda step: SAVE, save=save)
    assert len(kept) == wanted.steps
    begun = kept[int(share * len(kept))]
    _, found = learned(cfg, heldout=16, pair=again, students=("video",), begun=begun)
    assert (found.loss, found.heldout_loss, found.steps) == (
        wanted.loss,
        wanted.heldout_loss,
        wanted.steps,
    )
    for name, value in wanted_pair.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name


def test_any_loss_and_any_targets_can_be_learned():
    """Several classes a clip, by binary cross-entropy: what fine-tuning on such sets needs."""
    learning = {
        "train.epochs": 12,
        "train.lr": 3e-3,
        "encoders.video_width": 8,
        "train.uniform_clusters": False,
    }
    cfg = tiny_settings(learning)
    _, classes_N = planted_clips(cfg)
    targets_NK = (
        np.eye(4, dtype=np.float32)[classes_N] + np.eye(4, dtype=np.float32)[(classes_N + 1) % 4]
    )

    def several(scores_BK, targets_BK, smoothing):
        loss = torch.nn.functional.binary_cross_entropy_with_logits(
            scores_BK, targets_BK, reduction="sum"
        )
        return loss, ((scores_BK > 0) == (targets_BK > 0)).float().mean(dim=1).sum()

    _, learning = learned(cfg, labels=targets_NK, heldout=8, students=("video",), loss=several)
    assert learning.loss["video"][-1] < 0.7 * learning.loss["video"][0]
    assert learning.heldout_accuracy["video"][-1] > 0.8
