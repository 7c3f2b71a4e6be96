"""What does a classifier say of each item? Scores of clips spread evenly over it, averaged.

A clip's scores are the softmax over classes, or where items have several classes the sigmoid of
each. Shapes: scores (n, C) in [0, 1] for n items; hits are counted over clips too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from seehear.data.clips import Clips
from seehear.data.placing import evenly
from seehear.evaluation.classifiers import average_precisions, in_top, interval, map_interval
from seehear.evaluation.sets import LabelledSet
from seehear.machine import distributed
from seehear.machine.console import Count
from seehear.machine.devices import Numerics
from seehear.method.encoders import Pair
from seehear.method.features import encoder_inputs

HEAD = "class"  # the name of the heads that classify
SEVERAL = 5  # the k of top-k beside 1, where there are more classes than that


@dataclass
class ItemScores:
    """What was found in testing."""

    items: np.ndarray  # (n,) int64 numbers of the items, ascending
    # modality -> (n, C) float64, the mean over clips; minus infinity where none could be read
    scores: dict[str, np.ndarray]
    clips: int = 0  # how many clips were read
    # modality -> k -> share of the clips whose class is among the k best; empty for several classes
    clip_hits: dict[str, dict[int, float]] = field(default_factory=dict)


@torch.inference_mode()
def item_scores(
    pair: Pair,
    clips: Clips,
    numerics: Numerics,
    data: LabelledSet,
    rows: np.ndarray,
    num_clips: int,
    progress: Count = lambda done: None,
) -> ItemScores:
    """Score the items of some rows, without augmentation; ranks divide the items.

    `rows` are ascending, all rows of an item, as a rule. Each of an item's R rows gives the R-th
    part of `num_clips`, rounded up. `progress` is called with the number of clips done.
    """
    pair.eval()
    items, place_n = np.unique(data.item_N[rows], return_inverse=True)
    heads = {m: pair.heads_for(m)[HEAD] for m in clips.modalities if m in pair.students}
    tally = {m: Tally(len(items), int(head.out_features)) for m, head in heads.items()}  # type: ignore[arg-type]
    counts, done = np.zeros(len(items)), 0
    span = distributed.rows_of_rank(len(items))
    for part, position in plan(rows, place_n, num_clips):
        mine = part[(span.start <= (at := place_n[np.searchsorted(rows, part)])) & (at < span.stop)]
        for batch in clips.batches(mine, epoch=position, batch_size=64):
            with numerics.autocast():
                found = pair(encoder_inputs(batch, clips.clip, numerics, pair))
            places_B = place_n[np.searchsorted(rows, batch.rows_B)]
            np.add.at(counts, places_B, 1)
            targets_B = None if data.multilabel else data.target_V[data.item_N[batch.rows_B]]
            for modality, scores in found.items():
                tally[modality].add(places_B, scores[HEAD].double(), targets_B)
            done += len(places_B)
            progress(done)
    for array in [counts, *(array for one in tally.values() for array in (one.sum_nC, one.hits_K))]:
        # each rank has zeros for the items of others
        distributed.all_reduce(torch.from_numpy(array))
    there, total = counts > 0, round(counts.sum())
    means = {m: one.sum_nC[there] / counts[there, None] for m, one in tally.items()}
    hits: dict[str, dict[int, float]] = {m: {} for m in tally}
    for m, one in tally.items() if not data.multilabel else ():
        hits[m] = dict(zip(ks(one.num_classes), one.hits_K / max(1, total), strict=True))
    return ItemScores(items[there], means, total, hits)


def with_unread(found: ItemScores, items: np.ndarray) -> ItemScores:
    """The scores of all items to be tested; those that could not be read count as wrong."""
    at = np.searchsorted(items := np.sort(items), found.items)
    scores = {m: np.full((len(items), part.shape[1]), -np.inf) for m, part in found.scores.items()}
    for modality, part in found.scores.items():
        scores[modality][at] = part
    return replace(found, items=items, scores=scores)


class Tally:
    """Scores of one modality, summed by item, and clips whose class is among the k best."""

    def __init__(self, num_items: int, num_classes: int) -> None:
        self.num_classes = num_classes
        self.sum_nC = np.zeros((num_items, num_classes))
        self.hits_K = np.zeros(len(ks(num_classes)))

    def add(self, places_B: np.ndarray, raw_BC: Tensor, targets_B: np.ndarray | None) -> None:
        """Add a batch: the items' places, and their classes if they have one each."""
        scores = raw_BC.sigmoid() if targets_B is None else raw_BC.softmax(dim=1)
        scores_BC = scores.cpu().numpy()
        np.add.at(self.sum_nC, places_B, scores_BC)
        if targets_B is not None:
            self.hits_K += [in_top(scores_BC, targets_B, k).sum() for k in ks(self.num_classes)]


def plan(rows: np.ndarray, place_n: np.ndarray, num_clips: int) -> list[tuple[np.ndarray, Any]]:
    """(rows, position) of every pass: items with equally many rows have the same positions."""
    each_n = np.ceil(num_clips / np.bincount(place_n)[place_n]).astype(int)
    return [
        (rows[each_n == each], place) for each in np.unique(each_n) for place in evenly(int(each))
    ]


def ks(num_classes: int) -> tuple[int, ...]:
    """Which top-k are worth counting."""
    return (1, SEVERAL) if num_classes > SEVERAL else (1,)


def values_of(found: ItemScores, target_V: np.ndarray) -> dict[str, dict[str, float]]:
    """modality -> top1 and clip_top1 in [0, 1], above 5 classes top5 and clip_top5; or map."""
    values: dict[str, dict[str, float]] = {}
    for modality, scores_nC in found.scores.items():
        targets = target_V[found.items]
        if target_V.ndim == 2:
            values[modality] = {"map": float(np.mean(average_precisions(scores_nC, targets)))}
            continue
        which = ks(scores_nC.shape[1])
        of_items = {f"top{k}": float(in_top(scores_nC, targets, k).mean()) for k in which}
        values[modality] = of_items | {f"clip_top{k}": found.clip_hits[modality][k] for k in which}
    return values


def mean_values(splits: list[Mapping[str, Mapping[str, float]]]) -> dict[str, dict[str, Any]]:
    """The mean over splits of each value of each modality."""
    return {
        modality: {
            key: float(np.mean([split[modality][key] for split in splits]))
            for key in splits[0][modality]
        }
        for modality in splits[0]
    }


def intervals(
    found: Sequence[ItemScores], data: LabelledSet, modality: str, seed: int
) -> dict[str, Any]:
    """95 % intervals by bootstrap over test items: of top-k, or of a single split's mAP."""
    scored = [(f.items, f.scores[modality], data.target_V[f.items]) for f in found]
    if data.multilabel:
        one = map_interval(*scored[0][1:], seed=seed) if len(found) == 1 else None
        return {"map_interval": list(one)} if one is not None else {}
    return {
        f"top{k}_interval": list(
            interval([(i, in_top(s, c, k).astype(float)) for i, s, c in scored], seed=seed)
        )
        for k in ks(len(data.classes))
    }
