"""The groups of a work done by Ray: on one machine, or on a cluster whose nodes come and go.

A node that is lost costs the groups that it was at: Ray gives them to another. What is finished is
on disk, in the folder that all nodes see, so that a job that was stopped goes on (`parts`); nothing
but numbers of groups travels, and the bytes of the result are those of a single process.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seehear.errors import SeehearError, UsageError
from seehear.machine.distributed import cores

if TYPE_CHECKING:
    from seehear.data.parts import Work

MOST_BLOCKS = 10_000  # into which groups are dealt out
CONNECT_SECONDS = 10
ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",  # else it tells its makers
    "RAY_BACKEND_LOG_LEVEL": "fatal",  # else it prints what is no fault
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # else it warns of a change to come
    "RAY_worker_niceness": "0",  # else 15: starved on a machine that does anything else
}
STORE_BYTES = 256 * 1024**2  # of memory for what travels: the list of files, and numbers of groups


class Doer:
    """One of the processes that do groups; it holds encoders and files from one to the next."""

    def __init__(self, work: Any, here: str) -> None:
        import ray

        with contextlib.suppress(OSError):
            os.chdir(here)  # so that relative paths mean the same
        self.work: Work = ray.get(work)  # which the node has once
        if not self.work.folder.is_dir():
            node = ray.util.get_node_ip_address()
            raise UsageError(
                f"{self.work.folder} is not seen by the node {node}. All nodes must see the same "
                "folders: put the result where they do."
            )

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Do some groups; how many files failed for each reason, as JSON, a group."""
        failed = [self.work.do_group(int(number)) for number in batch["group"]]
        return {"group": batch["group"], "failed": [json.dumps(dict(one)) for one in failed]}


def do_on_ray(
    work: Work, missing: Sequence[int], address: str, workers: int
) -> Iterator[tuple[int, Counter[str]]]:
    """Do some groups; yields the number of each, in any order, and what failed in it why.

    Args:
        address: of a cluster, as `ray.init` takes it; empty starts Ray on this machine.
        workers: cores of each process, which decodes with so many processes of its own.
    Raises:
        UsageError: Ray is not installed, or there is no cluster at the address.
        SeehearError: the work cannot be done there.
    """
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)  # before it is imported
    try:
        import ray
        from ray.data.exceptions import UserCodeException
    except ImportError:
        raise UsageError(
            "Ray is not installed, which --engine ray needs. Install it: pip install 'seehear[ray]'"
        ) from None
    begun_here = not ray.is_initialized()
    try:
        if begun_here:
            _begin(address)
        done = _dataset(work, missing, workers)
        for row in done.iter_rows():
            yield int(row["group"]), Counter(json.loads(row["failed"]))
    except (ray.exceptions.RayError, UserCodeException, ConnectionError, ValueError) as error:
        if (cause := _ours(error)) is not None:
            raise cause from None
        what = (str(error).strip() or type(error).__name__).splitlines()[-1][:300]
        raise SeehearError(
            f"Ray could not do the work ({what}). The same command goes on with what is missing."
        ) from error
    finally:
        if begun_here:
            ray.shutdown()


def _begin(address: str) -> None:
    """Start Ray on this machine, or join the cluster at an address; without its talk."""
    import ray

    host, _, port = address.rpartition(":")
    if host and port.isdecimal() and "/" not in host:  # Ray itself tries for minutes, then aborts
        try:
            socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS).close()
        except (OSError, OverflowError) as error:
            raise UsageError(
                f"There is no Ray at {address} ({error}). Start one: ray start --head --port {port}"
            ) from None
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    here = {"num_cpus": cores(), "object_store_memory": STORE_BYTES, "include_dashboard": False}
    ray.init(address or "local", **quiet, **({} if address else here))
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # errors are raised as well


def _dataset(work: Work, missing: Sequence[int], workers: int) -> Any:
    """The groups, to be done by a process for each GPU, or for so many cores."""
    import ray
    from ray.data import ActorPoolStrategy, DataContext

    context = DataContext.get_current()
    context.enable_progress_bars = False
    # Ray holds a task back until the store has room for a block of this size, by default 128 MiB:
    # in a small store for ever.
    context.target_max_block_size = 1024**2
    has = ray.cluster_resources()
    if has.get("CPU", 0) < workers:
        raise UsageError(
            f"Each process is to have {workers} cores, and Ray has {has.get('CPU', 0):g} in all. "
            "Use fewer --workers."
        )
    gpus = 1 if work.kind == "features" and has.get("GPU", 0) else 0
    most = min(int(has["GPU"] if gpus else has["CPU"] // workers), len(missing))
    blocks = min(len(missing), MOST_BLOCKS)
    groups = ray.data.from_items([{"group": n} for n in missing], override_num_blocks=blocks)
    return groups.map_batches(
        Doer,
        batch_size=1,
        fn_constructor_args=(ray.put(work), str(Path.cwd())),
        compute=ActorPoolStrategy(size=most),
        num_cpus=workers,
        num_gpus=gpus,
    )


def _ours(error: BaseException | None) -> SeehearError | None:
    """The error of ours that Ray wrapped, in a process of its."""
    while error is not None and not isinstance(error, SeehearError):
        error = getattr(error, "cause", None) or error.__cause__
    return error
