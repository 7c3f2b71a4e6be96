from __future__ import annotations

import json
import math
import subprocess
from pathlib import Path

import numpy as np
import pytest

from seehear.machine.files import as_text, commit, strict

CHECKOUT = Path(__file__).parents[2]


@pytest.mark.skipif(not (CHECKOUT / ".git").exists(), reason="no checkout")
def test_a_result_names_the_commit_of_the_source():
    found = commit()
    head = subprocess.check_output(["git", "rev-parse", "HEAD"], cwd=CHECKOUT, text=True).strip()
    changed = subprocess.check_output(["git", "status", "--porcelain"], cwd=CHECKOUT)
    assert found == head + ("+" if changed else "")


def test_json_has_null_for_what_is_no_number():
    data = {"a": [1.5, math.nan, (math.inf,)], "b": {"c": np.float64("-inf")}, "d": "NaN"}
    assert strict(data) == {"a": [1.5, None, [None]], "b": {"c": None}, "d": "NaN"}
    assert json.loads(as_text(data), parse_constant=pytest.fail) == strict(data)
