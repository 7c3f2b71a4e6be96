"""A run killed at any moment, or asked to stop, and resumed is the run that never stopped, bit for
bit on a CPU.
"""

from __future__ import annotations

import os
import random
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import seehear
from seehear.errors import CheckpointError, Interrupted
from seehear.machine.files import TEMPORARY
from seehear.machine.signals import REQUESTS, Interruptions
from seehear.runs.checkpoint import midways, newest, parse, save_midway
from seehear.runs.folder import Run
from whole_runs import command, contents, wait_for


def start(words: list[str], said: int = subprocess.PIPE) -> subprocess.Popen[str]:
    return subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=said, text=True)


@pytest.fixture(scope="module")
def unbroken(
    index_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, object], float]:
    """What a run that never stopped came to, and how many seconds it took once it had begun."""
    run = tmp_path_factory.mktemp("runs") / "unbroken"
    process = start(command(index_folder, run), subprocess.DEVNULL)
    wait_for(run, "run.json", process)
    begin = time.monotonic()
    assert process.wait(timeout=300) == 0
    return contents(run), time.monotonic() - begin


def written_ns(path: Path) -> int:
    """When a file was written, 0 where there is none."""
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def killed_again_and_again(index: Path, run: Path, seconds: float, kills: int, seed: int) -> int:
    """Kill and resume a run at drawn moments after it began or went on; says how many kills hit it
    alive.
    """
    moments, hits, there = random.Random(seed), 0, []
    for _ in range(kills):
        before = written_ns(run / "run.json")
        process = start(command(index, run), subprocess.DEVNULL)
        while (
            written_ns(run / "run.json") == before and process.poll() is None
        ):  # it is written when a run begins
            time.sleep(0.005)
        time.sleep(moments.uniform(0, seconds))
        process.kill()
        hits += process.wait() == -signal.SIGKILL
        there.append(f"{len(list(run.glob('rounds/0*')))}+{len(list(run.glob('midway/0*')))}")
    assert subprocess.run(command(index, run), capture_output=True, timeout=300).returncode == 0
    print(
        f"seed {seed}: {hits} of {kills} kills hit the run alive; rounds + checkpoints then: "
        f"{', '.join(there)}"
    )
    return hits


@pytest.mark.thorough
def test_killed_at_three_random_times_ends_bit_identical(index_folder, unbroken, tmp_path):
    wanted, seconds = unbroken
    assert killed_again_and_again(index_folder, tmp_path / "run", 0.8 * seconds, 3, seed=1) >= 1
    assert contents(tmp_path / "run") == wanted
    assert not (tmp_path / "run" / "midway").exists()
    assert not list((tmp_path / "run").rglob(f"{TEMPORARY}*"))


@pytest.mark.slow
@pytest.mark.parametrize("seed", [2, 3])
def test_killed_at_ten_random_times_ends_bit_identical(index_folder, unbroken, tmp_path, seed):
    wanted, seconds = unbroken
    assert killed_again_and_again(index_folder, tmp_path / "run", 0.5 * seconds, 10, seed) >= 3
    assert contents(tmp_path / "run") == wanted


@pytest.mark.thorough
def test_a_request_to_stop_saves_and_says_how_to_go_on_and_a_damaged_checkpoint_gives_way(
    index_folder, unbroken, tmp_path
):
    run = tmp_path / "run"
    process = start(command(index_folder, run, "--checkpoint.steps", "1"))
    wait_for(run, "midway/000-000000002*.pt", process)
    begin = time.monotonic()
    process.send_signal(signal.SIGTERM)
    said = process.communicate(timeout=60)[1].strip().splitlines()
    assert time.monotonic() - begin < 20
    assert process.returncode == 75, said
    assert re.search(
        r"Stopped by SIGTERM\. Round \d is (saved after step \d+|over and saved)\.", said[-2]
    )
    assert shlex.split(said[-1]) == [
        "seehear",
        "pretrain",
        str(index_folder),
        "--out",
        str(run),
        "--resume",
    ]
    one, two = midways(Run.open(run))
    data = bytearray(two.read_bytes())
    data[len(data) // 2] ^= 1
    two.write_bytes(data)
    number, over, content = newest(Run.open(run))
    assert (number, over) == (int(one.name[:3]), False)
    state = parse(content)
    # of students that are through
    done = sum(learning["steps"] for learning in state["learned"].values())
    assert done + state["training"]["learning"]["steps"] == int(one.name.split("-")[1])
    seehear.pretrain(index_folder, run, resume=True)
    assert contents(run) == unbroken[0]


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda s: s.name)
def test_each_request_is_noted_or_ends_the_work_at_once(request_):
    handler = signal.getsignal(request_)
    with Interruptions("go on") as requests:
        requests.patient = True
        signal.raise_signal(request_)
        assert requests.asked == request_.name
        requests.patient = False
        with pytest.raises(KeyboardInterrupt if request_ == signal.SIGINT else Interrupted):
            signal.raise_signal(request_)
    assert signal.getsignal(request_) == handler
    with (
        Interruptions("go on") as requests,
        pytest.raises(Interrupted, match=rf"by {request_.name}\..*\ngo on$"),
    ):
        signal.raise_signal(request_)


