from __future__ import annotations

import copy
from dataclasses import asdict, replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from sklearn.metrics import homogeneity_score

from driven import CPU, learn, rounds_of_pair, rounds_of_state
from planted import AS_DEBUG, planted_clips, tiny_settings
from seehear.config import override
from seehear.errors import MediaError
from seehear.method.agreement import ami, nmi
from seehear.method.clusters import UNLABELLED, cluster_features
from seehear.method.encoders.building import build_pair
from seehear.method.features import Features, calibrate
from seehear.method.learning import SAVE, Learning
from seehear.method.method import (
    TEACHERS,
    deep_cluster,
    final_clusters,
    outdated,
    teachers_in,
)
from seehear.method.state import Round, State
from seehear.runs.log import line, summary, warnings_of


def rounds_of(cfg, state=None, **kwargs):
    clips, classes_N = planted_clips(cfg, **kwargs)
    state = state or State(build_pair(cfg), CPU)
    return state.pair, rounds_of_state(state, clips, cfg), classes_N


def test_the_table_of_teachers_is_that_of_the_paper():
    other = {"video": "audio", "audio": "video"}
    for student, crossed in other.items():
        assert TEACHERS["sdc"][student] == (student,)
        assert TEACHERS["mdc"][student] == (student, crossed)
        assert TEACHERS["cdc"][student] == ("joint",)
        assert TEACHERS["xdc"][student] == (crossed,)
        twin = f"{student}2"
        assert TEACHERS["same-modality"][student] == (twin,)
        assert TEACHERS["same-modality"][twin] == (student,)


FOUR_ENCODERS = pytest.param("same-modality", marks=pytest.mark.thorough)


@pytest.mark.parametrize("variant", ["sdc", "mdc", "cdc", "xdc", FOUR_ENCODERS])
def test_planted_clusters_are_recovered_by_every_variant(variant):
    # Four times as many clusters as classes: with K right, or twice as many, some seeds lose a
    # class (0.72 to 0.93).
    learning = {"cluster.num_clusters": 16, "train.epochs": 3, "train.lr": 3e-3, "rounds": 3}
    cfg = tiny_settings({"variant": variant, **learning, **AS_DEBUG})
    _, rounds, classes_N = rounds_of(cfg)
    assert set(rounds[0].clusters) == {
        space for spaces in TEACHERS[variant].values() for space in spaces
    }
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


def shuffled_modality(clips, modality):
    """The same clips with the sounds, or the frames, of other rows."""
    key = {"video": "frames_GHWC", "audio": "waveform_L"}[modality]
    others = np.random.default_rng(9).permutation(len(clips))
    parts = [getattr(clips._cached[row], key) for row in others]
    clips._cached[:] = [
        replace(s, **{key: part}) for s, part in zip(clips._cached, parts, strict=True)
    ]
    return clips


def of_student(pair, student):
    return {name: value.clone() for name, value in pair.state_of([student]).items()}


def same(one, other):
    assert one.keys() == other.keys()
    return all(torch.equal(value, other[name]) for name, value in one.items())


@pytest.mark.parametrize("variant", ["sdc", FOUR_ENCODERS])
@pytest.mark.parametrize("student", ["video", "audio"])
def test_in_sdc_and_the_control_nothing_of_an_encoder_depends_on_the_other_sense(variant, student):
    """Labels, losses, stop and weights stay the same to the bit while the other sense's content
    changes rows.
    """
    other = {"video": "audio", "audio": "video"}[student]
    cfg = tiny_settings(
        {"variant": variant, "rounds": 2, "train.epochs": 4, "train.patience": 1, "train.lr": 0.02}
    )
    found = []
    for scramble in (False, True):
        clips, _ = planted_clips(cfg)
        pair = build_pair(cfg)
        rounds = rounds_of_pair(pair, shuffled_modality(clips, other) if scramble else clips, cfg)
        found.append((pair, rounds))
    (pair, rounds), (scrambled_pair, scrambled_rounds) = found
    for one, two in zip(rounds, scrambled_rounds, strict=True):
        assert np.array_equal(one.clusters[student].labels_N, two.clusters[student].labels_N)
        untimed = {"seconds": 0.0, "waiting_seconds": 0.0}
        assert asdict(one.learned[student]) | untimed == asdict(two.learned[student]) | untimed
        assert not np.array_equal(one.clusters[other].labels_N, two.clusters[other].labels_N)
    assert same(of_student(pair, student), of_student(scrambled_pair, student))
    assert not same(of_student(pair, other), of_student(scrambled_pair, other))


