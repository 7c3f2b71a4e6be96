"""Pieces that the benchmarks of the training step share: work to time, and the peak of a matrix
product here.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from seehear.config import Clip, Settings
from seehear.data.augment import DRAWS
from seehear.data.clips import Batch
from seehear.machine.devices import Numerics, synchronise
from seehear.method.encoders import Pair
from seehear.method.features import encoder_inputs
from seehear.method.learning import Sums
from seehear.method.step import Update, make_optimizer

ENOUGH_SECONDS = 1.0  # for products of one size
PEAK_SIDE = {"cpu": 2048, "cuda": 8192}  # of the square matrices whose product is the peak
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def works(
    cfg: Settings, pair: Pair, numerics: Numerics, batch: Batch
) -> tuple[Callable[[], None], Callable[[], None]]:
    """The forward pass as extraction does it, and a step of each student: two things to call."""
    generator = np.random.default_rng(0)
    labels = {"made_up": generator.integers(0, cfg.cluster.num_clusters[0], len(batch.rows_B))}
    updates = [
        Update(
            pair, cfg.clip, labels, cfg.train, numerics, make_optimizer(pair, cfg.train, [s]), [s]
        )
        for s in pair.students
    ]

    of = {
        "video": replace(batch, waveform_BL=None),
        "audio": replace(batch, frames_BTHWC=None),
    }

    def forward() -> None:
        pair.eval()
        with torch.no_grad(), numerics.autocast():
            pair.features(encoder_inputs(batch, cfg.clip, numerics, pair))

    def step() -> None:
        pair.train()
        for update in updates:  # each reads its own modality alone
            read = of[update.students[0]]
            update([read], read.rows_B, 0, Sums(update.students, numerics.device))

    return forward, step


def made_up_batch(clip: Clip, size: int, *, pinned: bool = False) -> Batch:
    """Noise to see and to hear, as a batch of the loader."""
    generator, side = torch.Generator().manual_seed(0), clip.short_side_pixels
    frames = torch.randint(
        0, 256, (size, clip.frames, side, side, 3), dtype=torch.uint8, generator=generator
    )
    waveform = (
        torch.randn(size, round(clip.sound_seconds * clip.sample_rate_hz), generator=generator) / 10
    )
    draws = torch.rand(size, DRAWS, generator=generator)
    if pinned:
        frames, waveform = frames.pin_memory(), waveform.pin_memory()
    return Batch(np.arange(size), frames, waveform, draws)


def matmul_peak(device: str, precision: str, repeats: int = 5) -> float:
    """Teraflops of a large matrix product in a precision: the best of some, of the largest that
    take no second.
    """
    largest, side, best = PEAK_SIDE.get(torch.device(device).type, 2048), 256, 0.0
    while side <= largest:
        one = torch.randn(side, side, device=device, dtype=DTYPES[precision])
        out, seconds = torch.empty_like(one), []
        for _ in range(repeats + 1):  # the first warms up
            synchronise(device)
            begin = time.perf_counter()
            torch.mm(one, one, out=out)
            synchronise(device)
            seconds.append(time.perf_counter() - begin)
            if sum(seconds) > ENOUGH_SECONDS:
                break
        best = max(best, 2 * side**3 / min(seconds[1:] or seconds) / 1e12)
        if sum(seconds) > ENOUGH_SECONDS:  # a precision that this processor emulates, say
            break
        side *= 2
    return best


def once(
    work: Callable[[], None],
    device: str,
    seconds: float,
    clock: Callable[[], float] = time.perf_counter,
) -> float:
    """Seconds that `work` takes, the mean over about `seconds` of wall time, after a warm-up.

    Args:
        clock: what counts the seconds; `time.process_time` for a machine that others use too.
    """
    work()
    synchronise(device)
    begin, count, until = clock(), 0, time.perf_counter() + seconds
    while count < 2 or time.perf_counter() < until:
        work()
        count += 1
        if count % 10 == 0:
            synchronise(device)
    synchronise(device)
    return (clock() - begin) / count


def counted(work: Callable[[], None]) -> int:
    """Floating-point operations of products and convolutions in `work`."""
    with FlopCounterMode(display=False) as counter:
        work()
    return int(counter.get_total_flops())
