"""How many clips a second come out of an index, where does the time go, and what would help?

`measure` reads real clips: some in this process, stage by stage, and some through the worker
processes, as training does. `facts_of` and `advice` are also for `pretrain` when it waits for data.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch

from seehear.config import Compute, Data, Settings, override
from seehear.data.clips import Batch, Clips, default_workers
from seehear.data.index import Index
from seehear.data.media.stages import STAGES, time_stages
from seehear.data.remote import local
from seehear.errors import IndexFileError, MediaError
from seehear.machine.console import Console
from seehear.machine.devices import find_device, synchronise, upload

BATCH = 16  # clips; small, so that a short measurement keeps all workers busy
_EPOCHS = (0, 1)  # the first starts the workers and is not timed
# one core in so many decodes where a CPU trains: a step costs it many times what a clip does
DECODING_SHARE = 4
# of the machine's memory that decoded segments may take before advice stops naming it
_MEMORY_SHARE = 0.5


@dataclass(frozen=True)
class Throughput:
    """What was measured, in clips and seconds of wall-clock time."""

    clips_per_second: float  # of all workers together
    clips_per_second_per_worker: float
    workers: int
    milliseconds: dict[str, float]  # of one clip in one process: stage -> mean
    unreadable: int  # clips that were tried in vain
    facts: dict[str, Any]
    advice: str

    def to_dict(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)

    def table(self) -> list[list[str]]:
        """Stages as rows of text, the first the head."""
        total = sum(self.milliseconds.values())
        rows = [[name, f"{ms:.2f}", f"{ms / total:.0%}"] for name, ms in self.milliseconds.items()]
        return [["stage", "ms a clip", "share"], *rows, ["all", f"{total:.2f}", "100%"]]


def measure(
    index: Index, cfg: Settings, *, num_clips: int = 96, console: Console | None = None
) -> Throughput:
    """Read clips of an index as training would, without keeping decoded segments.

    So many by the workers, and a third as many stage by stage; IndexFileError where none can be.
    """
    index.check()
    console = console or Console(quiet=True)
    kept_gigabytes = cfg.data.cache_gigabytes
    cfg = override(cfg, {"data.cache_gigabytes": 0.0, "data.max_failed_share": 1.0})
    clips = Clips(index, cfg.clip, cfg.data, cfg.seed)
    rows = np.random.default_rng((cfg.seed, 0xBE)).integers(0, len(index), num_clips)
    stages, unreadable = _stage_by_stage(index, clips, rows[: max(1, num_clips // 3)])
    workers = default_workers(cfg.data)
    device = find_device(cfg.compute.device)
    seconds, read, collate_s, transfer_s = 0.0, 0, [], []
    for epoch in _EPOCHS:
        count = console.watch("reading clips", num_clips)
        begin, read = time.perf_counter(), 0
        for batch in clips.batches(rows, epoch=epoch, batch_size=BATCH):
            read += len(batch.rows_B)
            count(read)
            collate_s.append(_collate_seconds(batch.frames_BTHWC) / len(batch.rows_B))
            transfer_s.append(_transfer_seconds(batch, device) / len(batch.rows_B))
        seconds = time.perf_counter() - begin
    if not read:
        raise IndexFileError(
            f"No clip of {index.folder} can be read: {dict(clips.failures)}. Index the videos "
            f"again."
        )
    milliseconds = {name: float(np.mean(times)) * 1e3 for name, times in stages.items()}
    milliseconds["collate"] = float(np.mean(collate_s)) * 1e3
    if device != "cpu":
        milliseconds["transfer"] = float(np.median(transfer_s)) * 1e3  # the first starts the device
    facts = facts_of(clips) | {"cache_gigabytes": kept_gigabytes}
    rate = read / seconds
    return Throughput(
        round(rate, 2),
        round(rate / max(1, workers), 2),
        workers,
        {name: round(value, 3) for name, value in milliseconds.items()},
        unreadable,
        facts,
        advice(facts, milliseconds),
    )


def divide_cores(clips: Clips, compute: Compute, device: str) -> None:
    """Where a CPU trains and decodes at once, give each cores of its own, unless workers are set.

    PyTorch's threads wait for each other: one core that also decodes slows all of them.
    """
    cores = default_workers(Data())
    if device != "cpu" or clips.cached or compute.threads or clips.data.workers >= 0 or cores < 2:
        return
    decoding = max(1, cores // DECODING_SHARE)
    clips.data = replace(clips.data, workers=decoding)
    torch.set_num_threads(min(torch.get_num_threads(), cores - decoding))


def facts_of(clips: Clips) -> dict[str, Any]:
    """What decides how fast clips come: packed, cached, what a cache takes, workers, cores."""
    return {
        "packed": bool(getattr(clips.index, "is_packed", False)),
        "cached": clips.cached,
        "decoded_gigabytes": round(clips.cache_bytes() / 1e9, 3),
        "cache_gigabytes": clips.data.cache_gigabytes,
        "memory_gigabytes": round(_memory_bytes() / 1e9, 1),
        "workers": default_workers(clips.data),
        "cores": default_workers(Data()),
        "frames": clips.clip.frames,
    }


def advice(facts: Mapping[str, Any], milliseconds: Mapping[str, float] | None = None) -> str:
    """One sentence on what would make clips come faster, by `facts_of`, and by stages if known."""
    times = dict(milliseconds or {})
    pictures = sum(times.get(name, 0.0) for name in ("seek", "decode", "resize"))
    pays = not times or pictures > 0.5 * sum(times.values())
    decoded = facts["decoded_gigabytes"]
    if facts["cached"]:
        return (
            "Clips are cut from memory already: a larger --train.batch_size or a smaller clip "
            "is all that is left."
        )
    if decoded <= facts["cache_gigabytes"]:
        return (
            f"All segments take {decoded:.1f} GB when decoded, within --data.cache_gigabytes "
            f"({facts['cache_gigabytes']:g}): training decodes each of them once, and cuts clips "
            f"from memory."
        )
    if decoded <= _MEMORY_SHARE * facts["memory_gigabytes"]:
        return (
            f"All segments take {decoded:.1f} GB when decoded, which fits in memory: "
            f"--data.cache_gigabytes {decoded * 1.05 + 0.1:.1f} decodes each of them only once."
        )
    if facts["workers"] < facts["cores"]:
        return (
            f"There are {facts['cores']} cores and {facts['workers']} workers: raise "
            f"--data.workers."
        )
    if not facts["packed"] and pays:
        return (
            "Most of the time goes into decoding: `seehear pack` the index once, and clips "
            "come several times faster."
        )
    what = "packed segments" if facts["packed"] else "already"
    return (
        f"All {facts['cores']} cores decode {what}: more cores, or fewer --clip.frames "
        f"({facts['frames']}) or --clip.sound_seconds, is what is left."
    )


def _stage_by_stage(
    index: Index, clips: Clips, rows: np.ndarray
) -> tuple[dict[str, list[float]], int]:
    """Seconds of each stage for each clip, and how many clips could not be read."""
    found: dict[str, list[float]] = {name: [] for name in STAGES}
    failed = 0
    for number, row in enumerate(rows.tolist()):
        wanted = clips.request(row, number)
        assert wanted.times_s is not None, "these clips have pictures"
        assert wanted.sound_s is not None, "and sound"
        try:
            with local(wanted.path) as path:
                times = time_stages(
                    path,
                    wanted.times_s.tolist(),
                    *wanted.sound_s,
                    short_side_pixels=wanted.short_side_pixels,
                    sample_rate_hz=wanted.sample_rate_hz,
                )
        except MediaError:
            failed += 1
            continue
        for name, value in times.items():
            found[name].append(value)
    if failed == len(rows):
        raise IndexFileError(
            f"None of {failed} clips of {index.folder} can be read. Index the videos again."
        )
    return found, failed


def _collate_seconds(frames_BTHWC: torch.Tensor | None) -> float:
    """How long it takes to put the frames of a batch together."""
    if frames_BTHWC is None:
        return 0.0
    parts = [part.numpy() for part in frames_BTHWC]
    begin = time.perf_counter()
    torch.from_numpy(np.stack(parts))
    return time.perf_counter() - begin


def _transfer_seconds(batch: Batch, device: str) -> float:
    """How long it takes until a batch is on a device; 0 where it stays."""
    if device == "cpu":
        return 0.0
    begin = time.perf_counter()
    for tensor in (batch.frames_BTHWC, batch.waveform_BL):
        if tensor is not None:
            upload(tensor, device)
    synchronise(device)
    return time.perf_counter() - begin


def _memory_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
