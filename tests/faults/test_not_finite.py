"""Losses that are not finite: rare ones are skipped and change nothing, others stop the run, on all
ranks alike.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import seehear
from driven import learn
from planted import planted_clips, tiny_settings
from seehear.data.clips import Clips
from seehear.data.order import epoch_rows
from seehear.errors import TrainingError
from seehear.method.encoders import Pair
from seehear.method.encoders.building import build_pair
from seehear.method.learning import GO_ON, LEAVE, SAVE, Learning
from seehear.method.state import State
from seehear.method.step import are_finite
from seehear.runs.checkpoint import furthest_first
from seehear.runs.folder import Run
from seehear.runs.log import warnings_of
from seehear.runs.saving import naming

ROWS = 32
CFG = tiny_settings({"train.epochs": 2, "train.batch_size": 8, "train.uniform_clusters": False})
STEPS = CFG.train.epochs * ROWS // 8


def broken(rows: Sequence[int]) -> tuple[Clips, np.ndarray]:
    """Planted clips, the sound of some of which is no number."""
    clips, classes_N = planted_clips(CFG, ROWS)
    for row in rows:
        clips._cached[row].waveform_L[:] = np.nan  # type: ignore[index, union-attr]
    return clips, classes_N.astype(np.int32)


def learned(rows: Sequence[int], **driven: Any) -> tuple[Pair, Learning]:
    """What comes of clips with such rows."""
    clips, labels_N = broken(rows)
    pair = build_pair(CFG)
    pair.renew_heads(
        {"video": {"class": 4}, "audio": {"class": 4}}, torch.Generator().manual_seed(0)
    )
    which = {"train_rows": np.arange(ROWS), "heldout_rows": np.arange(0)}
    return pair, learn(pair, clips, {"class": labels_N}, CFG.train, **which, **driven)


def step_of(row: int, epoch: int) -> int:
    """In which step of an epoch a row is drawn, from 1."""
    rows = epoch_rows(np.arange(ROWS), {}, (CFG.seed, epoch, 0x5EED, 0, 1), uniform=False)
    return int(np.flatnonzero(rows == row)[0]) // 8 + 1


def test_rare_steps_are_skipped_counted_and_named_and_change_nothing():
    said: list[str] = []
    pair, learning = learned([7], say=said.append)
    assert (learning.skipped, learning.steps, learning.clips) == (2, STEPS - 2, 8 * (STEPS - 2))
    assert are_finite(list(pair.parameters()))
    # running statistics among them
    assert are_finite([buffer.float() for buffer in pair.buffers()])
    assert all(np.isfinite(values).all() for values in learning.loss.values())
    for epoch, line in enumerate(said):
        assert f"epoch {epoch}, step {step_of(7, epoch)} of 4, batch rows " in line
        assert " 7," in line
        assert f"{epoch + 1} skipped in this round" in line
    counters = [
        buffer for name, buffer in pair.named_buffers() if name.endswith("num_batches_tracked")
    ]
    assert {int(counter) for counter in counters} == {STEPS - 2}


@pytest.mark.parametrize("step", [1, STEPS // 2])
def test_every_step_that_is_skipped_is_told_of_the_last_one_too(step: int):
    row = next(row for row in range(ROWS) if step_of(row, 1) == step)
    said: list[str] = []
    _, learning = learned([row], say=said.append)
    assert len(said) == learning.skipped == 2
    assert f"epoch 1, step {step} of {STEPS // 2}" in said[-1]


@pytest.mark.parametrize("at", [step_of(7, 0), step_of(7, 0) + 1])
def test_a_run_left_at_any_step_goes_on_to_the_same_bits(at):
    wanted, learning = learned([7])
    kept = {}

    class Left(Exception):
        pass

    def save(state: State, request: int) -> None:
        kept.update(copy.deepcopy(state.state_dict()))
        raise Left

    with pytest.raises(Left):
        learned([7], ask=lambda step: LEAVE if step == at else GO_ON, save=save)
    resumed, again = learned([7], begun=kept)
    times = {"seconds": 0.0, "waiting_seconds": 0.0}
    assert asdict(again) | times == asdict(learning) | times
    assert all(
        torch.equal(a, b)
        for a, b in zip(wanted.state_dict().values(), resumed.state_dict().values(), strict=True)
    )


def test_no_checkpoint_is_made_of_a_state_that_may_be_what_is_wrong():
    saved: list[int] = []
    learned(
        [7],
        ask=lambda step: SAVE,
        save=lambda state, request: saved.append(state.learning.in_a_row),
    )
    assert saved == [0] * (STEPS - 2)


def test_too_many_stop_the_run_and_name_step_rows_and_checkpoint():
    with (
        pytest.raises(
            TrainingError, match=r"not finite in epoch \d, step \d of 4, batch rows (\d+, ){7}\d+\."
        ) as e,
        naming(lambda: "here/it.pt"),
    ):
        learned([0, 1, 2, 3, 4, 5, 6, 7])
    assert "Last good checkpoint: here/it.pt." in str(e.value)
    assert "below 0.0" in str(e.value)


def test_a_run_that_explodes_names_its_last_checkpoint(index_folder: Path, tmp_path: Path):
    settings = {
        "train.lr": 1e18,
        "train.warmup_share": 0.0,
        "train.batch_size": 4,
        "train.optimizer": "sgd",
    }
    settings |= {"data.workers": 0, "checkpoint.steps": 1, "compute.precision": "fp32"}
    with pytest.raises(TrainingError, match="not finite") as error:
        seehear.pretrain(index_folder, tmp_path / "run", preset="debug", settings=settings)
    *_, path = furthest_first(Run.open(tmp_path / "run"))[0]
    assert f"Last good checkpoint: {path}." in str(error.value)


def test_skipped_steps_are_in_the_log_and_warned_of(finished_run: Path):
    entry = Run.open(finished_run).read_log()[-1]
    assert entry["skipped"] == 0
    assert not [text for text in warnings_of(entry) if "skipped" in text]
    assert any(text.startswith("3 of ") for text in warnings_of(entry | {"skipped": 3}))
