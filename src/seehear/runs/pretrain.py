"""A folder of indexed videos in, trained encoders out; after a crash from the last checkpoint.

The method itself is in `method.py`; this file only feeds it, logs and saves its rounds, and keeps
its results. The run's folder: `folder.py`. Under torchrun every rank runs this file; rank 0 alone
reads and writes the run's folder and says anything.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from contextlib import ExitStack
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
from seehear.machine.locks import one_writer
from seehear.machine.reading import readable
from seehear.machine.signals import Interruptions
from seehear.method.learning import Step
from seehear.method.method import TEACHERS, deep_cluster
from seehear.method.recordings import num_centred
from seehear.method.state import State
from seehear.runs.checkpoint import save_round
from seehear.runs.fingerprint import fingerprint, place_of, split_of, what_changed
from seehear.runs.finishing import finish
from seehear.runs.folder import Run
from seehear.runs.log import (
    check_tensorboard,
    latest,
    line,
    summary,
    summary_writer,
    warnings_of,
    write_scalars,
)
from seehear.runs.pace import Pace, forecast
from seehear.runs.saving import Saver, content, naming, restore
from seehear.runs.starting import begin_from, pair_of_run, same_start, settings_from

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
    """Train video and audio encoders on an index's segments by cross-modal deep clustering.

    Under torchrun all processes call it alike; the group that it joins stays to the end.

    Args:
        index: the folder that `seehear.index` wrote.
        out: the run's folder; must not exist, unless `resume` or `overwrite` is set.
        preset: the settings to start from: a name of `seehear.presets.PRESETS`.
        settings: changes by dotted name, such as {"variant": "sdc", "train.lr": 0.01}.
        resume: go on from the last checkpoint of `out`, with the settings recorded there, of which
            only `FREE_ON_RESUME` may be changed. "if there" begins where there is no run yet.
        overwrite: remove the run at `out` first.
        tensorboard: also write TensorBoard's files to `out/tensorboard`.
        console: where progress is shown; stderr by default.
        clips: clips of the same index and settings, to share decoded segments between runs.
    Returns:
        The run. Its encoders are in `out/encoders`; `seehear.load(out)` loads them.
    Raises:
        UsageError: wrong settings, an index that does not fit, an existing run (see its
            subclasses).
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
        resume = distributed.on_rank_zero(lambda: (out / "run.json").exists())
    console = console if distributed.rank() == 0 else Console(quiet=True)
    again = shlex.join([str(index.folder), "--out", str(out)])
    with (
        console or Console() as console,
        Interruptions(f"{distributed.launcher()} pretrain {again} --resume") as requests,
        ExitStack() as held,  # on rank 0 the lock of the one who writes
    ):
        console.watch("choosing a precision", None)
        prepare = go_on if resume else partial(begin, preset=preset, overwrite=overwrite)
        record = distributed.on_rank_zero(lambda: prepare(held, out, index, changes))
        run = Run(out, record)
        train_run(run, index, clips, bool(resume), tensorboard, console, requests)
        if distributed.rank() == 0:  # also where an earlier process was killed before this line
            outputs.remove(run.path / "midway", outputs.MIDWAY)
        distributed.barrier()
    return run


def train_run(
    run: Run,
    index: Index,
    clips: Clips | None,
    resume: bool,
    tensorboard: bool,
    console: Console,
    requests: Interruptions,
) -> None:
    """Train what a run's record describes, from the start or its last checkpoint to the end."""
    cfg = from_dict(run.record["settings"])
    state = new_state(run, cfg)
    damaged = "It, or the last checkpoint, is damaged: restore them, or --overwrite the run."
    with readable(run.path / "run.json", damaged):
        failures = restore(run, state) if resume else {}
    if not (state.round or state.clusters):
        begin_from(run, cfg, state.pair)
    if is_over(run, state, cfg):
        console.say(end_of(run.path, state, cfg))
        return
    index = index.of_split(cfg.data.split)
    for text in introduction(run, cfg, state, index):
        console.say(text)
    clips = clips or Clips(index, cfg.clip, cfg.data, cfg.seed)
    if not clips.cached:
        clips.fill(console.watch("decoding segments", len(clips)))
    divide_cores(clips, cfg.compute, state.numerics.device)
    if distributed.rank() == 0:
        clips.failures.update(failures)  # of the round at hand, before it was stopped
    with kernels(cfg.compute):
        pace = Pace(cfg, clips)
        steps = pace.measure(partial(new_state, run, cfg), clips, state.round)
        for text in forecast(pace, len(clips), state.round, steps):
            console.say(text)
        train_rounds(tensorboard, Saver(run, cfg, state, clips, console, requests, pace))
        origin: dict[str, Any] = {"rounds": state.round, "variant": cfg.variant}
        if given := cfg.start.given:
            networks = run.field("start").get("networks", [])
            origin |= {"start": given, "networks": networks}
        finish(run, cfg, state, clips, console, origin)


