"""How fast are the training step and k-means on this machine, and how near to what its matrix products allow?

Nothing is read: the step learns from one made-up batch in memory, k-means clusters made-up rows. Work is counted in
floating-point operations, a multiplication and an addition being two: of convolutions and products by PyTorch's
`FlopCounterMode`, of k-means 2 N K D an iteration. The peak is that of one large matrix product here and now.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from seehear.augment import DRAWS
from seehear.clips import Batch
from seehear.config import Clip, Compute, Settings
from seehear.encoders import Pair
from seehear.features import encoder_inputs
from seehear.kmeans import kmeans
from seehear.kmeans.kernels import exact_products, int8_product
from seehear.model import build_pair
from seehear.numerics import Numerics, choose, find_device, synchronise
from seehear.trainer import make_optimizer
from seehear.updates import Sums, Update

ENOUGH_SECONDS = 1.0  # for products of one size
PEAK_SIDE = {"cpu": 2048, "cuda": 8192}  # of the square matrices whose product is the peak
GOOD_SHARE = 0.3  # of the peak; R(2+1)D's many small layers do not reach much more
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
LONG_KMEANS = 5  # moves of the centroids; the time of one call with one move is taken off


@dataclass(frozen=True)
class Rate:
    """What one kind of work reached."""

    work: str
    milliseconds: float  # a clip, or an iteration
    teraflops: float
    share_of_peak: float


@dataclass(frozen=True)
class Speed:
    """What was measured."""

    device: str
    threads: int
    what: dict[str, Any]  # the sizes
    peak_teraflops: dict[str, float]  # of a matrix product, by precision
    rates: list[Rate]
    advice: str

    def to_dict(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)


def measure_step(cfg: Settings, *, seconds: float = 5.0, numerics: Numerics | None = None) -> Speed:
    """Time the forward pass, as extraction does it, and a whole step of both encoders on one batch in memory.

    Args:
        cfg: clip, encoders, batch size and what computes.
        seconds: about so long for each of the two.
        numerics: instead of those that `cfg.compute` asks for.
    """
    pair = build_pair(cfg)
    numerics = numerics or choose(cfg.compute, pair, cfg.clip)
    pair.renew_heads({m: {"made_up": cfg.cluster.num_clusters[0]} for m in pair.modalities}, torch.Generator())
    numerics.place(pair)
    pair.recompute(cfg.compute.checkpoint_activations)
    batch = made_up_batch(cfg.clip, cfg.train.batch_size, pinned=numerics.device.startswith("cuda"))
    forward, step = works(cfg, pair, numerics, batch)
    flops = {"forward": counted(forward), "step": counted(step)}
    peak = matmul_peak(numerics.device, numerics.precision)
    rates = []
    for name, work in (("forward", forward), ("step", step)):
        clip_s = once(work, numerics.device, seconds) / len(batch.rows_B)
        reached = flops[name] / len(batch.rows_B) / clip_s / 1e12
        rates.append(Rate(name, round(clip_s * 1e3, 4), round(reached, 5), round(reached / peak, 4)))
    clip = cfg.clip
    what = {
        "frames": f"{clip.frames}x{clip.crop_pixels}x{clip.crop_pixels}",
        "batch_size": len(batch.rows_B),
        "gigaflop_a_clip": {name: round(count / len(batch.rows_B) / 1e9, 3) for name, count in flops.items()},
        **{key: value for key, value in numerics.describe().items() if key not in ("device", "probe_ms")},
    }
    peaks = {numerics.precision: round(peak, 4)}
    return Speed(numerics.device, torch.get_num_threads(), what, peaks, rates, step_advice(numerics, rates, cfg))


def works(cfg: Settings, pair: Pair, numerics: Numerics, batch: Batch) -> tuple[Callable[[], None], Callable[[], None]]:
    """The forward pass as extraction does it, and a whole step: two things to call."""
    labels = {"made_up": np.random.default_rng(0).integers(0, cfg.cluster.num_clusters[0], len(batch.rows_B))}
    update = Update(pair, cfg.clip, labels, cfg.train, numerics, make_optimizer(pair, cfg.train))
    sums = Sums(pair, numerics.device)

    def forward() -> None:
        pair.eval()
        with torch.no_grad(), numerics.autocast():
            pair.features(encoder_inputs(batch, cfg.clip, numerics, pair))

    def step() -> None:
        pair.train()
        update([batch], batch.rows_B, 0, sums)

    return forward, step


def made_up_batch(clip: Clip, size: int, *, pinned: bool = False) -> Batch:
    """Noise to see and to hear, as a batch of the loader."""
    generator, side = torch.Generator().manual_seed(0), clip.short_side_pixels
    frames = torch.randint(0, 256, (size, clip.frames, side, side, 3), dtype=torch.uint8, generator=generator)
    waveform = torch.randn(size, round(clip.sound_seconds * clip.sample_rate_hz), generator=generator) / 10
    draws = torch.rand(size, DRAWS, generator=generator)
    if pinned:
        frames, waveform = frames.pin_memory(), waveform.pin_memory()
    return Batch(np.arange(size), frames, waveform, draws)


def step_advice(numerics: Numerics, rates: Sequence[Rate], cfg: Settings) -> str:
    """One sentence on what would make the step faster."""
    step, on_cuda = rates[-1], numerics.device.startswith("cuda")
    if step.share_of_peak >= GOOD_SHARE:
        return (
            "The step is near what such networks reach: fewer --clip.frames or a smaller --clip.crop_pixels are left."
        )
    if on_cuda and numerics.precision == "fp32":
        return "Tensor cores idle: --compute.precision bf16."
    if on_cuda and numerics.compiler == "off":
        return "Small kernels leave the GPU idle: a larger --train.batch_size, then --compute.compile inductor."
    if on_cuda:
        return "Small kernels leave the GPU idle: a larger --train.batch_size."
    if cfg.encoders.video_width < 32:
        return (
            "Layers this narrow are bound by memory, not by products: wider --encoders.video_width costs little more."
        )
    return "A CPU reaches little of its peak in batch norms and ReLUs: --compute.compile inductor may help; a GPU does."


def measure_kmeans(
    rows: int, width: int, clusters: int, *, precisions: Sequence[str] = (), compute: Compute | None = None
) -> Speed:
    """Time an iteration of k-means on made-up rows.

    Args:
        rows, width, clusters: N, D, K.
        precisions: of "fp32", "bf16" and "int8"; all by default.
        compute: the device.
    """
    device = find_device((compute or Compute()).device)
    features_ND = torch.randn(rows, width, generator=torch.Generator().manual_seed(0)).relu_().to(device)
    rates, peaks = [], {}
    for precision in precisions or ("fp32", "bf16", "int8"):
        peaks[precision] = matmul_peak(device, precision)
        seconds = []
        for iterations in (1, 1, LONG_KMEANS, 1, LONG_KMEANS):  # the first warms up
            synchronise(device)
            begin = time.perf_counter()
            kmeans(features_ND, clusters, seed=0, iterations=iterations, precision=precision, device=device)  # type: ignore[arg-type]
            synchronise(device)
            seconds.append(time.perf_counter() - begin)
        each_s = max(1e-9, (min(seconds[2], seconds[4]) - min(seconds[1], seconds[3])) / (LONG_KMEANS - 1))
        reached = 2 * rows * width * clusters / each_s / 1e12
        rates.append(Rate(precision, round(each_s * 1e3, 3), round(reached, 4), round(reached / peaks[precision], 4)))
    best = min(rates, key=lambda rate: rate.milliseconds)
    million_s = best.milliseconds / 1e3 * 1e6 / rows
    advice = (
        f"--cluster.precision {best.work} is the fastest here (auto finds it): a million rows take {million_s:.1f} s "
        f"an iteration; with many rows a cluster, --cluster.points_per_centroid 1024 iterates on a sample."
    )
    what = {"rows": rows, "width": width, "clusters": clusters}
    return Speed(device, torch.get_num_threads(), what, {k: round(v, 4) for k, v in peaks.items()}, rates, advice)


def matmul_peak(device: str, precision: str, repeats: int = 5) -> float:
    """Teraflops of a large matrix product in a precision: the best of some, of the largest that take no second."""
    largest, side, best = PEAK_SIDE.get(torch.device(device).type, 2048), 256, 0.0
    with exact_products(torch.device(device)):
        while side <= largest:
            work, seconds = product(device, precision, side), []
            for _ in range(repeats + 1):  # the first warms up
                synchronise(device)
                begin = time.perf_counter()
                work()
                synchronise(device)
                seconds.append(time.perf_counter() - begin)
                if sum(seconds) > ENOUGH_SECONDS:
                    break
            best = max(best, 2 * side**3 / min(seconds[1:] or seconds) / 1e12)
            if sum(seconds) > ENOUGH_SECONDS:  # a precision that this processor emulates, say
                break
            side *= 2
    return best


def product(device: str, precision: str, side: int) -> Callable[[], Any]:
    """A product of square matrices, to be called."""
    if precision == "int8":
        limit = int((2**24 / side) ** 0.5)  # scores stay exact
        codes = torch.randint(-min(limit, 127), min(limit, 127), (side, side), dtype=torch.int8).to(device)
        return partial(int8_product(codes, torch.zeros(side, device=device)), codes)
    one = torch.randn(side, side, device=device, dtype=DTYPES[precision])
    return partial(torch.mm, one, one, out=torch.empty_like(one))


def once(
    work: Callable[[], None], device: str, seconds: float, clock: Callable[[], float] = time.perf_counter
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
