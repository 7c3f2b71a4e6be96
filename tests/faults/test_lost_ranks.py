"""One of three ranks dies or hangs, in each stage: the others end in time, and each of them says
why.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import seehear
from whole_runs import command

pytestmark = pytest.mark.thorough

HERE = Path(__file__).parents[1] / "helpers"
RANKS = 3
# a death is felt at once; a busy machine may be late for a short timeout
TIMEOUT_S = {"dies": 120, "hangs": 20}
SLACK_S = 30  # a busy machine takes some time to end a process


def environment(rank: int, port: int) -> dict[str, str]:
    """What torchrun, or another launcher, tells a rank; no launcher is there to end those that are
    left.
    """
    path = os.pathsep.join((str(HERE.parent / "src"), os.environ.get("PYTHONPATH", "")))
    meeting = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": str(RANKS),
        "RANK": str(rank),
    }
    here = {
        "LOCAL_RANK": str(rank),
        "LOCAL_WORLD_SIZE": str(RANKS),
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": path,
    }
    return {**os.environ, **meeting, **here}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.parametrize(
    ("how", "module", "function", "call"),
    [
        pytest.param(
            "dies",
            "seehear.method.features",
            "encoder_inputs",
            2,
            id="extraction",
            marks=pytest.mark.slow,
        ),
        pytest.param("dies", "seehear.method.kmeans.lloyd", "_moved", 2, id="clustering"),
        pytest.param(
            "dies", "seehear.method.step", "_learn", 4, id="training", marks=pytest.mark.slow
        ),
        pytest.param(
            "hangs",
            "seehear.method.step",
            "_learn",
            4,
            id="training, hangs",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "dies",
            "seehear.machine.distributed",
            "gathered_rows",
            1,
            id="end of the run",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_others_end_in_time_and_say_why(
    how: str, module: str, function: str, call: int, index_folder: Path, tmp_path: Path
) -> None:
    words = command(
        index_folder, tmp_path / "run", "--compute.timeout_minutes", str(TIMEOUT_S[how] / 60)
    )[3:]
    port = free_port()
    ranks = [
        subprocess.Popen(
            [sys.executable, str(HERE / "dying_rank.py"), how, module, function, str(call), *words],
            env=environment(rank, port),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(RANKS)
    ]
    try:
        assert ranks[1].stdout is not None
        assert ranks[1].stdout.readline() == "now\n", ranks[1].communicate()
        begin = time.monotonic()
        for rank in (0, 2):
            said = ranks[rank].communicate(timeout=TIMEOUT_S["hangs"] + SLACK_S)[1]
            assert (
                f"Error on rank {rank} of 3: Another process of this job is gone or does not answer"
                in said
            )
            assert "--resume" in said
            assert ranks[rank].returncode == 1
        print(f"{how} in {function}: the others have ended after {time.monotonic() - begin:.1f} s")
    finally:
        for process in ranks:
            process.kill()
            process.communicate()


def test_features_of_two_ranks_are_those_of_one(
    finished_run: Path, videos: Path, index_folder: Path, tmp_path: Path
):
    classes = videos / "classes.csv"
    what = {
        "data": index_folder,
        "classes": classes,
        "device": "cpu",
        "results": tmp_path / "results",
    }
    seehear.evaluate(finished_run, task="features", form="numpy", out=tmp_path / "one", **what)
    words = [
        "seehear",
        "evaluate",
        str(finished_run),
        "--task",
        "features",
        "--format",
        "numpy",
        "--device",
        "cpu",
    ]
    words += [
        "--data",
        str(index_folder),
        "--classes",
        str(classes),
        "--results",
        str(tmp_path / "results"),
    ]
    words += ["--out", str(tmp_path / "two")]
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--standalone",
            "--nproc-per-node=2",
            "-m",
            *words,
        ],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Written: ") == 1
    assert (tmp_path / "one" / "items.csv").read_text() == (
        tmp_path / "two" / "items.csv"
    ).read_text()
    for modality in ("video", "audio"):
        one, two = (np.load(tmp_path / out / f"{modality}.npy") for out in ("one", "two"))
        assert len(one) == 40
        assert two == pytest.approx(one, rel=1e-4, abs=1e-5)


def test_what_runs_as_one_process_says_so(tmp_path: Path) -> None:
    for words, says in (
        (["report", str(tmp_path)], "`seehear report` runs as one process, and torchrun started 3"),
        (
            ["evaluate", str(tmp_path), "--task", "clusters", "--data", str(tmp_path)],
            "Task clusters runs as one process, and torchrun",
        ),
    ):
        done = subprocess.run(
            [sys.executable, "-m", "seehear", *words],
            env=environment(0, 1),
            capture_output=True,
            text=True,
            timeout=100,
        )
        assert done.returncode == 2
        assert says in done.stderr
        assert "Traceback" not in done.stderr
