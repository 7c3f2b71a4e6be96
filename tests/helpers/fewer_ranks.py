"""One start of torchrun, several numbers of ranks: the ranks that are left over leave, the others
form a new group.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch.distributed as dist

from seehear.machine import distributed


def fewer_and_fewer(folder: str, counts: Iterable[int]) -> Iterator[int]:
    """Each number of ranks, falling, once this rank is in a group of so many; it ends early where
    it is left over.
    """
    started_as = distributed.rank()
    for ranks in counts:
        if distributed.world_size() != ranks:
            distributed.stop()
            if started_as >= ranks:
                break
            meeting = f"file://{folder}/group{ranks}"
            dist.init_process_group("gloo", init_method=meeting, rank=started_as, world_size=ranks)
        yield ranks
    distributed.stop()