DECODE = """
import signal, sys, numpy as np
from planted import tiny_settings
from seehear.data.clips import CENTRED, Clips
from seehear.data.index import Index
if __name__ == "__main__":
    cfg = tiny_settings({"data.workers": 2})
    clips = Clips(Index.open(sys.argv[1]), cfg.clip, cfg.data, 0)
    seen = []
    for request in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
        signal.signal(request, lambda number, frame: seen.append(number))
    batches = clips.batches(np.arange(40), epoch=CENTRED, batch_size=2)
    read = len(next(batches).rows_B)
    import os
    for request in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
        os.killpg(0, request)
    print(read + sum(len(batch.rows_B) for batch in batches), len(seen))
"""


def test_decoding_processes_outlive_a_request_to_their_whole_group(index_folder, tmp_path):
    (tmp_path / "decode.py").write_text(DECODE)
    path = os.pathsep.join(
        map(str, (Path(__file__).parents[1] / "helpers", Path(seehear.__file__).parent.parent))
    )
    done = subprocess.run(
        [sys.executable, str(tmp_path / "decode.py"), str(index_folder)],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=200,
        start_new_session=True,
    )
    assert done.stdout.split() == ["40", "3"], done.stderr
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, []) & set(REQUESTS)


def test_a_run_that_is_not_there_is_begun_only_if_that_was_asked_for(index_folder, tmp_path):
    with pytest.raises(seehear.SeehearError, match="does not exist"):
        seehear.pretrain(index_folder, tmp_path / "run", preset="debug", resume=True)


def test_killed_when_all_is_written_leaves_no_checkpoints_in_the_end(index_folder, tmp_path):
    run = tmp_path / "run"
    seehear.pretrain(index_folder, run, preset="debug")
    stale = run / "midway" / f"001-{3:09d}-{'0' * 16}.pt"  # as before the last line of a run
    stale.parent.mkdir()
    stale.write_bytes(b"of a round before")
    seehear.pretrain(index_folder, run, preset="debug", resume=True)
    assert not stale.parent.exists()


def test_two_checkpoints_are_kept_and_the_newest_good_one_counts(tmp_path):
    run = Run.create(tmp_path / "run", {})
    for step in range(1, 5):
        save_midway(run, 0, step, {"step": step, "x": torch.arange(9)})
    assert [p.name.split("-")[1] for p in midways(run)] == ["000000003", "000000004"]
    assert parse(newest(run)[2])["step"] == 4
    midways(run)[1].write_bytes(midways(run)[1].read_bytes()[:-1])
    assert parse(newest(run)[2])["step"] == 3
    midways(run)[0].write_bytes(b"")
    with pytest.raises(CheckpointError, match="--overwrite"):
        newest(run)


@pytest.mark.slow
@pytest.mark.parametrize("victims", ["worker", "agent"])
def test_torchrun_ends_or_restarts_what_lost_a_rank(index_folder, tmp_path, victims):
    """A killed rank: the group restarts and goes on by itself. A request to torchrun: all ranks
    save and leave.
    """
    torchrun = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node=2",
        "--max-restarts=1",
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    words = ["-m", *command(index_folder, tmp_path / "whole")[2:]]
    assert (
        subprocess.run(
            [*torchrun, *words], env=environment, capture_output=True, timeout=300
        ).returncode
        == 0
    )
    run = tmp_path / "run"
    words = ["-m", *command(index_folder, run)[2:]]
    process = subprocess.Popen(
        [*torchrun, *words], env=environment, stderr=subprocess.PIPE, text=True
    )
    wait_for(run, "midway/0*.pt", process)
    if victims == "worker":
        workers = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        os.kill(int(workers[-1]), signal.SIGKILL)
    else:
        process.send_signal(signal.SIGTERM)
    said = process.communicate(timeout=300)[1]
    if victims == "worker":
        assert process.returncode == 0, said
        assert "going on in round" in said
    else:
        assert "torchrun --nproc-per-node 2 -m seehear pretrain" in said
        assert (
            subprocess.run(
                [*torchrun, *words], env=environment, capture_output=True, timeout=300
            ).returncode
            == 0
        )
    assert contents(run) == contents(tmp_path / "whole")
