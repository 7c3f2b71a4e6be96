"""Do the examples of docs/kmeans.md run, in order, and does what they name exist?"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

import seehear.method.kmeans

PAGE = (Path(__file__).parents[2] / "docs" / "kmeans.md").read_text(encoding="utf-8")


def test_the_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("features.npy", np.random.default_rng(0).standard_normal((700, 16), dtype=np.float32))
    names: dict[str, object] = {}
    for example in re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL):
        exec(example, names)
    assert np.load("labels0.npy").shape == (700,)


def test_every_public_name_is_on_the_page() -> None:
    assert not [name for name in seehear.method.kmeans.__all__ if name not in PAGE]
