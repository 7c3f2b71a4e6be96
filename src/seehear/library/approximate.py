"""How are very many rows searched in a fraction of a second? By faiss, `seehear[search]`.

An inverted file: the rows are divided among `sqrt(N) * LISTS` cells by k-means, and a query looks
at the `PROBED` cells nearest to it. Vectors are kept as float16. The answer is approximate: a
neighbour in another cell is missed. The index is built once for a gallery and space, and kept in
the run's folder, in `library/`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from seehear.library.gallery import Gallery
from seehear.library.trained import Trained
from seehear.machine.console import Console, unwatched
from seehear.machine.files import atomic_file
from seehear.method.clusters import MEMBERS

FAISS_ROWS = 1_000_000  # below, every row is scored
LISTS = 2
PROBED = 64
TRAINING_ROWS = 40  # for each cell


def find_faiss() -> bool:
    """Whether faiss is installed."""
    return find_spec("faiss") is not None


def search_approximately(
    trained: Trained,
    gallery: Gallery,
    space: str,
    query_D: Tensor,
    top: int,
    console: Console | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Scores and rows of the nearest to a query of unit length in a space, the best first."""
    import faiss

    path = trained.path / "library" / f"{gallery.name}-{space}.faiss"
    if not path.exists():
        build(path, trained, gallery, space, console)
    index: Any = faiss.read_index(str(path), faiss.IO_FLAG_MMAP)
    index.nprobe = PROBED
    scores, rows = index.search(query_D.numpy()[None], top)
    found = rows[0] >= 0
    return scores[0][found], rows[0][found].astype(np.int64)


def build(
    path: Path, trained: Trained, gallery: Gallery, space: str, console: Console | None
) -> None:
    """Make an index of a gallery; in memory are it, one block of rows and a sample of them."""
    import faiss

    lists = max(1, LISTS * math.isqrt(len(gallery)))
    keep = np.random.default_rng(0).random(len(gallery)) < TRAINING_ROWS * lists / len(gallery)

    def vectors() -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
        for rows, block in gallery.blocks(MEMBERS[space]):
            yield rows, gallery.unit_vectors(space, rows, block).numpy()

    sample = np.concatenate([found[keep[rows]] for rows, found in vectors()])
    width = sample.shape[1]
    index: Any = faiss.IndexIVFScalarQuantizer(
        faiss.IndexFlatIP(width),
        width,
        lists,
        faiss.ScalarQuantizer.QT_fp16,
        faiss.METRIC_INNER_PRODUCT,
        False,
    )
    index.train(sample)
    count = (console.watch if console else unwatched)("building a search index", len(gallery))
    for rows, found in vectors():
        if len(rows):
            index.add_with_ids(found, rows.astype(np.int64))
            count(int(rows[-1]) + 1)
    path.parent.mkdir(exist_ok=True)
    with atomic_file(path) as temporary:
        faiss.write_index(index, str(temporary))