def new_state(run: Run, cfg: Settings) -> State:
    """Encoders as the settings say, where and how precisely the run's record says."""
    set_threads(cfg.compute)
    pair, numerics = pair_of_run(run, cfg), recorded_numerics(run)
    numerics.place(pair)
    pair.recompute(cfg.compute.checkpoint_activations)
    if cfg.compute.sync_batch_norm:
        torch.nn.SyncBatchNorm.convert_sync_batchnorm(pair)  # type: ignore[no-untyped-call]
    return State(pair, numerics)


def join(compute_settings: Mapping[str, Any]) -> None:
    """Join the other ranks, if torchrun started this process."""
    compute = override(Compute(), compute_settings, "compute.")
    if "WORLD_SIZE" in os.environ:
        distributed.start(find_device(compute.device), timeout_s=60 * compute.timeout_minutes)


def begin(
    held: ExitStack,
    out: Path,
    index: Index,
    changes: Mapping[str, Any],
    *,
    preset: str,
    overwrite: bool,
) -> dict[str, Any]:
    """Make a new run's folder, locked until `held` is closed; returns its record."""
    cfg, start = settings_from(preset, changes)
    index = index.of_split(cfg.data.split)
    check_size(cfg, index)
    index.check()
    inputs = [index.folder, *filter(Path.exists, map(Path, cfg.start.given.values()))]
    outputs.check_folder(out, outputs.RUN, overwrite=overwrite, inputs=inputs, in_place=True)
    held.enter_context(one_writer(out, inside=True))
    set_threads(cfg.compute)
    record = {"settings": cfg.to_dict(), "index": place_of(index, out) | fingerprint(index)}
    if start is not None:
        record["start"] = {"weights": start.digest, **start.info}
    pair = pair_of_run(Run(out, record), cfg)
    record["numerics"] = choose(cfg.compute, pair, cfg.clip).describe()
    return Run.create(out, record, overwrite=overwrite).record


