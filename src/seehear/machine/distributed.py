"""Which rank am I, and how do the ranks add up? One process is the same code without a group.

Everything here works under `torchrun` (gloo for CPU tensors, nccl for CUDA's) and without it: with
one process `rank()` is 0, `world_size()` is 1, and the collectives return their tensor untouched.
Reference: the manual of `torch.distributed`.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from seehear import errors
from seehear.errors import MediaError, RankError, SeehearError, SettingsError

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray
    from torch._C._distributed_c10d import Store

Reduction = Literal["sum", "min", "max"]
T = TypeVar("T")
_without_ranks: ContextVar[bool] = ContextVar("without_ranks", default=False)
_POLL_SECONDS = 0.02  # how often a rank looks for a key that is not there yet


def rank() -> int:
    """The number of this process, 0 to `world_size() - 1`; 0 without a process group."""
    import torch.distributed as dist

    return dist.get_rank() if _active() else 0


def world_size() -> int:
    """How many processes work together; 1 without a process group."""
    import torch.distributed as dist

    return dist.get_world_size() if _active() else 1


def ranks_here() -> int:
    """How many processes of this job run on this machine; 1 without torchrun."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def launcher() -> str:
    """How this process was started, as a person types it."""
    ranks, here = world_size(), ranks_here()
    if ranks == 1:
        return "seehear"
    nodes = f"--nnodes {ranks // here} " if ranks > here else ""
    return f"torchrun {nodes}--nproc-per-node {here} -m seehear"


