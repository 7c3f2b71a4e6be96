"""What do frozen features know? A linear classifier on them, trained on some items and tested on
others.

An item's feature is the mean over its clips and segments. Several official splits are each trained
and tested, and averaged. The regularisation is chosen within the training items, never on the test
items.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from seehear.errors import SettingsError
from seehear.evaluation.classifiers import (
    STRENGTHS,
    average_precisions,
    few_of_each,
    in_top,
    interval,
    map_interval,
    scores_of_linear,
)
from seehear.evaluation.context import Evaluation, named
from seehear.evaluation.linear import Kind
from seehear.evaluation.sets import LabelledSet

TOP = 5  # the second rank that is reported, where there are more classes
LOW_SHOT_DRAWS = 5  # so many draws of few examples are averaged


def evaluate_probe(
    context: Evaluation,
    *,
    classifier: Kind | None = None,
    low_shot: Sequence[int] = (),
    baseline: bool = False,
) -> dict[str, Any]:
    """Linear classifiers on both encoders' frozen features.

    Args:
        context: the model and the set.
        classifier: "logistic" or "svm"; by default what the field takes on the set.
        low_shot: also train on so many examples of each class.
        baseline: also classify what needs no learning: see `baselines.py`.
    Returns:
        values: by modality, as `measured` has them; for each number of `low_shot` the mean, least
            and most accuracy of five draws; the same of each baseline by its name.
    """
    classifier = classifier or context.usual.classifier
    if classifier not in STRENGTHS:
        raise SettingsError(
            f"There is no classifier {classifier}. It must be {' or '.join(STRENGTHS)}."
        )
    if low_shot and context.data.multilabel:
        raise SettingsError(
            f"--low-shot does not apply to {context.data.name}, whose items have several classes."
        )
    pooled, there_V = context.pooled
    device = context.model.numerics.device
    measure = partial(probe_all, context.data, kind=classifier, seed=context.seed, device=device)
    measure_few = partial(
        few_shot_all, context.data, kind=classifier, seed=context.seed, low_shot=low_shot
    )
    result: dict[str, Any] = {"values": measure(pooled, there_V)}
    if low_shot:
        result["low_shot"] = measure_few(pooled, there_V)
    if baseline:
        result["baseline"] = measure(*context.baselines)
        if low_shot:
            result["baseline_low_shot"] = measure_few(*context.baselines)
    name = "logistic regression" if classifier == "logistic" else "linear SVM"
    result["protocol"] = (
        f"{name} on standardised features: {context.clips_sentence}; C of "
        f"{list(STRENGTHS[classifier])} chosen on the "
        "official validation part, or on a fifth of the training items; test items that cannot be "
        "read count as "
        f"wrong; {named(context.data.splits)}"
    )
    return result


def probe_all(
    data: LabelledSet,
    pooled: Mapping[str, np.ndarray],
    there_V: np.ndarray,
    kind: Kind,
    seed: int,
    device: str = "cpu",
) -> dict[str, dict[str, Any]]:
    """`measured` for each modality."""
    return {
        m: measured(data, pooled_VD, there_V, kind, seed, device) for m, pooled_VD in pooled.items()
    }


def measured(
    data: LabelledSet,
    pooled_VD: np.ndarray,
    there_V: np.ndarray,
    kind: Kind,
    seed: int,
    device: str = "cpu",
) -> dict[str, Any]:
    """Train and test on each split.

    Returns:
        top1 (accuracy in [0, 1]) with top1_interval (95 %, bootstrap over items), top5 where there
        are more than five classes, and by_split; or map and map_interval where items have several
        classes.
    """
    parts, scores = [], []
    for split in data.splits:
        train, test = split.train[there_V[split.train]], split.test[there_V[split.test]]
        held = split.validation[there_V[split.validation]]
        validation = (pooled_VD[held], data.target_V[held]) if len(held) else None
        found, _ = scores_of_linear(
            pooled_VD[train],
            data.target_V[train],
            pooled_VD[test],
            num_classes=len(data.classes),
            kind=kind,
            validation=validation,
            device=device,
        )
        parts.append(split.test)
        scores.append(worst_for_unread(found, there_V[split.test]))
    return summarised(data, parts, scores, seed)


def worst_for_unread(scores_mC: np.ndarray, there_M: np.ndarray) -> np.ndarray:
    """Scores of all test items, (M, C), from those of the items that could be read; the others
    count as wrong.
    """
    all_MC = np.full((len(there_M), scores_mC.shape[1]), -np.inf)
    all_MC[there_M] = scores_mC
    return all_MC


def summarised(
    data: LabelledSet, parts: Sequence[np.ndarray], scores: Sequence[np.ndarray], seed: int
) -> dict[str, Any]:
    """Scores (m, C) of the test items of each split as the numbers that are reported; see
    `measured`.
    """
    truths = [data.target_V[part] for part in parts]
    if data.multilabel:
        maps = [
            float(np.mean(average_precisions(s, t))) for s, t in zip(scores, truths, strict=True)
        ]
        between = map_interval(scores[0], truths[0], seed=seed) if len(parts) == 1 else None
        return {"map": float(np.mean(maps)), "map_interval": between, "by_split": maps}
    first = [in_top(s, t, 1) for s, t in zip(scores, truths, strict=True)]
    by_split = [float(right.mean()) for right in first]
    result = {
        "top1": float(np.mean(by_split)),
        "top1_interval": interval(list(zip(parts, first, strict=True)), seed=seed),
        "by_split": by_split,
    }
    if len(data.classes) > TOP:
        result["top5"] = float(
            np.mean([in_top(s, t, TOP).mean() for s, t in zip(scores, truths, strict=True)])
        )
    return result


def few_shot_all(
    data: LabelledSet,
    pooled: Mapping[str, np.ndarray],
    there_V: np.ndarray,
    kind: Kind,
    low_shot: Sequence[int],
    seed: int,
) -> dict[str, dict[str, dict[str, float]]]:
    """modality -> number of examples a class -> mean, least and most test accuracy over draws and
    splits.
    """
    found: dict[str, dict[str, dict[str, float]]] = {modality: {} for modality in pooled}
    for count in low_shot:
        values: dict[str, list[float]] = {modality: [] for modality in pooled}
        for i, split in enumerate(data.splits):
            train, test = split.train[there_V[split.train]], split.test[there_V[split.test]]
            for draw in range(LOW_SHOT_DRAWS):
                generator = np.random.default_rng((seed, 0xF0, i, draw))
                few = train[few_of_each(data.target_V[train], count, generator)]
                for modality, pooled_VD in pooled.items():
                    scores, _ = scores_of_linear(
                        pooled_VD[few],
                        data.target_V[few],
                        pooled_VD[test],
                        num_classes=len(data.classes),
                        kind=kind,
                    )
                    right = in_top(scores, data.target_V[test], 1)
                    values[modality].append(float(right.sum() / len(split.test)))
        for modality, some in values.items():
            found[modality][str(count)] = {
                "mean": float(np.mean(some)),
                "least": min(some),
                "most": max(some),
            }
    return found
