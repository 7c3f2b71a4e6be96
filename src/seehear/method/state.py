"""What must be kept so that training goes on as if it had never stopped? All is here: one `State`.

Nothing random has state, so none is kept: every draw is a function of (seed, round, epoch, row),
and these are. Whoever trains holds a `State`; `deep_cluster` and `train` change it, and between two
of their yields it may be looked at, saved (`state_dict`), or sent a request.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from seehear.config import Settings, Train
from seehear.data.order import derive
from seehear.errors import CheckpointError
from seehear.machine import distributed
from seehear.machine.devices import Numerics, choose
from seehear.method.agreement import nmi
from seehear.method.clusters import Clusters
from seehear.method.encoders import Pair
from seehear.method.encoders.building import build_pair
from seehear.method.learning import GO_ON, Learning, Sums
from seehear.method.step import make_optimizer

STABLE_ROUNDS = 2  # so many in a row above `stop_nmi` end a run
# of `state_dict`
KEYS = {"round", "stable", "clusters", "last", "older", "learned", "training", "pair"}


@dataclass(frozen=True)
class Round:
    """One turn of the loop, once it is over.

    clusters: what was taught. last: the newest clusters of each space before, in the same chain;
    none in the first. learned: what happened to each student. stable: rounds in a row, this one the
    last, whose clusters agreed with the last ones by more than `stop_nmi`.
    """

    number: int
    clusters: Mapping[str, Clusters]
    last: Mapping[str, Clusters]
    learned: Mapping[str, Learning]
    stable: int = 0

    @property
    def learning(self) -> Learning:
        """What happened to all students."""
        return Learning.of_all(self.learned.values())


class State:
    """Where training is.

    Args:
        pair: the encoders, which are trained in place.
        numerics: where and how precisely; not part of a checkpoint.

    Of the run: `round` (the one at hand, from 0), `clusters` (of this round; empty until they are
    made), `last` (the newest of each space before), `older` (those before them), `stable`,
    `learned` (student -> Learning, of this round's students that are through). Of the students at
    work: `students`, `learning`, `step` (batches of the epoch so far), `optimizer`, `sums` (of the
    epoch so far), `best` (weights and optimiser after the epoch of the least held-out loss).
    `request` is for the caller to set, at any time: what should happen after the next step. The
    largest of all ranks' comes back in `Step.request`.
    """

    def __init__(self, pair: Pair, numerics: Numerics) -> None:
        self.pair, self.numerics = pair, numerics
        self.request = GO_ON
        self.round, self.stable = 0, 0
        self.clusters: dict[str, Clusters] = {}
        self.last: dict[str, Clusters] = {}
        self.older: dict[str, Clusters] = {}
        self.learned: dict[str, Learning] = {}
        self.students: tuple[str, ...] = ()
        self.learning, self.step = Learning(), 0
        self.best: dict[str, Any] | None = None
        # of the students at work, from a checkpoint: `begin` makes the optimiser that takes it
        self._kept: Mapping[str, Any] | None = None

    @classmethod
    def of(cls, cfg: Settings) -> State:
        """A new one: encoders as the settings say, on the device and in the precision that suit."""
        pair = build_pair(cfg)
        numerics = choose(cfg.compute, pair, cfg.clip)
        return cls(numerics.place(pair), numerics)

    @property
    def steps(self) -> int:
        """How many steps of this round were learned from, of all students."""
        return self.learning.steps + sum(learning.steps for learning in self.learned.values())

    def is_over(self, rounds: int, stop_nmi: float) -> bool:
        """Whether no round is left: all are done, or the clusters have stopped changing."""
        is_still = stop_nmi > 0 and self.stable >= STABLE_ROUNDS
        return self.round >= rounds or (is_still and not self.clusters)

    def begin_round(
        self,
        clusters: dict[str, Clusters],
        heads: Mapping[str, Mapping[str, int]],
        cfg: Settings,
        before: Mapping[str, Clusters],
    ) -> None:
        """Take this round's clusters, make heads for them, and count the rounds that agree.

        heads: student -> clustering -> K, of those who learn. before: to compare with.
        """
        is_new = any(c is not self.last.get(name) for name, c in clusters.items())
        if (cfg.train.renew_heads and is_new) or not heads.keys() <= set(self.pair.students):
            draws = torch.Generator().manual_seed(derive(cfg.seed, self.round, 0))
            self.pair.renew_heads(heads, draws)  # cluster numbers mean nothing across rounds
        moved = [
            nmi(c.labels_N, before[name].labels_N) if name in before else 0.0
            for name, c in clusters.items()
        ]
        is_still = cfg.stop_nmi and min(moved) > cfg.stop_nmi
        self.stable = self.stable + 1 if is_still else 0
        self.clusters = clusters

    def begin(self, students: Sequence[str], cfg: Train) -> None:
        """Begin to train some students, or go on where a checkpoint has some of it."""
        # Once a student, so that what rounding does on unlike machines cannot add up.
        distributed.broadcast_module(self.pair)
        self.students = tuple(students)
        self.optimizer = make_optimizer(self.pair, cfg, self.students)
        self.sums = Sums(self.students, self.numerics.device)
        self.learning, self.step, self.best = Learning(), 0, None
        kept, self._kept = self._kept, None
        if kept is not None:
            self.learning, self.step = Learning(**kept["learning"]), int(kept["batches"])
            self.best = kept["best"]
            self._load_optimizer(kept["optimizer"])
            self.sums.add(kept["sums"].to(self.numerics.device), int(kept["sums_clips"]))
        self._begin_s = time.perf_counter() - self.learning.seconds

    def end_epoch(self, measured: Sums, seen: float, keep_best: bool) -> None:
        """Write down what an epoch came to; with `keep_best` keep the best weights so far."""
        learning = self.learning
        learning.epochs += 1
        self.sums.append_to(learning.loss, learning.accuracy)
        measured.append_to(learning.heldout_loss, learning.heldout_accuracy)
        for student in self.students:
            learning.seen.setdefault(student, []).append(seen)
        self.sums, self.step = Sums(self.students, self.numerics.device), 0
        totals = summed(learning.heldout_loss)
        if keep_best and totals and totals[-1] == min(totals):
            state = self.pair.state_of(self.students)
            self.best = {
                "weights": {name: value.clone() for name, value in state.items()},
                "optimizer": copy.deepcopy(self.optimizer.state_dict()),
            }
        learning.seconds = time.perf_counter() - self._begin_s

    def back_to_the_best(self) -> None:
        """Take the weights that were kept, if any were."""
        if self.best is not None:
            self.pair.load_state_dict(self.best["weights"], strict=False)
            self._load_optimizer(self.best["optimizer"])
        self.best = None

    def end_student(self) -> None:
        """The students at work are through."""
        self.learned |= dict.fromkeys(self.students, self.learning)
        self.students, self.learning, self.step = (), Learning(), 0
        del self.optimizer, self.sums

    def end_round(self, before: Mapping[str, Clusters]) -> Round:
        """All students are through: the round's clusters become the last ones.

        before: what they were compared with.
        """
        now = Round(self.round, self.clusters, before, self.learned, self.stable)
        # of one sense each where students take turns
        again = {name: c for name, c in self.last.items() if name in self.clusters}
        self.older = {**self.older, **again}
        self.last = {**self.last, **self.clusters}
        self.clusters, self.learned, self.round = {}, {}, self.round + 1
        return now

    def state_dict(self) -> dict[str, Any]:
        """All that going on needs: tensors and plain data. Within training see `Step.request`."""
        return {
            "round": self.round,
            "stable": self.stable,
            "clusters": packed(self.clusters),
            "last": packed(self.last),
            "older": packed(self.older),
            "learned": {student: asdict(learning) for student, learning in self.learned.items()},
            "training": self._training() if self.students else self._kept,
            "pair": self.pair.state_dict(),
        }

    def _training(self) -> dict[str, Any]:
        self.learning.seconds = time.perf_counter() - self._begin_s
        return {
            "learning": asdict(self.learning),
            "batches": self.step,
            "optimizer": self.optimizer.state_dict(),
            "sums": self.sums.table_S2,
            "sums_clips": self.sums.clips,
            "best": self.best,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` gave; all of it must fit.

        Raises:
            CheckpointError: it holds something else, or something is missing.
        """
        if state.keys() != KEYS:
            raise CheckpointError(
                f"A checkpoint holds {', '.join(sorted(KEYS))}; this one "
                f"{', '.join(sorted(state))}."
            )
        self.round, self.stable = int(state["round"]), int(state["stable"])
        self.clusters, self.last = unpacked(state["clusters"]), unpacked(state["last"])
        self.older = unpacked(state["older"])
        self.learned = {
            student: Learning(**learning) for student, learning in state["learned"].items()
        }
        self.students, self._kept = (), state["training"]
        self.learning = Learning(**self._kept["learning"]) if self._kept else Learning()
        # Heads of the right sizes, whatever is in them: strict loading fills all of them.
        self.pair.renew_heads(heads_in(state["pair"]), torch.Generator().manual_seed(0))
        self.pair.load_state_dict(state["pair"], strict=True)

    def _load_optimizer(self, state: dict[str, Any]) -> None:
        self.optimizer.load_state_dict(state)
        for group in self.optimizer.param_groups:
            group["fused"] = True  # `load_state_dict` takes it from the checkpoint; see step.py


def packed(clusters: Mapping[str, Clusters]) -> dict[str, dict[str, Any]]:
    """Clusters by name, as a checkpoint has them."""
    return {name: c.state_dict() for name, c in clusters.items()}


def unpacked(states: Mapping[str, Mapping[str, Any]]) -> dict[str, Clusters]:
    """The inverse of `packed`."""
    return {name: Clusters.from_state_dict(c) for name, c in states.items()}


def heads_in(weights: Mapping[str, torch.Tensor]) -> dict[str, dict[str, int]]:
    """student -> head -> K: the heads that a pair's weights have."""
    found: dict[str, dict[str, int]] = {}
    for key, value in weights.items():
        if key.startswith("heads.") and key.endswith(".weight"):
            _, student, name, _ = key.split(".")
            found.setdefault(student, {})[name] = len(value)
    return found


def summed(by_student: Mapping[str, list[float]]) -> list[float]:
    """One number an epoch: the sum over students."""
    return [sum(epoch) for epoch in zip(*by_student.values(), strict=True)]
