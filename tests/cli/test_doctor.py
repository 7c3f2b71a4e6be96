"""What `seehear doctor` says of a sound machine and of broken ones; completion scripts that shells
accept.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from command_here import run
from seehear.cli import doctor
from seehear.cli.doctor import check_disk, check_threads, diagnose


def test_a_sound_machine_is_sound_and_every_matter_is_looked_at(tmp_path):
    checks = diagnose(tmp_path / "runs" / "not" / "there" / "yet")
    assert [check.name for check in checks] == [
        *(
            "python",
            "packages",
            "extras",
            "devices",
            "precision",
            "decoder",
            "memory",
            "disk",
            "threads",
        ),
    ]
    assert not any(check.status == "bad" for check in checks)
    assert all(bool(check.advice) == (check.status != "ok") for check in checks)


def test_a_broken_decoder_is_found_told_and_exit_code_1(tmp_path):
    (tmp_path / "av").mkdir()
    (tmp_path / "av" / "__init__.py").write_text(
        "raise ImportError('libavcodec.so: cannot open shared object file')"
    )
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"}
    command = [sys.executable, "-m", "seehear", "doctor", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 1, done.stderr
    report = json.loads(done.stdout)
    decoder = next(check for check in report["checks"] if check["name"] == "decoder")
    assert report["broken"]
    assert "libavcodec" in decoder["found"]
    assert "pip install" in decoder["advice"]


@pytest.mark.thorough
def test_the_report_is_plain_lines_in_a_file():
    shown = run("doctor").stdout
    assert "\x1b" not in shown
    assert "decoder" in shown
    assert shown.splitlines()[-1].startswith(("All is well.", "To look at:"))


def test_threads_on_a_busy_machine_are_warned_of():
    code = (
        "import os, torch\n"
        "torch.set_num_threads(2)\n"
        "os.getloadavg = lambda: (99.0, 99.0, 99.0)\n"
        "from seehear.cli.doctor import check_threads\n"
        "print(*check_threads())"
    )
    environment = {k: v for k, v in os.environ.items() if k != "OMP_NUM_THREADS"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True
    )
    assert done.stdout.startswith("warning")
    assert "--compute.threads 1" in done.stdout
    assert check_threads()[0] in ("ok", "warning")


def test_a_full_disk_and_little_memory_are_warned_of(tmp_path, monkeypatch):
    monkeypatch.setattr(doctor, "LEAST_DISK_GIB", 1e9)
    assert check_disk(tmp_path)[0] == "warning"
    monkeypatch.setattr(doctor, "LEAST_MEMORY_GIB", 1e9)
    assert doctor.check_memory()[0] == "warning" or doctor.memory_gib() == (0.0, 0.0)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_parse(shell, tmp_path):
    script = run("completion", shell).stdout
    assert "_SEEHEAR_COMPLETE" in script
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell} here")
    (tmp_path / "script").write_text(script)
    done = subprocess.run([shell, "-n", str(tmp_path / "script")], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_shell_is_told_what_may_come_next():
    words = {"_SEEHEAR_COMPLETE": "bash_complete", "COMP_WORDS": "seehear sea", "COMP_CWORD": "1"}
    program = str(Path(sys.executable).parent / "seehear")
    if not Path(program).exists():
        pytest.skip("the command is not installed beside the interpreter")
    done = subprocess.run([program], capture_output=True, text=True, env={**os.environ, **words})
    assert done.stdout.split(",")[-1].strip() == "search"
