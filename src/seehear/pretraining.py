"""A folder of indexed videos in, trained encoders out: builds everything from the settings, drives the method's rounds,
logs each, saves each, and goes on after a crash from the last whole one.

The method itself is in `method.py`; this file only feeds it and keeps its results. The run's folder: `runs.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from seehear.checkpoint import last_good_round, save_round, write_clusters
from seehear.clips import Clips
from seehear.config import Settings, differences, from_dict, override
from seehear.encoders import Pair
from seehear.errors import IndexFileError, RunError, SettingsError
from seehear.features import extract, write_features
from seehear.indexing import Index
from seehear.journal import check_tensorboard, line, summary, summary_writer, warnings_of, write_scalars
from seehear.kmeans import Clustering
from seehear.matching import fit_matching
from seehear.method import ALL_SPACES, TEACHERS, Round, cluster_features, deep_cluster, derive, heads_of
from seehear.model import build_pair, save_encoders
from seehear.numerics import Numerics, choose, find_device, set_threads
from seehear.presets import preset_settings
from seehear.progress import Console
from seehear.runs import Run, whole_folder
from seehear.spaces import Clusters, Space
from seehear.throughput import facts_of
from seehear.trainer import Learning

# What may differ when a run goes on: it changes no result, or only how far the run goes.
FREE_ON_RESUME = frozenset({"rounds", "data.workers", "data.max_failed_share", "compute.threads"})


def pretrain(
    index: str | Path | Index,
    out: str | Path,
    *,
    preset: str = "small",
    settings: Mapping[str, Any] | None = None,
    resume: bool = False,
    overwrite: bool = False,
    tensorboard: bool = False,
    console: Console | None = None,
    clips: Clips | None = None,
) -> Run:
    """Train a video and an audio encoder on the segments of an index, by cross-modal deep clustering.

    Args:
        index: the folder that `seehear.index` wrote.
        out: the run's folder; must not exist, unless `resume` or `overwrite` is set.
        preset: the settings to start from: a name of `seehear.presets.PRESETS`.
        settings: changes by dotted name, such as {"variant": "sdc", "train.lr": 0.01}.
        resume: go on after the last whole round of `out`, with the settings recorded there, of which only
            `FREE_ON_RESUME` may be changed.
        overwrite: remove the run at `out` first.
        tensorboard: also write TensorBoard's files to `out/tensorboard`.
        console: where progress is shown; stderr by default.
        clips: clips of the same index and settings, to share decoded segments between runs.
    Returns:
        The run. Its encoders are in `out/encoders`; `seehear.load(out)` loads them.
    Raises:
        UsageError: wrong settings, an index that does not fit, an existing run (see its subclasses).
        TrainingError: the loss is not finite, or too many rows cannot be read.
    """
    out = Path(out)
    if tensorboard:
        check_tensorboard()
    index = index if isinstance(index, Index) else Index.open(index)
    if resume:
        run, cfg = reopen(out, index, settings or {})
    else:
        cfg = override(preset_settings(preset), settings or {})
    check_size(cfg, index)
    index.check()
    pair = build_pair(cfg)
    with nullcontext(console) if console else Console() as console:
        set_threads(cfg.compute)
        if resume:
            numerics = recorded_numerics(run)
            run.went_on(cfg.to_dict())
        else:
            Run.check_free(out, overwrite=overwrite)
            numerics = choose(cfg.compute, pair, cfg.clip)
            run = Run.create(out, new_record(cfg, index, numerics), overwrite=overwrite)
        numerics.place(pair)
        last = restore(run, pair, cfg) if resume else None
        if last is not None and last.number + 1 >= cfg.rounds and (run.path / "encoders").is_dir():
            console.say(f"{out} has all {cfg.rounds} rounds already. More: --resume --rounds {cfg.rounds * 2}.")
            return run
        console.say(
            f"{cfg.variant.upper()} on {len(index)} segments: {numerics.device}, {numerics.precision}, "
            f"{numerics.memory_format} -> {out}" + (f", going on after round {last.number + 1}" if last else "")
        )
        clips = clips or Clips(index, cfg.clip, cfg.data, cfg.seed)
        last = train_rounds(run, cfg, pair, clips, numerics, last, console, tensorboard)
        finish(run, cfg, pair, clips, numerics, last, console)
    return run


def train_rounds(
    run: Run,
    cfg: Settings,
    pair: Pair,
    clips: Clips,
    numerics: Numerics,
    last: Round | None,
    console: Console,
    tensorboard: bool,
) -> Round:
    """Drive the method, saving and logging each round when it is over; returns the last one."""
    if not clips.cached:
        clips.fill(console.watch("decoding segments", len(clips)))
    writer = summary_writer(run.path / "tensorboard") if tensorboard else None
    for now in deep_cluster(pair, clips, cfg, numerics, last, console.watch):
        entry = summary(now, last, dict(clips.failures)) | {"data": facts_of(clips)}
        clips.failures.clear()  # the next round counts its own
        save_round(run, now.number, state_of(now, pair), entry)
        run.log(entry)
        console.say(line(entry, cfg.rounds))
        for warning in warnings_of(entry):
            console.say(f"  warning: {warning}")
        if writer is not None:
            write_scalars(writer, entry)
        last = now
    if writer is not None:
        writer.close()
    assert last is not None, "a run has at least one round"
    return last


def finish(
    run: Run, cfg: Settings, pair: Pair, clips: Clips, numerics: Numerics, last: Round, console: Console
) -> None:
    """Keep what the finished encoders say of every row, cluster every space once more, and write the encoders."""
    features = extract(pair, clips, numerics, progress=console.watch("features", len(clips)))
    with whole_folder(run.path / "features", overwrite=True) as folder:
        write_features(folder, features, len(clips))
    used = next(iter(last.clusters.values())).clustering.precision  # not probed again: a resumed run must agree
    fixed = override(cfg, {"cluster.precision": used})
    final = cluster_features(features, len(clips), fixed, numerics.device, cfg.rounds, ALL_SPACES)
    with whole_folder(run.path / "clusters", overwrite=True) as folder:
        write_clusters(folder, {name: tensors_of(c) for name, c in final.items()})
    origin = {key: run.record[key] for key in ("seehear", "commit", "index")}
    origin |= {"rounds": cfg.rounds, "variant": cfg.variant}
    save_encoders(
        run.path / "encoders", pair, cfg, origin, fit_matching(pair, features, last.clusters, cfg.cluster.features)
    )


def new_record(cfg: Settings, index: Index, numerics: Numerics) -> dict[str, Any]:
    """What `run.json` holds beside versions and command."""
    place = {"path": str(index.folder), "digest": index.digest, "rows": len(index)}
    return {"settings": cfg.to_dict(), "index": place, "numerics": numerics.describe()}


def reopen(out: Path, index: Index, changes: Mapping[str, Any]) -> tuple[Run, Settings]:
    """An existing run and its settings with the allowed changes.

    Raises:
        RunError: no run there, another index, or a change of a setting that must stay.
    """
    run = Run.open(out)
    recorded = from_dict(run.record["settings"])
    cfg = override(recorded, changes)
    for name, (old, new) in differences(recorded, cfg).items():
        if name not in FREE_ON_RESUME:
            raise RunError(
                f"{name} is {new}, and the run at {out} was made with {old}. Leave it out to go on, "
                f"or choose another --out."
            )
    if run.record["index"]["digest"] != index.digest:
        raise RunError(
            f"The index {index.folder} has changed since the run at {out} began ({run.record['index']['rows']} rows "
            f"then, {len(index)} now), so its labels belong to other rows. Use --overwrite or another --out."
        )
    return run, cfg


def recorded_numerics(run: Run) -> Numerics:
    """The numerics that a run was made with.

    Raises:
        SettingsError: its device is not there.
    """
    n = run.record["numerics"]
    return Numerics(find_device(n["device"]), n["precision"], n["memory_format"], tuple(n["probe_ms"].items()))


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


def state_of(now: Round, pair: Pair) -> dict[str, Any]:
    """A round as tensors and plain data, for its checkpoint."""
    return {
        "number": now.number,
        "next_epoch": now.next_epoch,
        "learning": asdict(now.learning),
        "clusters": {name: tensors_of(c) for name, c in now.clusters.items()},
        "precision": {name: c.clustering.precision for name, c in now.clusters.items()},
        "pair": pair.state_dict(),
    }


def tensors_of(c: Clusters) -> dict[str, torch.Tensor]:
    """One clustering as tensors."""
    return {
        "labels": torch.from_numpy(c.labels_N),
        "centroids": c.clustering.centroids,
        "sizes": c.clustering.sizes,
        **{f"space.{key}": value for key, value in c.space.state_dict().items()},
    }


def clusters_from(tensors: Mapping[str, torch.Tensor], precision: str) -> Clusters:
    """The inverse of `tensors_of`, as far as going on needs it."""
    labels, centroids, sizes = tensors["labels"], tensors["centroids"], tensors["sizes"]
    space = Space.from_state_dict({k.removeprefix("space."): v for k, v in tensors.items() if k.startswith("space.")})
    clustering = Clustering(
        labels, centroids, sizes, inertia=float("nan"), reseeded=0, iterations=0, precision=precision
    )
    return Clusters(labels.numpy(), clustering, space)


def restore(run: Run, pair: Pair, cfg: Settings) -> Round | None:
    """The last whole round of a run, with `pair` set to its weights; what came after it is removed.

    None where no round was finished: the run then begins again, in the same folder.
    """
    found = last_good_round(run)
    run.forget_after(found[0] if found else -1)
    if found is None:
        return None
    number, state = found
    clusters = {name: clusters_from(tensors, state["precision"][name]) for name, tensors in state["clusters"].items()}
    pair.renew_heads(heads_of(clusters, TEACHERS[cfg.variant]), torch.Generator().manual_seed(derive(cfg.seed)))
    pair.load_state_dict(state["pair"], strict=True)
    return Round(number, clusters, Learning(**state["learning"]), state["next_epoch"])
