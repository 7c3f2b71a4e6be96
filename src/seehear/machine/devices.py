"""On which device, in which precision and layout do encoders run? Probed once, then recorded.

bf16 autocast is about three times as fast as fp32 on CPUs with native bf16 products and slower on
others, and the best layout of a video differs too, so "auto" times the candidates on the real
networks and takes the fastest (bf16 only where a single product in it is not far slower). fp32 in
the contiguous layout wins unless another is at least `WORTH_IT` times as fast. A compiler is tried
only if it is asked for, and taken on the same condition. What was chosen is part of the run:
resuming uses it again.
"""

from __future__ import annotations

import ctypes
import itertools
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import cache
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from seehear.config import Clip, Compute
from seehear.errors import SettingsError

M = TypeVar("M", bound=nn.Module)  # a pair of encoders, or one of them

WORTH_IT = 1.1  # a candidate must be this much faster to be taken over plain fp32
HOPELESS = 2.0  # a precision whose products take so many times as long as fp32's is not tried
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of glibc's malloc.h
# frames x height x width that a probing batch has at most; at least 2 clips
PROBE_PIXELS = 8 * 112 * 112 * 4


@dataclass(frozen=True)
class Numerics:
    """The choice: device, precision and memory layout."""

    device: str  # as PyTorch names it
    precision: str  # "fp32" or "bf16" (autocast; weights and losses stay float32)
    memory_format: str  # of the video encoder, "contiguous" or "channels_last" (3-D)
    # milliseconds a clip that the candidates took, where they were timed
    probe_ms: tuple[tuple[str, float], ...] = ()
    # torch.compile's backend, or "off". Compiled code is cached on disk by PyTorch.
    compiler: str = "off"
    note: str = ""  # why the compiler that was asked for is off

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Numerics:
        """The inverse of `describe`.

        Raises:
            SettingsError: the device is not there.
        """
        device, probe_ms = find_device(record["device"]), tuple(record["probe_ms"].items())
        return cls(**{**record, "device": device, "probe_ms": probe_ms})

    def autocast(self) -> torch.autocast:
        """The context that the encoders run in."""
        kind = torch.device(self.device).type
        return torch.autocast(kind, dtype=torch.bfloat16, enabled=self.precision == "bf16")

    def place(self, pair: M) -> M:
        """The pair on the device, in the layout; from here on this process keeps its memory."""
        keep_memory()
        pair.to(self.device)
        is_last = self.memory_format == "channels_last"
        layout = torch.channels_last_3d if is_last else torch.contiguous_format
        for module in pair.modules():
            if isinstance(module, nn.Conv3d):  # the video encoder's; sound has none
                module.weight.data = module.weight.data.contiguous(memory_format=layout)
        if self.compiler != "off":
            for encoder in encoders_of(pair).values():
                encoder.compile(backend=self.compiler)
        return pair

    def arrange(self, frames_BCTHW: Tensor) -> Tensor:
        """Frames in the layout of the video encoder."""
        if self.memory_format == "channels_last":
            return frames_BCTHW.contiguous(memory_format=torch.channels_last_3d)
        return frames_BCTHW.contiguous()

    def describe(self) -> dict[str, Any]:
        """Plain data for the record of a run."""
        return asdict(self) | {"probe_ms": dict(self.probe_ms)}


def choose(compute: Compute, pair: nn.Module, clip: Clip) -> Numerics:
    """The numerics that the settings ask for; what is "auto" is probed on a copy of `pair`.

    Raises:
        SettingsError: the device is not there, or cannot do what is asked for.
    """
    device = find_device(compute.device)
    if compute.sync_batch_norm and torch.device(device).type != "cuda":
        raise SettingsError(
            f"compute.sync_batch_norm is true and the device is {device}: batch norm over all "
            f"ranks is PyTorch's SyncBatchNorm, which exists on CUDA alone. On CPUs leave it out; "
            f"--train.batch_parts gives the same batch norms on any number of ranks."
        )
    precisions, formats = [compute.precision], [compute.memory_format]
    if compute.precision == "auto":
        precisions = ["fp32", "bf16"] if is_bf16_worth_a_try(device) else ["fp32"]
    if compute.memory_format == "auto":
        formats = ["contiguous", "channels_last"]
    candidates = [Numerics(device, p, f) for p, f in itertools.product(precisions, formats)]
    if "video" not in encoders_of(pair):
        return candidates[0]
    chosen = candidates[0]
    if len(candidates) > 1:
        milliseconds = probe(candidates, pair, clip)
        best = min(range(len(candidates)), key=milliseconds.__getitem__)
        if milliseconds[0] < WORTH_IT * milliseconds[best]:
            best = 0
        names = [f"{c.precision} {c.memory_format}" for c in candidates]
        timed = tuple((name, round(ms, 3)) for name, ms in zip(names, milliseconds, strict=True))
        chosen = replace(candidates[best], probe_ms=timed)
    return chosen if compute.compile == "off" else try_compiler(chosen, compute.compile, pair, clip)


def try_compiler(plain: Numerics, compiler: str, pair: nn.Module, clip: Clip) -> Numerics:
    """`plain` with a compiler, if it works here and pays; otherwise with a note that says why."""
    compiled = replace(plain, compiler=compiler)
    try:
        before_ms, after_ms = probe([plain, compiled], pair, clip)
    except Exception as error:  # whatever a compiler may raise: no C compiler, an own error, ...
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        return replace(plain, note=f"torch.compile ({compiler}) failed: {reason}")
    if before_ms >= WORTH_IT * after_ms:
        return replace(compiled, probe_ms=(*plain.probe_ms, (compiler, round(after_ms, 3))))
    return replace(
        plain,
        note=f"torch.compile ({compiler}) does not pay: {after_ms:.2f} ms a clip, {before_ms:.2f} "
        f"without",
    )


