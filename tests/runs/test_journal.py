"""Warnings of collapse depend on K, and "no better than guessing" on how many videos are kept
out.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from seehear.runs.log import (
    FEW_RECORDINGS,
    chance_bound,
    collapse,
    effective_number,
    latest,
    warnings_of,
)

ALL_K = [2, 4, 8, 16, 64, 256, 1024]


def verdict(sizes_K: np.ndarray) -> str | None:
    facts = {
        "num_clusters": len(sizes_K),
        "largest": sizes_K.max(),
        "effective": effective_number(sizes_K),
    }
    return collapse(facts, int(sizes_K.sum()))


def spread(num_clusters: int, deviation: float) -> np.ndarray:
    """Sizes whose logarithms are normal, as quantiles, so that nothing is drawn."""
    places = (np.arange(num_clusters) + 0.5) / num_clusters
    return np.round(1000 * np.exp(deviation * stats.norm.ppf(places))).astype(int)


def test_the_effective_number_is_the_exponential_of_the_entropy():
    sizes = np.random.default_rng(0).integers(0, 50, 30)
    assert effective_number(sizes) == pytest.approx(np.exp(stats.entropy(sizes)))
    assert effective_number(np.full(16, 7)) == pytest.approx(16)
    assert effective_number(np.eye(16)[3]) == 1
    assert effective_number(np.zeros(4)) == 0


@pytest.mark.parametrize("k", ALL_K)
def test_sizes_of_healthy_clusterings_are_no_collapse(k):
    # 1.0 puts 57 % of all rows into one of 4
    deviations = (0.0, 0.5, 1.0) if k >= 64 else (0.0, 0.5)
    assert all(verdict(spread(k, deviation)) is None for deviation in deviations)


@pytest.mark.parametrize("k", ALL_K)
def test_one_large_cluster_is_a_collapse_whatever_k(k):
    rest = np.full(k - 1, 1000)
    shares = [1 / k, 0.5 / np.sqrt(k) + 0.5 / k, 1.1 / np.sqrt(k), 0.9]
    sizes = [np.append(rest, round(share / (1 - share) * rest.sum())) for share in shares]
    told = [verdict(s) for s in sizes]
    assert [text is not None for text in told] == [False, False, True, True]
    assert f"one of {k} holds 90% of all rows" in str(told[-1])


@pytest.mark.parametrize("k", [16, 64, 256, 1024])
def test_a_few_clusters_that_share_all_rows_are_a_collapse(k):
    def in_use(count: int) -> np.ndarray:
        return np.append(np.full(count, 1000), np.zeros(k - count, int))

    assert verdict(in_use(k // 4 - 1)) is not None
    assert verdict(in_use(k // 2)) is None


def test_a_tenth_of_all_rows_is_alarming_for_256_clusters_and_not_for_16():
    for k, is_alarming in ((256, True), (64, False), (16, False)):
        rest = np.full(k - 1, 1000)
        assert (verdict(np.append(rest, round(rest.sum() / 9))) is not None) == is_alarming


@pytest.mark.parametrize("chance", [1 / 256, 1 / 16, 0.25])
def test_guessing_is_rarely_called_better_than_guessing(chance):
    generator = np.random.default_rng(0)
    for videos in (FEW_RECORDINGS, 50, 1000):
        bound = chance_bound({"guessing": {"video": chance}, "heldout_recordings": videos}, "video")
        assert 0 <= bound < 0.51
        assert (generator.binomial(videos, chance, 20000) / videos > bound).mean() < 0.055
    assert (generator.binomial(1000, 4 * chance, 20000) / 1000 > bound).mean() > 0.95


def test_a_warning_that_stays_is_said_once():
    def entry(ends_at, losses):
        clusters = {"video": {**of, "num_clusters": 16}}
        return {
            "round": 1,
            "rows": 1600,
            "clusters": clusters,
            "between_recordings": {"video": 0.1, "chance": 0.1},
            "loss": {student: [3.0, ends_at] for student in losses},
            "heldout_accuracy": {},
            "steps": 10,
            "timing": {"waiting_share": 0.0},
        }

    of = {"largest": 100, "effective": 16.0, "centred": False}
    first, second = entry(2.771, ["video"]), entry(2.765, ["video", "audio"])
    assert len(warnings_of(first)) == 1
    assert "ends at 2.77," in warnings_of(first)[0]
    assert [text.split()[1] for text in warnings_of(second, first)] == ["audio"]
    assert warnings_of(second, second) == []
    assert len(warnings_of(second, entry(1.0, ["video"]))) == 2


def test_in_alternating_order_the_newest_of_each_student_counts_and_warns_once():
    def entry(number, student, ends_at):
        other = {"video": "audio", "audio": "video"}[student]
        return {
            "round": number,
            "rows": 1600,
            "clusters": {
                other: {"largest": 100, "effective": 16.0, "centred": False, "num_clusters": 16}
            },
            "between_recordings": {"video": 0.1, "audio": 0.1, "chance": 0.1},
            "loss": {student: [ends_at]},
            "heldout_accuracy": {},
            "steps": 10,
            "timing": {"waiting_share": 0.0},
        }

    rounds = [entry(0, "video", 2.8), entry(1, "audio", 1.0), entry(2, "video", 2.8)]
    newest = latest(rounds[:2])
    assert newest["loss"] == {"video": [2.8], "audio": [1.0]}
    assert list(newest["clusters"]) == ["video", "audio"]
    assert newest["round"] == 1
    several = [{"clusters": {f"{m}_{k}": {} for k in (8, 16, 64)}} for m in ("audio", "video")]
    names = ["video_8", "video_16", "video_64", "audio_8", "audio_16", "audio_64"]
    assert list(latest(several)["clusters"]) == names
    assert latest(rounds[:1])["loss"] == {"video": [2.8]}
    assert len(warnings_of(rounds[2], rounds[1])) == 1
    assert warnings_of(rounds[2], newest) == []
