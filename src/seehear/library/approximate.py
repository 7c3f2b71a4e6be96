"""How are very many rows searched in a fraction of a second? By faiss, an extra:
`pip install 'seehear[search]'`.

An inverted file: the rows are divided among `sqrt(N) * LISTS` cells by k-means, and a query looks
at the `PROBED` cells nearest to it. Vectors are kept as float16. The answer is approximate: a
neighbour in another cell is missed. The index is built once for a gallery and space, and kept in
the run's folder, in `library/`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from seehear.data.placing import MODALITIES
from seehear.library.gallery import Gallery
from seehear.library.trained import Trained
from seehear.machine.console import Console
from seehear.machine.files import atomic_file

FAISS_ROWS = 1_000_000  # below, every row is scored
LISTS = 2
PROBED = 64
TRAINING_ROWS = 40  # for each cell

Prepare = Callable[[dict[str, Tensor]], Tensor]


def find_faiss() -> bool:
    """Whether faiss is installed."""
    return find_spec("faiss") is not None


def search_approximately(
    trained: Trained,
    gallery: Gallery,
    space: str,
    query_D: Tensor,
    top: int,
    prepare: Prepare,
    console: Console | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Scores and rows of the nearest, the best first.

    Args:
        space: what of the gallery is compared: "video", "audio" or "joint".
        query_D: (D,) float32 of unit length.
        prepare: features of each modality -> unit vectors (n, D).
    """
    import faiss

    path = trained.path / "library" / f"{gallery.name}-{space}.faiss"
    if not path.exists():
        build(path, gallery, space, len(query_D), prepare, console)
    index: Any = faiss.read_index(str(path), faiss.IO_FLAG_MMAP)
    index.nprobe = PROBED
    scores, rows = index.search(query_D.numpy()[None], top)
    found = rows[0] >= 0
    return scores[0][found], rows[0][found].astype(np.int64)


def build(
    path: Path, gallery: Gallery, space: str, width: int, prepare: Prepare, console: Console | None
) -> None:
    """Make an index of a gallery, with one block of rows and a sample of them in memory beside
    it.
    """
    import faiss

    needs = MODALITIES if space == "joint" else (space,)
    lists = max(1, LISTS * math.isqrt(len(gallery)))
    index: Any = faiss.IndexIVFScalarQuantizer(
        faiss.IndexFlatIP(width),
        width,
        lists,
        faiss.ScalarQuantizer.QT_fp16,
        faiss.METRIC_INNER_PRODUCT,
        False,
    )
    keep = np.random.default_rng(0).random(len(gallery)) < TRAINING_ROWS * lists / len(gallery)
    sample = [prepare(f).numpy()[keep[rows]] for rows, f in gallery.blocks(needs)]
    index.train(np.concatenate(sample))
    count = console.watch("building a search index", len(gallery)) if console else lambda done: None
    for rows, features in gallery.blocks(needs):
        if len(rows):
            index.add_with_ids(prepare(features).numpy(), rows.astype(np.int64))
            count(int(rows[-1]) + 1)
    path.parent.mkdir(exist_ok=True)
    with atomic_file(path) as temporary:
        faiss.write_index(index, str(temporary))
