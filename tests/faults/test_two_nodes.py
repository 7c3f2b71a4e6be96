"""Two nodes, on a wire that is cut or with a rank that is killed: nothing hangs, and the run ends
as on one node.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

import seehear
from two_nodes import Node, nodes, rank_of, why_not
from whole_runs import SETTINGS, command, wait_for

pytestmark = pytest.mark.slow

TIMEOUT_MINUTES = 0.2
# for the ranks: their own timeout, and what a busy machine takes to leave
ENDED_S = 60 * TIMEOUT_MINUTES + 20
MORE = ["--train.batch_parts", "2", "--compute.timeout_minutes", str(TIMEOUT_MINUTES)]
GONE = "Another process of this job is gone or does not answer"


def labels(run: Path) -> list[dict[str, object]]:
    """Of each round, and of the finished encoders."""
    paths = [*sorted(run.glob("rounds/*/labels.parquet")), run / "clusters" / "labels.parquet"]
    return [pq.read_table(path).to_pydict() for path in paths]


@pytest.fixture(scope="module")
def alone(index_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of one process, with the same parts."""
    run = tmp_path_factory.mktemp("runs") / "alone"
    seehear.pretrain(
        index_folder, run, preset="debug", settings={**SETTINGS, "train.batch_parts": 2}
    )
    return run


def ranks_on(node: Node) -> bool:
    """Whether a rank still runs on a node."""
    try:
        return bool(rank_of(node))
    except ProcessLookupError:
        return False


def end(started: list[subprocess.Popen[str]]) -> None:
    """Do to each torchrun what whoever started the job does: one whose rendezvous is beyond a dead
    wire waits on.
    """
    for process in started:
        try:
            process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@pytest.mark.parametrize("fault", ["wire", "rank"])
def test_a_cut_wire_or_a_killed_rank_ends_both_nodes_and_the_run_goes_on_to_the_same_labels(
    fault: str, alone: Path, index_folder: Path, tmp_path: Path
) -> None:
    if reason := why_not():
        pytest.skip(reason)
    run, words = tmp_path / "run", command(index_folder, tmp_path / "run", *MORE)[2:]

    def said(attempt: str, node: Node) -> str:
        return (tmp_path / f"{attempt}{node.number}").read_text()

    with nodes() as both:
        first, second = both

        def start(attempt: str) -> list[subprocess.Popen[str]]:
            return [
                node.torchrun(first.address, words, log=tmp_path / f"{attempt}{node.number}")
                for node in both
            ]

        started = start("broken")
        wait_for(run, "midway/0*.pt", started[0])
        begin = time.monotonic()
        if fault == "wire":
            second.cut()
        else:
            os.kill(rank_of(second), signal.SIGKILL)
        while any(ranks_on(node) for node in both) and time.monotonic() < begin + ENDED_S:
            time.sleep(0.1)
        seconds = time.monotonic() - begin
        assert not any(ranks_on(node) for node in both), (
            f"a rank is still there after {seconds:.0f} s"
        )
        print(f"{fault}: all ranks are gone after {seconds:.1f} s")
        end(started)
        for node in both if fault == "wire" else [first]:
            assert f"Error on rank {node.number} of 2: {GONE}" in said("broken", node)
        assert not (run / "encoders").exists()
        second.mend()
        for process in start("resumed"):
            assert process.wait(timeout=240) == 0, said("resumed", first) + said("resumed", second)
    assert "going on in round" in said("resumed", first)
    assert labels(run) == labels(alone)
    for modality in ("video", "audio"):
        one, other = (
            load_file(folder / "encoders" / f"{modality}.safetensors") for folder in (run, alone)
        )
        assert all(torch.allclose(one[name], other[name], atol=1e-3) for name in one)
