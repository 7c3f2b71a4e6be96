"""Do several ranks under torchrun find what one process finds?"""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import kmeans_ranks
from seehear.errors import SettingsError
from seehear.machine import distributed

pytestmark = pytest.mark.thorough

HERE = Path(__file__).parents[1] / "helpers"
Found = dict[int, list[dict[str, Any]]]


def torchrun(ranks: int, *arguments: str) -> None:
    """Run kmeans_ranks.py on so many ranks of this machine, and show what it printed if it
    fails.
    """
    path = os.pathsep.join(
        str(folder) for folder in (HERE, HERE.parent / "src", os.environ.get("PYTHONPATH", ""))
    )
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        f"--nproc-per-node={ranks}",
    ]
    done = subprocess.run(
        [*command, str(HERE / "kmeans_ranks.py"), *arguments],
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Found:
    """What each rank found, by the number of ranks; 1 is this process."""
    folder = tmp_path_factory.mktemp("ranks")
    torchrun(5, str(folder), "5", "3", "2")
    results = {
        n: [torch.load(folder / str(n) / f"{rank}.pt") for rank in range(n)] for n in (5, 3, 2)
    }
    return {**results, 1: [kmeans_ranks.cluster(0, 1)]}


@pytest.mark.parametrize("name", list(kmeans_ranks.searches()))
def test_labels_are_the_same_on_1_2_3_and_5_ranks(found: Found, name: str) -> None:
    alone = found[1][0][name]
    for ranks in (2, 3, 5):
        shards = [shard[name] for shard in found[ranks]]
        assert torch.equal(torch.cat([shard["labels"] for shard in shards]), alone["labels"])
        for shard in shards:
            assert torch.equal(shard["centroids"], shards[0]["centroids"])
            assert torch.equal(shard["sizes"], alone["sizes"])
            assert shard["reseeded"] == alone["reseeded"]
            assert shard["inertia"] == pytest.approx(alone["inertia"], rel=1e-6)
            assert shard["centroids"].numpy() == pytest.approx(alone["centroids"].numpy(), abs=1e-5)


def test_preprocessing_agrees_on_1_2_3_and_5_ranks(found: Found) -> None:
    alone = found[1][0]
    for ranks in (2, 3, 5):
        whitened = torch.cat([shard["preprocessing"] for shard in found[ranks]])
        assert whitened.numpy() == pytest.approx(alone["preprocessing"].numpy(), abs=1e-4)


def test_bad_rows_are_named_on_every_rank_by_their_global_number(found: Found) -> None:
    for shards in found.values():
        assert {shard["error"][:40] for shard in shards} == {
            "Rows 899, 900 are not finite: NaN, infin"
        }


@given(num_rows=st.integers(0, 10**9), ranks=st.integers(1, 100))
def test_rows_are_dealt_out_evenly_and_in_order(num_rows: int, ranks: int) -> None:
    shards = [distributed.rows_of_rank(num_rows, rank, ranks) for rank in range(ranks)]
    assert shards[0].start == 0
    assert shards[-1].stop == num_rows
    assert all(one.stop == other.start for one, other in pairwise(shards))
    assert max(map(len, shards)) - min(map(len, shards)) <= 1


def test_one_process_needs_no_group() -> None:
    assert (distributed.rank(), distributed.world_size()) == (0, 1)
    assert distributed.start("cpu") == torch.device("cpu")
    tensor = torch.tensor([1, 2])
    assert distributed.all_reduce(tensor, "max") is tensor
    assert distributed.broadcast(tensor) is tensor
    distributed.barrier()
    distributed.stop()
    assert distributed.rows_of_rank(7) == range(7)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_there_is_an_error() -> None:
    with pytest.raises(SettingsError, match="CUDA devices here: 0"):
        distributed.start("cuda")
