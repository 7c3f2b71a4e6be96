"""What another system lacks stops only what needs it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import seehear
from seehear.errors import SeehearError

# As Windows is: no locks, no limits, no polls, no forks, and fewer signals.
BARE = """
import av, numpy, pyarrow.parquet, scipy.stats, sklearn.linear_model, torch
import mmap, os, select, signal, sys
sys.modules["fcntl"] = sys.modules["resource"] = None
for module, names in {
    os: "fork register_at_fork sched_getaffinity getloadavg O_NOFOLLOW O_CLOEXEC",
    select: "poll", signal: "SIGUSR1 SIGUSR2 SIGKILL SIGHUP", mmap: "MADV_DONTNEED",
}.items():
    for name in names.split():
        if hasattr(module, name):
            delattr(module, name)
"""
USES = """
import importlib, pkgutil, torch, seehear
for module in pkgutil.walk_packages(seehear.__path__, "seehear."):
    if module.name != "seehear.__main__":
        importlib.import_module(module.name)
model = seehear.load(sys.argv[1])
frames = torch.zeros(2, 3, 4, 32, 32, dtype=torch.uint8)
assert model.video(frames).shape == model.audio(torch.zeros(2, 16000)).shape
index = seehear.Index.open(sys.argv[2])
from seehear.machine.locks import one_writer
from seehear.machine.signals import Interruptions
with one_writer(sys.argv[3] + "/run"), Interruptions("again"):
    pass
from seehear.cli import main
sys.argv = ["seehear", "index", index.path(0), "--out", sys.argv[3] + "/index"]
main()
"""


@pytest.mark.thorough
def test_encoders_and_indexes_are_read_where_videos_are_not(finished_run, index_folder, tmp_path):
    words = [sys.executable, "-c", BARE + USES, finished_run, index_folder, tmp_path]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300)
    assert done.stderr.splitlines()[-1].endswith("On Windows, run seehear in WSL.")
    assert "Traceback" not in done.stderr
    assert done.returncode == SeehearError.exit_code
    left = [path.name for path in tmp_path.rglob("*")]
    assert sorted(left) == [".index.parts", "plan.json"]  # nothing was looked at yet


def test_importing_seehear_takes_no_time():
    """Processor time, since machines are busy: what `python -c pass` takes is taken away."""
    measure = """
import resource, subprocess, sys
def cpu_s(code):
    def used():
        now = resource.getrusage(resource.RUSAGE_CHILDREN)
        return now.ru_utime + now.ru_stime
    before = used()
    subprocess.run([sys.executable, "-c", code], check=True)
    return used() - before
print(min(cpu_s("import seehear") for _ in range(3)) - min(cpu_s("pass") for _ in range(3)))
"""
    folder = Path(seehear.__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", measure], capture_output=True, text=True, cwd=folder, check=True
    )
    assert float(done.stdout) < 0.15
