"""Is the training healthy, and what should be changed if not? The log and the last round's labels.

The verdict is that of the warnings during training (`log.troubles_of`).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from seehear.machine.reading import read_labels, readable
from seehear.runs.folder import Run
from seehear.runs.log import FEW_RECORDINGS, WAITING_SHARE, alarming_share, latest, troubles_of

BARS = 24  # of the histogram of cluster sizes


def health(run: Run) -> dict[str, Any]:
    """What the page's first view shows.

    Returns:
        verdict: kind ("healthy", "collapsed", "not learning", "recordings", "not generalising",
            "not known", "no round", "not trained"), title, text, advice (sentences).
        rounds: lines of the log. last: the newest of each student and clustering. planned: how
            many rounds were asked for. finished: whether there are clusters of the final encoders.
        sizes: clustering -> how its sizes are spread in the last round. bounds: "collapsed",
            clustering -> the share of a largest cluster, and "waiting".
    """
    rounds = run.read_log()
    planned = run.settings().rounds
    with readable(
        run.path / "log.jsonl", "seehear pretrain ... --resume writes it anew from the rounds."
    ):
        return health_of(run, rounds, planned)


def health_of(run: Run, rounds: list[dict[str, Any]], planned: int) -> dict[str, Any]:
    """`health`, with the lines of the log."""
    last = latest(rounds) if rounds else None
    clusters = last["clusters"] if last else {}
    collapsed = {name: alarming_share(c["num_clusters"]) for name, c in clusters.items()}
    sizes = {name: spread(labels_N, k) for name, (labels_N, k) in last_labels(run, last).items()}
    encoder = run.record.get("encoder")
    return {
        "verdict": untrained(str(encoder)) if encoder else verdict(rounds, planned, sizes),
        "rounds": rounds,
        "last": last,
        "planned": planned,
        "finished": (run.path / "clusters").is_dir(),
        "sizes": sizes,
        "bounds": {"collapsed": collapsed, "waiting": WAITING_SHARE},
    }


def untrained(encoder: str) -> dict[str, Any]:
    """What there is to say of clusters without training."""
    return {
        "kind": "not trained",
        "title": "Clusters of encoders as they are",
        "text": f"The features of {encoder} were clustered, and nothing was trained here. Whether "
        f"the clusters are of use, looking and listening shows.",
        "advice": [],
    }


def verdict(
    rounds: list[dict[str, Any]], planned: int, sizes: dict[str, dict[str, Any]]
) -> dict[str, Any]:
    """The verdict on the last round, and what to change."""
    if not rounds:
        return {
            "kind": "no round",
            "title": "No round is finished yet",
            "text": "There is nothing to judge. Build the report again when the first round is "
            "over.",
            "advice": [],
        }
    last = latest(rounds)
    troubles = troubles_of(last)
    kinds = {kind for kind, _ in troubles}
    advice = [text for _, text in troubles] + remarks(last, sizes)
    at = f"Judged by round {last['round'] + 1} of {planned}."
    kept_out = last["heldout_recordings"] if any(last["heldout_accuracy"].values()) else 0
    if "collapsed" in kinds:
        kind, title = "collapsed", "Collapsed: a few clusters hold most of the videos"
        text = "Labels that are nearly always the same teach nothing."
    elif "not learning" in kinds:
        kind, title = "not learning", "Not learning: the loss stays where guessing would put it"
        text = "An encoder that cannot predict its pseudo-labels has found nothing to go by."
    elif "recordings" in kinds:
        kind, title = "recordings", "Clusters are of recordings, not of events"
        text = (
            "Encoders teach each other which recording a segment is from: head, light, microphone."
        )
    elif "not generalising" in kinds:
        kind, title = (
            "not generalising",
            "By heart: on recordings kept out it is no better than guessing",
        )
        text = "Pseudo-labels that are predicted on known videos alone are learned by heart."
    elif kept_out < FEW_RECORDINGS:
        kind, title = "not known", "It learns, and too few recordings are held out to say more"
        text = (
            f"{kept_out} recording(s) were kept out of training (train.heldout_share), too few to "
            f"tell learning by heart from understanding: {FEW_RECORDINGS} are the least."
        )
    else:
        kind, title = "healthy", "Healthy"
        text = (
            "Clusters of sensible size, and each encoder predicts them better than guessing on "
            "recordings kept out, too."
        )
        advice += by_heart(last)
    return {"kind": kind, "title": title, "text": f"{text} {at}", "advice": advice}


def remarks(last: dict[str, Any], sizes: dict[str, dict[str, Any]]) -> list[str]:
    """What is worth knowing and no failure."""
    found = []
    for name, of in sizes.items():
        if of["empty"]:
            found.append(
                f"{of['empty']} of {of['clusters']} {name} clusters are empty. Fewer clusters "
                f"(--cluster.num_clusters) "
                f"would do."
            )
    if last["unreadable"]:
        reasons = ", ".join(f"{reason}: {count}" for reason, count in last["unreadable"].items())
        found.append(
            f"Some clips could not be read in the last round ({reasons}). Run seehear index again."
        )
    return found


def by_heart(last: dict[str, Any]) -> list[str]:
    """Encoders that are far better on the clips that they train on."""
    found = []
    for student, values in last["heldout_accuracy"].items():
        if values and last["accuracy"][student][-1] > 0.5 > 2 * values[-1]:
            found.append(
                f"The {student} encoder is right on {last['accuracy'][student][-1]:.0%} of the "
                f"clips that it trains on "
                f"and on {values[-1]:.0%} of those kept out: it learns by heart. More videos, or "
                f"fewer epochs a round."
            )
    return found


def last_labels(run: Run, last: dict[str, Any] | None) -> dict[str, tuple[np.ndarray, int]]:
    """Clustering -> labels (N,) and K of the last round in the log, where they can be read."""
    if not last:
        return {}
    path = run.round_path(last["round"]) / "labels.parquet"
    if not path.exists():
        return {}
    sizes = {name: int(of["num_clusters"]) for name, of in last["clusters"].items()}
    labels = read_labels(path, "Move it away to see the rest.", sizes)
    return {name: (labels_N, sizes[name]) for name, labels_N in labels.items()}


def spread(labels_N: np.ndarray, num_clusters: int) -> dict[str, Any]:
    """How sizes are spread: clusters, empty, largest (rows), share (of the largest), median,
    histogram.

    The histogram has up to `BARS` bins of equal width from 0 up: {"edges": [...], "counts": [...]}.
    """
    sizes_K = np.bincount(labels_N[labels_N >= 0], minlength=num_clusters)
    top = int(sizes_K.max())
    width = max(1, -(-(top + 1) // BARS))  # rows, rounded up
    edges = np.arange(0, top + width + 1, width)
    counts, _ = np.histogram(sizes_K, bins=edges)
    return {
        "clusters": num_clusters,
        "empty": int((sizes_K == 0).sum()),
        "largest": top,
        "share": round(top / max(1, int(sizes_K.sum())), 4),
        "median": float(np.median(sizes_K)),
        "histogram": {"edges": edges.tolist(), "counts": counts.tolist()},
    }
