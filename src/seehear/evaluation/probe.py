"""What do frozen features know? A linear classifier, trained on some items and tested on others.

An item's feature is the mean over its clips and segments. Several official splits are each trained
and tested, and averaged. The regularisation is chosen within the training items alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
        what = f"There is no classifier {classifier}"
        raise SettingsError(f"{what}. It must be {' or '.join(STRENGTHS)}.")
    data, seed = context.data, context.seed
    if low_shot and data.multilabel:
        what = f"--low-shot does not apply to {data.name}"
        raise SettingsError(f"{what}, whose items have several classes.")
    result: dict[str, Any] = {}
    for name in ("", "baseline") if baseline else ("",):
        pooled, there_V = context.baselines if name else context.pooled
        device = context.model.numerics.device
        result[name or "values"] = probe_all(data, pooled, there_V, classifier, seed, device)
        if low_shot:
            few = few_shot_all(data, pooled, there_V, classifier, low_shot, seed)
            result[f"{name}_low_shot".lstrip("_")] = few
    model = "logistic regression" if classifier == "logistic" else "linear SVM"
    result["protocol"] = (
        f"{model} on standardised features: {context.clips_sentence}; C of "
        f"{list(STRENGTHS[classifier])} chosen on the official validation part, or on a fifth of "
        f"the training items; test items that cannot be read count as wrong; {named(data.splits)}"
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
        are more than five classes, and by_split; or map and map_interval for several classes.
    """
    scores = []
    for split in data.splits:
        train, test, held = (
            part[there_V[part]] for part in (split.train, split.test, split.validation)
        )
        found, _ = scores_of_linear(
            pooled_VD[train],
            data.target_V[train],
            pooled_VD[test],
            num_classes=len(data.classes),
            kind=kind,
            validation=(pooled_VD[held], data.target_V[held]) if len(held) else None,
            device=device,
        )
        all_MC = np.full((len(split.test), found.shape[1]), -np.inf)  # what is unread is wrong
        all_MC[there_V[split.test]] = found
        scores.append(all_MC)
    return summarised(data, scores, seed)


def summarised(data: LabelledSet, scores: Sequence[np.ndarray], seed: int) -> dict[str, Any]:
    """Scores (m, C) of each split's test items as the numbers that are reported."""
    parts = [split.test for split in data.splits]
    tested = [(s, data.target_V[part]) for s, part in zip(scores, parts, strict=True)]
    if data.multilabel:
        maps = [float(np.mean(average_precisions(s, t))) for s, t in tested]
        between = map_interval(*tested[0], seed=seed) if len(parts) == 1 else None
        return {"map": float(np.mean(maps)), "map_interval": between, "by_split": maps}
    first = [in_top(s, t, 1) for s, t in tested]
    by_split = [float(right.mean()) for right in first]
    result = {
        "top1": float(np.mean(by_split)),
        "top1_interval": interval(list(zip(parts, first, strict=True)), seed=seed),
        "by_split": by_split,
    }
    if len(data.classes) > TOP:
        result["top5"] = float(np.mean([in_top(s, t, TOP).mean() for s, t in tested]))
    return result


def few_shot_all(
    data: LabelledSet,
    pooled: Mapping[str, np.ndarray],
    there_V: np.ndarray,
    kind: Kind,
    low_shot: Sequence[int],
    seed: int,
) -> dict[str, dict[str, dict[str, float]]]:
    """modality -> examples a class -> mean, least and most accuracy over draws and splits."""
    found: dict[str, dict[str, dict[str, float]]] = {modality: {} for modality in pooled}
    for modality, pooled_VD in pooled.items():
        for count in low_shot:
            values = []
            for i, split in enumerate(data.splits):
                train, test = (part[there_V[part]] for part in (split.train, split.test))
                for draw in range(LOW_SHOT_DRAWS):  # the same for all modalities
                    generator = np.random.default_rng((seed, 0xF0, i, draw))
                    few = train[few_of_each(data.target_V[train], count, generator)]
                    learned = pooled_VD[few], data.target_V[few], pooled_VD[test]
                    scores, _ = scores_of_linear(*learned, num_classes=len(data.classes), kind=kind)
                    right = in_top(scores, data.target_V[test], 1)
                    values.append(float(right.sum() / len(split.test)))
            some = {"mean": float(np.mean(values)), "least": min(values), "most": max(values)}
            found[modality][str(count)] = some
    return found