def upload(tensor: Tensor, device: str | torch.device) -> Tensor:
    """A CPU tensor on a device.

    To CUDA it goes through pinned memory and on a stream of its own: this process does not wait,
    and the copy runs beside what the device was given before.
    """
    where = torch.device(device)
    if where.type != "cuda":
        return tensor.to(where)
    here, copies = torch.cuda.current_stream(where), _copy_stream(where)
    with torch.cuda.stream(copies):
        there = tensor.pin_memory().to(where, non_blocking=True)
    here.wait_stream(copies)
    there.record_stream(here)
    return there


def download(tensor: Tensor) -> Callable[[], Tensor]:
    """A small tensor on its way to the CPU; calling waits for it, and for nothing given later."""
    if tensor.device.type != "cuda":
        return lambda: tensor
    here, arrived = torch.empty_like(tensor, device="cpu", pin_memory=True), torch.cuda.Event()  # type: ignore[no-untyped-call]
    here.copy_(tensor, non_blocking=True)
    arrived.record()

    def there() -> Tensor:
        arrived.synchronize()
        return here

    return there


def set_threads(compute: Compute) -> None:
    """Take as many CPU threads as the settings say."""
    if compute.threads:
        torch.set_num_threads(compute.threads)


@cache
def keep_memory() -> None:
    """Have this process keep freed memory for what comes next, where its C library can (glibc).

    Blocks above 32 MB are otherwise taken from the system and given back each time, and all their
    pages filled with zeros: on a CPU that took a third of a step on 64 clips of 112x112. The
    process stays as large as it once was. What the environment says of it (`MALLOC_MMAP_MAX_`,
    `MALLOC_TRIM_THRESHOLD_`) stands.
    """
    is_set = {"MALLOC_MMAP_MAX_", "MALLOC_TRIM_THRESHOLD_"} & os.environ.keys()
    if is_set or not sys.platform.startswith("linux"):
        return
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)
    if set_option is not None:
        set_option(_M_MMAP_MAX, 0)
        set_option(_M_TRIM_THRESHOLD, 2**31 - 1)


@contextmanager
def kernels(compute: Compute) -> Iterator[None]:
    """In this block PyTorch takes deterministic kernels, if the settings ask for that.

    Otherwise cuDNN times its kernels and takes the fastest. Afterwards all is as it was.
    """
    before = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark
    if compute.deterministic:
        # read when the first product on CUDA is computed
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        # A kernel that has no such version is used all the same, and named in a warning.
        torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.benchmark = not compute.deterministic
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0])
        torch.backends.cudnn.benchmark = before[1]


def find_device(name: str) -> str:
    """ "auto" as the best device there is; any other name checked to exist."""
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(1, device=name)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise SettingsError(
            f"compute.device is {name!r}, which cannot be used here ({reason}). Try auto."
        ) from None
    return name


@cache
def is_bf16_worth_a_try(device: str) -> bool:
    """Whether a product of matrices in bf16 is not far slower than in fp32: on CPUs without such
    products it is several times as slow, and to try a large network in it would take minutes.
    """
    seconds = {}
    for dtype in (torch.float32, torch.bfloat16):
        matrix, taken = torch.ones(512, 512, dtype=dtype, device=device), []
        for _ in range(5):
            begin = time.perf_counter()
            matrix @ matrix
            synchronise(device)
            taken.append(time.perf_counter() - begin)
        seconds[dtype] = min(taken)
    return seconds[torch.bfloat16] < HOPELESS * seconds[torch.float32]


def probe(candidates: list[Numerics], pair: nn.Module, clip: Clip, repeats: int = 3) -> list[float]:
    """Milliseconds a clip, forward and backward, of the video encoder in each candidate.

    The candidates take turns, so that a busy moment of the machine does not fall on one of them;
    the least of `repeats` times counts, infinity for one whose gradients are not finite.
    """
    import copy

    trials = [encoders_of(numerics.place(copy.deepcopy(pair)))["video"] for numerics in candidates]
    size = min(max(2, PROBE_PIXELS // (clip.frames * clip.crop_pixels**2)), 32)
    shape = (size, 3, clip.frames, clip.crop_pixels, clip.crop_pixels)
    frames = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    best, wrong = [float("inf")] * len(candidates), set()
    for turn in range(repeats + 1):  # the first turn warms up
        for i, numerics in enumerate(candidates):
            encoder = trials[i]
            x = numerics.arrange(frames.to(numerics.device))
            begin = time.perf_counter()
            with numerics.autocast():
                loss = encoder(x).float().square().mean()
            loss.backward()
            synchronise(numerics.device)
            gradients = [p.grad for p in encoder.parameters() if p.grad is not None]
            if not all(bool(gradient.isfinite().all()) for gradient in gradients):
                wrong.add(i)  # a kernel of this machine that cannot be trusted
            encoder.zero_grad(set_to_none=True)
            if turn:
                best[i] = min(best[i], (time.perf_counter() - begin) * 1e3 / size)
    return [float("inf") if i in wrong else ms for i, ms in enumerate(best)]


def encoders_of(pair: nn.Module) -> nn.ModuleDict:
    """The encoders of a pair (`method.encoders.Pair`) by modality."""
    encoders = pair.encoders
    assert isinstance(encoders, nn.ModuleDict)
    return encoders


@cache
def _copy_stream(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


def synchronise(device: str) -> None:
    """Wait for the device to finish what it was given."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)
