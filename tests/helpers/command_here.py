"""A command in this process: starting one for each takes longer than most commands do."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from seehear.cli import main


def command(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    """The exit code of `seehear WORDS`; what it prints is there for `capsys`."""
    monkeypatch.setattr(sys, "argv", ["seehear", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def run(
    *arguments: object, code: int = 0, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "-m", "seehear", *map(str, arguments)]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=120,
        cwd=cwd,
        env={**os.environ, "COLUMNS": "80"},
    )
    assert done.returncode == code, f"{done.args}\n{done.stdout}\n{done.stderr}"
    return done
