"""What happened while labels were learned, and where is training now? Numbers alone.

`Step` is what the method yields: the caller looks at it, and shows, saves or stops as it likes.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import torch
from torch import Tensor

# what may be requested of a step: to be saved after it, or saved and left
GO_ON, SAVE, LEAVE = range(3)
T = TypeVar("T")
FEATURES = "features"  # the stage of a round that is no student's


@dataclass(frozen=True)
class Step:
    """How far a stage of a round is, after a step, or while something is only looked at.

    stage: "features", or who learns: "video", "audio".
    done, total: clips of the stage; of those learned from, the ones of the last step may not be
    counted yet. number, steps: of the student so far, and at most. epoch, epochs: likewise, from 0.
    waiting_s: how long the stage has waited for data.
    request: the largest of all ranks' `State.request` when a step was taken, the same on all. If it
        is not GO_ON, the state is one that training can go on from: save it now, and, for LEAVE,
        stop.
    notes: what a person should hear: steps that were skipped.
    """

    stage: str
    done: int
    total: int
    number: int = 0
    request: int = GO_ON
    notes: tuple[str, ...] = ()
    steps: int = 0
    epoch: int = 0
    epochs: int = 0
    waiting_s: float = 0.0


@dataclass
class Learning:
    """What happened while a round's labels were learned; one number a student and epoch.

    loss, accuracy: over the training clips; heldout_loss, heldout_accuracy: over the unaugmented
    clips of the recordings kept out (empty where none were). Losses are in nats, accuracies in
    [0, 1] with chance 1 / K. seen: the share of the training rows that were drawn.
    skipped, in_a_row: steps from whose batch nothing was learned, because loss or gradient was not
    finite, and how many of these came last, one after another.
    """

    epochs: int = 0
    steps: int = 0
    skipped: int = 0
    in_a_row: int = 0
    clips: int = 0
    seconds: float = 0.0
    waiting_seconds: float = 0.0
    loss: dict[str, list[float]] = field(default_factory=dict)
    accuracy: dict[str, list[float]] = field(default_factory=dict)
    heldout_loss: dict[str, list[float]] = field(default_factory=dict)
    heldout_accuracy: dict[str, list[float]] = field(default_factory=dict)
    seen: dict[str, list[float]] = field(default_factory=dict)

    @classmethod
    def of_all(cls, parts: Iterable[Learning]) -> Learning:
        """Of students who learned one after another: counts summed, most epochs, all lists."""
        whole = cls()
        for part in parts:
            whole.epochs = max(whole.epochs, part.epochs)
            for name in ("steps", "skipped", "clips", "seconds", "waiting_seconds"):
                setattr(whole, name, getattr(whole, name) + getattr(part, name))
            for name in ("loss", "accuracy", "heldout_loss", "heldout_accuracy", "seen"):
                getattr(whole, name).update(getattr(part, name))
        return whole

    @property
    def clips_per_second(self) -> float:
        """Training clips a second, waiting for data included."""
        return self.clips / max(self.seconds, 1e-9)

    @property
    def waiting_share(self) -> float:
        """The share of the time that training waited for data, 0 to 1."""
        return self.waiting_seconds / max(self.seconds, 1e-9)


class Sums:
    """Loss and hits of each student, and clips, over an epoch and all ranks.

    table_S2: (students, 2) float64, losses in nats and hits.
    """

    def __init__(self, students: Sequence[str], device: str) -> None:
        self.students = students
        self.table_S2 = torch.zeros(len(self.students), 2, dtype=torch.float64, device=device)
        self.clips = 0

    def add(self, table_S2: Tensor, clips: int = 0) -> None:
        """Count some clips; what `Update` adds is counted when it is known to be finite."""
        self.table_S2 += table_S2
        self.clips += clips

    def append_to(self, losses: dict[str, list[float]], accuracies: dict[str, list[float]]) -> None:
        """Add the means to the lists of each student; nothing where there were no clips."""
        if self.clips:
            for student, (loss, hits) in zip(self.students, self.table_S2.tolist(), strict=True):
                losses.setdefault(student, []).append(loss / self.clips)
                accuracies.setdefault(student, []).append(hits / self.clips)


def timed(batches: Iterator[T], learning: Learning) -> Iterator[T]:
    """The batches, with the time spent waiting for each added to `learning`."""
    while True:
        begin = time.perf_counter()
        try:
            batch = next(batches)
        except StopIteration:
            return
        finally:
            learning.waiting_seconds += time.perf_counter() - begin
        yield batch
