"""How good is what was learned? One file a question; only here are human classes read.

`probe.py` linear classifiers on frozen features · `clusters.py` pseudo-labels against classes · `baselines.py` what no
learning at all reaches · `classes.py` reads which video is of which class, and the split.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from seehear.errors import SettingsError
from seehear.evaluation.classes import Classes, read_classes
from seehear.evaluation.clusters import evaluate_clusters
from seehear.evaluation.probe import evaluate_probe

__all__ = ["TASKS", "Classes", "evaluate", "read_classes"]

Task = Callable[..., dict[str, Any]]

TASKS: dict[str, Task] = {"probe": evaluate_probe, "clusters": evaluate_clusters}


def evaluate(
    run: str | Path, *, task: str = "probe", data: str | Path, classes: str | Path, seed: int = 0, device: str = "auto"
) -> dict[str, Any]:
    """Evaluate a run's encoders or clusters, and write `results/<task>.json` in its folder.

    Args:
        run: the folder of a finished run.
        task: "probe" (linear classifiers on both frozen encoders) or "clusters" (pseudo-labels against classes).
        data: an index of the videos to evaluate on; for "clusters", the index that the run was trained on.
        classes: a CSV file with the columns `path` (relative to the file), `class` and, if wanted, `split`.
        seed: draws the split where the file has none.
        device: where the encoders run.
    Returns:
        What is written: values beside chance and majority rate, n, protocol, missing files.
    Raises:
        SettingsError: an unknown task, or classes that do not fit the index.
        RunError: the run has no trained encoders.
    """
    if task not in TASKS:
        raise SettingsError(f"There is no task {task}. Tasks: {', '.join(TASKS)}.")
    return TASKS[task](Path(run), Path(data), read_classes(Path(classes)), seed=seed, device=device)
