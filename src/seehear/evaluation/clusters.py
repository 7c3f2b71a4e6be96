"""Do the clusters that nobody named agree with human classes? NMI and purity of a run's final pseudo-labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from seehear.errors import RunError, SettingsError
from seehear.evaluation.classes import Classes
from seehear.indexing import Index
from seehear.runs import Run, now, versions


def evaluate_clusters(run: Path, data: Path, classes: Classes, *, seed: int, device: str) -> dict[str, Any]:
    """Compare the final clusters of a run with classes; write and return `results/clusters.json`."""
    opened, index = Run.open(run), Index.open(data)
    if opened.record["index"]["digest"] != index.digest:
        raise SettingsError(f"{index.folder} is not the index that {run} was trained on; give that one with --data.")
    labels = final_labels(run)
    class_N = classes.of_rows(index)
    result = {
        "task": "clusters",
        "values": {name: agreement(labels_N, class_N) for name, labels_N in labels.items()},
        "n": int((class_N >= 0).sum()),
        "num_classes": len(classes.names),
        "protocol": "k-means on the features of the finished encoders, the middle clip of each row; NMI (arithmetic) "
        "and purity over the rows that have a class",
        "created": now(),
        **versions(),
    }
    opened.write_result("clusters", result)
    return result


def final_labels(run: Path) -> dict[str, np.ndarray]:
    """Each clustering of a finished run: name -> labels (N,) int32, -1 where a row could not be read."""
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(run / "clusters" / "labels.parquet")
    except FileNotFoundError:
        raise RunError(f"{run} has no final clusters: it has not finished. Go on with --resume.") from None
    return {name: table[name].to_numpy() for name in table.column_names if name != "row"}


def agreement(labels_N: np.ndarray, class_N: np.ndarray) -> dict[str, float]:
    """NMI in [0, 1], 0 for independent labellings; purity in (0, 1], the share that their cluster's majority names."""
    from sklearn.metrics import normalized_mutual_info_score
    from sklearn.metrics.cluster import contingency_matrix

    both_N = (labels_N >= 0) & (class_N >= 0)
    table = contingency_matrix(class_N[both_N], labels_N[both_N])
    return {
        "nmi": float(normalized_mutual_info_score(class_N[both_N], labels_N[both_N])),
        "purity": float(table.max(axis=0).sum() / table.sum()),
    }
