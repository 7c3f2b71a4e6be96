"""Cross-modal deep clustering, whole: cluster what one encoder says, teach the other, repeat.

Alwassel, Mahajan, Korbar, Torresani, Ghanem, Tran: "Self-Supervised Learning by Cross-Modal Audio-Video Clustering",
NeurIPS 2020 (XDC, with SDC, MDC and CDC). A round is

    1. extract   one feature per row with each encoder          features_ND, N rows, D wide
    2. cluster   k-means; a row's cluster is its pseudo-label   labels_N in 0 .. K-1
    3. train     each encoder predicts its teachers' labels     cross-entropy, clips of the rows

and the encoders, which start at random, are carried from round to round. On several ranks each extracts and clusters
its own rows, and takes its part of every training batch; all of them have all labels and the same weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from seehear.clips import Clips
from seehear.config import Settings
from seehear.distributed import rows_of_rank
from seehear.encoders import Pair
from seehear.features import Features, calibrate, extract
from seehear.numerics import Numerics
from seehear.progress import Watch, unwatched
from seehear.spaces import UNLABELLED, Clusters, Space, group
from seehear.trainer import Keep, Learning, learn, never

# variant -> student -> the spaces whose clusters teach it
TEACHERS: dict[str, dict[str, tuple[str, ...]]] = {
    "sdc": {"video": ("video",), "audio": ("audio",)},
    "mdc": {"video": ("video", "audio"), "audio": ("audio", "video")},
    "cdc": {"video": ("joint",), "audio": ("joint",)},
    "xdc": {"video": ("audio",), "audio": ("video",)},
}
# space -> the modalities whose features it joins
MEMBERS = {"video": ("video",), "audio": ("audio",), "joint": ("video", "audio")}
ALL_SPACES = tuple(MEMBERS)


@dataclass(frozen=True)
class Round:
    """One turn of the loop, once it is over."""

    number: int
    clusters: Mapping[str, Clusters]
    learning: Learning
    next_epoch: int


@dataclass(frozen=True)
class Midway:
    """A round whose training has begun: its clusters, and how far `learn` is."""

    number: int
    clusters: Mapping[str, Clusters]
    training: Mapping[str, Any]


def deep_cluster(
    pair: Pair,
    clips: Clips,
    cfg: Settings,
    numerics: Numerics,
    last: Round | None = None,
    watch: Watch = unwatched,
    midway: Midway | None = None,
    keep: Callable[[int, Mapping[str, Clusters]], Keep] = lambda number, clusters: never,
) -> Iterator[Round]:
    """Train `pair` in place, yielding each round when it is over; the caller logs, saves, and stops by `break`.

    Args:
        last: the round to go on after, with `pair` as it was then; None to begin.
        watch: shows how far each stage is.
        midway: the round after `last`, to go on within, with `pair` as it was then.
        keep: given a round's number and clusters, what saves its training between steps.
    """
    teachers = TEACHERS[cfg.variant]
    spaces = [s for s in ALL_SPACES if any(s in taught_by for taught_by in teachers.values())]
    train_rows, heldout_rows = clips.split(cfg.train.heldout_share)
    for number in range(last.number + 1 if last else 0, cfg.rounds):
        clusters = midway.clusters if midway else cluster(pair, clips, cfg, numerics, number, spaces, last, watch)
        if (cfg.train.renew_heads or number == 0) and not midway:
            heads = heads_of(clusters, teachers)
            pair.renew_heads(heads, generator=torch.Generator().manual_seed(derive(cfg.seed, number, 0)))
        labels = {name: c.labels_N for name, c in clusters.items()}
        readable = next(iter(labels.values())) != UNLABELLED
        first_epoch = last.next_epoch if last else 0
        learning = learn(
            pair,
            clips,
            labels,
            cfg.train,
            numerics,
            first_epoch=first_epoch,
            train_rows=train_rows if readable.all() else train_rows[readable[train_rows]],
            heldout_rows=heldout_rows if readable.all() else heldout_rows[readable[heldout_rows]],
            progress=watch(f"round {number + 1}/{cfg.rounds}: training", cfg.train.epochs * len(train_rows)),
            begun=midway.training if midway else None,
            keep=keep(number, clusters),
        )
        midway = None
        last = Round(number, clusters, learning, first_epoch + learning.epochs)
        yield last


def cluster(
    pair: Pair,
    clips: Clips,
    cfg: Settings,
    numerics: Numerics,
    number: int,
    spaces: Sequence[str],
    last: Round | None = None,
    watch: Watch = unwatched,
) -> dict[str, Clusters]:
    """Steps 1 and 2: cluster each of `spaces`, for each number of clusters asked for."""
    if number == 0:
        calibrate(pair, clips, numerics)
    span = rows_of_rank(len(clips))
    mine = np.arange(span.start, span.stop)
    features = extract(pair, clips, numerics, rows=mine, progress=watch(f"round {number + 1}: features", len(mine)))
    return cluster_features(features, len(clips), cfg, numerics.device, number, spaces, last)


def cluster_features(
    features: Features,
    num_rows: int,
    cfg: Settings,
    device: str,
    number: int,
    spaces: Sequence[str],
    last: Round | None = None,
) -> dict[str, Clusters]:
    """Step 2 alone: k-means on the features of the rows that could be read; `features` are those of this rank."""
    parts = {space: tuple(features.of[m] for m in MEMBERS[space]) for space in spaces}
    found: dict[str, Clusters] = {}
    for space in spaces:
        fitted = Space.fit(parts[space], cfg.cluster.features)
        prepared_ND = fitted(parts[space])
        for k in cfg.cluster.num_clusters:
            name = space if len(cfg.cluster.num_clusters) == 1 else f"{space}_{k}"
            before = last.clusters.get(name) if last else None
            seed = derive(cfg.seed, number, 1 + len(found))
            found[name] = group(prepared_ND, fitted, features.rows, num_rows, k, cfg.cluster, seed, device, before)
    return found


def heads_of(clusters: Mapping[str, Clusters], teachers: Mapping[str, tuple[str, ...]]) -> dict[str, dict[str, int]]:
    """student -> clustering -> K: one head for each clustering of each teaching space."""
    return {
        student: {
            name: len(c.clustering.centroids)
            for space in spaces
            for name, c in clusters.items()
            if name.split("_")[0] == space
        }
        for student, spaces in teachers.items()
    }


def derive(*numbers: int) -> int:
    """A seed that is a function of some integers."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])
