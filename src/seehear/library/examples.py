"""Which segments are like these and not like those? Examples are rows that the run was trained on.

Of examples alone the mean is looked for, by the cosine as in `searching`; of one row that is the
row itself. With counterexamples a linear classifier is fitted to both, in the space of clusters,
which takes milliseconds; its score is the distance to the boundary, above 0 on the examples' side.
Some rows at random are weak counterexamples: a tick and a cross alone would find what is farthest
from the cross, and nothing like the tick.
A cluster stands for the mean of its rows, its centroid.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from seehear.data.index import Index
from seehear.errors import SettingsError, UsageError
from seehear.library.approximate import FAISS_ROWS, find_faiss, search_approximately
from seehear.library.gallery import RunGallery, gallery_of
from seehear.library.searching import Comparison, comparison_of, hits_of, score_blocks
from seehear.library.trained import Trained, open_run
from seehear.machine.console import Console
from seehear.method.clusters import MEMBERS, space_of
from seehear.models.model import Model

AT_RANDOM = 200  # rows that weigh, all together, as much as all crosses
STRENGTH = 10.0  # of the classifier, inverse to its regularisation: vectors are of unit length


def search_like(
    run: str | Path | Model | Trained,
    like: Sequence[int] | str,
    unlike: Sequence[int] = (),
    gallery: str | Path | pa.Table | Index | None = None,
    *,
    by: str = "auto",
    top: int = 20,
    device: str = "auto",
    console: Console | None = None,
) -> pa.Table:
    """The segments of a gallery that are most like some of the run's own, and not like others.

    Args:
        run, gallery, top, device, console: as for `search`.
        like: rows of the run; or a cluster, by its name or as "video:3".
        unlike: rows that are no examples; not for a cluster.
        by: "video", "audio", or "auto": both where there are both. A cluster says so itself.
    Returns:
        As `search`.
    Raises:
        UsageError: rows that the run does not have, or no such cluster.
    """
    if top < 1:
        raise SettingsError(f"top is {top}. It must be at least 1.")
    trained = open_run(run, device=device)
    place = gallery_of(trained, gallery, console)
    modalities = trained.model.modalities
    if isinstance(like, str):
        name, cluster = cluster_called(trained, like)
        space, weights_D, bias = (
            space_of(name),
            trained.clusterings[name].centroids_KD[cluster],
            0.0,
        )
    else:
        space = comparison_of(modalities, modalities, by, by).gallery
        weights_D, bias = direction(trained, space, like, unlike)
    chosen, scale = Comparison(space, space), float(weights_D.norm()) or 1.0
    if len(place) >= FAISS_ROWS and find_faiss():
        unit_D = weights_D / scale
        scores, rows = search_approximately(trained, place, space, unit_D, top, console)
        return hits_of(trained, place, chosen, (scores + np.float32(bias / scale), rows))

    def score(rows: NDArray[np.int64], features: Mapping[str, Tensor]) -> Tensor:
        return (place.unit_vectors(space, rows, features) @ weights_D + bias) / scale

    return hits_of(trained, place, chosen, score_blocks(place, space, score, top, console))


def direction(
    trained: Trained, space: str, like: Sequence[int], unlike: Sequence[int]
) -> tuple[Tensor, float]:
    """Weights (D,) and bias of what tells examples from counterexamples in a space."""
    from sklearn.linear_model import LogisticRegression

    if not like:
        raise UsageError("There is no example. Name rows that the run was trained on.")
    if both := sorted({*like} & {*unlike}):
        raise UsageError(f"Row {both[0]} is named as an example and as none. Name it once.")
    likes_nD, unlikes_nD = (vectors(trained, space, rows) for rows in (like, unlike))
    if not unlike:
        return F.normalize(likes_nD.mean(dim=0), dim=0), 0.0
    groups = likes_nD, unlikes_nD, vectors(trained, space, at_random(trained, space, like, unlike))
    sizes = [len(group_nD) for group_nD in groups]
    share = np.divide((1.0, 0.5, 0.5), np.maximum(1, sizes)) * (sizes[0] + sizes[1])
    model = LogisticRegression(C=STRENGTH, max_iter=1000)
    model.fit(
        torch.cat(groups).double().numpy(),
        np.repeat([1, 0, 0], sizes),
        sample_weight=np.repeat(share, sizes),
    )
    return torch.from_numpy(model.coef_[0]).float(), float(model.intercept_[0])


def at_random(
    trained: Trained, space: str, like: Sequence[int], unlike: Sequence[int]
) -> list[int]:
    """Readable rows of a run, always the same, that are no examples."""
    total = len(RunGallery(trained))
    drawn = np.random.default_rng(0).choice(total, min(AT_RANDOM, total), replace=False)
    rows = np.setdiff1d(drawn, [*like, *unlike])
    features = trained.features_of(rows, MEMBERS[space])
    absent = [part_nD.isnan().any(dim=1).numpy() for part_nD in features.values()]
    return list(map(int, rows[~np.any(absent, axis=0)]))


def vectors(trained: Trained, space: str, rows: Sequence[int]) -> Tensor:
    """The unit vectors (n, D) of some rows of a run; UsageError for those that have none."""
    total = len(RunGallery(trained))
    wrong = [row for row in rows if not 0 <= row < total]
    if wrong:
        raise UsageError(f"There is no row {wrong[0]}: the run has rows 0 to {total - 1}.")
    features = trained.features_of(np.array(rows, np.int64), MEMBERS[space])
    for part_nD in features.values():
        absent = torch.nonzero(part_nD.isnan().any(dim=1))
        if len(absent):
            raise UsageError(f"Row {rows[int(absent[0])]} could not be read. Name another.")
    return trained.unit_vectors(space, features) if len(rows) else torch.zeros(0)


def cluster_called(trained: Trained, called: str) -> tuple[str, int]:
    """The clustering and number of "video:3", or of a name that one cluster alone has."""
    name, _, number = called.rpartition(":")
    sizes = {name: len(c.centroids_KD) for name, c in trained.clusterings.items()}
    if number.isdecimal() and int(number) < sizes.get(name, 0):
        return name, int(number)
    found = [
        (n, k) for n, of in trained.names.items() for k, given in of.items() if given == called
    ]
    if len(found) == 1:
        return found[0]
    if several := [f"{n}:{k}" for n, k in found]:
        all_named = ", ".join(several)
        raise UsageError(f"{called} is the name of {all_named}. Say which: --cluster {several[0]}")
    there = ", ".join(f"{n}:0 to {n}:{size - 1}" for n, size in sizes.items())
    raise UsageError(f"There is no cluster {called!r}. There are {there}, and names of the report.")
