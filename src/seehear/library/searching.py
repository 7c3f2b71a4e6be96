"""Which segments are nearest to a query, by what is seen, by what is heard, or across the two?

Like is compared with like by the cosine of prepared features (as they were clustered), in [-1, 1];
with both, the cosine of both joined. A sight is compared with a sound by `matching`: the mean
log-probability, at most 0, that both are of the same cluster. Every row is scored, block by block;
from `FAISS_ROWS` rows on, and where faiss is installed, an approximate index answers instead
(`approximate`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from torch import Tensor

from seehear.data.index import Index
from seehear.data.placing import MODALITIES
from seehear.data.remote import absolute
from seehear.errors import SettingsError, UsageError
from seehear.library.approximate import FAISS_ROWS, find_faiss, search_approximately
from seehear.library.gallery import Gallery, gallery_of
from seehear.library.querying import features_of_query
from seehear.library.trained import Trained, open_run, without_recordings
from seehear.machine.console import Console, unwatched
from seehear.method.clusters import MEMBERS
from seehear.models.model import Model

Best = tuple[NDArray[np.float32], NDArray[np.int64]]  # scores and rows, the best first
# numbers of rows (n,) and their features -> scores (n,)
Scorer = Callable[[NDArray[np.int64], Mapping[str, Tensor]], Tensor]


@dataclass(frozen=True)
class Comparison:
    """What is compared on either side: "video", "audio" or, on both, "joint"."""

    query: str
    gallery: str

    @property
    def within(self) -> bool:
        """Whether like is compared with like."""
        return self.query == self.gallery

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

    Where a run was trained with `cluster.centre`, segments of the gallery are compared without the
    mean of their recording there (`centred_query` says what the query is compared without).

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
    chosen = comparison_of(tuple(features), place.modalities, by, use)
    centred = centred_query(place, query, features, console)
    if chosen.within and len(place) >= FAISS_ROWS and not exact and find_faiss():
        vector_D = trained.unit_vectors(chosen.query, centred)[0]
        best = search_approximately(trained, place, chosen.gallery, vector_D, top, console)
    else:
        score = scorer_of(trained, place, chosen, (features, centred))
        best = score_blocks(place, chosen.gallery, score, top, console)
    return hits_of(trained, place, chosen, best)


def centred_query(
    gallery: Gallery, query: str | Path, features: Mapping[str, Tensor], console: Console | None
) -> Mapping[str, Tensor]:
    """Features of a query without what is its recording's, where the run takes that away.

    A file that is one row of the gallery has that row's recording. Of any other the recording is
    not known, and it is compared with the mean of all training rows.
    """
    if gallery.recordings is None:
        return features
    rows_n = gallery.rows_of(absolute(query))
    if len(rows_n) == 1:
        return gallery.recordings.without(rows_n, features)
    if console:
        console.say(
            f"{query} is no segment of the gallery, so its recording is not known: it is compared "
            f"with the mean of all training segments, and segments there with their recordings."
        )
    return features


def comparison_of(
    query: tuple[str, ...], gallery: tuple[str, ...], by: str, use: str
) -> Comparison:
    """What is compared, by the modalities of query and gallery; `by` and `use` as for `search`."""
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


def scorer_of(
    trained: Trained,
    gallery: Gallery,
    chosen: Comparison,
    query: tuple[Mapping[str, Tensor], Mapping[str, Tensor]],
) -> Scorer:
    """What scores rows of a gallery.

    query: its features, and the same without what is its recording's.
    """
    if chosen.within:
        vector_D = trained.unit_vectors(chosen.query, query[1])[0]
        return lambda rows, features: (
            gallery.unit_vectors(chosen.gallery, rows, features) @ vector_D
        )
    mine_1S = trained.matching.describe(chosen.query, *(of[chosen.query] for of in query))

    def score(rows: NDArray[np.int64], features: Mapping[str, Tensor]) -> Tensor:
        centred = without_recordings(gallery.recordings, rows, features)
        both = (of[chosen.gallery] for of in (features, centred))
        theirs_nS = trained.matching.describe(chosen.gallery, *both)
        pair = (mine_1S, theirs_nS) if chosen.query == "video" else (theirs_nS, mine_1S)
        return trained.matching.scores(*pair).reshape(-1)

    return score


def score_blocks(
    gallery: Gallery, space: str, score: Scorer, top: int, console: Console | None
) -> Best:
    """The best rows by scoring every one, block by block."""
    count = (console.watch if console else unwatched)("searching", len(gallery))
    best: Best = (np.empty(0, np.float32), np.empty(0, np.int64))
    for rows, features in gallery.blocks(MEMBERS[space]):
        if not len(rows):
            continue
        best = best_of(best, (score(rows, features).numpy(), rows.astype(np.int64)), top)
        count(int(rows[-1]) + 1)
    return best


def best_of(best: Best, block: Best, top: int) -> Best:
    """The best of those so far and of some more; among equals the lower row."""
    scores, rows = block
    if len(scores) > top:
        least = np.partition(scores, len(scores) - top)[len(scores) - top]
        scores, rows = scores[scores >= least], rows[scores >= least]
    scores, rows = np.concatenate([best[0], scores]), np.concatenate([best[1], rows])
    order = np.lexsort((rows, -scores))[:top]
    return scores[order], rows[order]


def hits_of(trained: Trained, gallery: Gallery, chosen: Comparison, best: Best) -> pa.Table:
    """Scores and rows with all that a person wants to know of them."""
    scores, rows = best
    numbers = rows.tolist()
    places = gallery.places(numbers)
    columns: dict[str, Any] = {
        "rank": pa.array(np.arange(1, len(rows) + 1, dtype=np.int32)),
        "score": pa.array(scores, pa.float32()),
        **{name: places[name] for name in places.column_names},
        "row": pa.array(rows, pa.int64()),
        "compared": pa.array([str(chosen)] * len(rows), pa.string()),
    }
    for name, clusters in gallery.clusters(numbers).items():
        names = trained.names[name]
        columns[f"{name}_cluster"] = pa.array(clusters, pa.int32())
        labels = [None if k is None else names.get(k) for k in clusters]
        columns[f"{name}_name"] = pa.array(labels, pa.string())
    return pa.table(columns)
