"""Which rank am I, and how do the ranks add up? One process is the same code and needs no process group.

Everything here works under `torchrun` (gloo on CPU, nccl on CUDA) and without it: with one process `rank()`
is 0, `world_size()` is 1, and the collectives return their tensor untouched. Reference: the manual of
`torch.distributed`.
"""

from __future__ import annotations

import os
from datetime import timedelta
from typing import TYPE_CHECKING, Literal

from seehear.errors import SettingsError

if TYPE_CHECKING:
    import torch

Reduction = Literal["sum", "min", "max"]


def rank() -> int:
    """The number of this process, 0 to `world_size() - 1`; 0 without a process group."""
    import torch.distributed as dist

    return dist.get_rank() if _active() else 0


def world_size() -> int:
    """How many processes work together; 1 without a process group."""
    import torch.distributed as dist

    return dist.get_world_size() if _active() else 1


def start(device: str | torch.device = "cpu", *, timeout_s: float = 1800.0) -> torch.device:
    """Join the process group that torchrun's environment describes, and return the device of this rank.

    Without `WORLD_SIZE` in the environment nothing is started; with a group that exists already, it is used.

    Args:
        device: "cpu" (gloo) or "cuda" (nccl; each rank takes the device of its `LOCAL_RANK`, unless a number
            is given).
        timeout_s: how long a collective waits for the others, in seconds, before it raises on every rank.

    Raises:
        SettingsError: "cuda" was asked for and there is no such device.
    """
    import torch
    import torch.distributed as dist

    chosen = torch.device(device)
    if chosen.type == "cuda":
        chosen = _cuda_device(chosen)
    if "WORLD_SIZE" in os.environ and not _active():
        backend = "nccl" if chosen.type == "cuda" else "gloo"
        dist.init_process_group(backend, timeout=timedelta(seconds=timeout_s))
    return chosen


def stop() -> None:
    """Leave the process group, if there is one."""
    import torch.distributed as dist

    if _active():
        dist.destroy_process_group()


def all_reduce(tensor: torch.Tensor, op: Reduction = "sum") -> torch.Tensor:
    """Combine `tensor` element by element over all ranks, in place, and return it.

    Args:
        tensor: contiguous, any shape, the same shape and dtype on every rank. With nccl a CPU tensor travels
            through the current CUDA device.
        op: "sum", "min" or "max".
    """
    import torch.distributed as dist

    if not _active():
        return tensor
    ops = {"sum": dist.ReduceOp.SUM, "min": dist.ReduceOp.MIN, "max": dist.ReduceOp.MAX}
    travelling = _where_the_group_works(tensor)
    dist.all_reduce(travelling, op=ops[op])
    return tensor if travelling is tensor else tensor.copy_(travelling)


def broadcast(tensor: torch.Tensor, source: int = 0) -> torch.Tensor:
    """Overwrite `tensor` with what rank `source` holds, in place, and return it; shape and dtype as there."""
    import torch.distributed as dist

    if not _active():
        return tensor
    travelling = _where_the_group_works(tensor)
    dist.broadcast(travelling, src=source)
    return tensor if travelling is tensor else tensor.copy_(travelling)


def barrier() -> None:
    """Wait until every rank is here."""
    import torch.distributed as dist

    if _active():
        dist.barrier()


def rows_of_rank(num_rows: int, of_rank: int | None = None, of_ranks: int | None = None) -> range:
    """The rows that a rank takes when `num_rows` rows are dealt out in order, as evenly as can be.

    Args:
        num_rows: N, at least 0 and divisible by nothing in particular; some ranks may get none.
        of_rank, of_ranks: which rank of how many; this one of this job by default.

    Returns:
        A contiguous range; the ranges of all ranks, in rank order, are 0 to N - 1.
    """
    this, many = (rank() if of_rank is None else of_rank), (world_size() if of_ranks is None else of_ranks)
    return range(num_rows * this // many, num_rows * (this + 1) // many)


def _active() -> bool:
    import torch.distributed as dist

    return dist.is_available() and dist.is_initialized()


def _cuda_device(asked: torch.device) -> torch.device:
    import torch

    number = int(os.environ.get("LOCAL_RANK", "0")) if asked.index is None else asked.index
    if number >= torch.cuda.device_count():
        raise SettingsError(
            f"device cuda:{number} was asked for; CUDA devices here: {torch.cuda.device_count()}. "
            "Start at most one process per device, or use the device cpu."
        )
    torch.cuda.set_device(number)
    return torch.device("cuda", number)


def _where_the_group_works(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor itself, or its copy on the GPU where the backend is nccl, which cannot reduce CPU memory."""
    import torch.distributed as dist

    if tensor.device.type == "cpu" and dist.get_backend() == "nccl":
        return tensor.cuda()
    return tensor
