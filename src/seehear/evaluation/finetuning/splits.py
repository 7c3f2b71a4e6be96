"""How is one split done? Choose its training items, start, train, test, keep; or read what an
earlier call came to.
"""

from __future__ import annotations

import copy
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from seehear.data.clips import Clips
from seehear.data.order import derive
from seehear.errors import SettingsError
from seehear.evaluation.classifiers import few_of_each
from seehear.evaluation.datasets import Split
from seehear.evaluation.finetuning.files import (
    checkpoints,
    forget_steps,
    forget_unfinished,
    last_state,
    read_finished,
    save_finished,
    save_state,
    split_folder,
)
from seehear.evaluation.finetuning.learning import Lesson, learn_classes, make_anew
from seehear.evaluation.finetuning.results import passes, progress_line
from seehear.evaluation.finetuning.settings import Finetune
from seehear.evaluation.finetuning.testing import (
    HEAD,
    ItemScores,
    item_scores,
    values_of,
    with_unread,
)
from seehear.evaluation.sets import LabelledSet
from seehear.machine import distributed
from seehear.machine.console import Console, Count
from seehear.machine.devices import Numerics
from seehear.method.encoders import Pair
from seehear.method.features import calibrate
from seehear.method.learning import GO_ON, SAVE, Step
from seehear.method.state import State
from seehear.models.model import Model
from seehear.runs.saving import naming


@dataclass(frozen=True)
class Job:
    """What is the same for all splits."""

    model: Model
    data: LabelledSet
    clips: Clips
    settings: Finetune
    numerics: Numerics
    seed: int
    low_shot: int | None
    scratch: bool
    out: Path
    console: Console


def run_split(job: Job, number: int, split: Split) -> tuple[ItemScores, dict[str, Any]]:
    """Train and test on one split, or read what an earlier call came to. Ranks do it together; the
    first writes.
    """
    folder, cfg, console = split_folder(job.out, number), job.settings, job.console
    if distributed.by_first(lambda: tidied(folder)):
        finished = read_finished(folder)
        assert finished is not None, folder
        return finished
    begin = time.perf_counter()
    train, kept_out = training_items(
        job.data, split, job.low_shot, cfg.heldout_share, derive(job.seed, number)
    )
    lesson = lesson_of(
        job.data, job.clips, cfg, job.numerics, train, kept_out, f"split {split.name}"
    )
    pair = starting_pair(
        job.model.pair, lesson, len(job.data.classes), job.scratch, derive(job.seed, number)
    )
    state = State(pair, job.numerics)
    kept = last_state(folder)
    if kept is not None:
        state.load_state_dict(kept)
    saver = Saver(folder, state, lesson, console)
    count = console.watch(f"split {split.name}: training", lesson.steps * lesson.batch_size)
    with naming(saver.last_good):
        for now in learn_classes(state, lesson):
            count(now.done)
            saver.after(now)
    learning = state.learning
    job.clips.failures.clear()  # what follows is counted for the test items alone
    rows = rows_of(job.data, split.test)
    progress = console.watch(f"split {split.name}: testing", len(rows) * cfg.clips)
    found = with_unread(scored(pair, job, rows, progress), split.test)
    result = {
        "split": split.name,
        "values": values_of(found, job.data.target_V),
        "n_train": len(train),
        "n_test": len(found.items),
        "n_clips": found.clips,
        "unreadable": distributed.add_up(job.clips.failures),
        "steps": learning.steps,
        "skipped": learning.skipped,
        "history": passes(learning),
        "seconds": round(time.perf_counter() - begin, 1),
    }
    validation = rows_of(job.data, split.validation)
    if len(validation):
        result["validation"] = values_of(scored(pair, job, validation), job.data.target_V)
    origin = {
        **job.model.info,
        "classes": list(job.data.classes),
        "multilabel": job.data.multilabel,
    }
    origin["finetuned"] = {
        "data": job.data.name,
        "split": split.name,
        "scratch": job.scratch,
        "settings": asdict(cfg),
    }
    distributed.by_first(lambda: save_finished(folder, pair, origin, job.clips.clip, found, result))
    return found, result


def tidied(folder: Path) -> bool:
    """Whether a split is finished, after removing what a process that died has left."""
    forget_unfinished(folder)
    is_finished = (folder / "finished").is_dir()
    if is_finished:
        forget_steps(folder)
    return is_finished


