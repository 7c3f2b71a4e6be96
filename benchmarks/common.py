"""What the benchmarks share: where results are kept, and how they are written."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


def save(name: str, data: Any, page: str | Sequence[str]) -> str:
    """Write results/NAME.json and NAME.md, a text or its lines; without data the page alone.

    Returns:
        The page.
    """
    text = page if isinstance(page, str) else "\n".join(page) + "\n"
    RESULTS.mkdir(exist_ok=True)
    if data is not None:
        content = json.dumps(data, indent=1) + "\n"
        (RESULTS / f"{name}.json").write_text(content, encoding="utf-8")
    (RESULTS / f"{name}.md").write_text(text, encoding="utf-8")
    return text
