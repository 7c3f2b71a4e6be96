"""A folder of indexed videos in, trained encoders out: builds everything from the settings, drives the method's rounds,
logs each, saves each, and goes on after a crash from the last checkpoint.

The method itself is in `method.py`; this file only feeds it and keeps its results. The run's folder: `folder.py`. Under
torchrun every rank runs this file; rank 0 alone reads and writes the run's folder and says anything.
"""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Mapping
from contextlib import ExitStack, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from seehear.config import Compute, Settings, differences, from_dict, override
from seehear.data.advice import divide_cores, facts_of
from seehear.data.clips import Clips
from seehear.data.index import Index
from seehear.errors import IndexFileError, RunError, SettingsError
from seehear.machine import distributed, outputs
from seehear.machine.console import Console
from seehear.machine.devices import Numerics, choose, find_device, kernels, set_threads
from seehear.machine.files import whole_folder
from seehear.machine.locks import one_writer
from seehear.machine.reading import readable
from seehear.machine.signals import Interruptions
from seehear.method.encoders import Pair
from seehear.method.features import Features, extract, write_features
from seehear.method.method import ALL_SPACES, TEACHERS, Begun, Round, cluster_features, deep_cluster
from seehear.method.train import GO_ON, LEAVE, SAVE, Keep
from seehear.models.matching import fit_matching
from seehear.models.model import build_pair, save_encoders
from seehear.presets import preset_settings
from seehear.runs.checkpoint import furthest_first, save_midway, save_round, write_clusters
from seehear.runs.fingerprint import fingerprint, place_of, what_changed
from seehear.runs.folder import Run
from seehear.runs.log import check_tensorboard, line, summary, summary_writer, warnings_of, write_scalars
from seehear.runs.state import Restored, restore, state_of, state_within, tensors_of

# What may differ when a run goes on: it changes no result, or only how far the run goes.
FREE_ON_RESUME = frozenset(
    {
        "rounds",
        "stop_nmi",
        "data.workers",
        "data.max_failed_share",
        "data.remote_cache_gigabytes",
        "compute.threads",
        "compute.timeout_minutes",
        "compute.checkpoint_activations",
        "checkpoint.minutes",
        "checkpoint.steps",
    }
)


def pretrain(
    index: str | Path | Index,
    out: str | Path,
    *,
    preset: str = "small",
    settings: Mapping[str, Any] | None = None,
    resume: bool | Literal["if there"] = False,
    overwrite: bool = False,
    tensorboard: bool = False,
    console: Console | None = None,
    clips: Clips | None = None,
) -> Run:
    """Train a video and an audio encoder on the segments of an index, by cross-modal deep clustering.

    Under torchrun all processes call it alike; the group that it joins stays until the process ends.

    Args:
        index: the folder that `seehear.index` wrote.
        out: the run's folder; must not exist, unless `resume` or `overwrite` is set.
        preset: the settings to start from: a name of `seehear.presets.PRESETS`.
        settings: changes by dotted name, such as {"variant": "sdc", "train.lr": 0.01}.
        resume: go on from the last checkpoint of `out`, with the settings recorded there, of which only
            `FREE_ON_RESUME` may be changed. "if there" begins where there is no run yet.
        overwrite: remove the run at `out` first.
        tensorboard: also write TensorBoard's files to `out/tensorboard`.
        console: where progress is shown; stderr by default.
        clips: clips of the same index and settings, to share decoded segments between runs.
    Returns:
        The run. Its encoders are in `out/encoders`; `seehear.load(out)` loads them.
    Raises:
        UsageError: wrong settings, an index that does not fit, an existing run (see its subclasses).
        TrainingError: the loss is not finite, or too many rows cannot be read.
        Interrupted: SIGTERM, SIGINT or SIGUSR1 came; training is saved.
        RankError: another rank is gone.
    """
    out, changes = Path(out), dict(settings or {})
    if tensorboard:
        check_tensorboard()
    index = index if isinstance(index, Index) else Index.open(index)
    join({name: value for name, value in changes.items() if name.startswith("compute.")})
    if resume == "if there":
        resume = distributed.by_first(lambda: (out / "run.json").exists())
    console = console if distributed.rank() == 0 else Console(quiet=True)
    with (
        nullcontext(console) if console else Console() as console,
        Interruptions(
            f"{distributed.launcher()} pretrain {shlex.join([str(index.folder), '--out', str(out)])} --resume"
        ) as requests,
        ExitStack() as held,  # on rank 0 the lock of the one who writes
    ):
        prepare = partial(go_on, held) if resume else partial(begin, held, preset=preset, overwrite=overwrite)
        record = distributed.by_first(partial(prepare, out, index, changes))
        run, cfg = Run(out, record), from_dict(record["settings"])
        set_threads(cfg.compute)
        pair, numerics = build_pair(cfg), recorded_numerics(run)
        numerics.place(pair)
        pair.recompute(cfg.compute.checkpoint_activations)
        if cfg.compute.sync_batch_norm:
            torch.nn.SyncBatchNorm.convert_sync_batchnorm(pair)  # type: ignore[no-untyped-call]
        with readable(
            out / "run.json", "It, or the last checkpoint, is damaged: restore them, or --overwrite the run."
        ):
            start = restore(run, pair, cfg) if resume else Restored()
        if start.last is not None and is_over(run, start, cfg):
            console.say(end_of(out, start.last, cfg))
            return run
        for line in introduction(run, cfg, numerics, start, len(index)):
            console.say(line)
        clips = clips or Clips(index, cfg.clip, cfg.data, cfg.seed)
        with kernels(cfg.compute):
            last = train_rounds(run, cfg, pair, clips, numerics, start, console, requests, tensorboard)
            finish(run, cfg, pair, clips, numerics, last, console)
        distributed.barrier()
    return run


