"""Which matrix products are fast on this machine, and as exact as k-means needs?

Two choices are made by trying once per process: how float32 products reach the fastest library that keeps all of
float32 (`exact_products`), and how products of int8 codes are computed (`int8_product`). Every int8 kernel gives the
same integers, so the choice changes the time and nothing else.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

# (n, D) int8 codes times prepared centroids plus their bias -> (n, k) exact integers, int32 or float32
Product = Callable[[Tensor], Tensor]


@contextmanager
def exact_products(device: torch.device) -> Iterator[None]:
    """Within the block, matrix products on the device add in float32, and float32 operands are not rounded.

    PyTorch may round float32 operands to TF32 or bfloat16 when told to, and add partial sums of bfloat16 products in
    bfloat16 on CUDA unless told not to. On CPUs where oneDNN is faster than MKL and exact all the same (without AMX),
    float32 products are sent there.
    """
    backend = torch.backends.cuda if device.type == "cuda" else torch.backends.mkldnn
    holder = getattr(backend, "matmul", None)
    wanted: dict[str, Any] = {"fp32_precision": "ieee" if device.type == "cuda" else _cpu_route()}
    if device.type == "cuda":
        wanted["allow_bf16_reduced_precision_reduction"] = False
    before = {name: getattr(holder, name) for name in wanted if hasattr(holder, name)}
    for name in before:
        setattr(holder, name, wanted[name])
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(holder, name, value)


def int8_product(centroids_KD: Tensor, bias_K: Tensor) -> Product:
    """Prepare codes @ centroids.T + bias for int8 codes, by the fastest kernel of this machine.

    Args:
        centroids_KD: (k, D) int8; D is a multiple of 8.
        bias_K: (k,) float32 holding integers. All scores must stay below 2**24, exact in float32.

    Returns:
        A function of (n, D) int8 codes that gives (n, k) scores, int32 or float32, all of them exact; the result
        may be overwritten by the next call.
    """
    makers = {"qlinear": _qlinear, "int_mm": _int_mm, "float": _float}
    return makers[int8_kernel(centroids_KD.device)](centroids_KD, bias_K)


@cache
def int8_kernel(device: torch.device) -> str:
    """The name of the fastest exact int8 kernel here: "qlinear" (oneDNN), "int_mm" (torch._int_mm) or "float"."""
    generator = torch.Generator().manual_seed(0)
    codes = torch.randint(-127, 128, (2048, 512), generator=generator).to(device, torch.int8)
    centroids, bias = codes[:512].contiguous(), torch.arange(512, device=device, dtype=torch.float32) - 300
    expected = codes.double() @ centroids.double().T + bias
    best, best_s = "float", float("inf")
    for name, maker in (("qlinear", _qlinear), ("int_mm", _int_mm), ("float", _float)):
        try:
            product = maker(centroids, bias)
            exact = bool((product(codes).double() == expected).all())
        except (RuntimeError, AttributeError, NotImplementedError):  # private operators: absent here, or changed
            continue
        seconds = best_of(lambda product=product: product(codes), device)  # type: ignore[misc]
        if exact and seconds < best_s:
            best, best_s = name, seconds
    return best


def best_of(work: Callable[[], Any], device: torch.device, repeats: int = 3) -> float:
    """Seconds of the fastest of a few calls."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - start)
    return min(times)


def _qlinear(centroids_KD: Tensor, bias_K: Tensor) -> Product:
    """oneDNN's quantised linear layer with all scales 1: int32 sums, bias added in float32 (CPU only)."""
    if centroids_KD.device.type != "cpu":
        raise NotImplementedError("oneDNN computes on the CPU")
    packed = torch.ops.onednn.qlinear_prepack(centroids_KD, [2048, centroids_KD.shape[1]])
    ones = torch.ones(len(centroids_KD))
    zeros = torch.zeros(len(centroids_KD), dtype=torch.int64)

    def product(codes_nD: Tensor) -> Tensor:
        scores: Tensor = torch.ops.onednn.qlinear_pointwise(
            codes_nD, 1.0, 0, packed, ones, zeros, bias_K, 1.0, 0, torch.float32, "none", [], ""
        )
        return scores

    return product


def _int_mm(centroids_KD: Tensor, bias_K: Tensor) -> Product:
    """torch._int_mm; on CUDA it wants more than 16 rows and multiples of 8, so both operands are padded."""
    clusters = len(centroids_KD)
    padded = torch.zeros(-(-clusters // 8) * 8, centroids_KD.shape[1], dtype=torch.int8, device=bias_K.device)
    padded[:clusters] = centroids_KD
    weights_DK = padded.T if bias_K.is_cuda else padded.T.contiguous()
    bias = torch.zeros(len(padded), dtype=torch.int32, device=bias_K.device)
    bias[:clusters] = bias_K.int()
    buffer = torch.empty(0, len(padded), dtype=torch.int32, device=bias_K.device)

    def product(codes_nD: Tensor) -> Tensor:
        nonlocal buffer
        rows = len(codes_nD)
        if rows < 32:
            codes_nD = torch.cat([codes_nD, codes_nD.new_zeros(32 - rows, codes_nD.shape[1])])
        if len(buffer) < len(codes_nD):
            buffer = buffer.new_empty(len(codes_nD), len(padded))
        scores = torch._int_mm(codes_nD, weights_DK, out=buffer[: len(codes_nD)])
        return scores.add_(bias)[:rows, :clusters]

    return product


def _float(centroids_KD: Tensor, bias_K: Tensor) -> Product:
    """float32 arithmetic, exact here because every partial sum is an integer below 2**24: works anywhere."""
    weights_DK = centroids_KD.float().T

    def product(codes_nD: Tensor) -> Tensor:
        with exact_products(codes_nD.device):
            return torch.addmm(bias_K, codes_nD.float(), weights_DK)

    return product


@cache
def _cpu_route() -> str:
    """The value of the setting with which float32 products are exact and fastest on this CPU: "ieee" or "bf16".

    "bf16" permits oneDNN to round the operands, which it does where AMX is there and nowhere else known; without
    AMX it brings oneDNN's own float32 kernels, 1.1 to 2 times as fast as MKL on AMD processors. So: there, and where
    a trial shows that nothing is rounded. Nothing is timed, since the route changes the last bits of a score, and two
    processes of one run must take the same.
    """
    holder: Any = getattr(torch.backends.mkldnn, "matmul", None)
    if not hasattr(holder, "fp32_precision") or not _is_amd():  # PyTorch before 2.9 has no such setting
        return "ieee"
    generator = torch.Generator().manual_seed(0)
    rows, columns = torch.randn(1024, 512, generator=generator), torch.randn(512, 512, generator=generator)
    before = holder.fp32_precision
    try:
        holder.fp32_precision = "bf16"
        error = float((torch.mm(rows, columns) - rows.double() @ columns.double()).abs().max())
    finally:
        holder.fp32_precision = before
    return "bf16" if error < 1e-3 else "ieee"  # bfloat16 operands would give about 0.2


def _is_amd() -> bool:
    """Whether the processor is of AMD's make, as far as the system tells."""
    try:
        return "AuthenticAMD" in Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return "AMD" in platform.processor()