def go_on(held: ExitStack, out: Path, index: Index, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Open a run that is to go on, locked until `held` is closed; returns its record."""
    if not out.exists():
        raise RunError(f"{out} does not exist. To begin, leave out --resume.")
    Run.open(out)
    held.enter_context(one_writer(out, inside=True))
    index = index.of_split(split_of(Run.open(out)))
    run, cfg = reopen(out, index, changes)
    check_size(cfg, index)
    index.check()
    if changes.keys() & {"start.video", "start.audio"}:
        same_start(run, cfg)
    recorded_numerics(run)
    run.record["index"] |= place_of(index, out)  # which may have been moved
    run.went_on(cfg.to_dict())
    return run.record


def is_over(run: Run, state: State, cfg: Settings) -> bool:
    """Whether a run has nothing left to do."""
    rounds_are = state.round > 0 and not state.clusters and state.is_over(cfg.rounds, cfg.stop_nmi)
    return rounds_are and distributed.on_rank_zero(
        lambda: (run.path / "encoders" / "encoders.json").is_file()
    )


def end_of(out: Path, state: State, cfg: Settings) -> str:
    """What to say of a run that has nothing left to do."""
    if state.round < cfg.rounds:
        return (
            f"{out} ended when its clusters stopped changing, in round {state.round}. More: "
            f"--resume --stop_nmi 0."
        )
    return f"{out} has all {cfg.rounds} rounds already. More: --resume --rounds {cfg.rounds * 2}."


def introduction(run: Run, cfg: Settings, state: State, index: Index) -> list[str]:
    """What a run is about to do, in a few lines."""
    ranks, train, numerics = distributed.world_size(), cfg.train, state.numerics
    after = ""
    if state.clusters:
        after = f", going on in round {state.round + 1}, step {state.steps}"
    elif state.round:
        after = f", going on after round {state.round}"
    parts = train.batch_parts if cfg.compute.sync_batch_norm else max(train.batch_parts, ranks)
    lines = [
        f"{cfg.variant.upper()} on {len(index)} segments: {numerics.device}, {numerics.precision}, "
        f"{numerics.memory_format} -> {run.path}{after}"
    ]
    if ranks > 1 or train.batch_parts > 1:
        over = "all ranks" if cfg.compute.sync_batch_norm else "a part"
        lines.append(
            f"{ranks} ranks; {train.batch_size} clips a step over all of them in {parts} parts, "
            f"learning rate {train.lr:g} for that batch; batch norm over {over}"
        )
    lines += [numerics.note] if numerics.note else []
    if centred := num_centred(index.recording, cfg.cluster.centre):
        lines.append(
            f"{centred} of {len(index)} segments are compared within their recordings "
            f"(--cluster.centre {cfg.cluster.centre}). Where each recording shows one event "
            f"alone, take --cluster.centre all."
        )
    splits = {name: count for name, count in index.splits().items() if name and count}
    if splits and not cfg.data.split:
        names = ", ".join(f"{name} ({count})" for name, count in splits.items())
        lines.append(f"All splits of the index are learnt from, {names}; --data.split takes one.")
    gpus = torch.cuda.device_count() if numerics.device.startswith("cuda") else 0
    if ranks == 1 and gpus > 1:
        lines.append(
            f"This machine has {gpus} GPUs, and one is used. To use all: torchrun --nproc-per-node "
            f"{gpus} -m seehear pretrain ..."
        )
    return lines


def train_rounds(tensorboard: bool, saver: Saver) -> None:
    """Drive the method: between two steps and two rounds all that is not method is done."""
    run, cfg, state, clips, console = saver.run, saver.cfg, saver.state, saver.clips, saver.console
    writer, before = None, None
    if tensorboard and distributed.rank() == 0:
        writer = summary_writer(run.path / "tensorboard")
    facts = facts_of(clips) if distributed.rank() == 0 else {}  # which no round changes
    heldout_rows = clips.split(cfg.train.heldout_share)[1]
    heldout_recordings = len(np.unique(clips.index.recording[heldout_rows]))
    with naming(saver.last_good):
        for now in deep_cluster(state, clips, cfg):
            if isinstance(now, Step):
                saver.after(now)
                continue
            failures = saver.failures()
            clips.failures.clear()  # the next round counts its own
            if distributed.rank() == 0:
                entry = summary(now, failures, TEACHERS[cfg.variant], heldout_recordings)
                entry["data"] = facts
                save_round(run, now.number, content(state, run, {}), entry)
                run.log(entry)
                console.say(line(entry, cfg.rounds))
                for warning in warnings_of(entry, before):  # once, as long as it stays
                    console.say(f"  warning: {warning}")
                before = latest([before or entry, entry])
                if writer is not None:
                    write_scalars(writer, entry)
            saver.round_is_saved(now.number)
    if writer is not None:
        writer.close()


def reopen(out: Path, index: Index, changes: Mapping[str, Any]) -> tuple[Run, Settings]:
    """An existing run and its settings with the allowed changes.

    Raises:
        RunError: no run there, another index, or a change of a setting that must stay.
    """
    run = Run.open(out)
    if run.record.get("encoder"):
        raise RunError(
            f"{out} has the clusters of {run.record['encoder']}, which seehear cluster made: there "
            f"is no training to go on with. Choose another --out."
        )
    recorded = run.settings()
    cfg = override(recorded, changes)
    changed = [
        f"{name} is {new}, and the run at {out} was made with {old}"
        for name, (old, new) in differences(recorded, cfg).items()
        if name not in FREE_ON_RESUME
    ]
    if changed:
        raise RunError(
            f"{'; '.join(changed)}. Leave it out to go on, or choose another --out. These may "
            f"change: {', '.join(sorted(FREE_ON_RESUME))}."
        )
    if run.field("index", "digest") != index.digest:
        what = what_changed(run.record["index"], index)
        raise RunError(
            f"The index {index.folder} has changed since the run at {out} began ({what}), so its "
            "labels belong to other rows. Use --overwrite or another --out."
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
        of = f"{index.folder} ({cfg.data.split})" if cfg.data.split else index.folder
        raise SettingsError(
            f"cluster.num_clusters is {most}, more than the {len(index)} rows of {of}. "
            f"Lower it (--cluster.num_clusters {max(2, len(index) // 20)}), or index more videos."
        )
    if len(index) < 2:
        raise IndexFileError(
            f"{index.folder} has {len(index)} row(s). Training needs at least 2; index more videos."
        )
