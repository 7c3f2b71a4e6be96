"""What is installed works without the repository: a wheel, from videos to the page of a run."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from test_promises import ROOT

import seehear

pytest.importorskip("hatchling")
BUILD = "import sys; from hatchling.build import build_wheel; print(build_wheel(sys.argv[1]))"
WHERE = "import seehear; print(seehear.__file__)"
WORDS = """
synth videos --videos 12 --workers 1
index videos --out index
pretrain index --out run --preset debug --rounds 1 --data.workers 1
report run --previews 2
settings debug
"""


@pytest.mark.thorough
def test_a_wheel_works_outside_the_repository(tmp_path: Path) -> None:
    built = subprocess.run(
        [sys.executable, "-c", BUILD, tmp_path],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    wheel = tmp_path / built.stdout.split()[-1]
    installed, here = tmp_path / "installed", tmp_path / "elsewhere"
    here.mkdir()
    with zipfile.ZipFile(wheel) as content:
        content.extractall(installed)
    about = next(installed.glob("*.dist-info"))
    assert "seehear = seehear.cli:main" in (about / "entry_points.txt").read_text()
    assert f"Version: {seehear.__version__}\n" in (about / "METADATA").read_text()
    assert (about / "licenses" / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()
    assert {path.name for path in installed.iterdir()} == {"seehear", about.name}, "nothing else"

    def run(*words: str) -> str:
        done = subprocess.run(
            [sys.executable, "-W", "error", *words],
            cwd=here,
            env={**os.environ, "PYTHONPATH": str(installed)},
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, f"{words}: {done.stderr}"
        return done.stdout

    assert Path(run("-c", WHERE).strip()) == installed / "seehear" / "__init__.py"
    for words in WORDS.strip().splitlines():
        run("-m", "seehear", *words.split())
    shipped = {path.name for path in (ROOT / "src/seehear/reporting/page").iterdir()}
    there = {path.name for path in (here / "run" / "report").iterdir()}
    assert there >= shipped - {"page.html"} | {"index.html"}
