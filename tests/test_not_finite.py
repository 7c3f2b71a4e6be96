"""Losses that are not finite: rare ones are skipped and change nothing, others stop the run, on all ranks alike."""

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
from planted import planted_clips, tiny_settings
from seehear.data.clips import Clips
from seehear.errors import TrainingError
from seehear.machine.devices import Numerics
from seehear.method.encoders import Pair
from seehear.method.step import are_finite
from seehear.method.train import GO_ON, LEAVE, SAVE, Keep, Learning, epoch_rows, learn
from seehear.models.model import build_pair
from seehear.runs.checkpoint import furthest_first
from seehear.runs.folder import Run
from seehear.runs.log import warnings_of

CPU = Numerics("cpu", "fp32", "contiguous")
ROWS = 32
CFG = tiny_settings({"train.epochs": 2, "train.batch_size": 8, "train.uniform_clusters": False})
STEPS = CFG.train.epochs * ROWS // 8


def broken(rows: Sequence[int]) -> tuple[Clips, np.ndarray]:
    """Planted clips, the sound of some of which is no number."""
    clips, classes_N = planted_clips(CFG, ROWS)
    for row in rows:
        clips._cached[row].waveform_L[:] = np.nan  # type: ignore[index, union-attr]
    return clips, classes_N.astype(np.int32)


def learned(rows: Sequence[int], begun: dict[str, Any] | None = None, **keep: Any) -> tuple[Pair, Learning]:
    """What comes of clips with such rows; `begun`: pair and training to go on from."""
    clips, labels_N = broken(rows)
    pair = build_pair(CFG)
    pair.renew_heads({"video": {"class": 4}, "audio": {"class": 4}}, torch.Generator().manual_seed(0))
    if begun:
        pair.load_state_dict(begun["pair"])
    watching = Keep(**({"wish": lambda: GO_ON, "save": lambda training, wish: None} | keep))
    if "save" in keep:
        watching = Keep(keep["wish"], lambda training, wish: keep["save"](pair, training, wish), watching.say)
    how: dict[str, Any] = {"first_epoch": 0, "train_rows": np.arange(ROWS), "heldout_rows": np.arange(0)}
    training = begun["training"] if begun else None
    return pair, learn(pair, clips, {"class": labels_N}, CFG.train, CPU, **how, begun=training, keep=watching)


def step_of(row: int, epoch: int) -> int:
    """In which step of an epoch a row is drawn, from 1."""
    rows = epoch_rows(np.arange(ROWS), {}, (CFG.seed, epoch, 0x5EED, 0, 1), uniform=False)
    return int(np.flatnonzero(rows == row)[0]) // 8 + 1


def test_rare_steps_are_skipped_counted_and_named_and_change_nothing():
    said: list[str] = []
    pair, learning = learned([7], say=said.append)
    assert (learning.skipped, learning.steps, learning.clips) == (2, STEPS - 2, 8 * (STEPS - 2))
    assert are_finite(list(pair.parameters()))
    assert are_finite([buffer.float() for buffer in pair.buffers()])  # running statistics among them
    assert all(np.isfinite(values).all() for values in learning.loss.values())
    for epoch, line in enumerate(said):
        assert f"epoch {epoch}, step {step_of(7, epoch)} of 4, batch rows " in line
        assert " 7," in line
        assert f"{epoch + 1} skipped in this round" in line
    counters = [buffer for name, buffer in pair.named_buffers() if name.endswith("num_batches_tracked")]
    assert {int(counter) for counter in counters} == {STEPS - 2}


@pytest.mark.parametrize("at", [step_of(7, 0), step_of(7, 0) + 1])
def test_a_run_left_at_any_step_goes_on_to_the_same_bits(at):
    wanted, learning = learned([7])
    steps, kept = iter(range(1, 100)), {}

    class Left(Exception):
        pass

    def save(pair: Pair, training: dict[str, Any], wish: int) -> None:
        kept.update(pair=copy.deepcopy(pair.state_dict()), training=copy.deepcopy(training))
        raise Left

    with pytest.raises(Left):
        learned([7], wish=lambda: LEAVE if next(steps) == at else GO_ON, save=save)
    resumed, again = learned([7], begun=kept)
    times = {"seconds": 0.0, "waiting_seconds": 0.0}
    assert asdict(again) | times == asdict(learning) | times
    assert all(torch.equal(a, b) for a, b in zip(wanted.state_dict().values(), resumed.state_dict().values()))  # noqa: B905


def test_no_checkpoint_is_made_of_a_state_that_may_be_what_is_wrong():
    saved: list[int] = []
    learned([7], wish=lambda: SAVE, save=lambda pair, training, wish: saved.append(training["learning"]["in_a_row"]))
    assert saved == [0] * (STEPS - 2)


def test_too_many_stop_the_run_and_name_step_rows_and_checkpoint():
    with pytest.raises(TrainingError, match=r"not finite in epoch \d, step \d of 4, batch rows (\d+, ){7}\d+\.") as e:
        learned([0, 1, 2, 3, 4, 5, 6, 7], last_good=lambda: "here/it.pt")
    assert "Last good checkpoint: here/it.pt." in str(e.value)
    assert "below 0.0" in str(e.value)


def test_a_run_that_explodes_names_its_last_checkpoint(index_folder: Path, tmp_path: Path):
    settings = {"train.lr": 1e18, "train.warmup_share": 0.0, "train.batch_size": 4, "train.optimizer": "sgd"}
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
