"""What if the loss of a step is not finite? Rarely that is the batch, and the step is skipped; else
training stops.

`step.Update` has seen to it that such a batch changed nothing. A GPU says whether a step was finite
a little later, so a step is judged one late: counted, or skipped, when the next one is on its way.
"""

from __future__ import annotations

from collections import deque

import numpy as np

from seehear.errors import NotFiniteError
from seehear.method.learning import GO_ON, LEAVE, Learning, Sums
from seehear.method.step import Done

# a student may skip so many steps a round, or this share of its steps
RARE_STEPS, RARE_SHARE = (2, 0.01)
IN_A_ROW = 3  # but not so many one after another: then it is not the batch
SHOWN_ROWS = 64  # of a batch, in a message


class Skips:
    """Judges the steps of some students, and decides which may be skipped.

    Args:
        learning: where steps are counted.
        who: whose steps, for messages.
        steps: how many there may be in all.
        remedy: what to start anew with, for a message.
    """

    def __init__(self, learning: Learning, who: str, steps: int, remedy: str) -> None:
        self.learning, self.who, self.remedy = learning, who, remedy
        self.most = max(RARE_STEPS, RARE_SHARE * steps)
        self._pending: deque[tuple[Done, Sums, str, np.ndarray]] = deque()
        self._notes: list[str] = []

    def add(self, done: Done, sums: Sums, where: str, rows_B: np.ndarray) -> int:
        """Queue a step, and judge those before it; with a request judge it too.

        Returns:
            The request that can be granted: a state right after a bad step may be what is wrong,
            and is not saved unless all leave.
        Raises:
            NotFiniteError: bad steps are not rare.
        """
        self._pending.append((done, sums, where, rows_B))
        self.flush(all_but=0 if done.request else 1)
        return done.request if not self.learning.in_a_row or done.request == LEAVE else GO_ON

    def flush(self, all_but: int = 0) -> None:
        """Wait until it is known whether all but the last so many steps were finite; count them."""
        while len(self._pending) > all_but:
            done, sums, where, rows_B = self._pending.popleft()
            if done.is_finite():
                self.learning.in_a_row = 0
                self.learning.steps += done.clips > 0
                self.learning.clips += done.clips
                sums.clips += done.clips
            else:
                self.learning.in_a_row += 1
                self.learning.skipped += 1
                self._skip(where, rows_B)

    def _skip(self, where: str, rows_B: np.ndarray) -> None:
        skipped, in_a_row = self.learning.skipped, self.learning.in_a_row
        rows = ", ".join(map(str, rows_B[:SHOWN_ROWS])) + (
            ", ..." if len(rows_B) > SHOWN_ROWS else ""
        )
        what = (
            f"The loss of the {self.who} encoder, or its gradient, is not finite in {where}, "
            f"batch rows {rows}."
        )
        if skipped > self.most or in_a_row >= IN_A_ROW:
            raise NotFiniteError(
                f"{what} With this step {skipped} would be skipped in this round, {in_a_row} in a "
                f"row: too many. Start anew with {self.remedy}."
            )
        self._notes.append(f"warning: {what} The step is skipped; {skipped} skipped in this round.")

    def notes(self) -> tuple[str, ...]:
        """What is to be said of steps skipped since this was last asked."""
        notes, self._notes = tuple(self._notes), []
        return notes