def test_the_control_has_two_encoders_a_sense_and_leaves_those_that_xdc_has():
    cfg = tiny_settings({"variant": "same-modality", "rounds": 2})
    of_xdc, pair = build_pair(override(cfg, {"variant": "xdc"})), build_pair(cfg)
    assert pair.modalities == ("video", "audio")
    for name in pair.modalities:
        weights = pair.encoders[name].state_dict()
        assert same(weights, of_xdc.encoders[name].state_dict())
        assert not same(weights, pair.encoders[f"{name}2"].state_dict())
    clips, _ = planted_clips(cfg)
    rounds = rounds_of_pair(pair, clips, cfg)
    assert rounds[1].learned.keys() == {"video", "audio", "video2", "audio2"}
    one, other = (pair.encoders[name].state_dict() for name in ("audio", "audio2"))
    assert not same(one, other)
    features, final = final_clusters(State(pair, CPU), clips, cfg)
    assert features.of.keys() == {"video", "audio"}
    assert final.keys() == {"video", "audio", "joint"}


def taught(cfg, clips, labels):
    """XDC's two students after one round's training on these labels."""
    pair, rows = build_pair(cfg), np.arange(len(clips))
    pair.renew_heads(
        {"video": {"audio": 4}, "audio": {"video": 4}}, torch.Generator().manual_seed(0)
    )
    for student in ("video", "audio"):
        which = {"train_rows": rows[8:], "heldout_rows": rows[:8], "students": (student,)}
        learn(pair, clips, labels, cfg.train, **which)
    return of_student(pair, "video"), of_student(pair, "audio")


def test_xdc_moves_each_encoder_only_by_the_other_ones_labels():
    """Other labels of one sense change its student alone; another content of a sense changes its
    own encoder alone.
    """
    cfg = tiny_settings()
    draw = np.random.default_rng(0).integers
    labels = {"video": draw(0, 4, 64).astype(np.int32), "audio": draw(0, 4, 64).astype(np.int32)}
    video, audio = taught(cfg, planted_clips(cfg)[0], labels)
    for teacher in ("video", "audio"):
        others = {**labels, teacher: draw(0, 4, 64).astype(np.int32)}
        video_then, audio_then = taught(cfg, planted_clips(cfg)[0], others)
        assert same(video, video_then) == (teacher == "video")
        assert same(audio, audio_then) == (teacher == "audio")
    for sense in ("video", "audio"):
        video_then, audio_then = taught(
            cfg, shuffled_modality(planted_clips(cfg)[0], sense), labels
        )
        assert same(video, video_then) == (sense == "audio")
        assert same(audio, audio_then) == (sense == "video")


def test_in_a_round_of_xdc_each_student_has_the_other_senses_labels_for_its_head():
    pair, rounds, _ = rounds_of(tiny_settings({"rounds": 1}))
    assert set(pair.heads["video"]) == {"audio"}
    assert set(pair.heads["audio"]) == {"video"}
    assert rounds[0].learned.keys() == rounds[0].learning.loss.keys() == {"video", "audio"}


def test_same_seed_same_bits_and_another_seed_not():
    runs = [rounds_of(tiny_settings({"seed": seed}))[:2] for seed in (0, 0, 1)]
    labels = [
        np.stack([c.labels_N for r in rounds for c in r.clusters.values()]) for _, rounds in runs
    ]
    states = [torch.cat([p.flatten() for p in pair.parameters()]) for pair, _ in runs]
    assert np.array_equal(labels[0], labels[1])
    assert torch.equal(states[0], states[1])
    assert not np.array_equal(labels[0], labels[2])


def test_going_on_after_a_round_is_the_same_as_never_stopping():
    cfg = tiny_settings({"rounds": 3})
    whole_pair, whole, _ = rounds_of(cfg)
    state, again = (State(build_pair(cfg), CPU) for _ in range(2))
    rounds_of(override(cfg, {"rounds": 1}), state)
    again.load_state_dict(copy.deepcopy(state.state_dict()))
    pair, rest, _ = rounds_of(cfg, again)
    assert [r.number for r in rest] == [1, 2]
    assert np.array_equal(rest[-1].clusters["video"].labels_N, whole[-1].clusters["video"].labels_N)
    assert all(
        torch.equal(a, b) for a, b in zip(pair.parameters(), whole_pair.parameters(), strict=True)
    )


