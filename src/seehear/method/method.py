"""Cross-modal deep clustering, whole: cluster what one encoder says, teach the other, repeat.

Alwassel, Mahajan, Korbar, Torresani, Ghanem, Tran: "Self-Supervised Learning by Cross-Modal Audio-Video Clustering",
NeurIPS 2020 (XDC, with SDC, MDC and CDC). A round is

    1. extract   one feature per row with each encoder          features_ND, N rows, D wide
    2. cluster   k-means; a row's cluster is its pseudo-label   labels_N in 0 .. K-1
    3. train     each encoder predicts its teachers' labels     cross-entropy, clips of the rows

and the encoders, which start at random, are carried from round to round. The labels of a round are fixed before anyone
learns them, so students do not touch each other within a round: each learns by itself, from batches of its own. On
several ranks each extracts and clusters its own rows, and takes its part of every training batch; all of them have all
labels and the same weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from seehear.config import Settings
from seehear.data.clips import Clips
from seehear.machine.console import Watch, unwatched
from seehear.machine.devices import Numerics
from seehear.machine.distributed import rank, rows_of_rank
from seehear.method.agreement import nmi
from seehear.method.clusters import UNLABELLED, Clusters, Space, group
from seehear.method.encoders import Pair
from seehear.method.features import Features, calibrate, extract
from seehear.method.train import Keep, Learning, learn, never

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
STABLE_ROUNDS = 2  # so many in a row above `stop_nmi` end a run


@dataclass(frozen=True)
class Round:
    """One turn of the loop, once it is over.

    learned: what happened to each student. stable: rounds in a row, this one the last, whose clusters agreed with those
    of the round before by more than `stop_nmi`.
    """

    number: int
    clusters: Mapping[str, Clusters]
    learned: Mapping[str, Learning]
    stable: int = 0

    @property
    def learning(self) -> Learning:
        """What happened to all students."""
        return Learning.of_all(self.learned.values())

    @property
    def is_last(self) -> bool:
        """Whether the clusters have stopped changing, so that more rounds would learn the same labels."""
        return self.stable >= STABLE_ROUNDS


@dataclass(frozen=True)
class Begun:
    """A round whose training has begun: its clusters, the students that are done, how far `learn` is with the next."""

    number: int
    clusters: Mapping[str, Clusters]
    stable: int = 0
    learned: Mapping[str, Learning] = field(default_factory=dict)
    training: Mapping[str, Any] | None = None

    @property
    def steps(self) -> int:
        """How many steps of the round are done, of all students."""
        steps = sum(learning.steps for learning in self.learned.values())
        return steps + (int(self.training["learning"]["steps"]) if self.training else 0)


def deep_cluster(
    pair: Pair,
    clips: Clips,
    cfg: Settings,
    numerics: Numerics,
    last: Round | None = None,
    watch: Watch = unwatched,
    begun: Begun | None = None,
    keep: Callable[[Begun], Keep] = lambda begun: never,
) -> Iterator[Round]:
    """Train `pair` in place, yielding each round when it is over; the caller logs, saves, and stops by `break`.

    Args:
        last: the round to go on after, with `pair` as it was then; None to begin.
        watch: shows how far each stage is.
        begun: the round after `last`, to go on within, with `pair` as it was then.
        keep: given the round that has begun, what saves the training of its next student between steps.
    """
    teachers = TEACHERS[cfg.variant]
    spaces = [s for s in ALL_SPACES if any(s in taught_by for taught_by in teachers.values())]
    train_rows, heldout_rows = clips.split(cfg.train.heldout_share)
    if cfg.train.patience and not len(heldout_rows) and rank() == 0:
        clips.say(
            f"warning: train.patience is {cfg.train.patience} and does nothing: train.heldout_share "
            f"({cfg.train.heldout_share:g}) of these videos is none: each round takes train.epochs, {cfg.train.epochs}."
        )
    while (number := last.number + 1 if last else 0) < cfg.rounds and not (last and cfg.stop_nmi and last.is_last):
        if begun is None:
            clusters = cluster(pair, clips, cfg, numerics, number, spaces, last, watch)
            begun = Begun(number, clusters, stable_rounds(clusters, last, cfg.stop_nmi))
            if cfg.train.renew_heads or number == 0:  # numbers of clusters mean nothing across rounds
                heads = heads_of(clusters, teachers)
                pair.renew_heads(heads, generator=torch.Generator().manual_seed(derive(cfg.seed, number, 0)))
        labels = {name: c.labels_N for name, c in begun.clusters.items()}
        is_labelled_N = next(iter(labels.values())) != UNLABELLED  # the same rows in all
        for student in [name for name in teachers if name not in begun.learned]:
            learning = learn(
                pair,
                clips,
                labels,
                cfg.train,
                numerics,
                students=(student,),
                first_epoch=number * cfg.train.epochs,  # whatever the other student did: no draw comes twice
                train_rows=train_rows[is_labelled_N[train_rows]],
                heldout_rows=heldout_rows[is_labelled_N[heldout_rows]],
                progress=watch(f"round {number + 1}/{cfg.rounds}: {student}", cfg.train.epochs * len(train_rows)),
                begun=begun.training,
                keep=keep(begun),
            )
            begun = replace(begun, learned={**begun.learned, student: learning}, training=None)
        last, begun = Round(number, begun.clusters, begun.learned, begun.stable), None
        yield last


def stable_rounds(clusters: Mapping[str, Clusters], last: Round | None, stop_nmi: float) -> int:
    """How many rounds in a row, these clusters the last, agree with those before by more than `stop_nmi`; 0: none."""
    if last is None or not stop_nmi:
        return 0
    moved = [nmi(c.labels_N, last.clusters[name].labels_N) for name, c in clusters.items()]
    return last.stable + 1 if min(moved) > stop_nmi else 0


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
    found: dict[str, Clusters] = {}
    for space in spaces:
        parts = [features.of[modality] for modality in MEMBERS[space]]
        fitted = Space.fit(parts, cfg.cluster.features)
        prepared_ND = fitted(parts)
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