def join(compute_settings: Mapping[str, Any]) -> None:
    """Join the other ranks, if torchrun started this process."""
    compute = override(Compute(), compute_settings, "compute.")
    if "WORLD_SIZE" in os.environ:
        distributed.start(find_device(compute.device), timeout_s=60 * compute.timeout_minutes)


def begin(
    held: ExitStack, out: Path, index: Index, changes: Mapping[str, Any], *, preset: str, overwrite: bool
) -> dict[str, Any]:
    """Make the folder of a new run, which this process alone writes until `held` is closed; returns its record."""
    cfg = override(preset_settings(preset), changes)
    check_size(cfg, index)
    index.check()
    outputs.check_folder(out, outputs.RUN, overwrite=overwrite, inputs=[index.folder], in_place=True)
    held.enter_context(one_writer(out, inside=True))
    set_threads(cfg.compute)
    numerics = choose(cfg.compute, build_pair(cfg), cfg.clip)
    return Run.create(out, new_record(out, cfg, index, numerics), overwrite=overwrite).record


def go_on(held: ExitStack, out: Path, index: Index, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Open a run that is to go on, which this process alone writes until `held` is closed; returns its record."""
    Run.open(out)
    held.enter_context(one_writer(out, inside=True))
    run, cfg = reopen(out, index, changes)
    check_size(cfg, index)
    index.check()
    recorded_numerics(run)
    run.record["index"] |= place_of(index, out)  # which may have been moved
    run.went_on(cfg.to_dict())
    return run.record


def is_over(run: Run, start: Restored, cfg: Settings) -> bool:
    """Whether a run has nothing left to do."""
    last = start.last if start.begun is None else None
    rounds_are = last is not None and (last.number + 1 >= cfg.rounds or (cfg.stop_nmi > 0 and last.is_last))
    return rounds_are and distributed.by_first(lambda: (run.path / "encoders" / "encoders.json").is_file())


def end_of(out: Path, last: Round, cfg: Settings) -> str:
    """What to say of a run that has nothing left to do."""
    if last.number + 1 < cfg.rounds:
        return (
            f"{out} ended when its clusters stopped changing, in round {last.number + 1}. More: --resume --stop_nmi 0."
        )
    return f"{out} has all {cfg.rounds} rounds already. More: --resume --rounds {cfg.rounds * 2}."


def introduction(run: Run, cfg: Settings, numerics: Numerics, start: Restored, rows: int) -> list[str]:
    """What a run is about to do, in a few lines."""
    ranks, train = distributed.world_size(), cfg.train
    after = ""
    if start.begun:
        after = f", going on in round {start.begun.number + 1}, step {start.begun.steps}"
    elif start.last:
        after = f", going on after round {start.last.number + 1}"
    parts = train.batch_parts if cfg.compute.sync_batch_norm else max(train.batch_parts, ranks)
    lines = [
        f"{cfg.variant.upper()} on {rows} segments: {numerics.device}, {numerics.precision}, "
        f"{numerics.memory_format} -> {run.path}{after}"
    ]
    if ranks > 1 or train.batch_parts > 1:
        over = "all ranks" if cfg.compute.sync_batch_norm else "a part"
        lines.append(
            f"{ranks} ranks; {train.batch_size} clips a step over all of them in {parts} parts, learning rate "
            f"{train.lr:g} for that batch; batch norm over {over}"
        )
    lines += [numerics.note] if numerics.note else []
    gpus = torch.cuda.device_count() if numerics.device.startswith("cuda") else 0
    if ranks == 1 and gpus > 1:
        lines.append(
            f"This machine has {gpus} GPUs, and one is used. To use all: torchrun --nproc-per-node {gpus} -m seehear "
            f"pretrain ..."
        )
    return lines


def train_rounds(
    run: Run,
    cfg: Settings,
    pair: Pair,
    clips: Clips,
    numerics: Numerics,
    start: Restored,
    console: Console,
    requests: Interruptions,
    tensorboard: bool,
) -> Round:
    """Drive the method, saving and logging each round when it is over; returns the last one."""
    if not clips.cached:
        clips.fill(console.watch("decoding segments", len(clips)))
    divide_cores(clips, cfg.compute, numerics.device)
    writer = summary_writer(run.path / "tensorboard") if tensorboard and distributed.rank() == 0 else None
    facts = facts_of(clips) if distributed.rank() == 0 else {}  # which no round changes
    heldout_videos = len(np.unique(clips.index.video[clips.split(cfg.train.heldout_share)[1]]))
    last, saver = start.last, Saver(run, cfg, pair, clips, console, requests)
    if distributed.rank() == 0:
        clips.failures.update(start.failures or {})

    def keep(begun: Begun) -> Keep:
        requests.patient = True
        return Keep(
            saver.wish,
            lambda training, wish: saver.save(replace(begun, training=training), last, wish),
            console.say,
            saver.last_good,
        )

    for now in deep_cluster(pair, clips, cfg, numerics, last, console.watch, start.begun, keep):
        failures = saver.failures()
        clips.failures.clear()  # the next round counts its own
        if distributed.rank() == 0:
            entry = summary(now, last, failures, TEACHERS[cfg.variant], heldout_videos) | {"data": facts}
            save_round(run, now.number, state_of(now, pair), entry)
            run.log(entry)
            console.say(line(entry, cfg.rounds))
            for warning in warnings_of(entry):
                console.say(f"  warning: {warning}")
            if writer is not None:
                write_scalars(writer, entry)
        saver.round_is_saved(now)
        last = now
    if writer is not None:
        writer.close()
    assert last is not None, "a run has at least one round"
    return last


class Saver:
    """Saves training within a round when its time has come or a signal asked for it."""

    def __init__(
        self, run: Run, cfg: Settings, pair: Pair, clips: Clips, console: Console, requests: Interruptions
    ) -> None:
        self.run, self.cfg, self.pair, self.clips = run, cfg.checkpoint, pair, clips
        self.console, self.requests = console, requests
        self.steps, self.saved_s = 0, time.monotonic()

    def wish(self) -> int:
        """What this rank wants after the step at hand; the clock is that of rank 0."""
        if self.requests.asked:
            return LEAVE
        if distributed.rank() > 0:
            return GO_ON
        self.steps += 1
        late = self.cfg.minutes and time.monotonic() - self.saved_s > 60 * self.cfg.minutes
        return SAVE if late or (self.cfg.steps and self.steps % self.cfg.steps == 0) else GO_ON

    def save(self, begun: Begun, last: Round | None, wish: int) -> None:
        """Write a checkpoint; with the wish LEAVE also raise `Interrupted`, on every rank, after it is written."""
        failures = self.failures()

        def write() -> bool:
            try:
                state = state_within(begun, last, self.pair, self.run, failures)
                save_midway(self.run, begun.number, begun.steps, state)
            except OSError as error:  # a full disk, say: the checkpoints before are still there
                self.console.say(f"warning: no checkpoint could be written ({error}); the one before stays.")
                return False
            return True

        is_written = distributed.by_first(write)
        self.saved_s = time.monotonic()
        if wish == LEAVE:
            how = "is saved" if is_written else "could not be saved"
            raise self.requests.error(f"Round {begun.number + 1} {how} after step {begun.steps}.")

    def last_good(self) -> str:
        """The file of the furthest checkpoint, for a message; on every rank."""
        return distributed.by_first(lambda: next((str(path) for *_, path in furthest_first(self.run)), "none yet"))

    def failures(self) -> dict[str, int]:
        """Rows that could not be read in this round so far, by reason, over all ranks."""
        return dict(distributed.add_up(self.clips.failures))

    def round_is_saved(self, now: Round) -> None:
        """From here on to the next training a request ends the run at once; one that came before ends it now."""
        asked = distributed.all_reduce(torch.tensor(bool(self.requests.asked), dtype=torch.int32), "max")
        self.requests.patient, self.saved_s = False, time.monotonic()
        if asked:
            raise self.requests.error(f"Round {now.number + 1} is over and saved.")


def finish(
    run: Run, cfg: Settings, pair: Pair, clips: Clips, numerics: Numerics, last: Round, console: Console
) -> None:
    """Keep what the finished encoders say of every row, cluster every space once more, and write the encoders."""
    span = distributed.rows_of_rank(len(clips))
    mine = np.arange(span.start, span.stop)
    features = extract(pair, clips, numerics, rows=mine, progress=console.watch("features", len(mine)))
    final = cluster_features(features, len(clips), cfg, numerics.device, last.number + 1, ALL_SPACES)
    everything = Features(*distributed.gather_rows(features.rows, features.of))
    if distributed.rank() > 0:
        return
    with whole_folder(run.path / "features", replaces=outputs.RUN_FEATURES) as folder:
        write_features(folder, everything, len(clips))
    with whole_folder(run.path / "clusters", replaces=outputs.CLUSTERS) as folder:
        write_clusters(folder, {name: tensors_of(c) for name, c in final.items()})
    origin = {key: run.record[key] for key in ("seehear", "commit", "index")}
    origin |= {"rounds": last.number + 1, "variant": cfg.variant}
    with distributed.alone():
        matching = fit_matching(pair, everything, last.clusters, cfg.cluster.features)
    save_encoders(run.path / "encoders", pair, cfg, origin, matching)
    outputs.remove(run.path / "midway", outputs.MIDWAY)


def new_record(out: Path, cfg: Settings, index: Index, numerics: Numerics) -> dict[str, Any]:
    """What `run.json` holds beside versions and command."""
    return {
        "settings": cfg.to_dict(),
        "index": place_of(index, out) | fingerprint(index),
        "numerics": numerics.describe(),
    }


def reopen(out: Path, index: Index, changes: Mapping[str, Any]) -> tuple[Run, Settings]:
    """An existing run and its settings with the allowed changes.

    Raises:
        RunError: no run there, another index, or a change of a setting that must stay.
    """
    run = Run.open(out)
    recorded = run.settings()
    cfg = override(recorded, changes)
    changed = {name: both for name, both in differences(recorded, cfg).items() if name not in FREE_ON_RESUME}
    if changed:
        what = "; ".join(
            f"{name} is {new}, and the run at {out} was made with {old}" for name, (old, new) in changed.items()
        )
        raise RunError(
            f"{what}. Leave it out to go on, or choose another --out. These may change: "
            f"{', '.join(sorted(FREE_ON_RESUME))}."
        )
    if run.field("index", "digest") != index.digest:
        what = what_changed(run.record["index"], index)
        raise RunError(
            f"The index {index.folder} has changed since the run at {out} began ({what}), so its labels "
            f"belong to other rows. Use --overwrite or another --out."
        )
    return run, cfg


def recorded_numerics(run: Run) -> Numerics:
    """The numerics that a run was made with. Raises SettingsError where its device is not there."""
    with readable(run.path / "run.json", "Restore it, or start anew with --overwrite."):
        return Numerics.from_record(run.field("numerics"))


def check_size(cfg: Settings, index: Index) -> None:
    """Raise for an index that is too small for the settings."""
    most = max(cfg.cluster.num_clusters)
    if most > len(index):
        raise SettingsError(
            f"cluster.num_clusters is {most}, more than the {len(index)} rows of {index.folder}. "
            f"Lower it (--cluster.num_clusters {max(2, len(index) // 20)}), or index more videos."
        )
    if len(index) < 2:
        raise IndexFileError(f"{index.folder} has {len(index)} row(s). Training needs at least 2; index more videos.")
