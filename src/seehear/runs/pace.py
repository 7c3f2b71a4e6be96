"""How long does a whole run take on this device? Measured on a few steps before it starts, and
then as it goes.

The steps before the start are of the run's own kind, by encoders that are thrown away: nothing of
the run is drawn, changed or counted for them.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch

from seehear.config import Settings
from seehear.data.clips import Clips
from seehear.errors import NotFiniteError
from seehear.machine import distributed
from seehear.machine.console import duration
from seehear.machine.devices import synchronise
from seehear.method.features import extracting, rows_of_this_rank
from seehear.method.learning import FEATURES
from seehear.method.method import TEACHERS, clustered_in, teachers_in
from seehear.method.state import State
from seehear.method.train import Course, train

STEPS = 20  # timed of each student
SHARE = 0.02  # but no more of a run's steps than this
SECONDS = 10.0  # and about no longer for each
FORWARD_SHARE = 1 / 3  # of the time of a training step, roughly
DAY_S = 86_400.0


class Pace:
    """What is planned, how long a clip of each stage takes, and what is left.

    A round is the stages "features" and each student's. `seconds` has those of a clip of each, as
    far as they are known; a student may end early, so what is left is an upper bound.
    """

    def __init__(self, cfg: Settings, clips: Clips) -> None:
        train_rows, heldout_rows = clips.split(cfg.train.heldout_share)
        self.cfg, self.rows = cfg, train_rows
        self.heldout_share = len(heldout_rows) / max(1, len(train_rows))
        self.features = len(rows_of_this_rank(clips))
        self.clips = cfg.train.epochs * len(train_rows)  # of a student and round, over all ranks
        self.batches = len(train_rows) // max(1, min(cfg.train.batch_size, len(train_rows)))
        self.seconds: dict[str, float] = {}
        self.stage, self.clustering_s = "", 0.0
        self._begin_s = self._seen_s = self._first = self._done = 0.0

    def stages(self, number: int) -> dict[str, int]:
        """Those of a round, in order, with their clips."""
        students = teachers_in(self.cfg, number)
        spaces, _ = clustered_in(self.cfg, number)
        first = {FEATURES: self.features} if spaces else {}
        return first | dict.fromkeys(students, self.clips)

    def see(self, stage: str, done: int) -> bool:
        """Note how far a stage is; says whether it is a new one."""
        now, is_new = time.perf_counter(), stage != self.stage
        if is_new:
            if self._done > self._first:
                self.seconds[self.stage] = self._speed(self._done)
            if self.stage == FEATURES:
                self.clustering_s = now - self._seen_s
            self.stage, self._begin_s, self._first = stage, now, done
        self._done, self._seen_s = done, now
        return is_new

    def end_round(self) -> None:
        """The next stage is of another round."""
        self.see("", 0)

    @property
    def elapsed_s(self) -> float:
        """Of the stage at hand, in this process."""
        return time.perf_counter() - self._begin_s

    def _speed(self, done: float) -> float:
        return (self._seen_s - self._begin_s) / (done - self._first)

    def left_s(self, number: int, stage: str = "", done: int = 0) -> float | None:
        """Until the end of the run, from within a stage of a round; None if that is not known.

        Args:
            stage: by default the round's first.
            done: clips of it.
        """
        known = dict(self.seconds)
        if stage == self.stage and self._done > self._first:
            known[stage] = self._speed(self._done)
        here = self.stages(number)
        order = list(here)
        at = order.index(stage) if stage else 0
        wanted = [(name, here[name]) for name in order[at:]]
        for later in range(number + 1, self.cfg.rounds):
            wanted += self.stages(later).items()
        wanted.append((FEATURES, self.features))  # of the finished encoders
        if any(name not in known for name, _ in wanted):
            return None
        seconds = sum(clips * known[name] for name, clips in wanted) - done * known[wanted[0][0]]
        rounds = self.cfg.rounds - number + 1 - (at > 0)
        return max(0.0, seconds + rounds * self.clustering_s)

    @property
    def at_most(self) -> str:
        """What to say before a time: whether a run may be over sooner is in its settings."""
        return "at most " * bool(self.cfg.train.patience or self.cfg.stop_nmi)

    def measure(self, new_state: Callable[[], State], clips: Clips, number: int) -> int:
        """Time some steps from a round on; returns how many, 0 where the run is too short for that.

        Args:
            new_state: makes encoders like the run's, which are used up.
        """
        planned = sum(len(teachers_in(self.cfg, n)) for n in range(number, self.cfg.rounds))
        steps = min(STEPS, int(SHARE * planned * self.batches * self.cfg.train.epochs))
        if not steps:
            return 0
        state, apart = new_state(), clips.apart()
        try:
            for student in TEACHERS[self.cfg.variant]:
                if student != self.cfg.start.frozen:
                    steps, self.seconds[student] = self._time_student(state, apart, student, steps)
        except NotFiniteError:  # the run itself will tell
            return 0
        slowest = max(self.seconds.values())
        self.seconds[FEATURES] = time_features(state, apart, slowest * FORWARD_SHARE)
        for student in self.seconds.keys() - {FEATURES}:  # who is also measured after each epoch
            self.seconds[student] += self.heldout_share * self.seconds[FEATURES]
        return steps

    def _time_student(
        self, state: State, clips: Clips, student: str, steps: int
    ) -> tuple[int, float]:
        """Steps, fewer or smaller ones where they are slow; their number and seconds a clip."""
        batch = min(self.cfg.train.batch_size, len(self.rows))
        least = min(batch, max(4, 2 * distributed.world_size()))
        clip_s = self._time_steps(state, clips, student, least, 1)  # after one that warms up
        steps = max(1, min(steps, int(SECONDS / (clip_s * batch))))
        batch = max(least, min(batch, int(SECONDS / clip_s / steps)))
        return steps, self._time_steps(state, clips, student, batch, steps)

    def _time_steps(
        self, state: State, clips: Clips, student: str, batch: int, steps: int
    ) -> float:
        """Seconds a clip in so many steps after a first one, the most of all ranks."""
        num_clusters = self.cfg.cluster.num_clusters[0]
        draws = torch.Generator().manual_seed(0)
        state.pair.renew_heads({student: {"labels": num_clusters}}, draws)
        rows = evenly_spread(self.rows, batch * (steps + 1))
        epochs = math.ceil((steps + 1) / (len(rows) // batch))
        cfg = replace(self.cfg.train, epochs=epochs, patience=0, batch_size=batch)
        course = Course(
            (student,),
            {"labels": np.broadcast_to(np.int32(0), len(clips))},
            train_rows=rows,
            heldout_rows=rows[:0],
            most_steps=steps + 1,
        )
        begin = end = 0.0
        for now in train(state, clips, course, cfg):
            if now.number == 1 and not begin:
                synchronise(state.numerics.device)
                begin = time.perf_counter()
            elif now.number == steps + 1 and not end:
                synchronise(state.numerics.device)
                end = time.perf_counter()
        state.end_student()
        return most((end - begin) / (steps * batch))


def evenly_spread(rows: np.ndarray, count: int) -> np.ndarray:
    """`count` rows from all of them, or all."""
    return rows[:: max(1, len(rows) // count)][:count]


@torch.inference_mode()
def time_features(state: State, clips: Clips, clip_s: float) -> float:
    """Seconds a clip of extracting features, where about `clip_s` are expected."""
    mine = rows_of_this_rank(clips)
    batch = max(1, min(64, int(SECONDS / 5 / clip_s)))
    rows = evenly_spread(mine, 5 * batch)
    begin, first, done = 0.0, 0, 0
    for now in extracting(state.pair, clips, state.numerics, rows, batch_size=batch):
        synchronise(state.numerics.device)
        if now.done and not begin:
            begin, first = time.perf_counter(), now.done
        done = now.done
    seconds = time.perf_counter() - begin
    return most(seconds / (done - first) if done > first else clip_s)


def most(seconds: float) -> float:
    """The largest of all ranks."""
    return float(
        distributed.all_reduce(torch.tensor(max(seconds, 1e-9), dtype=torch.float64), "max")
    )


def forecast(pace: Pace, rows: int, number: int, steps: int) -> list[str]:
    """What to say before the start: how long it takes, and what is shorter if that is a day."""
    seconds = pace.left_s(number)
    if not steps or seconds is None:
        return []
    rounds = pace.cfg.rounds - number
    said = [
        f"{rows:,} segments, {rounds} round{'s' * (rounds > 1)}: {pace.at_most}about "
        f"{duration(seconds)} on this device; measured on {steps} step{'s' * (steps > 1)}."
    ]
    if seconds > DAY_S:
        said.append(
            "warning: that is more than a day. --preset demo is made for a CPU; fewer --rounds or "
            "--train.epochs, smaller clips (--clip.crop_pixels), or a GPU shorten it, too."
        )
    return said
