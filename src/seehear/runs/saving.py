"""When is training saved, and where does a run go on? Between two steps of the method, as clock and
signals ask.

A checkpoint is what `State.state_dict` gives, with the index and settings that it belongs to and
the failures so far; `checkpoint.py` has the files.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from seehear.config import Settings
from seehear.data.clips import Clips
from seehear.errors import CheckpointError, NotFiniteError, TrainingError
from seehear.machine import distributed
from seehear.machine.console import Console, Count, duration, listing
from seehear.machine.signals import Interruptions
from seehear.method.learning import FEATURES, GO_ON, LEAVE, SAVE, Step
from seehear.method.state import State
from seehear.runs.checkpoint import furthest_first, newest, parse, save_midway
from seehear.runs.folder import Run
from seehear.runs.pace import Pace


class Saver:
    """What a run does between two steps: show them, save when it is time, stop when asked to."""

    def __init__(
        self,
        run: Run,
        cfg: Settings,
        state: State,
        clips: Clips,
        console: Console,
        requests: Interruptions,
        pace: Pace,
    ) -> None:
        self.run, self.cfg, self.state, self.clips = run, cfg, state, clips
        self.console, self.requests = console, requests
        self.saved_s = time.monotonic()
        self.pace = pace
        self._now = Step("", 0, 0)
        self._waited_s = 0.0  # before the stage at hand
        self._count: Count = lambda done: None

    def after(self, now: Step) -> None:
        """Look at a step: do what ranks agreed on in it, and request what is due after the next.

        While features are extracted nothing is worth saving; a request to stop ends it at once.
        """
        self.requests.patient = now.stage != FEATURES
        self._show(now)
        if now.request:
            self.save(now.request)
        self.state.request = self._due(now.number + 1)

    def _show(self, now: Step) -> None:
        what = f"round {self.state.round + 1}/{self.cfg.rounds}: "
        self._now = now
        if self.pace.see(now.stage, now.done):
            self._waited_s = now.waiting_s
            self._count = self.console.watch(what + now.stage, now.total, self._more, unit="clips")
        self._count(now.done)
        for note in now.notes:
            self.console.say(note)
        if now.stage == FEATURES and now.done == now.total:
            self.console.watch(what + "k-means", None)

    def _more(self) -> str:
        """Epoch and step, waiting, failures, and when the run is over."""
        now, parts = self._now, []
        if now.epochs:
            epoch = min(now.epoch + 1, now.epochs)
            parts.append(f"epoch {epoch}/{now.epochs}, step {now.number}/{now.steps}")
        waited = (now.waiting_s - self._waited_s) / max(self.pace.elapsed_s, 1e-9)
        parts.append(f"waiting for data {waited:.0%}")
        if self.clips.failures:
            parts.append(f"not readable: {listing(self.clips.failures)}")
        left_s = self.pace.left_s(self.state.round, now.stage, now.done)
        if left_s is not None:
            parts.append(f"{self.pace.at_most}{duration(left_s)} for the whole run")
        return ", ".join(parts)

    def _due(self, step: int) -> int:
        """What this rank wants after a step of a student; the clock is that of rank 0."""
        if self.requests.asked:
            return LEAVE
        if distributed.rank() > 0:
            return GO_ON
        cfg = self.cfg.checkpoint
        is_late = cfg.minutes and time.monotonic() - self.saved_s > 60 * cfg.minutes
        return SAVE if is_late or (cfg.steps and step % cfg.steps == 0) else GO_ON

    def save(self, request: int) -> None:
        """Write a checkpoint; to LEAVE, raise `Interrupted` on every rank after it is written."""
        state, failures = self.state, self.failures()

        def write() -> bool:
            try:
                save_midway(self.run, state.round, state.steps, content(state, self.run, failures))
            except OSError as error:  # a full disk, say: the checkpoints before are still there
                self.console.say(
                    f"warning: no checkpoint could be written ({error}); the one before stays."
                )
                return False
            return True

        is_written = distributed.on_rank_zero(write)
        self.saved_s = time.monotonic()
        if request == LEAVE:
            how = "is saved" if is_written else "could not be saved"
            raise self.requests.error(f"Round {state.round + 1} {how} after step {state.steps}.")

    def last_good(self) -> str:
        """The file of the furthest checkpoint, for a message; on every rank."""
        return distributed.on_rank_zero(
            lambda: next((str(path) for *_, path in furthest_first(self.run)), "none yet")
        )

    def failures(self) -> dict[str, int]:
        """Rows that could not be read in this round so far, by reason, over all ranks."""
        return dict(distributed.sum_counters(self.clips.failures))

    def round_is_saved(self, number: int) -> None:
        """Until the next training a request ends the run at once; one from before ends it now."""
        asked = distributed.all_reduce(
            torch.tensor(bool(self.requests.asked), dtype=torch.int32), "max"
        )
        self.requests.patient, self.saved_s = False, time.monotonic()
        self.pace.end_round()
        if asked:
            raise self.requests.error(f"Round {number + 1} is over and saved.")


def content(state: State, run: Run, failures: dict[str, int]) -> dict[str, Any]:
    """What a checkpoint's file holds: the state, and what it belongs to."""
    of_run = {"settings": run.record["settings"], "index": run.record["index"]["digest"]}
    return state.state_dict() | of_run | {"failures": failures}


def restore(run: Run, state: State) -> dict[str, int]:
    """Set `state` to the last good checkpoint, removing what is later; failures until then.

    Rank 0 reads the file, and all ranks get its content. A run without a checkpoint begins again,
    in the same folder.

    Raises:
        CheckpointError: there are checkpoints, and none can be used.
    """
    data = b""
    if distributed.rank() == 0:
        number, is_over, data = newest(run) or (-1, True, b"")
        run.forget_after(number if is_over else number - 1)
    data = distributed.broadcast_bytes(data)
    if not data:
        return {}
    found = parse(data)
    failures, index = dict(found.pop("failures")), found.pop("index")
    del found["settings"]
    if index != run.record["index"]["digest"]:
        raise CheckpointError(
            f"A checkpoint in {run.path} belongs to the index {index[:12]}..., and the run to "
            f"{run.record['index']['digest'][:12]}... Remove the folder midway to go on from the "
            f"last whole round."
        )
    state.load_state_dict(found)
    return failures


@contextmanager
def naming(last_good: Callable[[], str]) -> Iterator[None]:
    """Where training stops as losses are not finite, on all ranks, name the last checkpoint."""
    try:
        yield
    except NotFiniteError as error:
        raise TrainingError(
            f"{error} Last good checkpoint: {last_good()}. --resume repeats the same steps from "
            f"it, and helps only if the machine was at fault."
        ) from None
