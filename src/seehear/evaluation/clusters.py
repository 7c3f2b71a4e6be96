"""Do the clusters that nobody named agree with human classes, and with each other?

For a run on the index that it was trained on: its final clusters. For any other model or set:
k-means on its features, so that features of other origin can be compared. Measures are
scikit-learn's where it has them; labels are (N,) int32, -1 for rows that could not be read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch

from seehear.config import Settings, override
from seehear.errors import RunError, SettingsError
from seehear.evaluation.context import Evaluation
from seehear.evaluation.sets import LabelledSet
from seehear.machine.reading import (
    anew,
    open_features,
    open_recordings,
    read_labels,
    readable,
    rows_of,
)
from seehear.method.clusters import MEMBERS, Space, cluster_features, space_of
from seehear.method.features import read_features
from seehear.runs.folder import Run

SHOWN_CLUSTERS = 10  # the purest ones are described
LEAST_SIZE = 5  # of a cluster that is described: purity of fewer rows means little
CENTRAL_SEGMENTS = 5
# scikit-learn's default, which most papers take
NMI_NORMALISATION = "arithmetic mean of the two entropies"


@dataclass(frozen=True)
class Grouping:
    """One clustering of the rows of a set."""

    labels_N: np.ndarray  # (N,) int32, -1 where a row could not be read
    # (N,) float32, of each row's prepared features to its centroid; NaN where there is none
    distance_N: np.ndarray
    num_clusters: int  # K


def evaluate_clusters(
    context: Evaluation, *, num_clusters: int | str | None = None
) -> dict[str, Any]:
    """Compare clusters with classes, and the clusters of the spaces with each other.

    Args:
        context: the model and the set.
        num_clusters: "run" for the run's own K, and its own clusters where the set is what it was
            trained on; "classes" for as many as there are classes, as most papers have it; or K. By
            default "run", and "classes" for a model without a run. All but "run" makes a new
            clustering.
    Returns:
        values: space -> what `agreement` gives, num_clusters, sizes, and the purest clusters;
        between: NMI of each pair of spaces, of as many clusters each; num_clusters_is and
        nmi_normalisation: what two results must agree in.
    """
    data = context.data
    if data.multilabel:
        what = "Clusters are compared with one class an item"
        raise SettingsError(f"{what}; items of {data.name} may have several.")
    class_N = data.class_N()
    if len(np.unique(class_N[class_N >= 0])) < 2:
        what = f"The rows of {data.name} have fewer than two classes"
        raise SettingsError(f"{what}: clusters cannot agree with them.")
    wanted = num_clusters or ("classes" if context.model.run is None else "run")
    groupings, how = groupings_of(context, wanted)
    values = {
        name: {
            **agreement(g.labels_N, class_N),
            "num_clusters": g.num_clusters,
            "sizes": sizes(g.labels_N[class_N >= 0], g.num_clusters),
            "purest": purest(g, data, class_N),
        }
        for name, g in groupings.items()
    }
    between = {
        f"{one} and {other}": mutual(groupings[one].labels_N, groupings[other].labels_N)
        for one, other in combinations(groupings, 2)
        if groupings[one].num_clusters == groupings[other].num_clusters
    }
    known = {"run": "the run's", "classes": "the number of classes"}
    return {
        "values": values,
        "between": between,
        "n": int((class_N >= 0).sum()),
        "num_clusters_is": known.get(str(wanted), "as asked for"),
        "nmi_normalisation": NMI_NORMALISATION,
        "protocol": (
            f"{how}; measures over the rows that have a class, of all parts of the set; NMI is "
            f"normalised by the {NMI_NORMALISATION}; {CENTRAL_SEGMENTS} segments nearest to each "
            "centroid"
        ),
    }


def groupings_of(context: Evaluation, wanted: int | str) -> tuple[dict[str, Grouping], str]:
    """The clusterings to measure, and their origin; `wanted` is "run", "classes" or K."""
    if wanted == "run":
        if context.model.run is None:
            what = "--num-clusters is run, and this model has no run"
            raise SettingsError(f"{what}. Give classes, or a number.")
        opened = Run.open(context.model.run)
        if opened.field("index", "digest") == context.data.index.digest:
            own = final_groupings(context.model.run)
            ks = ", ".join(sorted({str(g.num_clusters) for g in own.values()}))
            return own, f"the run's final clusters, K = {ks}, of the index that it was trained on"
        counts = [int(k) for k in opened.settings().cluster.num_clusters]
    else:
        counts = [len(context.data.classes) if wanted == "classes" else whole_number(wanted)]
    rows = len(context.features.rows)
    if not all(2 <= k <= rows for k in counts):
        what = f"--num-clusters is {counts[0]}"
        raise SettingsError(f"{what}. It must be from 2 to the number of rows, {rows}.")
    centre = centre_of(context.model.run)
    changes = {"cluster.num_clusters": counts, "cluster.centre": centre, "seed": context.seed}
    cfg = override(Settings(), changes)
    index, there = context.data.index, context.features.of.keys()
    spaces = [space for space, members in MEMBERS.items() if there >= set(members)]
    device = context.model.numerics.device
    found = cluster_features(context.features, index.recording, cfg, device, 0, spaces)
    rows_n, of = context.features.rows, context.features.of
    recording_n = index.recording[rows_n]
    groupings = {
        name: grouping(
            c.labels_N, rows_n, prepared(name, c.space, of, recording_n), c.clustering.centroids
        )
        for name, c in found.items()
    }
    how = "centred"
    if any(any(c.space.centrings) for c in found.values()):
        how = f"centred by recording (cluster.centre {centre}, as the run)"
    how = f"k-means with K = {', '.join(map(str, counts))} on features, {how} and of unit length"
    return groupings, f"{how}: {context.clips_sentence}"


def centre_of(run: Path | None) -> str:
    """What features of new rows are compared with: what those of the run were, or all rows."""
    return "all" if run is None else Run.open(run).settings().cluster.centre


def whole_number(wanted: int | str) -> int:
    """K as a number; SettingsError for what is none."""
    try:
        return int(wanted)
    except ValueError:
        what = f"--num-clusters is {wanted}"
        raise SettingsError(f"{what}. It must be classes, run, or a whole number.") from None


def final_groupings(run: Path) -> dict[str, Grouping]:
    """The final clusterings of a run, with the distances of its rows to their centroids."""
    from safetensors.torch import load_file

    path = run / "clusters" / "centroids.safetensors"
    with readable(path, anew(run)):
        tensors = load_file(path)
        keys = [key for key in tensors if key.endswith(".centroids")]
        sizes = {key.partition(".")[0]: len(tensors[key]) for key in keys}
    labels = final_labels(run, sizes)
    open_features(run, len(next(iter(labels.values()))))
    recording_N = open_recordings(run, len(next(iter(labels.values()))))
    features, found = read_features(run / "features"), {}
    with readable(path, f"It, or what is in features/, is damaged. {anew(run)}"):
        for name, labels_N in labels.items():
            prefix = f"{name}.space."
            state = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
            space, rows_n = Space.from_state_dict(state), features.rows
            prepared_nD = prepared(name, space, features.of, recording_N[rows_n])
            centroids_KD = tensors[f"{name}.centroids"]
            found[name] = grouping(labels_N, rows_n, prepared_nD, centroids_KD)
    return found


def final_labels(run: Path, sizes: Mapping[str, int] | None = None) -> dict[str, np.ndarray]:
    """Each clustering of a finished run: name -> labels (N,) int32, -1 where unreadable."""
    path = run / "clusters" / "labels.parquet"
    if not path.exists():
        raise RunError(f"{run} has no final clusters: it has not finished. Go on with --resume.")
    return dict(read_labels(path, anew(run), sizes, rows_of(run)))


def prepared(
    name: str, space: Space, features: Mapping[str, torch.Tensor], recording_n: np.ndarray
) -> torch.Tensor:
    """The features (n, D) that a clustering's space joins, as they are clustered."""
    members = MEMBERS[space_of(name)]
    return space(tuple(features[modality] for modality in members), recording_n)


