"""One process writes at a time; a second is told who the first is, and a dead one is in nobody's
way.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import seehear
from seehear.errors import Interrupted, RunError, SeehearError
from seehear.library import assign_to_file, embed_to_file, export_labels
from seehear.machine.files import atomic_file, whole_folder
from seehear.machine.locks import SILENT_SECONDS, lock_file, one_writer

HOLD = """
import sys, time
from pathlib import Path
from seehear.machine.locks import one_writer
with one_writer(Path(sys.argv[1]), inside=sys.argv[2] == "inside"):
    print("held", flush=True)
    time.sleep(600)
"""


@contextmanager
def held(path: Path, *, inside: bool = False) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lock of a path."""
    command = [sys.executable, "-c", HOLD, str(path), "inside" if inside else "beside"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "held\n"
            yield process
        finally:
            process.kill()


def left(path: Path, **record: object) -> Path:
    """A lock file that a process left behind."""
    place, _ = lock_file(path)
    place.write_text(
        json.dumps({"host": socket.gethostname(), "since": "then", "command": "x", **record})
    )
    return place


def test_the_second_is_told_at_once_who_the_first_is_and_a_killed_one_gives_way(tmp_path):
    for inside in (False, True):
        path = tmp_path / f"out-{inside}"
        with held(path, inside=inside) as process:
            begin = time.monotonic()
            with pytest.raises(RunError) as error, one_writer(path, inside=inside):
                pass
            assert time.monotonic() - begin < 2
            for word in (
                str(process.pid),
                socket.gethostname(),
                "since 20",
                str(path),
                "Nothing was touched",
            ):
                assert word in str(error.value)
            assert "\n" not in str(error.value)
            process.kill()
            process.wait()
            assert lock_file(path, inside=inside)[0].exists()
            with one_writer(path, inside=inside):
                pass
        assert path.exists() == inside
        with one_writer(tmp_path / "new", inside=inside):
            pass
        assert not (tmp_path / "new").exists(), "a lock leaves nothing behind"


def test_a_process_that_has_the_number_of_a_dead_one_holds_nothing(tmp_path):
    left(tmp_path / "out", pid=os.getppid())  # alive, and never held it
    with (
        one_writer(tmp_path / "out"),
        pytest.raises(RunError, match=str(os.getpid())),
        one_writer(tmp_path / "out"),
    ):
        pass


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"pid": [], "host": 7}', "\0\0\0"])
def test_a_lock_file_of_nonsense_is_no_lock(tmp_path, content):
    lock_file(tmp_path / "out")[0].write_text(content)
    with one_writer(tmp_path / "out"):
        pass


def test_another_machine_counts_until_it_was_silent_for_long(tmp_path):
    place = left(tmp_path / "out", pid=7, host="elsewhere")
    with (
        pytest.raises(RunError, match=rf"process 7 on elsewhere.*remove {place}"),
        one_writer(tmp_path / "out"),
    ):
        pass
    assert json.loads(place.read_text())["host"] == "elsewhere"
    then = time.time() - SILENT_SECONDS - 1
    os.utime(place, (then, then))
    with one_writer(tmp_path / "out"):
        assert json.loads(place.read_text())["pid"] == os.getpid()


def test_a_file_system_without_locks_goes_by_the_process_and_by_its_silence(tmp_path, monkeypatch):
    def flock(descriptor: int, how: int) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", flock)
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    left(tmp_path / "out", pid=gone.pid)
    with (
        one_writer(tmp_path / "out"),
        pytest.raises(RunError, match=str(os.getpid())),
        one_writer(tmp_path / "out"),
    ):
        pass
    place = left(tmp_path / "out", pid=os.getppid())
    with pytest.raises(RunError, match="remove"), one_writer(tmp_path / "out"):
        pass
    then = time.time() - SILENT_SECONDS - 1
    os.utime(place, (then, then))
    with one_writer(tmp_path / "out"):
        pass