def test_no_draw_comes_twice_in_a_run_whatever_a_student_stops_at(monkeypatch):
    cfg = tiny_settings({"rounds": 3, "train.epochs": 3, "train.patience": 1, "train.lr": 0.05})
    clips, _ = planted_clips(cfg)
    epochs, pieces = [], clips.pieces

    def watched(*args, **how):
        if isinstance(how["epoch"], int):
            epochs.append((how["epoch"], tuple(how["modalities"])))
        return pieces(*args, **how)

    monkeypatch.setattr(clips, "pieces", watched)
    rounds = rounds_of_pair(build_pair(cfg), clips, cfg)
    assert (
        len(set(epochs))
        == len(epochs)
        == sum(part.epochs for r in rounds for part in r.learned.values())
    )
    for number, now in enumerate(rounds):
        for student, part in now.learned.items():
            mine = [
                epoch
                for epoch, modalities in epochs
                if modalities == (student,) and epoch // 3 == number
            ]
            assert mine == [3 * number + i for i in range(part.epochs)]


@pytest.mark.thorough
def test_a_run_ends_when_its_clusters_have_agreed_with_the_last_ones_twice():
    """A rate of zero: nothing moves, and with warm starts neither do the clusters."""
    still = {"rounds": 9, "train.lr": 0.0, "train.weight_decay": 0.0, "cluster.warm_start": True}
    assert len(rounds_of(tiny_settings({**still, "rounds": 4}))[1]) == 4
    cfg = tiny_settings({**still, "stop_nmi": 0.7, "cluster.iterations": 100})
    state = State(build_pair(cfg), CPU)
    _, rounds, _ = rounds_of(cfg, state)
    moved = [
        min(nmi(c.labels_N, before.clusters[name].labels_N) for name, c in now.clusters.items())
        for before, now in zip(rounds, rounds[2:], strict=False)
    ]
    assert [now.stable for now in rounds[1:]][-2:] == [1, 2]
    assert all(x > 0.7 for x in moved[-2:])
    assert len(rounds) < 9
    assert rounds_of(cfg, state)[1] == []


def test_a_frozen_encoder_teaches_with_one_clustering_and_stays_as_it_was():
    of = {"rounds": 3, "start.audio": "a run", "start.frozen": "audio", "train.lr": 0.01}
    cfg = tiny_settings({**of, "train.order": "alternating", "train.warmup_share": 0.0})
    clips, _ = planted_clips(cfg)
    pair, heads = build_pair(cfg), []
    calibrate(pair, clips, CPU)  # as any trained encoder, it has seen data
    before = copy.deepcopy(pair.state_dict())
    rounds, ends = [], []
    for now in deep_cluster(State(pair, CPU), clips, cfg):
        if isinstance(now, Round):
            rounds.append(now)
            ends.append(pair.heads["video"]["audio"].weight.clone())
        elif now.number == 0 and now.stage == "video":
            heads.append(pair.heads["video"]["audio"].weight.clone())
    for name, value in pair.state_dict().items():
        if name.startswith("encoders.audio."):
            assert torch.equal(value, before[name]), name
    assert any(not torch.equal(pair.state_dict()[name], before[name]) for name in before)
    assert [[*now.learned] for now in rounds] == [["video"]] * 3
    first = rounds[0].clusters["audio"]
    assert all([*now.clusters.values()] == [first] for now in rounds)
    assert torch.equal(ends[0], heads[1])
    assert torch.equal(ends[1], heads[2])  # they learn on
    again = rounds_of(override(cfg, {"start.frozen": "none"}))[1]
    assert [[*now.learned] for now in again] == [["video"], ["audio"], ["video"]]


