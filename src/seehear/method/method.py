"""Cross-modal deep clustering, whole: cluster what one encoder says, teach the other, repeat.

Alwassel, Mahajan, Korbar, Torresani, Ghanem, Tran: "Self-Supervised Learning by Cross-Modal
Audio-Video Clustering", NeurIPS 2020 (XDC, with SDC, MDC and CDC). A round is

    1. extract   one feature per row with each encoder          features_ND, N rows, D wide
    2. cluster   k-means; a row's cluster is its pseudo-label   labels_N in 0 .. K-1
    3. train     each encoder predicts its teachers' labels     cross-entropy, clips of the rows

and the encoders, which start at random or as `settings.start` says, are carried from round to
round. Several ranks share rows and every training batch; all have all labels and the same weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

from seehear.config import Settings
from seehear.data.clips import Clips
from seehear.method.clusters import (
    MEMBERS,
    UNLABELLED,
    Clusters,
    cluster_features,
    heads_of,
    members_of,
    space_of,
)
from seehear.method.features import Features, calibrate, extract, extracting, rows_of_this_rank
from seehear.method.heldout import warn_where_none_are_kept_out
from seehear.method.learning import Step
from seehear.method.state import Round, State
from seehear.method.train import Course, train

# variant -> student -> the spaces whose clusters teach it
TEACHERS: dict[str, dict[str, tuple[str, ...]]] = {
    "sdc": {"video": ("video",), "audio": ("audio",)},
    "mdc": {"video": ("video", "audio"), "audio": ("audio", "video")},
    "cdc": {"video": ("joint",), "audio": ("joint",)},
    "xdc": {"video": ("audio",), "audio": ("video",)},
    # The paper's control: two encoders of each sense, with weights of their own, swap clusters.
    "same-modality": {
        "video": ("video2",),
        "audio": ("audio2",),
        "video2": ("video",),
        "audio2": ("audio",),
    },
}


def deep_cluster(state: State, clips: Clips, cfg: Settings) -> Iterator[Step | Round]:
    """Train `state.pair` in place. Yields after every step (of extracting features, too) and round.

    The caller logs, saves, and stops by `break`.
    """
    train_rows, heldout_rows = clips.split(cfg.train.heldout_share)  # by video, drawn from the seed
    warn_where_none_are_kept_out(clips, heldout_rows, cfg.train)
    while not state.is_over(cfg.rounds, cfg.stop_nmi):
        teachers = teachers_in(cfg, state.round)
        before = state.older if two_chains(cfg) else state.last
        if not state.clusters:  # else a checkpoint from within this round has them
            if state.round == 0:  # not in the paper: batch norms begin with the data's
                calibrate(state.pair, clips, state.numerics)
            found = {n: c for n, c in state.last.items() if space_of(n) == cfg.start.frozen}
            spaces, read = clustered_in(cfg, state.round)
            if spaces:
                of = (state.pair, clips, state.numerics, rows_of_this_rank(clips))
                features = yield from extracting(*of, encoders=read)
                which = (cfg, state.numerics.device, state.round, spaces, before)
                found |= cluster_features(features, clips.index.recording, *which)
            state.begin_round(found, heads_of(found, teachers), cfg, before)  # new heads

        # The labels are fixed before anyone learns them, so students do not touch each other.
        labels = {name: c.labels_N for name, c in state.clusters.items()}
        is_labelled_N = next(iter(labels.values())) != UNLABELLED  # the same rows in each
        for student in [name for name in teachers if name not in state.learned]:
            course = Course(
                (student,),
                labels,
                train_rows=train_rows[is_labelled_N[train_rows]],
                heldout_rows=heldout_rows[is_labelled_N[heldout_rows]],
                first_epoch=state.round * cfg.train.epochs,  # whatever the other did: no draw twice
            )
            yield from train(state, clips, course, cfg.train)
            state.end_student()

        yield state.end_round(before)  # its clusters are `state.last` from here on


def teachers_in(cfg: Settings, number: int) -> Mapping[str, tuple[str, ...]]:
    """Who learns in a round, and from which spaces: all, or half, whose clusters teach next.

    A frozen encoder never learns; a trained one waits for a new one that teaches it to learn first.
    """
    given, teachers = cfg.start.given, TEACHERS[cfg.variant]
    students = [student for student in teachers if student != cfg.start.frozen]
    if cfg.train.order == "alternating" and len(students) > 1:
        students.sort(key=given.__contains__)
        half = len(students) // 2
        students = students[number % 2 * half :][:half]
    if given and number == 0:  # what a new one says of the rows would undo what is known
        new = {space for space, members in MEMBERS.items() if not {*members} <= given.keys()}
        students = [s for s in students if s not in given or new.isdisjoint(teachers[s])]
    return {student: teachers[student] for student in students}


def clustered_in(cfg: Settings, number: int) -> tuple[list[str], set[str]]:
    """The spaces that a round clusters, and their encoders: a frozen one's only in the first."""
    return members_of(teachers_in(cfg, number), cfg.start.frozen if number else "none")


def two_chains(cfg: Settings) -> bool:
    """Whether what one encoder knew comes back by the other alone, two rounds later."""
    own = any(s in spaces or "joint" in spaces for s, spaces in TEACHERS[cfg.variant].items())
    return cfg.train.order == "together" and not own and cfg.start.frozen == "none"


def outdated(state: State, cfg: Settings) -> dict[str, dict[str, Clusters]]:
    """Student -> the clusters that its heads name, where these were made anew after it learned: of
    MDC and CDC, where students take turns.
    """
    latest = teachers_in(cfg, state.round - 1)
    anew = members_of(latest)[0]
    return {
        student: {
            name: state.older[name]
            for name in state.pair.heads_for(student)
            if space_of(name) in anew and name in state.older
        }
        for student in state.pair.students
        if student not in latest
    }


def final_clusters(
    state: State,
    clips: Clips,
    cfg: Settings,
    progress: Callable[[int], None] = lambda done: None,
    features: Features | None = None,  # where they are known
) -> tuple[Features, dict[str, Clusters]]:
    """What finished encoders say of this rank's rows, and the clusters of all spaces and rows.

    These are never of whitened features: that spreads what encoders know when they begin, and
    drowns what they know when they have learned (docs/method.md).
    """
    if features is None:
        of = (state.pair, clips, state.numerics)
        features = extract(*of, rows=rows_of_this_rank(clips), progress=progress)
    spaces = [space for space, members in MEMBERS.items() if {*members} <= {*features.of}]
    if cfg.cluster.features == "whiten":
        cfg = replace(cfg, cluster=replace(cfg.cluster, features="l2"))
    which = (cfg, state.numerics.device, state.round, spaces)
    return features, cluster_features(features, clips.index.recording, *which)
