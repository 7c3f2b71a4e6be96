"""Full disks, places that may not be written, files that vanish: a reason in one line, and nothing
is lost.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import seehear
from media_files import write_media
from seehear.data.decoding.pool import run
from seehear.data.index import Index
from seehear.data.packing.encoding import Recipe
from seehear.errors import StorageError
from seehear.machine.files import atomic_file, whole_folder, write_json
from seehear.machine.locks import one_writer
from seehear.runs.checkpoint import midways, newest, parse, save_midway
from seehear.runs.folder import Run
from whole_runs import contents

LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), int(sys.argv[1])))
sys.argv[1:] = sys.argv[2:]
from seehear.cli import main
main()
"""


def run_cli(*words: object, largest_bytes: int | None = None) -> subprocess.CompletedProcess[str]:
    """A command in a process of its own, which may be kept from writing files longer than a
    limit.
    """
    start = ["-m", "seehear"] if largest_bytes is None else ["-c", LIMITED, str(largest_bytes)]
    command = [sys.executable, *start, *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


def one_line(done: subprocess.CompletedProcess[str]) -> str:
    """The line of an error that was foreseen."""
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("Error: ")]
    assert len(lines) == 1, done.stderr
    return lines[0]


def leftovers(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if "unfinished" in path.name]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 300 kB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(folder)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip(
            "mounting a small file system needs a privilege that this process does not have"
        )
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def fill(disk: Path) -> Path:
    """Take all the room that there is left."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(4096)):
            pass
    return filler


@pytest.mark.thorough
def test_a_full_disk_leaves_the_index_that_was_there(small_disk: Path, videos: Path) -> None:
    first = sorted((videos / "train").rglob("*.mp4"))[0].parent
    seehear.index([first], small_disk / "index", progress=False)
    before = Index.open(small_disk / "index").digest
    filler = fill(small_disk)
    assert "No space left on device" in one_line(
        run_cli("index", first, videos, "--out", small_disk / "index")
    )
    assert "No space left on device" in one_line(
        run_cli("index", videos, "--out", small_disk / "other")
    )
    assert Index.open(small_disk / "index").digest == before
    assert not (small_disk / "other").exists()
    assert not leftovers(small_disk)
    filler.unlink()
    assert run_cli("index", first, videos, "--out", small_disk / "index").returncode == 0
    assert Index.open(small_disk / "index").digest != before


def test_a_full_disk_is_no_fault_of_a_segment_that_is_packed(small_disk, tmp_path):
    """It would be missing in what is packed, for good; and nothing is left of what was begun."""
    write_media(tmp_path / "a.mp4", seconds=1.0)
    recipe = Recipe(48, 10.0, 16000, 20)
    jobs = [(str(tmp_path / "a.mp4"), 0.0, 1.0, (64, 48), recipe, str(small_disk), "000", "{}")]
    task = "seehear.data.packing.encoding:encode"
    filler = fill(small_disk)
    with pytest.raises(StorageError, match=r"000.mp4 cannot be written .No space left on device"):
        list(run(task, jobs, 1, 60.0))
    no_room = pytest.raises(StorageError, match=r"out cannot be written .No space left on device")
    with no_room, one_writer(small_disk / "out"):
        pytest.fail("there is no room for a lock")
    assert list(small_disk.iterdir()) == [filler]
    filler.unlink()
    (record,) = run(task, jobs, 1, 60.0)
    assert record["bytes"] == (small_disk / "000.mp4").stat().st_size


@pytest.mark.thorough
def test_a_file_that_gets_too_long_in_a_run(index_folder: Path, tmp_path: Path) -> None:
    """A run that cannot write its checkpoint says so, and goes on from the last one when it can."""
    small = ["--preset", "debug", "--rounds", "1", "--data.workers", "0"]
    out = tmp_path / "run"
    assert run_cli("pretrain", index_folder, "--out", out, *small).returncode == 0
    rounds, settings = Run.open(out).rounds(), ["--rounds", "2"]
    line = one_line(
        run_cli("pretrain", index_folder, "--out", out, "--resume", *settings, largest_bytes=20_000)
    )
    assert "cannot be written" in line
    assert Run.open(out).rounds() == rounds
    assert not leftovers(out)
    assert run_cli("pretrain", index_folder, "--out", out, "--resume", *settings).returncode == 0
    assert len(Run.open(out).rounds()) > len(rounds)


def test_a_full_disk_within_a_round_leaves_the_checkpoint_before(small_disk: Path) -> None:
    run, state = Run.create(small_disk / "run", {}), {"x": torch.arange(2000)}
    before = save_midway(run, 0, 1, state)
    fill(small_disk)
    with pytest.raises(
        StorageError, match=r"midway/000-000000002 cannot be written \(No space left"
    ):
        save_midway(run, 0, 2, state)
    assert midways(run) == [before]
    found = newest(run)
    assert found is not None
    assert parse(found[2])["x"].equal(state["x"])
    assert not leftovers(small_disk)


@pytest.mark.thorough
def test_checkpoints_within_rounds_that_cannot_be_written_cost_a_warning_each(
    index_folder: Path, finished_run: Path, tmp_path: Path
) -> None:
    """They hold the optimiser too, so there is a limit that stops them and not those of whole
    rounds.
    """
    out, words = (
        tmp_path / "run",
        ["--preset", "debug", "--data.workers", "0", "--data.cache_gigabytes", "0"],
    )
    words += [
        "--compute.precision",
        "fp32",
        "--compute.memory_format",
        "contiguous",
        "--checkpoint.steps",
        "2",
    ]
    largest = max(p.stat().st_size for p in finished_run.rglob("*") if p.is_file())
    limit = round(1.2 * largest)
    done = run_cli("pretrain", index_folder, "--out", out, *words, largest_bytes=limit)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("warning: no checkpoint could be written") >= 2
    assert "File too large" in done.stderr
    assert contents(out) == contents(finished_run)
    assert not leftovers(out)


def test_an_index_that_vanished_is_told_and_the_run_stays(
    finished_run: Path, tmp_path: Path
) -> None:
    shutil.copytree(finished_run, tmp_path / "run")
    with pytest.raises(seehear.SeehearError, match="gone does not exist"):
        seehear.pretrain(tmp_path / "gone", tmp_path / "run", settings={"rounds": 9}, resume=True)
    assert contents(tmp_path / "run") == contents(finished_run)


@pytest.mark.thorough
def test_a_place_that_may_not_be_written(small_disk: Path, index_folder: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    line = one_line(
        run_cli("pretrain", index_folder, "--out", small_disk / "run", "--preset", "debug")
    )
    assert "Read-only file system" in line
    assert str(small_disk / "run") in line
    with pytest.raises(StorageError, match="Read-only"):
        write_json(small_disk / "x.json", {})


def test_an_index_that_may_not_be_written_opens(small_disk: Path, index_folder: Path) -> None:
    shutil.copytree(index_folder, small_disk / "index")
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    index, wanted = Index.open(small_disk / "index"), Index.open(index_folder)
    assert [index.path(row) for row in range(len(index))] == [
        wanted.path(row) for row in range(len(wanted))
    ]


def test_other_errors_stay_what_they_are(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="mine"), whole_folder(tmp_path / "a"):
        raise ValueError("mine")
    with pytest.raises(FileNotFoundError), atomic_file(tmp_path / "b") as temporary:
        temporary.with_name("nothing").read_text()
    with (
        pytest.raises(StorageError, match=r"a cannot be written \(No space left"),
        whole_folder(tmp_path / "a"),
    ):
        raise OSError(28, os.strerror(28))
    assert not list(tmp_path.iterdir())


@pytest.mark.thorough
def test_files_that_vanish_while_a_run_goes_on(videos: Path, tmp_path: Path) -> None:
    """Each costs its rows from then on, with the reason in the log of the round."""
    shutil.copytree(videos / "train", tmp_path / "videos")
    seehear.index([tmp_path / "videos"], tmp_path / "index", progress=False)
    index = Index.open(tmp_path / "index")
    settings = [
        "--data.cache_gigabytes",
        "0",
        "--data.workers",
        "1",
        "--data.max_failed_share",
        "0.2",
        "--rounds",
        "2",
    ]
    command = [
        sys.executable,
        "-m",
        "seehear",
        "pretrain",
        str(index.folder),
        "--out",
        str(tmp_path / "run"),
    ]
    process = subprocess.Popen(
        [*command, "--preset", "debug", *settings], stderr=subprocess.DEVNULL
    )
    while process.poll() is None and not (tmp_path / "run" / "rounds" / "000").exists():
        time.sleep(0.01)
    for row in (1, 5):
        Path(index.path(row)).unlink()
    assert process.wait(timeout=300) == 0
    first, last = (entry["unreadable"] for entry in Run.open(tmp_path / "run").read_log())
    assert set(last) == {"not found"}
    assert not first