def grouping(
    labels_N: np.ndarray, rows_n: np.ndarray, prepared_nD: torch.Tensor, centroids_KD: torch.Tensor
) -> Grouping:
    """The labels of all rows, and the distance of those that could be read to their centroids."""
    label_n = torch.from_numpy(labels_N[rows_n].astype(np.int64)).clamp(min=0)
    distance_N = np.full(len(labels_N), np.nan, dtype=np.float32)
    away_nD = prepared_nD - centroids_KD[label_n]
    distance_N[rows_n] = torch.linalg.vector_norm(away_nD, dim=1).numpy()
    return Grouping(labels_N, distance_N, len(centroids_KD))


def agreement(labels_N: np.ndarray, class_N: np.ndarray) -> dict[str, float]:
    """How well labels and classes agree, over the rows that have both.

    Returns:
        nmi: normalised mutual information (arithmetic mean), 0 for independent labellings, 1 for
            equal ones.
        ami: the same, adjusted for chance; ari: adjusted Rand index, 0 expected by chance; both at
            most 1.
        purity: in (0, 1], the share of rows that their cluster's majority names.
        hungarian: accuracy in [0, 1] of the best one-to-one assignment of clusters to classes.
        entropy: in nats, mean over rows of the entropy of the classes in their cluster; 0 to ln C.
        largest_share: mean over non-empty clusters of the share of their most frequent class.
    """
    from scipy.optimize import linear_sum_assignment
    from sklearn.metrics import adjusted_mutual_info_score, adjusted_rand_score
    from sklearn.metrics.cluster import contingency_matrix

    both_N = (labels_N >= 0) & (class_N >= 0)
    labels_n, class_n = labels_N[both_N], class_N[both_N]
    table_CK = contingency_matrix(class_n, labels_n).astype(np.float64)
    share_CK = table_CK / table_CK.sum(axis=0)
    entropy_K = -(share_CK * np.log(np.where(share_CK > 0, share_CK, 1))).sum(axis=0)
    return {
        "nmi": mutual(labels_N, class_N),
        "ami": float(adjusted_mutual_info_score(class_n, labels_n)),
        "ari": float(adjusted_rand_score(class_n, labels_n)),
        "purity": float(table_CK.max(axis=0).sum() / table_CK.sum()),
        "hungarian": float(table_CK[linear_sum_assignment(-table_CK)].sum() / table_CK.sum()),
        "entropy": float(np.average(entropy_K, weights=table_CK.sum(axis=0))),
        "largest_share": float(share_CK.max(axis=0).mean()),
    }


