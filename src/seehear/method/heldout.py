"""How well are labels learned, on clips kept out of training? Nothing is changed here."""

from __future__ import annotations

from collections.abc import Callable, Generator

import numpy as np
import torch

from seehear.config import Train
from seehear.data.clips import Clips
from seehear.data.placing import CENTRED
from seehear.machine import distributed
from seehear.method.encoders.pair import modalities_of
from seehear.method.features import encoder_inputs
from seehear.method.learning import LEAVE, Step, Sums
from seehear.method.state import State
from seehear.method.step import Update, losses


@torch.inference_mode()
def measure(
    state: State,
    clips: Clips,
    update: Update,
    rows: np.ndarray,
    batch_size: int,
    now: Callable[[], Step],
) -> Generator[Step, None, tuple[Sums, bool]]:
    """Loss and accuracy on unaugmented clips of `rows`, and whether a rank asked to stop."""
    sums, leave = Sums(state.students, state.numerics.device), False
    state.pair.eval()
    mine = distributed.rows_of_rank(len(rows))
    rows = rows[mine.start : mine.stop]
    for batch in clips.batches(
        rows, epoch=CENTRED, batch_size=batch_size, modalities=modalities_of(state.students)
    ):
        # ranks have different numbers of batches, so nothing is agreed on before the end
        yield now()
        if leave := state.request == LEAVE:
            break
        with state.numerics.autocast():
            inputs = encoder_inputs(batch, clips.clip, state.numerics, state.pair, state.students)
            scores = state.pair(inputs)
        sums.add(
            losses(scores, update.labels, batch.rows_B, update.loss).double(), len(batch.rows_B)
        )
    counts = sums.table_S2.new_tensor([sums.clips, leave])
    distributed.all_reduce_at_once([sums.table_S2, counts])
    sums.clips = round(float(counts[0]))
    return sums, bool(counts[1] > 0)


def warn_where_none_are_kept_out(clips: Clips, rows: np.ndarray, cfg: Train) -> None:
    """Say, once over all ranks, that patience does nothing where nothing is looked at."""
    if cfg.patience and not len(rows) and distributed.rank() == 0:
        clips.say(
            f"warning: train.patience is {cfg.patience} and does nothing: train.heldout_share "
            f"({cfg.heldout_share:g}) of these videos is none: each round takes train.epochs, "
            f"{cfg.epochs}."
        )