def test_a_trained_encoder_learns_from_a_new_one_once_that_has_learned():
    for variant in ("xdc", "mdc", "cdc", "sdc"):
        cfg = tiny_settings({"variant": variant, "start.audio": "a run"})
        assert [*teachers_in(cfg, 0)] == ["video", "audio"][: 2 if variant == "sdc" else 1]
        assert [*teachers_in(cfg, 1)] == ["video", "audio"]
        turns = override(cfg, {"train.order": "alternating"})
        assert [[*teachers_in(turns, n)] for n in range(3)] == [["video"], ["audio"], ["video"]]
        turns = override(turns, {"start.audio": "", "start.video": "a run"})
        assert [[*teachers_in(turns, n)] for n in range(3)] == [["audio"], ["video"], ["audio"]]
        both = override(cfg, {"start.video": "a run"})
        assert [*teachers_in(both, 0)] == ["video", "audio"]


def test_patience_that_can_do_nothing_is_said_once():
    cfg = tiny_settings({"rounds": 2, "train.patience": 2, "train.heldout_share": 0.001})
    clips, _ = planted_clips(cfg)
    said = []
    clips.say = said.append
    rounds = rounds_of_pair(build_pair(cfg), clips, cfg)
    assert len(said) == 1
    assert "train.patience is 2 and does nothing" in said[0]
    assert all(part.epochs == cfg.train.epochs for r in rounds for part in r.learned.values())


def test_encoders_that_have_seen_data_are_not_calibrated():
    cfg = tiny_settings({"rounds": 1, "train.lr": 0.0, "train.weight_decay": 0.0})
    clips, _ = planted_clips(cfg)
    pair = build_pair(cfg)
    pretrained = {
        name: value for name, value in pair.state_of(["video"]).items() if "running_mean" in name
    }
    for value in pretrained.values():  # as weights that have statistics and no count
        value.fill_(0.25)
    before = {name: value.clone() for name, value in pair.state_dict().items()}
    calibrate(pair, clips, CPU)
    after = pair.state_dict()
    assert all(
        torch.equal(after[n], v) for n, v in before.items() if n.startswith("encoders.video")
    )
    assert not all(
        torch.equal(after[n], v) for n, v in before.items() if n.startswith("encoders.audio")
    )
    once = {name: value.clone() for name, value in pair.state_dict().items()}
    clips.seed = 5  # other rows would be looked at
    calibrate(pair, clips, CPU)
    assert all(torch.equal(pair.state_dict()[name], value) for name, value in once.items())
    assert next(deep_cluster(State(pair, CPU), clips, cfg)).stage == "features"
    assert all(torch.equal(pair.state_dict()[name], value) for name, value in once.items())


def test_warm_start_keeps_the_names_of_clusters():
    cfg = tiny_settings({"rounds": 3, "cluster.warm_start": True, "variant": "sdc"})
    _, rounds, _ = rounds_of(cfg)
    for before, after in pairwise(rounds[1:]):
        assert np.mean(before.clusters["audio"].labels_N == after.clusters["audio"].labels_N) > 0.8


def test_rows_that_cannot_be_read_have_no_label_and_are_not_trained_on():
    cfg = tiny_settings({"rounds": 1})
    clips, _ = planted_clips(cfg)
    clips._cached[10] = MediaError("bad.mp4", "unreadable")
    (only,) = rounds_of_pair(build_pair(cfg), clips, cfg)
    for c in only.clusters.values():
        assert c.labels_N[10] == UNLABELLED
        assert (np.delete(c.labels_N, 10) >= 0).all()
        assert int(c.clustering.sizes.sum()) == 63


def test_clustering_all_spaces_joins_the_modalities():
    cfg = tiny_settings()
    clips, _ = planted_clips(cfg)
    features, found = final_clusters(State(build_pair(cfg), CPU), clips, cfg)
    assert features.video.shape == (64, 32)
    widths = {name: c.clustering.centroids.shape[1] for name, c in found.items()}
    assert widths == {"video": 32, "audio": 32, "joint": 64}


