"""Ranks find each other, whatever an earlier start has left in the store."""

from __future__ import annotations

import threading

import pytest
from torch.distributed import HashStore, PrefixStore

from seehear.machine.distributed import fresh_prefix


def meet(store: HashStore, order: list[int], pause_s: float) -> list[str]:
    """What each rank takes for the name; they come one after the other, in that order."""
    names: dict[int, str] = {}

    def come(rank: int) -> None:
        names[rank] = fresh_prefix(store, rank, len(order), 20.0)

    threads = [threading.Thread(target=come, args=(rank,)) for rank in order]
    for thread in threads:
        thread.start()
        threading.Event().wait(pause_s)
    for thread in threads:
        thread.join()
    return [names[rank] for rank in sorted(order)]


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 1, 0], [1, 0, 2]])
@pytest.mark.parametrize("pause_s", [0.0, 0.1])
def test_a_restart_takes_a_name_of_its_own_whoever_comes_first(
    order: list[int], pause_s: float
) -> None:
    store = HashStore()
    starts = [meet(store, order, pause_s) for _ in range(3)]
    assert all(len(set(names)) == 1 for names in starts)
    assert len({names[0] for names in starts}) == 3


def test_what_an_earlier_start_wrote_is_not_read_under_the_name() -> None:
    store = HashStore()
    first, second = (PrefixStore(meet(store, [0, 1], 0.0)[0], store) for _ in range(2))
    first.set("address of rank 1", "gone")
    assert not second.check(["address of rank 1"])


def test_a_rank_that_waits_in_vain_says_so() -> None:
    store = HashStore()
    meet(store, [0, 1], 0.0)  # the name of these is still there
    with pytest.raises(RuntimeError, match="rank 0 did not come within"):
        fresh_prefix(store, 1, 2, 0.3)
    with pytest.raises(RuntimeError):
        fresh_prefix(store, 0, 2, 0.3)
