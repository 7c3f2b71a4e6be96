"""How do the ranks of a job that was restarted meet each other, and not what is left of those
before them?

torchrun's workers find each other by a store of keys and values. After a restart it is the same
store (since PyTorch shares it with torchrun itself), with the addresses of the processes that are
gone: a rank that reads one before its new owner has written it cannot connect, and the restart
fails. So ranks agree on a name that no job before them had, and put it before all their keys.

Rank 0 makes up the name. Each other rank answers under it with a word of its own, and takes the
name when rank 0 has repeated that word: which the rank 0 of an earlier start, whose name may still
lie there, never does.
"""

from __future__ import annotations

import secrets
import time
from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch._C._distributed_c10d import Store

_LOOK_S = 0.02  # how often a rank looks for what is not there yet


def name_of_meeting(store: Store, rank: int, ranks: int, timeout_s: float) -> str:
    """A name that all ranks have, and nobody had before; each of them calls this.

    Args:
        store: which they share, and which may hold keys of earlier starts.
        ranks: how many.
        timeout_s: after which it raises.

    Raises:
        RuntimeError: not all ranks came in time.
    """
    if rank == 0:
        name = secrets.token_hex(8)
        others = [f"seehear/{name}/{other}" for other in range(1, ranks)]
        store.set("seehear/meeting", name)
        if others:
            store.wait(others, timedelta(seconds=timeout_s))
        store.set(f"seehear/{name}", " ".join(store.get(key).decode() for key in others))
        return name
    word, deadline, answered = secrets.token_hex(8), time.monotonic() + timeout_s, ""
    while time.monotonic() < deadline:
        if store.check(["seehear/meeting"]):
            name = store.get("seehear/meeting").decode()
            if name != answered:
                store.set(f"seehear/{name}/{rank}", word)
                answered = name
            if (
                store.check([f"seehear/{name}"])
                and word in store.get(f"seehear/{name}").decode().split()
            ):
                return name
        time.sleep(_LOOK_S)
    raise RuntimeError(f"rank 0 did not come within {timeout_s:g} s")
