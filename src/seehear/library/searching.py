"""Which segments are nearest to a query, by what is seen, by what is heard, or across the two?

Like is compared with like by the cosine of prepared features (as they were clustered), in [-1, 1];
with both, the cosine of both joined. A sight is compared with a sound by `matching`: the mean
log-probability, at most 0, that both are of the same cluster. Every row is scored, block by block;
from `FAISS_ROWS` rows on, and where faiss is installed, an approximate index answers instead
(`approximate`).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from seehear.data.index import Index
from seehear.data.placing import MODALITIES
from seehear.errors import SettingsError, UsageError
from seehear.library.approximate import FAISS_ROWS, find_faiss, search_approximately
from seehear.library.gallery import Gallery, RunGallery, gallery_of
from seehear.library.querying import features_of_query
from seehear.library.trained import Trained, open_run
from seehear.machine.console import Console
from seehear.models.matching import space_of
from seehear.models.model import Model

Best = tuple[NDArray[np.float32], NDArray[np.int64]]  # scores and rows, the best first


@dataclass(frozen=True)
class Comparison:
    """What of the query is compared with what of the gallery: "video", "audio" or, on both sides,
    "joint".
    """

    query: str
    gallery: str

    @property
    def within(self) -> bool:
        """Whether like is compared with like."""
        return self.query == self.gallery

    @property
    def needs(self) -> tuple[str, ...]:
        """Which features rows of the gallery must have."""
        return MODALITIES if self.gallery == "joint" else (self.gallery,)

    def __str__(self) -> str:
        return f"{self.query} with {self.gallery}"


def search(
    run: str | Path | Model | Trained,
    query: str | Path,
    gallery: str | Path | pa.Table | Index | None = None,
    *,
    by: str = "auto",
    use: str = "auto",
    top: int = 20,
    exact: bool = False,
    device: str = "auto",
    console: Console | None = None,
) -> pa.Table:
    """The segments of a gallery that are nearest to a query.

    Args:
        run: the folder of a finished run, or its loaded model.
        query: a video, a sound file, or a picture (JPEG, PNG, WebP, BMP).
        gallery: where to search: None for the rows that the run was trained on, an index or its
            folder, a Parquet file of features (`embed_to_file`), or a table of them.
        by: what of the gallery is compared: "video" (what is seen there), "audio" (what is heard
            there), or "auto": the streams that it shares with the query; where none is shared, the
            other one.
        use: what of the query is compared: "video", "audio", or "auto": what fits `by`.
        top: how many, 1 up.
        exact: score every row, however many there are.
        device: where encoders run that are not.
        console: where progress is shown.
    Returns:
        rank (1 up), score, path, start_s, seconds, row (in the gallery), compared ("audio with
        video"), and for each clustering its cluster and name; the best first, equals by row. Rows
        without the needed stream are not in it.
    Raises:
        UsageError: nothing there to search with or in, or a stream that is not there.
        MediaError: the query cannot be read.
    """
    if top < 1:
        raise SettingsError(f"top is {top}. It must be at least 1.")
    trained = open_run(run, device=device)
    features = features_of_query(trained.model, query)
    place = gallery_of(trained, gallery, console)
    chosen = choose(tuple(features), place.modalities, by, use)
    if chosen.within and len(place) >= FAISS_ROWS and not exact and find_faiss():
        vector_D = prepared(trained, chosen.query, features)[0]
        best = search_approximately(
            trained,
            place,
            chosen.gallery,
            vector_D,
            top,
            lambda rows: prepared(trained, chosen.gallery, rows),
            console,
        )
    else:
        best = score_all(trained, place, chosen, features, top, console)
    return table_of(trained, place, chosen, best)


def choose(query: tuple[str, ...], gallery: tuple[str, ...], by: str, use: str) -> Comparison:
    """What is compared with what.

    Args:
        query, gallery: the modalities that each has.
        by, use: as for `search`.
    Raises:
        SettingsError: an unknown word.
        UsageError: a stream that is not there.
    """
    for name, value, there, what in (
        ("by", by, gallery, "The gallery"),
        ("use", use, query, "The query"),
    ):
        if value not in ("auto", *MODALITIES):
            raise SettingsError(f"{name} is {value!r}. It must be auto, video or audio.")
        if value != "auto" and value not in there:
            raise UsageError(
                f"{what} has no {value}, only {' and '.join(there)}. Leave --{name} {value} out."
            )
    queries = query if use == "auto" else (use,)
    galleries = gallery if by == "auto" else (by,)
    shared = [m for m in MODALITIES if m in queries and m in galleries]
    if len(shared) == 2:
        return Comparison("joint", "joint")
    if shared:
        return Comparison(shared[0], shared[0])
    return Comparison(queries[0], galleries[0])


def prepared(trained: Trained, space: str, features: dict[str, Tensor]) -> Tensor:
    """Features (N, D) of each modality as unit vectors (N, d) in the space of the clusters."""
    found = next(c for name, c in trained.clusterings.items() if space_of(name) == space)
    prepared_ND = found.space([features[m] for m in found.modalities])
    return prepared_ND if found.space.parts[0].unit_length else F.normalize(prepared_ND, dim=1)


def score_all(
    trained: Trained,
    gallery: Gallery,
    chosen: Comparison,
    query: dict[str, Tensor],
    top: int,
    console: Console | None,
) -> Best:
    """The best rows by scoring every one, block by block."""
    if chosen.within:
        vector_D = prepared(trained, chosen.query, query)[0]
    else:
        mine_1S = trained.matching.describe(chosen.query, query[chosen.query])
    count = console.watch("searching", len(gallery)) if console else lambda done: None
    best: Best = (np.empty(0, np.float32), np.empty(0, np.int64))
    for rows, features in gallery.blocks(chosen.needs):
        if not len(rows):
            continue
        if chosen.within:
            score_n = prepared(trained, chosen.gallery, features) @ vector_D
        else:
            theirs_nS = trained.matching.describe(chosen.gallery, features[chosen.gallery])
            pair = (mine_1S, theirs_nS) if chosen.query == "video" else (theirs_nS, mine_1S)
            score_n = trained.matching.scores(*pair).reshape(-1)
        best = merge(best, (score_n.numpy(), rows.astype(np.int64)), top)
        count(int(rows[-1]) + 1)
    return best


def merge(best: Best, block: Best, top: int) -> Best:
    """The best of those so far and of some more; among equals the lower row."""
    scores, rows = block
    if len(scores) > top:
        least = np.partition(scores, len(scores) - top)[len(scores) - top]
        scores, rows = scores[scores >= least], rows[scores >= least]
    scores, rows = np.concatenate([best[0], scores]), np.concatenate([best[1], rows])
    order = np.lexsort((rows, -scores))[:top]
    return scores[order], rows[order]


def table_of(trained: Trained, gallery: Gallery, chosen: Comparison, best: Best) -> pa.Table:
    """Scores and rows with all that a person wants to know of them."""
    scores, rows = best
    numbers = rows.tolist()
    table = gallery.rows(numbers)
    table = table.add_column(0, "score", pa.array(scores, pa.float32()))
    table = table.add_column(0, "rank", pa.array(np.arange(1, len(rows) + 1, dtype=np.int32)))
    table = table.append_column("row", pa.array(rows, pa.int64()))
    table = table.append_column("compared", pa.array([str(chosen)] * len(rows), pa.string()))
    if isinstance(gallery, RunGallery):
        of = {name: trained.labels[name][rows].tolist() for name in trained.clusterings}
        clusters = {name: [k if k >= 0 else None for k in labels] for name, labels in of.items()}
    else:
        found = [gallery.features(number) for number in numbers]
        clusters = {
            name: [
                int(c.nearest(features)[0]) if all(m in features for m in c.modalities) else None
                for features in found
            ]
            for name, c in trained.clusterings.items()
        }
    for name, labels in clusters.items():
        names = [trained.names[name].get(k) if k is not None else None for k in labels]
        table = table.append_column(f"{name}_cluster", pa.array(labels, pa.int32()))
        table = table.append_column(f"{name}_name", pa.array(names, pa.string()))
    return table
