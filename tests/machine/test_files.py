from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from seehear.machine.files import commit

CHECKOUT = Path(__file__).parents[2]


@pytest.mark.skipif(not (CHECKOUT / ".git").exists(), reason="no checkout")
def test_a_result_names_the_commit_of_the_source():
    found = commit()
    head = subprocess.check_output(["git", "rev-parse", "HEAD"], cwd=CHECKOUT, text=True).strip()
    changed = subprocess.check_output(["git", "status", "--porcelain"], cwd=CHECKOUT)
    assert found == head + ("+" if changed else "")