def cores() -> int:
    """How many cores this process may use, which in a container are fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cores_of_rank() -> int:
    """This rank's share of the cores, at least 1."""
    return max(1, cores() // ranks_here())


def start(device: str | torch.device = "cpu", *, timeout_s: float = 1800.0) -> torch.device:
    """Join the process group of torchrun's environment, and return this rank's device.

    Without `WORLD_SIZE` in the environment nothing is started; an existing group is used.

    Args:
        device: "cpu" (gloo) or "cuda" (nccl; each rank takes the device of its `LOCAL_RANK`, unless
            a number is given).
        timeout_s: how long a collective waits for the others before it raises on every rank.

    Raises:
        SettingsError: "cuda" was asked for and there is no such device.
        RankError: the other processes cannot be reached.
    """
    import torch
    import torch.distributed as dist
    from torch.distributed.distributed_c10d import PrefixStore
    from torch.distributed.rendezvous import rendezvous

    chosen = torch.device(device)
    if chosen.type == "cuda":
        chosen = _cuda_device(chosen)
    if "WORLD_SIZE" in os.environ and not _active():
        # counts need not wait for a GPU
        backend = "cpu:gloo,cuda:nccl" if chosen.type == "cuda" else "gloo"
        with _rank_errors():
            wait = timedelta(seconds=timeout_s)
            store, me, ranks = next(rendezvous("env://", timeout=wait))
            mine = PrefixStore(fresh_prefix(store, me, ranks, timeout_s), store)
            dist.init_process_group(backend, store=mine, rank=me, world_size=ranks, timeout=wait)
    return chosen


def fresh_prefix(store: Store, rank: int, ranks: int, timeout_s: float) -> str:
    """A prefix for the store's keys that all ranks agree on, and that no start before them had.

    After a restart torchrun's store still has the keys of the processes that are gone, their
    addresses among them (pytorch#135712): a rank that reads one before its new owner has written it
    cannot connect. Rank 0 makes up the prefix. Each other rank answers under it with a nonce, and
    takes it when rank 0 has repeated that nonce: which an earlier rank 0, whose prefix may still
    lie there, never does.

    Raises:
        RuntimeError: not all ranks came in time.
    """
    if rank == 0:
        prefix = secrets.token_hex(8)
        others = [f"seehear/{prefix}/{other}" for other in range(1, ranks)]
        store.set("seehear/prefix", prefix)
        if others:
            store.wait(others, timedelta(seconds=timeout_s))
        store.set(f"seehear/{prefix}", " ".join(store.get(key).decode() for key in others))
        return prefix
    nonce, deadline, answered = secrets.token_hex(8), time.monotonic() + timeout_s, ""
    while time.monotonic() < deadline:
        if store.check(["seehear/prefix"]):
            prefix = store.get("seehear/prefix").decode()
            if prefix != answered:
                store.set(f"seehear/{prefix}/{rank}", nonce)
                answered = prefix
            repeated = f"seehear/{prefix}"
            if store.check([repeated]) and nonce in store.get(repeated).decode().split():
                return prefix
        time.sleep(_POLL_SECONDS)
    raise RuntimeError(f"rank 0 did not come within {timeout_s:g} s")


def stop() -> None:
    """Leave the process group, if there is one."""
    import torch.distributed as dist

    if _active():
        dist.destroy_process_group()


def all_reduce(tensor: torch.Tensor, op: Reduction = "sum") -> torch.Tensor:
    """Combine `tensor` element by element over all ranks, in place, and return it.

    Args:
        tensor: contiguous, any shape, the same shape and dtype on every rank. With nccl a CPU
            tensor travels through the current CUDA device.
        op: "sum", "min" or "max".
    """
    import torch.distributed as dist

    if not _active():
        return tensor
    ops = {"sum": dist.ReduceOp.SUM, "min": dist.ReduceOp.MIN, "max": dist.ReduceOp.MAX}
    with _rank_errors(), _on_group_device(tensor) as there:
        dist.all_reduce(there, op=ops[op])
    return tensor


def broadcast(tensor: torch.Tensor, source: int = 0) -> torch.Tensor:
    """Overwrite `tensor` with that of rank `source`, of the same shape and dtype; returns it."""
    import torch.distributed as dist

    if not _active():
        return tensor
    with _rank_errors(), _on_group_device(tensor) as there:
        dist.broadcast(there, src=source)
    return tensor


def barrier() -> None:
    """Wait until every rank is here."""
    import torch.distributed as dist

    if _active():
        with _rank_errors():
            dist.barrier()


def all_reduce_at_once(tensors: Sequence[torch.Tensor]) -> None:
    """Sum each of the tensors over all ranks, in place, by one message.

    They are of one dtype, on one device, and alike in order and shape on every rank.
    """
    import torch

    if not _active() or not tensors:
        return
    flat = all_reduce(torch.cat([tensor.reshape(-1) for tensor in tensors]))
    start = 0
    for tensor in tensors:
        tensor.copy_(flat[start : start + tensor.numel()].view(tensor.shape))
        start += tensor.numel()


def broadcast_module(module: torch.nn.Module) -> None:
    """Rank 0's parameters and buffers on all, so that unlike machines' rounding cannot add up."""
    for tensor in module.state_dict().values():
        broadcast(tensor)


def broadcast_bytes(data: bytes, source: int = 0) -> bytes:
    """What rank `source` gives, on every rank."""
    import torch

    if not _active():
        return data
    length = int(broadcast(torch.tensor([len(data)]), source))
    if not length:
        return b""
    held = bytearray(data if rank() == source else bytes(length))
    return broadcast(torch.frombuffer(held, dtype=torch.uint8), source).numpy().tobytes()


def sum_counters(counts: Mapping[str, int]) -> dict[str, int]:
    """Counts by name, summed over all ranks; names are sorted where there are several ranks."""
    if world_size() == 1:
        return dict(counts)
    total: Counter[str] = Counter()
    for source in range(world_size()):
        total.update(json.loads(broadcast_bytes(json.dumps(counts).encode(), source)))
    return dict(sorted(total.items()))


def total(count: int) -> int:
    """A whole number, summed over all ranks."""
    import torch

    return int(all_reduce(torch.tensor(count, dtype=torch.int64)))


def gathered_rows(
    rows: NDArray[np.int64], parts: Mapping[str, torch.Tensor], at_once: int = 2**16
) -> Iterator[tuple[NDArray[np.int64], dict[str, torch.Tensor]]]:
    """The rows of all ranks, rank after rank and some at a time, on every rank.

    Args:
        rows: (n,) numbers, n another on each rank, ascending through the ranks.
        parts: (n, D) float32 by name.
        at_once: so many rows are in memory beside a rank's own.
    Yields:
        The same of at most `at_once` rows; at least once for each rank.
    """
    import numpy as np
    import torch

    for source in range(world_size()):
        count = int(broadcast(torch.tensor([len(rows)]), source))
        for start in range(0, max(count, 1), at_once):
            is_ours, size = rank() == source, min(at_once, count - start)
            mine = torch.from_numpy(rows[start : start + size].astype(np.int64, copy=False))
            numbers = mine if is_ours else mine.new_empty(size)
            found = {}
            for name, part in parts.items():
                there = (
                    part[start : start + size] if is_ours else part.new_empty(size, *part.shape[1:])
                )
                found[name] = broadcast(there, source)
            yield broadcast(numbers, source).numpy(), found


def gather_rows(
    rows: NDArray[np.int64], parts: Mapping[str, torch.Tensor]
) -> tuple[NDArray[np.int64], dict[str, torch.Tensor]]:
    """All of `gathered_rows` on rank 0; elsewhere this rank's own."""
    import numpy as np
    import torch

    if world_size() == 1:
        return rows, dict(parts)
    pieces = [piece for piece in gathered_rows(rows, parts) if rank() == 0]
    if rank() > 0:
        return rows, dict(parts)
    numbers = np.concatenate([numbers for numbers, _ in pieces])
    return numbers, {name: torch.cat([found[name] for _, found in pieces]) for name in parts}


def on_rank_zero(work: Callable[[], T]) -> T:
    """What `work` returns on rank 0, the only one that does it, on every rank.

    It returns plain data, which travels as JSON. What it raises of ours is raised on every rank.
    """
    if world_size() == 1:
        return work()
    error: SeehearError | None = None
    answer: dict[str, Any] = {}
    if rank() == 0:
        try:
            answer = {"value": work()}
        except SeehearError as raised:
            error, answer = raised, {"error": type(raised).__name__, "message": str(raised)}
    answer = json.loads(broadcast_bytes(json.dumps(answer).encode()))
    if error is not None:
        raise error
    if "error" in answer:
        kind = getattr(errors, answer["error"])
        raise (SeehearError if kind is MediaError else kind)(answer["message"])
    value: T = answer["value"]
    return value


@contextlib.contextmanager
def without_ranks() -> Iterator[None]:
    """In this block this rank works by itself, as the only process would."""
    token = _without_ranks.set(True)
    try:
        yield
    finally:
        _without_ranks.reset(token)


def rows_of_rank(num_rows: int, of_rank: int | None = None, of_ranks: int | None = None) -> range:
    """The rows that a rank takes when `num_rows` rows are dealt out in order, as evenly as can be.

    The ranges of all ranks, in rank order, are 0 to N - 1; some ranks may get none. By default it
    is that of this rank of this job.
    """
    this = rank() if of_rank is None else of_rank
    many = world_size() if of_ranks is None else of_ranks
    return range(num_rows * this // many, num_rows * (this + 1) // many)


@contextlib.contextmanager
def _rank_errors() -> Iterator[None]:
    """Name what it means when ranks cannot work together any more."""
    try:
        yield
    except RuntimeError as error:  # what torch.distributed raises is one
        reason = str(error).strip().splitlines()[0][:200]
        raise RankError(
            f"Another process of this job is gone or does not answer ({reason}). What it said is "
            "above or in its own log; start the same command again with --resume to go on from the "
            "last checkpoint."
        ) from error


def _active() -> bool:
    import torch.distributed as dist

    return not _without_ranks.get() and dist.is_available() and dist.is_initialized()


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


@contextlib.contextmanager
def _on_group_device(tensor: torch.Tensor) -> Iterator[torch.Tensor]:
    """The tensor, or a copy on the GPU that is copied back: nccl cannot reduce CPU memory."""
    import torch.distributed as dist

    if tensor.device.type != "cpu" or dist.get_backend() != "nccl":
        yield tensor
        return
    there = tensor.cuda()
    yield there
    tensor.copy_(there)
