"""What is a benchmark, once its lists are read? Items with classes, the official splits, and what
is missing.

The reading is in the other files of this folder; `read_benchmark` in `layouts.py` is the door.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Item:
    """One example of a benchmark: a file, or a stretch of one, with its class or classes.

    Args:
        name: the official id, for example "v_ApplyEyeMakeup_g01_c01" or "1-100032-A-0.wav".
        path: absolute path of the file that is there.
        classes: indexes into `Benchmark.classes`; one number unless the benchmark is multi-label.
        start_s: where the stretch that counts begins, since the start of the file.
        seconds: how long it is; None is to the end.
    """

    name: str
    path: str
    classes: tuple[int, ...]
    start_s: float = 0.0
    seconds: float | None = None


@dataclass(frozen=True)
class Split:
    """One official division of the items; the parts do not overlap.

    Args:
        name: "1", "fold 3", "official".
        train: (n,) int64 numbers of items, ascending.
        test: (n,) int64 numbers of items, ascending.
        validation: (n,) int64, the official part for choosing settings; empty where there is none.
    """

    name: str
    train: np.ndarray
    test: np.ndarray
    validation: np.ndarray


@dataclass(frozen=True)
class Benchmark:
    """A public benchmark as it lies in a folder.

    Args:
        name: the layout: "ucf101", "esc50", ...
        root: the folder, absolute.
        classes: the names of the classes, in the official order where there is one, otherwise
            sorted.
        items: those whose file is there, in the order of the lists.
        missing: official names without a file.
        num_official: items in the official lists, there or not.
        splits: all official splits; a result is their mean.
        modalities: what the files can serve: ("video",), ("audio",) or ("video", "audio").
        multilabel: may an item have several classes?
        source: which lists and which definition were used, one sentence for the record of a result.
    """

    name: str
    root: Path
    classes: tuple[str, ...]
    items: tuple[Item, ...]
    missing: tuple[str, ...]
    num_official: int
    splits: tuple[Split, ...]
    modalities: tuple[str, ...]
    multilabel: bool
    source: str
