"""Drives the method's generators as a caller does: asks for what is to come of each step, and takes
what came.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from seehear.config import Settings, Train
from seehear.data.clips import Clips
from seehear.machine.devices import Numerics
from seehear.method.encoders import Pair
from seehear.method.learning import GO_ON, Learning
from seehear.method.method import deep_cluster
from seehear.method.state import Round, State
from seehear.method.train import Course, train

CPU = Numerics("cpu", "fp32", "contiguous")


def rounds_of_state(state: State, clips: Clips, cfg: Settings) -> list[Round]:
    """All rounds that are left."""
    return [now for now in deep_cluster(state, clips, cfg) if isinstance(now, Round)]


def rounds_of_pair(pair: Pair, clips: Clips, cfg: Settings) -> list[Round]:
    """All rounds, of a pair that is trained in place."""
    return rounds_of_state(State(pair, CPU), clips, cfg)


def learn(
    pair: Pair,
    clips: Clips,
    labels: dict[str, np.ndarray],
    cfg: Train,
    *,
    begun: dict[str, Any] | None = None,
    ask: Callable[[int], int] = lambda step: GO_ON,
    save: Callable[[State, int], None] = lambda state, request: None,
    say: Callable[[str], None] = lambda text: None,
    students: tuple[str, ...] = (),
    **course: Any,
) -> Learning:
    """Train a pair in place.

    Args:
        begun: what `State.state_dict` gave to `save`, to go on from there.
        ask: the request for a step, by its number from 1.
        save: called where a request was granted.
        say: told of each step that is skipped.
        students: by default all that have heads.
        course: the rest of a `Course`.
    """
    state = State(pair, CPU)
    if begun:
        state.load_state_dict(begun)
    for now in train(state, clips, Course(students or pair.students, labels, **course), cfg):
        for note in now.notes:
            say(note)
        if now.request:
            save(state, now.request)
        state.request = ask(now.number + 1)
    return state.learning