def mutual(one_N: np.ndarray, other_N: np.ndarray) -> float:
    """Normalised mutual information of two labellings over the rows that both have labelled."""
    from sklearn.metrics import normalized_mutual_info_score

    both_N = (one_N >= 0) & (other_N >= 0)
    return float(normalized_mutual_info_score(one_N[both_N], other_N[both_N]))


def sizes(labels_n: np.ndarray, num_clusters: int) -> dict[str, float]:
    """Rows in the smallest, the median and the largest cluster, and how many clusters are empty."""
    counts = np.bincount(labels_n[labels_n >= 0], minlength=num_clusters)
    return {
        "smallest": int(counts.min()),
        "median": float(np.median(counts)),
        "largest": int(counts.max()),
        "empty": int((counts == 0).sum()),
    }


def purest(g: Grouping, data: LabelledSet, class_N: np.ndarray) -> list[dict[str, Any]]:
    """The purest clusters: size, share of one class, classes, and their most central segments."""
    described: list[dict[str, Any]] = []
    for cluster in range(g.num_clusters):
        rows = np.flatnonzero((g.labels_N == cluster) & (class_N >= 0))
        if len(rows) < LEAST_SIZE:
            continue
        counts = np.bincount(class_N[rows], minlength=len(data.classes))
        top = np.argsort(-counts, kind="stable")[:3]
        central = rows[np.argsort(g.distance_N[rows], kind="stable")[:CENTRAL_SEGMENTS]]
        described.append(
            {
                "cluster": cluster,
                "size": len(rows),
                "share": float(counts[top[0]] / len(rows)),
                "classes": {data.classes[c]: int(counts[c]) for c in top if counts[c]},
                "central": [
                    {
                        "item": data.items[data.item_N[row]],
                        "start_s": float(data.index.original_start_s[row]),
                    }
                    for row in central
                ],
            }
        )
    described.sort(key=lambda entry: (-entry["share"], -entry["size"]))
    return described[:SHOWN_CLUSTERS]
