"""How long a run will take: said before it starts and while it goes, and nothing else changes."""

from __future__ import annotations

import io
from contextlib import redirect_stderr

import numpy as np
import pytest
import torch

import seehear
from planted import planted_clips, tiny_settings
from seehear.config import override
from seehear.data.clips import Clips
from seehear.data.index import Index
from seehear.machine import console as console_module
from seehear.method.learning import FEATURES
from seehear.method.method import deep_cluster
from seehear.method.state import State
from seehear.models.model import load
from seehear.presets import preset_settings
from seehear.runs.pace import DAY_S, Pace, forecast

LONG = {"rounds": 3, "train.epochs": 2, "train.batch_size": 4, "compute.precision": "fp32"}
LONG |= {"compute.memory_format": "contiguous", "data.workers": 0}


@pytest.fixture(scope="module")
def watched(index_folder, tmp_path_factory) -> tuple[seehear.pretrain, str]:
    """A run that is long enough to be measured first, and all that it says."""
    with pytest.MonkeyPatch.context() as patch, redirect_stderr(io.StringIO()) as said:
        patch.setattr(console_module, "PLAIN_SECONDS", 0.0)
        out = tmp_path_factory.mktemp("pace") / "run"
        run = seehear.pretrain(index_folder, out, preset="debug", settings=LONG)
    return run, said.getvalue()


def test_the_estimate_comes_before_the_first_step(watched):
    lines = watched[1].splitlines()
    at = [n for n, line in enumerate(lines) if "measured on 2 steps" in line]
    first = next(n for n, line in enumerate(lines) if line.startswith("round 1/3"))
    assert len(at) == 1
    assert at[0] < first
    assert lines[at[0]].startswith("40 segments, 3 rounds: about ")
    assert " on this device; " in lines[at[0]]


def test_within_a_round_all_is_said_that_a_person_waits_for(watched):
    line = next(line for line in watched[1].splitlines() if line.startswith("round 2/3: audio: "))
    for part in (" clips/s, ", " left, ", "epoch 1/2, step ", "waiting for data ", "%"):
        assert part in line
    assert line.endswith(" for the whole run")
    rounds = [line for line in watched[1].splitlines() if "  RankMe " in line]
    assert len(rounds) == 3
    ranks = [entry["rankme"] for entry in watched[0].read_log()]
    assert all(1 <= rank <= 32 for entry in ranks for rank in entry.values())


def test_measuring_first_changes_no_bit_of_the_run(watched, index_folder):
    cfg = override(preset_settings("debug"), LONG)
    state = State.of(cfg)
    clips = Clips(Index.open(index_folder), cfg.clip, cfg.data, cfg.seed)
    clips.fill()
    for _ in deep_cluster(state, clips, cfg):
        pass
    found = load(watched[0].path).pair.state_dict()
    expected = {k: v for k, v in state.pair.state_dict().items() if not k.startswith("heads.")}
    assert found.keys() >= expected.keys()
    assert all(torch.equal(found[name], value) for name, value in expected.items())


def test_what_is_left_is_the_sum_of_all_stages_to_come():
    cfg = tiny_settings({"rounds": 5, "train.epochs": 3})
    clips, _ = planted_clips(cfg)
    pace = Pace(cfg, clips)
    train_rows, _ = clips.split(cfg.train.heldout_share)
    assert pace.left_s(0) is None, "nothing is known yet"
    pace.seconds = {FEATURES: 0.5, "video": 2.0, "audio": 0.25}
    pace.clustering_s = 7.0
    features, epoch = 0.5 * len(clips), len(train_rows)
    one = features + 7.0 + 3 * epoch * 2.25
    assert pace.left_s(0) == pytest.approx(5 * one + features + 7)
    assert pace.left_s(4, "video", epoch) == pytest.approx(
        (2 * 2.0 + 3 * 0.25) * epoch + features + 7
    )
    turns = Pace(
        tiny_settings({"rounds": 5, "train.order": "alternating", "train.epochs": 3}), clips
    )
    turns.seconds = pace.seconds
    assert turns.left_s(0) == pytest.approx(6 * features + 3 * epoch * (3 * 2.0 + 2 * 0.25))


def test_a_run_that_takes_more_than_a_day_names_the_demo():
    cfg = tiny_settings({"rounds": 10, "stop_nmi": 0.9})
    clips, _ = planted_clips(cfg)
    pace = Pace(cfg, clips)
    pace.seconds = dict.fromkeys((FEATURES, "video", "audio"), DAY_S / len(clips))
    said = forecast(pace, 240_000, 0, 20)
    assert said[0].startswith("240,000 segments, 10 rounds: at most about ")
    assert said[0].endswith(" days on this device; measured on 20 steps.")
    assert "--preset demo" in said[1]
    pace.seconds = dict.fromkeys(pace.seconds, 1e-3)
    assert len(forecast(pace, 240_000, 0, 20)) == 1
    assert forecast(pace, 240_000, 0, 0) == []


def test_steps_that_are_timed_count_no_failure_and_leave_short_runs_alone():
    cfg = tiny_settings({"rounds": 100})
    clips, _ = planted_clips(cfg)
    pace, before = Pace(cfg, clips), dict(clips.failures)
    steps = pace.measure(lambda: State.of(cfg), clips, 0)
    assert steps > 0
    assert pace.seconds.keys() == {FEATURES, "video", "audio"}
    assert min(pace.seconds.values()) > 0
    assert dict(clips.failures) == before
    short = Pace(tiny_settings({"rounds": 1}), clips)
    assert short.measure(lambda: pytest.fail("no encoders are made"), clips, 0) == 0
    assert np.isfinite(list(pace.seconds.values())).all()