def test_the_journal_says_what_happened_and_warns():
    cfg = tiny_settings({"rounds": 2})
    _, rounds, _ = rounds_of(cfg)
    entry = summary(rounds[1], {"unreadable": 2}, TEACHERS["xdc"], 3)
    assert 0 <= entry["ami_video_audio"] <= 1
    _, several, _ = rounds_of(tiny_settings({"rounds": 1, "cluster.num_clusters": "3,5"}))
    alike = [
        ami(*(several[0].clusters[f"{space}_{k}"].labels_N for space in ("video", "audio")))
        for k in (3, 5)
    ]
    assert summary(several[0], {}, TEACHERS["xdc"], 3)["ami_video_audio"] == np.mean(alike)
    assert entry["unreadable"] == {"unreadable": 2}
    assert summary(rounds[0], {}, TEACHERS["xdc"], 3)["clusters"]["audio"]["nmi_last"] is None
    assert "round 2/2" in line(entry, 2)
    healthy = {
        **entry,
        "timing": {"waiting_share": 0.0},
        "loss": {"video": [1.3, 0.5], "audio": [1.3, 0.4]},
    }
    healthy["clusters"] = {
        name: {**c, "largest": 20, "effective": 3.5} for name, c in entry["clusters"].items()
    }
    assert warnings_of(healthy) == []
    collapsed = {**healthy, "clusters": {"video": {**healthy["clusters"]["video"], "largest": 40}}}
    assert (
        "video clusters collapse: one of 4 holds 62% of all rows, and 50% is alarming"
        in warnings_of(collapsed)[0]
    )
    assert (
        "video encoder learns nothing"
        in warnings_of({**healthy, "loss": {"video": [1.39, 1.385]}})[0]
    )
    several = {**healthy, "loss": {"video": [1.9, 1.5]}}  # guessing among 4 and 16 gives 2.08
    large = {**healthy["clusters"]["video"], "num_clusters": 16, "effective": 12.0}
    several["clusters"] = {"video_4": healthy["clusters"]["video"], "video_16": large}
    assert not any("learns nothing" in text for text in warnings_of(several))
    several["loss"] = {"video": [2.1, 2.075]}
    assert any("learns nothing" in text for text in warnings_of(several))
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


def test_final_clusters_are_not_of_whitened_features():
    cfg = tiny_settings({"rounds": 1, "cluster.features": "whiten"})
    clips, _ = planted_clips(cfg)
    state = State(build_pair(cfg), CPU)
    (taught,) = rounds_of_state(state, clips, cfg)
    assert all(c.space.parts[0].axes_DD is not None for c in taught.clusters.values())
    features, final = final_clusters(state, clips, cfg)
    for name, c in final_clusters(
        state, clips, override(cfg, {"cluster.features": "l2"}), features=features
    )[1].items():
        assert np.array_equal(c.labels_N, final[name].labels_N)
        assert final[name].space.parts[0].axes_DD is None


# --- one student a round, and recordings


@pytest.mark.parametrize("variant", TEACHERS)
def test_in_turns_each_learns_in_every_other_round_from_clusters_made_anew(variant):
    cfg = tiny_settings({"variant": variant, "train.order": "alternating", "rounds": 4})
    clips, _ = planted_clips(cfg)
    state = State(build_pair(cfg), CPU)
    before = {m: copy.deepcopy(e.state_dict()) for m, e in state.pair.encoders.items()}
    students, found = list(TEACHERS[variant]), []
    half = len(students) // 2
    turns = [students[:half], students[half:]]
    for now in rounds_one_by_one(state, clips, cfg):
        after = {m: copy.deepcopy(e.state_dict()) for m, e in state.pair.encoders.items()}
        moved = [m for m in after if any((after[m][k] != before[m][k]).any() for k in after[m])]
        found.append(moved if now.number else turns[0])  # in the first all are calibrated
        assert list(now.learned) == found[-1]
        teaching = [TEACHERS[variant][student] for student in found[-1]]
        assert set(now.clusters) == {space for spaces in teaching for space in spaces}
        before = after
    assert found == [*turns, *turns]
    assert set(state.last) == {space for of in TEACHERS[variant].values() for space in of}


def rounds_one_by_one(state, clips, cfg):
    return (now for now in deep_cluster(state, clips, cfg) if hasattr(now, "learned"))


def test_in_turns_a_line_of_the_log_compares_with_the_last_clusters_of_the_same_space():
    cfg = tiny_settings({"train.order": "alternating", "rounds": 3})
    _, rounds, _ = rounds_of(cfg)
    entries = [summary(r, {}, TEACHERS["xdc"], 3) for r in rounds]
    assert [list(e["clusters"]) for e in entries] == [["audio"], ["video"], ["audio"]]
    assert [list(e["guessing"]) for e in entries] == [["video"], ["audio"], ["video"]]
    assert entries[1]["clusters"]["video"]["nmi_last"] is None
    first, last = (rounds[i].clusters["audio"].labels_N for i in (0, 2))
    assert entries[2]["clusters"]["audio"]["nmi_last"] == nmi(first, last)
    assert entries[0]["ami_video_audio"] is None
    assert 0 <= entries[1]["ami_video_audio"] <= 1
    assert "round 3/3" in line(entries[2], 3)


