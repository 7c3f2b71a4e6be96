"""Do 1, 2 and 4 ranks learn the same from the same batches, also when their number changes on the
way?
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import pretrain_ranks
from pretrain_ranks import ROWS
from seehear.data.order import epoch_rows

pytestmark = pytest.mark.thorough

HERE = Path(__file__).parents[1] / "helpers"
Found = dict[int, list[dict[str, Any]]]
RELATIVE = 1e-3  # of losses and weights after 4 steps; measured: see docs/lab.md


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Found:
    """What each rank found, by the number of ranks; 1 is this process."""
    folder = tmp_path_factory.mktemp("ranks")
    path = os.pathsep.join(map(str, (HERE, HERE.parent / "src")))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=4"]
    done = subprocess.run(
        [*command, str(HERE / "pretrain_ranks.py"), str(folder), "4", "2"],
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    several = {n: [torch.load(folder / f"{n}-{rank}.pt") for rank in range(n)] for n in (4, 2)}
    return {**several, 1: [pretrain_ranks.everything(torch.load(folder / "begun.pt"))]}


def weights(state: dict[str, torch.Tensor]) -> torch.Tensor:
    return torch.cat([value.double().flatten() for value in state.values()])


@pytest.mark.parametrize("way", pretrain_ranks.WAYS)
def test_the_same_labels_losses_and_weights_on_1_2_and_4_ranks(found: Found, way: str) -> None:
    alone = found[1][0][way]
    for ranks in (2, 4):
        for shard in (rank[way] for rank in found[ranks]):
            for before, after in zip(alone["labels"], shard["labels"], strict=True):
                assert all(torch.equal(before[name], after[name]) for name in before)
            for before, after in zip(alone["learning"], shard["learning"], strict=True):
                assert before["clips"] == after["clips"]
                for key in ("loss", "heldout_loss"):
                    for student, values in before[key].items():
                        assert after[key][student] == pytest.approx(values, rel=RELATIVE)
            assert weights(shard["pair"]).numpy() == pytest.approx(
                weights(alone["pair"]).numpy(), abs=RELATIVE
            )
            assert torch.equal(weights(shard["pair"]), weights(found[ranks][0][way]["pair"]))
            assert shard["failures"] == alone["failures"]


@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_all_ranks_skip_the_same_steps_or_stop_at_the_same_one(found: Found, ranks: int) -> None:
    for rank in found[ranks]:
        for case in ("one bad", "many bad"):
            assert rank[case]["said"] == found[1][0][case]["said"]
            assert rank[case]["error"] == found[1][0][case]["error"]
        assert rank["one bad"]["skipped"] == len(rank["one bad"]["said"]) > 0
        assert rank["many bad"]["error"]
        assert weights(rank["one bad"]["pair"]).isfinite().all()
        assert weights(rank["one bad"]["pair"]).numpy() == pytest.approx(
            weights(found[1][0]["one bad"]["pair"]).numpy(), abs=RELATIVE
        )


@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_every_clip_is_drawn_exactly_once_an_epoch(found: Found, ranks: int) -> None:
    for epoch in (0, 1):
        drawn = [
            row
            for rank in found[ranks]
            for e, rows in rank["lesson"]["read"]
            if e == epoch
            for row in rows
        ]
        assert sorted(drawn) == list(range(ROWS))


@pytest.mark.parametrize("ranks", [1, 2])
def test_another_number_of_ranks_goes_on_where_4_were_and_no_clip_is_lost_or_drawn_twice(
    found: Found, ranks: int
) -> None:
    before = []
    for rank in found[4]:
        read = rank["lesson"]["read"]
        before += read[: read.index(("saved", []))]
    after = [piece for rank in found[ranks] for piece in rank["resumed"]["read"]]
    for epoch in (0, 1):
        first = [row for e, rows in before if e == epoch for row in rows]
        second = [row for e, rows in after if e == epoch for row in rows]
        assert sorted(first + second) == list(range(ROWS))
        order = epoch_rows(np.arange(ROWS), {}, (0, epoch, 0x5EED, 0, 1), uniform=False)
        assert set(first) == set(order[: len(first)])
    wanted, resumed = found[4][0]["lesson"], found[ranks][0]["resumed"]
    assert weights(resumed["pair"]).numpy() == pytest.approx(
        weights(wanted["pair"]).numpy(), abs=RELATIVE
    )
    for student, values in wanted["learning"]["loss"].items():
        assert resumed["learning"]["loss"][student] == pytest.approx(values, rel=RELATIVE)
