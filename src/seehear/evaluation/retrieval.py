"""Are the nearest items of the same class? In a modality by features, across by clusters.

Within: the training items are the gallery, the test items ask, and similarity is the cosine of
features (as SeLaVi and GDT do). Across: a video and a sound are compared by their distributions
over the clusters that both encoders know (`seehear.models.matching`), with the training items as
gallery, and with the other test items, neither of which training saw; where the run compares rows
with their recording, so are items with the items of theirs.
Recall at k is the share of queries with an item of the same class among the k nearest, in [0, 1].
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch

from seehear.errors import SettingsError
from seehear.evaluation.classifiers import interval
from seehear.evaluation.context import Evaluation, named, rates
from seehear.evaluation.sets import LabelledSet
from seehear.method.recordings import Recordings
from seehear.models.matching import Matching

RANKS = (1, 5, 10, 20, 50)
QUERIES = 1024  # compared with the gallery at once


def evaluate_retrieval(context: Evaluation) -> dict[str, Any]:
    """Recall within each modality and, where the model has both and its heads, across them.

    Returns:
        values: direction -> gallery -> {"recall": {k: value}, "chance": {k: value}, "interval": of
            recall at 1,
        "n_queries", "n_gallery"}, averaged over splits. Directions are "video to video", "audio to
        audio", "audio to video" and "video to audio"; galleries "train" and, across modalities,
        "test". splits: their names.
    """
    data = context.data
    usual = tuple(split for split in data.splits if split.name == context.usual.retrieval_split)
    data = replace(data, splits=usual or data.splits)
    if data.multilabel:
        what = "Retrieval needs one class an item"
        raise SettingsError(f"{what}; items of {data.name} may have several.")
    pooled, there_V = context.pooled
    directions: dict[str, Any] = {}
    for modality, pooled_VD in pooled.items():
        unit_VD = pooled_VD / np.maximum(np.linalg.norm(pooled_VD, axis=1, keepdims=True), 1e-12)
        directions[f"{modality} to {modality}"] = {
            "train": recall_over_splits(data, there_V, unit_VD, unit_VD, context.seed)
        }
    matching = context.model.matching
    if matching is not None and len(pooled) == 2:
        described = describe(matching, pooled, there_V, data.recording_V)
        for asks, answers in (("audio", "video"), ("video", "audio")):
            across = partial(
                recall_over_splits, data, there_V, described[asks], described[answers], context.seed
            )
            directions[f"{asks} to {answers}"] = {
                gallery: across(matching=matching, gallery=gallery) for gallery in ("train", "test")
            }
    protocol = (
        f"{context.clips_sentence}; test items ask, training items answer, by cosine; across "
        "modalities by the clusters that both encoders know, also with the other test items as "
        "gallery; recall at k: an item of the same class is among the k nearest; "
        f"{named(data.splits)}"
    )
    names = [split.name for split in data.splits]
    return {"values": directions, "splits": names, "protocol": protocol, **rates(data, there_V)}


def describe(
    matching: Matching,
    pooled: Mapping[str, np.ndarray],
    there_V: np.ndarray,
    recording_V: np.ndarray,
) -> dict[str, np.ndarray]:
    """All items in the clusters that both encoders know, modality -> (V, S); where the run takes
    from features what is their recordings', the mean of a recording is that of its items.
    """
    items = np.flatnonzero(there_V)
    features = {m: torch.from_numpy(pooled_VD[items]).float() for m, pooled_VD in pooled.items()}
    recordings = Recordings.of(recording_V, [(items, features)], matching.centrings)
    centred, found = recordings.without(items, features), {}
    for modality, features_nD in features.items():
        described_nS = matching.describe(modality, features_nD, centred[modality]).numpy()
        found[modality] = np.zeros((len(there_V), described_nS.shape[1]), np.float32)
        found[modality][items] = described_nS
    return found


def recall_over_splits(
    data: LabelledSet,
    there_V: np.ndarray,
    asking_VX: np.ndarray,
    answering_VX: np.ndarray,
    seed: int,
    *,
    matching: Matching | None = None,
    gallery: str = "train",
) -> dict[str, Any]:
    """Recall of the test items as queries, and what a random order would reach.

    Args:
        asking_VX, answering_VX: what is compared, for all items: unit features, or descriptions.
        matching: compares descriptions; None: the product of unit features.
        gallery: "train", or "test" for the other test items (a query never finds itself).
    """
    parts, recalls, chances, sizes = [], [], [], []
    for split in data.splits:
        queries, answers = split.test, getattr(split, gallery)
        answers = answers[there_V[answers]]
        hits_qR = hits(data.target_V, queries, answers, asking_VX, answering_VX, matching)
        hits_qR &= there_V[queries][:, None]  # a query that could not be read finds nothing
        parts.append((queries, hits_qR[:, 0].astype(float)))
        recalls.append(hits_qR.mean(axis=0))
        classes = data.target_V[queries], data.target_V[answers]
        chances.append(random_recall(*classes, own=gallery == "test"))
        sizes.append((len(queries), len(answers)))
    return {
        "recall": {str(k): float(v) for k, v in zip(RANKS, np.mean(recalls, axis=0), strict=True)},
        "chance": {str(k): float(v) for k, v in zip(RANKS, np.mean(chances, axis=0), strict=True)},
        "interval": interval(parts, seed=seed),
        "n_queries": sizes[0][0],
        "n_gallery": sizes[0][1],
    }


def hits(
    class_V: np.ndarray,
    queries: np.ndarray,
    answers: np.ndarray,
    asking_VX: np.ndarray,
    answering_VX: np.ndarray,
    matching: Matching | None,
) -> np.ndarray:
    """Is the class among the k nearest, without the query? (queries, len(RANKS)) bool."""
    found = []
    for start in range(0, len(queries), QUERIES):
        some = queries[start : start + QUERIES]
        scores_qa = compared(asking_VX[some], answering_VX[answers], matching)
        scores_qa[some[:, None] == answers[None, :]] = -np.inf
        best = np.argsort(-scores_qa, axis=1, kind="stable")[:, : max(RANKS)]
        same = class_V[answers[best]] == class_V[some][:, None]
        same &= np.isfinite(np.take_along_axis(scores_qa, best, axis=1))
        found.append(np.stack([same[:, :k].any(axis=1) for k in RANKS], axis=1))
    return np.concatenate(found)


def compared(
    asking_qX: np.ndarray, answering_aX: np.ndarray, matching: Matching | None
) -> np.ndarray:
    """Scores (queries, answers), larger is nearer; comparing descriptions has no direction."""
    if matching is None:
        return np.asarray(asking_qX @ answering_aX.T)
    return np.asarray(
        matching.scores(torch.from_numpy(asking_qX), torch.from_numpy(answering_aX)).numpy()
    )


def random_recall(query_q: np.ndarray, answer_a: np.ndarray, *, own: bool) -> np.ndarray:
    """Expected recall at each of `RANKS` in random order: 1 - C(n - m, k) / C(n, k).

    Args:
        query_q, answer_a: classes of the queries and of the gallery.
        own: the query is in the gallery and is left out of it.
    """
    counts = np.bincount(answer_a, minlength=int(max(query_q.max(), answer_a.max())) + 1)
    n = len(answer_a) - own
    expected = []
    for k in RANKS:
        m = counts[query_q] - own
        steps = np.arange(min(k, n))
        missing_q = np.clip((n - m[:, None] - steps) / (n - steps), 0, 1).prod(axis=1)
        expected.append(float((1 - missing_q).mean()))
    return np.array(expected)