class Saver:
    """Saves a split's training when its time has come, by the clock of the first rank."""

    def __init__(self, folder: Path, state: State, lesson: Lesson, console: Console) -> None:
        self.folder, self.state, self.lesson, self.console = folder, state, lesson, console
        self.saved_s = time.monotonic()

    def after(self, now: Step) -> None:
        """Save if ranks have agreed on it in this step, and request what is due after the next."""
        for note in now.notes:
            self.console.say(note)
        if now.request:
            self.save(now.number)
        minutes = (time.monotonic() - self.saved_s) / 60
        is_due = distributed.rank() == 0 and minutes >= self.lesson.settings.checkpoint_minutes
        self.state.request = SAVE if is_due else GO_ON

    def save(self, step: int) -> None:
        """Write a checkpoint; called on every rank."""
        distributed.by_first(lambda: save_state(self.folder, step, self.state.state_dict()))
        self.console.say(
            progress_line(self.lesson.name, step, self.lesson.steps, self.state.learning)
        )
        self.saved_s = time.monotonic()

    def last_good(self) -> str:
        """The newest checkpoint, for a message."""
        return distributed.by_first(
            lambda: next((str(path) for path in reversed(checkpoints(self.folder))), "none yet")
        )


def scored(
    pair: Pair, job: Job, rows: np.ndarray, progress: Count = lambda done: None
) -> ItemScores:
    """Test some rows as the settings say."""
    data = job.data
    return item_scores(
        pair,
        job.clips,
        job.numerics,
        data.item_N,
        data.target_V,
        rows,
        job.settings.clips,
        progress=progress,
    )


def training_items(
    data: LabelledSet, split: Split, low_shot: int | None, heldout_share: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Items to train on and items of the training part that are only looked at, ascending, of those
    that can be read.

    Low-shot choices are nested: what is drawn for 5 a class holds what is drawn for 1.
    """
    items = np.array(sorted(set(split.train.tolist()) & set(data.item_N.tolist())), dtype=np.int64)
    order = np.random.default_rng((seed, 0x4E1D)).permutation(items)
    count = round(heldout_share * len(items))
    kept_out, items = np.sort(order[:count]), np.sort(order[count:])
    if low_shot is not None:
        items = items[
            few_of_each(data.target_V[items], low_shot, np.random.default_rng((seed, 0xF05)))
        ]
    return items, kept_out


def lesson_of(
    data: LabelledSet,
    clips: Clips,
    settings: Finetune,
    numerics: Numerics,
    train: np.ndarray,
    kept_out: np.ndarray,
    name: str,
) -> Lesson:
    """The lesson on some items.

    Raises:
        SettingsError: fewer than two rows to train on.
    """
    rows = rows_of(data, train)
    if len(rows) < 2:
        raise SettingsError(
            f"{name} of {data.name} has {len(rows)} row(s) to train on. Batch norm needs 2: raise "
            f"--low-shot or lower "
            f"finetune.heldout_share."
        )
    return Lesson(
        clips, data.item_N, data.target_V, rows, rows_of(data, kept_out), settings, numerics, name
    )


def starting_pair(
    pretrained: Pair, lesson: Lesson, num_classes: int, scratch: bool, seed: int
) -> Pair:
    """What a split begins with: copies of the encoders, or new ones, and a new head for each
    modality of the clips.

    New encoders have their batch norms set to the statistics of the training rows, as pretraining
    begins.
    """
    modalities, numerics = lesson.clips.modalities, lesson.numerics
    pair = copy.deepcopy(pretrained).cpu()
    if scratch:
        make_anew(pair, modalities, derive(seed, 1))
    pair.renew_heads(
        {m: {HEAD: num_classes} for m in modalities}, torch.Generator().manual_seed(derive(seed, 2))
    )
    numerics.place(pair)
    if scratch:
        calibrate(
            pair,
            lesson.clips,
            numerics,
            rows=lesson.train_rows,
            batch_size=min(64, len(lesson.train_rows)),
        )
    return pair


def rows_of(data: LabelledSet, items: np.ndarray) -> np.ndarray:
    """The rows of some items, ascending."""
    return np.flatnonzero(np.isin(data.item_N, items))
