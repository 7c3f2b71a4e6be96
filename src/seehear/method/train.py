"""How does an encoder learn one round's labels? By cross-entropy; the labels are fixed, so students
learn one by one.

Every choice derives from (seed, epoch, row), so that a round is a function of its starting weights
and its labels, and the batches of an epoch are the same whatever the number of ranks; `step` cuts
each among them.

The learning rate rises, stays, and falls to zero in the last epoch (warm-up, stable, decay). That
is the epoch that `train.epochs` allows, or the one after the held-out loss has not improved for
`train.patience` epochs: the labels are learned as far as they generalise. It begins at the weights
whose held-out loss was the best, so that what is clustered next is neither overfitted nor cut off
at a high rate. The paper trains until the validation loss saturates; its schedule is in the
supplement, which we could not read.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from seehear.config import Train
from seehear.data.clips import Clips
from seehear.data.order import epoch_rows, share_seen
from seehear.method.encoders.pair import ENCODERS, modalities_of
from seehear.method.heldout import measure
from seehear.method.learning import GO_ON, LEAVE, Step, timed
from seehear.method.skips import Skips
from seehear.method.state import State, summed
from seehear.method.step import Labels, Loss, Plan, Update, cross_entropy


def learning_rate(step: int, steps: int, is_last: bool, cfg: Train) -> float:
    """The rate in a step, counted from when training began, of so many an epoch."""
    warmup = max(1.0, cfg.warmup_share * cfg.epochs * steps)
    if step < warmup:
        return cfg.lr * (step + 1) / (warmup + 1)
    if not is_last:
        return cfg.lr
    # Half a cosine over the last epoch, or what the warm-up leaves of it where it is the only one.
    first, end = max(warmup, step // steps * steps), (step // steps + 1) * steps
    return cfg.lr * 0.5 * (1 + math.cos(math.pi * (step - first) / max(1.0, end - first)))


@dataclass(frozen=True)
class Course:
    """What is to be learned, by whom, from which rows.

    students: nothing of another encoder is read or changed. Several see the same batches, and stop
    together by the sum of their losses. labels: one a row, for each head. first_epoch: the number
    of the first epoch over the whole run, from which draws derive.
    """

    students: tuple[str, ...]
    labels: Labels
    train_rows: np.ndarray
    heldout_rows: np.ndarray  # only looked at, after each epoch
    first_epoch: int = 0
    loss: Loss = cross_entropy
    rate: Callable[[int, int, bool, Train], float] = learning_rate
    most_steps: int | None = None  # of all epochs
    remedy: str = "a train.lr below {lr:g}, or with compute.precision fp32"


def train(state: State, clips: Clips, course: Course, cfg: Train) -> Iterator[Step]:
    """Train `state.pair` in place. Yields before the first step, after each, and in measuring."""
    students, rows = course.students, course.train_rows
    state.begin(students, cfg)  # or goes on in the middle, if a checkpoint was loaded
    pair, learning, optimizer = state.pair, state.learning, state.optimizer
    taught = (pair, clips.clip, course.labels, cfg, state.numerics, optimizer, students)
    update = Update(*taught, course.loss)
    labels = {name: course.labels[name] for s in students for name in pair.heads_for(s)}
    batch_size = min(cfg.batch_size, len(rows))
    batches = len(rows) // batch_size  # of an epoch; each leaves out other rows
    most_steps = cfg.epochs * batches if course.most_steps is None else course.most_steps
    who, senses = " and ".join(students), modalities_of(students)
    skips = Skips(learning, who, cfg.epochs * batches, course.remedy.format(lr=cfg.lr))

    def now(request: int = GO_ON) -> Step:
        number, total = learning.epochs * batches + state.step, cfg.epochs * len(rows)
        of = (most_steps, learning.epochs, cfg.epochs, learning.waiting_seconds)
        return Step(who, learning.clips, total, number, request, skips.notes(), *of)

    yield now()
    is_last = False
    while not is_last:
        done = learning.epochs
        is_last = done + 1 >= cfg.epochs or saturated(learning.heldout_loss, cfg.patience)
        if is_last and not state.step:  # a checkpoint from within it has these weights already
            state.back_to_the_best()

        # Students draw apart, and no draw comes twice: epochs are numbered over the whole run.
        epoch = course.first_epoch + done
        seeds = (clips.seed, epoch, 0x5EED, *map(ENCODERS.index, students))
        drawn = epoch_rows(rows, labels, seeds, uniform=cfg.uniform_clusters)
        stop = min(batches, most_steps - done * batches)
        plan = Plan(update.pieces, drawn, batch_size, range(state.step, stop))
        read = clips.pieces(plan, epoch=epoch, num_rows=plan.num_rows, modalities=senses)
        pieces = timed(read, learning)

        pair.train()
        for number in range(state.step, stop):
            rate = course.rate(done * batches + number, batches, is_last, cfg)
            for group in optimizer.param_groups:
                group["lr"] = rate
            batch = drawn[number * batch_size : (number + 1) * batch_size]
            parts = [next(pieces) for _ in range(plan.parts)]  # None where nothing could be read
            taken = update(parts, batch, state.request, state.sums)
            state.step += 1
            # Whether it was finite is known one step later, so that a GPU never waits; with a
            # request it is waited for, since only a state without pending steps can be saved.
            where = f"epoch {epoch}, step {number + 1} of {batches}"
            yield now(skips.add(taken, state.sums, where, batch))
        skips.flush()
        yield now()  # what the last step came to

        heldout = measure(state, clips, update, course.heldout_rows, batch_size, now)
        measured, leave = yield from heldout
        if leave:
            yield now(LEAVE)  # the epoch is not over: who goes on from here measures again
        # The best weights so far are kept for annealing; after that there is no use for them.
        keep_best = cfg.patience > 0 and not is_last
        state.end_epoch(measured, share_seen(drawn, rows), keep_best)


def saturated(heldout_loss: Mapping[str, list[float]], patience: int) -> bool:
    """Whether the held-out loss, summed over students, did not improve in `patience` epochs."""
    totals = summed(heldout_loss)
    return 0 < patience < len(totals) and min(totals[-patience:]) >= min(totals[:-patience])