@pytest.mark.parametrize(("variant", "back"), [("xdc", 2), ("sdc", 1), ("mdc", 1), ("cdc", 1)])
def test_clusters_are_compared_with_the_last_ones_of_their_own_chain(variant, back):
    cfg = tiny_settings({"variant": variant, "rounds": 4})
    _, rounds, _ = rounds_of(cfg)
    for number, entry in enumerate(summary(r, {}, TEACHERS[variant], 3) for r in rounds):
        for name, found in entry["clusters"].items():
            if number < back:
                assert found["nmi_last"] is None
            else:
                now, then = (rounds[i].clusters[name].labels_N for i in (number, number - back))
                assert found["nmi_last"] == nmi(now, then)


@pytest.mark.parametrize("variant", ["sdc", "mdc", "cdc", "xdc"])
def test_in_turns_it_is_known_which_clusters_a_head_names(variant):
    cfg = tiny_settings({"variant": variant, "train.order": "alternating", "rounds": 4})
    state = State(build_pair(cfg), CPU)
    _, rounds, _ = rounds_of(cfg, state)
    old = outdated(state, cfg)
    for student, learned_in in (("video", rounds[2]), ("audio", rounds[3])):
        for name in state.pair.heads_for(student):
            named = {**state.last, **old.get(student, {})}[name]
            assert np.array_equal(named.labels_N, learned_in.clusters[name].labels_N)
    assert set(old.get("video", {})) == {"mdc": {"video", "audio"}, "cdc": {"joint"}}.get(
        variant, set()
    )


@pytest.mark.parametrize("order", ["together", "alternating"])
def test_going_on_from_any_step_gives_the_same_bits(order):
    cfg = tiny_settings({"train.order": order, "rounds": 3, "cluster.warm_start": True})
    clips, _ = planted_clips(cfg)
    whole = State(build_pair(cfg), CPU)
    whole.request = SAVE
    kept = [
        copy.deepcopy(whole.state_dict())
        for now in deep_cluster(whole, clips, cfg)
        if getattr(now, "request", 0)
    ]
    for begun in (kept[0], kept[len(kept) // 2], kept[-1]):
        again = State(build_pair(cfg), CPU)
        again.load_state_dict(copy.deepcopy(begun))
        rounds_of_state(again, clips, cfg)
        assert again.round == 3
        for name, value in whole.pair.state_dict().items():
            assert torch.equal(value, again.pair.state_dict()[name]), name
        for name, c in whole.last.items():
            assert np.array_equal(c.labels_N, again.last[name].labels_N)
        assert again.older.keys() == whole.older.keys()
        for name, c in whole.older.items():
            assert np.array_equal(c.labels_N, again.older[name].labels_N)


@pytest.mark.parametrize("centre", ["all", "auto"])
def test_the_log_warns_of_clusters_that_tell_recordings_apart_unless_they_are_centred(centre):
    cfg = tiny_settings({"cluster.centre": centre})
    draws = np.random.default_rng(0)
    recording_N = np.repeat(np.arange(16, dtype=np.int32), 4)
    parts = {
        m: torch.from_numpy(
            draws.normal(size=(16, 8))[recording_N] * 3 + draws.normal(size=(64, 8))
        )
        for m in ("video", "audio")
    }
    features = Features(np.arange(64), {m: part.float() for m, part in parts.items()})
    found = cluster_features(features, recording_N, cfg, "cpu", 0, ["video", "audio"])
    learned = {"video": Learning(loss={"video": [0.5]}), "audio": Learning(loss={"audio": [0.5]})}
    entry = summary(Round(0, found, {}, learned), {}, TEACHERS["xdc"], 3)
    shares = entry["between_recordings"]
    assert shares["chance"] == pytest.approx(15 / 63, abs=1e-4)
    assert min(shares["video"], shares["audio"]) > 0.8
    said = [text for text in warnings_of(entry) if "tell recordings apart, not events" in text]
    assert len(said) == (2 if centre == "all" else 0)
    assert all("--cluster.centre auto" in text for text in said)