def test_a_forked_child_that_lives_on_holds_nothing(tmp_path):
    code = """
import os, sys, time, warnings
from pathlib import Path
from seehear.machine.locks import one_writer
warnings.simplefilter("ignore")
with one_writer(Path(sys.argv[1])):
    child = os.fork()
    if not child:  # it has let go of the lock before it says anything
        print(os.getpid(), flush=True)
        time.sleep(30)
    os._exit(0)
"""
    command = [sys.executable, "-c", code, str(tmp_path / "out")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        process.wait()
        try:
            with one_writer(tmp_path / "out"):
                os.kill(child, 0)  # alive
        finally:
            os.kill(child, 9)


def test_every_command_that_writes_refuses_while_another_process_writes_there(
    finished_run, index_folder, videos, tmp_path
):
    quick = {"data.workers": 0, "compute.precision": "fp32", "compute.memory_format": "contiguous"}
    csv, out, run = videos / "classes.csv", tmp_path / "out", tmp_path / "run"
    video = next(videos.rglob("*.mp4"))
    features = tmp_path / "features.parquet"
    embed_to_file(finished_run, video, features, workers=1)
    seehear.index(video, tmp_path / "index", workers=1, progress=False)
    seehear.runs.folder.Run.create(run, {"settings": {}})
    tuned = finished_run / "results" / "finetune-frozen-index"
    calls = {
        (run, True): [
            lambda: seehear.pretrain(index_folder, run, resume=True),
            lambda: seehear.pretrain(
                index_folder, run, preset="debug", settings=quick, overwrite=True
            ),
        ],
        (out, True): [
            lambda: seehear.pretrain(index_folder, out, preset="debug", settings=quick),
            lambda: seehear.pack(tmp_path / "index", out, preset="debug", workers=1),
            lambda: seehear.demo(out, videos=2),
        ],
        (tmp_path / "index", True): [
            lambda: seehear.index(video, tmp_path / "index", progress=False)
        ],
        (out, False): [
            lambda: seehear.index(video, out, workers=1, progress=False),
            lambda: embed_to_file(finished_run, video, out, workers=1),
            lambda: assign_to_file(finished_run, features, out),
            lambda: export_labels(finished_run, "csv", out),
            lambda: export_labels(finished_run, "fiftyone", out),
            lambda: seehear.export(finished_run, "safetensors", out),
            lambda: seehear.report(finished_run, out=out, previews=0),
            lambda: seehear.evaluate(
                finished_run, task="features", data=index_folder, classes=csv, out=out
            ),
        ],
        (tuned, True): [
            lambda: seehear.evaluate(
                finished_run, task="finetune", data=index_folder, classes=csv, freeze=True
            )
        ],
    }
    for (path, inside), commands in calls.items():
        with held(path, inside=inside) as process:
            for number, call in enumerate(commands):
                print(path.name, number)  # shown where it fails
                with pytest.raises(
                    SeehearError, match=f"is being written by process {process.pid} on"
                ) as error:
                    call()
                assert error.value.exit_code == 2
                assert not isinstance(error.value, Interrupted)
        lock_file(path, inside=inside)[0].unlink(missing_ok=True)
        if path == out and out.exists():
            out.rmdir()


@pytest.mark.thorough
def test_a_second_pretrain_is_refused_and_a_killed_first_one_gives_way(index_folder, tmp_path):
    run = tmp_path / "run"
    command = [sys.executable, "-m", "seehear", "pretrain", str(index_folder), "--out", str(run)]
    settings = [
        "--preset",
        "debug",
        "--rounds",
        "50",
        "--compute.precision",
        "fp32",
        "--data.workers",
        "0",
        "--quiet",
    ]
    with subprocess.Popen([*command, *settings]) as first:
        deadline = time.monotonic() + 120
        while (
            not (run / "rounds" / "000").exists()
            and time.monotonic() < deadline
            and first.poll() is None
        ):
            time.sleep(0.1)
        before = (run / "run.json").read_bytes()
        for more in (["--resume"], ["--overwrite", *settings], ["--resume-if-there"]):
            second = subprocess.run([*command, *more], capture_output=True, text=True, check=False)
            assert second.returncode == 2
            assert str(first.pid) in second.stderr
            assert second.stderr.count("\n") == 1
        assert (run / "run.json").read_bytes() == before
        assert first.poll() is None
        first.kill()
        first.wait()
    done = subprocess.run(
        [*command, "--resume", "--rounds", "2"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert not (run / ".lock").exists()


KILLED = """
import os, signal, sys
from pathlib import Path
from seehear.machine.locks import one_writer
from seehear.machine.files import atomic_file, whole_folder
path, writer = Path(sys.argv[1]), atomic_file if sys.argv[2] == "file" else whole_folder
with one_writer(path), writer(path) as made:
    (made if sys.argv[2] == "file" else made / "x").write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_a_killed_process_left_is_removed_by_the_next_one(tmp_path: Path, kind: str) -> None:
    out, others = (
        tmp_path / "out",
        {"notes", ".unfinished-out", ".unfinished-output-1-2", ".unfinished-out-mine"},
    )
    for name in others:
        (tmp_path / name).touch()
    done = subprocess.run([sys.executable, "-c", KILLED, str(out), kind], check=False)
    assert done.returncode == -signal.SIGKILL
    assert [path for path in tmp_path.glob(".unfinished-out-*-*") if path.name not in others]
    with one_writer(out), (atomic_file if kind == "file" else whole_folder)(out) as made:
        (made if kind == "file" else made / "x").write_text("whole")
    assert {path.name for path in tmp_path.iterdir()} == others | {"out"}


def test_what_was_moved_aside_stays_while_nothing_stands_in_its_place(tmp_path: Path) -> None:
    aside = tmp_path / ".unfinished-old-out-999999-0"
    aside.mkdir()
    with one_writer(tmp_path / "out"):
        assert aside.exists()
        (tmp_path / "out").mkdir()
    with one_writer(tmp_path / "out"):
        assert not aside.exists()
