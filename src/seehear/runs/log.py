"""What is worth knowing of a round, and when should a person worry? One flat record a round, as
`log.jsonl` holds it.

NMI is normalised mutual information (arithmetic mean): 0 for independent clusterings, 1 for equal;
AMI is NMI beyond what chance gives.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from seehear.data.advice import advice
from seehear.errors import SettingsError
from seehear.method.agreement import ami, nmi
from seehear.method.clusters import MEMBERS, Clusters, heads_of, space_of
from seehear.method.recordings import LEAST_ROWS
from seehear.method.state import Round

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

EFFECTIVE_SHARE = 0.25  # labels worth fewer even clusters than this share of K are a collapse
FEW_RECORDINGS = 10  # fewer kept out of training cannot tell what an encoder does with new ones
LEARNED_NATS = 0.02  # a loss that ends less than this below ln K has learned nothing
# features that vary by recording more than half-way from what chance gives to 1 tell them apart
RECORDINGS_SHARE = 0.5
BY_NAME = ("loss", "accuracy", "heldout_loss", "heldout_accuracy", "guessing", "clusters")
WAITING_SHARE = 0.1  # training that waits for data longer than this is bound by decoding


def summary(
    now: Round,
    failures: dict[str, int],
    teachers: Mapping[str, tuple[str, ...]],
    heldout_recordings: int,
) -> dict[str, Any]:
    """A round as plain data.

    Args:
        teachers: student -> the spaces that teach it.
        heldout_recordings: kept out of training, all rows of each.

    Keys: round, steps, skipped (steps beside these, from which nothing was learned), clips; per
    student epochs, loss, accuracy, heldout_loss, heldout_accuracy, seen (the share of the training
    rows that were drawn; one number an epoch; losses in nats, accuracies in [0, 1]) and guessing
    (the accuracy of naming the largest cluster each time); heldout_recordings; per clustering
    num_clusters, sizes (largest, smallest), centred (by recording), effective (so many even
    clusters hold the same entropy), reseeded, inertia, nmi_last (with the last labels of the same
    space and chain, null for the first); stable (rounds in a row whose clusters agreed with the
    last ones' by more than stop_nmi); ami_video_audio (of the newest clusters, a mean over several
    numbers of clusters; null where either is not clustered); between_recordings (per modality the
    share of the variance of its features that lies between recordings, and "chance"); rankme (per
    modality in how many directions features vary); unreadable (reason -> times in this round);
    timing (clips_per_second, waiting_share, seconds).
    """
    learning = now.learning
    newest = video_first({**now.last, **now.clusters})
    teachers = {s: spaces for s, spaces in teachers.items() if s in now.learned}
    both = [
        ami(newest[name].labels_N, newest[other].labels_N)
        for name in newest
        if name.startswith("video") and (other := name.replace("video", "audio")) in newest
    ]
    return {
        "round": now.number,
        "epochs": {student: part.epochs for student, part in now.learned.items()},
        "steps": learning.steps,
        "skipped": learning.skipped,
        "clips": learning.clips,
        "loss": learning.loss,
        "accuracy": learning.accuracy,
        "heldout_loss": learning.heldout_loss,
        "heldout_accuracy": learning.heldout_accuracy,
        "heldout_recordings": heldout_recordings,
        "guessing": guessing(now, teachers),
        "seen": learning.seen,
        "clusters": {name: clustering(name, c, now) for name, c in now.clusters.items()},
        "stable": now.stable,
        "ami_video_audio": float(np.mean(both)) if both else None,
        "between_recordings": between_recordings(newest),
        "rankme": {m: round(r, 2) for c in newest.values() for m, r in c.rankme.items()},
        "unreadable": failures,
        "rows": len(next(iter(now.clusters.values())).labels_N),
        "timing": {
            "clips_per_second": round(learning.clips_per_second, 1),
            "waiting_share": round(learning.waiting_share, 4),
            "seconds": round(learning.seconds, 2),
        },
    }


def latest(rounds: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The last line, with what only the one before has: in alternating order they take turns."""
    before, last = rounds[-2:][0], rounds[-1]
    merged = {key: {**before.get(key, {}), **last[key]} for key in BY_NAME if key in last}
    return {**last, **{key: video_first(of) for key, of in merged.items()}}


def video_first(of: Mapping[str, Any]) -> dict[str, Any]:
    """By modality, whichever a round had first; spaces of one in their order."""
    return dict(sorted(of.items(), key=lambda item: space_of(item[0]), reverse=True))


def clustering(name: str, c: Clusters, now: Round) -> dict[str, Any]:
    """One clustering of a round as plain data."""
    sizes = c.clustering.sizes
    return {
        "num_clusters": len(sizes),
        "largest": int(sizes.max()),
        "smallest": int(sizes.min()),
        "effective": round(effective_number(np.asarray(sizes)), 2),
        "reseeded": c.clustering.reseeded,
        "inertia": c.clustering.inertia,
        "nmi_last": nmi(c.labels_N, now.last[name].labels_N) if name in now.last else None,
        "centred": any(c.space.centrings),
    }


def between_recordings(newest: Mapping[str, Clusters]) -> dict[str, float]:
    """The share of the variance between recordings by modality, and "chance"."""
    shares: dict[str, float] = {}
    for c in newest.values():
        shares |= {modality: round(share, 4) for modality, share in c.shares.items()}
        shares["chance"] = round(c.chance, 4)
    return shares


def effective_number(sizes_K: np.ndarray) -> float:
    """exp of the entropy of cluster sizes: K if even, 1 if one holds all; 0 without rows."""
    share_K = sizes_K[sizes_K > 0] / max(1, sizes_K.sum())
    return math.exp(-float((share_K * np.log(share_K)).sum())) if len(share_K) else 0.0


def guessing(now: Round, teachers: Mapping[str, tuple[str, ...]]) -> dict[str, float]:
    """Student -> the accuracy of always naming the largest cluster, a mean over its heads."""
    found = {}
    for student, heads in heads_of(now.clusters, teachers).items():
        sizes = [now.clusters[name].clustering.sizes for name in heads]
        found[student] = round(
            float(np.mean([int(s.max()) / max(1, int(s.sum())) for s in sizes])), 4
        )
    return found


def warnings_of(entry: dict[str, Any], before: Mapping[str, Any] | None = None) -> list[str]:
    """What is wrong with a round, and what to change; one sentence or two each.

    before: another round's entry; what differs from its warnings in numbers alone is left out.
    """
    known = {re.sub(r"\d", "", text) for _, text in troubles_of(before)} if before else set()
    texts = [text for _, text in troubles_of(entry)]
    return [text for text in texts if re.sub(r"\d", "", text) not in known]


def troubles_of(entry: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What is wrong with a round: (kind, what it is and what to change).

    Kinds: "collapsed", "recordings" (told apart), "not learning", "not generalising", "not finite",
    "waiting" (for data).
    """
    found = []
    for name, c in entry["clusters"].items():
        if reason := collapse(c, entry["rows"]):
            text = (
                f"The {name} clusters collapse: {reason}. Try other numbers of clusters "
                f"(--cluster.num_clusters), --cluster.features whiten, or more varied videos."
            )
            found.append(("collapsed", text))
    found += [("recordings", text) for text in recordings_told_apart(entry)]
    # every space has the same numbers of clusters, and a student's loss is the mean over its heads
    chance = float(np.mean([math.log(c["num_clusters"]) for c in entry["clusters"].values()]))
    for student, losses in entry["loss"].items():
        if losses[-1] > chance - LEARNED_NATS:
            text = (
                f"The {student} encoder learns nothing: its loss ends at {losses[-1]:.2f}, and "
                f"guessing gives {chance:.2f} (ln K). Try another --train.lr, more "
                f"--train.epochs, or more videos."
            )
            found.append(("not learning", text))
    for student, values in entry["heldout_accuracy"].items():
        if (
            values
            and entry["heldout_recordings"] >= FEW_RECORDINGS
            and values[-1] <= chance_bound(entry, student)
        ):
            text = (
                f"The {student} encoder names the clusters of {entry['heldout_recordings']} "
                f"recordings kept out no better than guessing: {values[-1]:.1%}, and always naming "
                f"the largest gets {entry['guessing'][student]:.1%}. More videos, "
                f"or fewer epochs a round (--train.epochs)."
            )
            found.append(("not generalising", text))
    if skipped := entry.get("skipped", 0):
        text = (
            f"{skipped} of {skipped + entry['steps']} steps were skipped: the loss was not finite. "
            "Should it go on, lower --train.lr, or take --compute.precision fp32."
        )
        found.append(("not finite", text))
    if entry["timing"]["waiting_share"] > WAITING_SHARE:
        known = entry.get("data")
        text = f"Training waits for data {entry['timing']['waiting_share']:.0%} of the time. " + (
            advice(known)
            if known
            else "Raise --data.workers, or --data.cache_gigabytes if the segments fit in memory."
        )
        found.append(("waiting", text))
    return found


def recordings_told_apart(entry: Mapping[str, Any]) -> list[str]:
    """A sentence for each clustering that is of recordings more than of what is in them."""
    chance, found = entry["between_recordings"]["chance"], []
    advice = "Set --cluster.centre auto, unless each recording shows one event alone."
    if chance * LEAST_ROWS > 1:  # 1 over the rows of a recording
        advice = "So few rows of a recording have no mean of their own: cut it into more segments."
    for name, c in entry["clusters"].items():
        share = min(entry["between_recordings"][m] for m in MEMBERS[space_of(name)])
        if not c["centred"] and share - chance > RECORDINGS_SHARE * (1 - chance):
            found.append(
                f"The {name} clusters tell recordings apart, not events: {share:.0%} of the "
                f"variance of their features lies between recordings, {chance:.0%} by chance. "
                + advice
            )
    return found


def alarming_share(num_clusters: int) -> float:
    """The share of rows from which a largest cluster is a collapse: half-way in logs, 1/K to 1.

    Half of the rows for 4 clusters, a quarter for 16, a sixteenth for 256.
    """
    return float(num_clusters**-0.5)


def collapse(sizes: Mapping[str, Any], rows: int) -> str | None:
    """How cluster sizes are a collapse, or None; a few large clusters need no largest one.

    Sizes of healthy k-means spread by a factor of e^0.5 to e^1 or so (deviation s of their
    logarithm), which is worth K e^(-s^2 / 2) even clusters: 0.88 K to 0.61 K. A quarter of K means
    s = 1.7.

    Args:
        sizes: "num_clusters", "largest" (rows) and "effective".
    """
    k, share = sizes["num_clusters"], sizes["largest"] / max(1, rows)
    if share >= alarming_share(k):
        return f"one of {k} holds {share:.0%} of all rows, and {alarming_share(k):.0%} is alarming"
    if sizes["effective"] < EFFECTIVE_SHARE * k:
        return f"the {k} are so uneven that they are worth {sizes['effective']:.0f} even ones"
    return None


def chance_bound(entry: Mapping[str, Any], student: str) -> float:
    """Accuracy that guessing exceeds in one of 20 cases on held-out recordings, not clips."""
    from scipy.stats import binom

    recordings = entry["heldout_recordings"]
    return float(binom.ppf(0.95, recordings, entry["guessing"][student]) / recordings)


def line(entry: dict[str, Any], rounds: int) -> str:
    """A round in one line, for a person: the last epoch's losses and accuracies."""

    def ends(key: str, form: str) -> str:
        return "/".join(format(values[-1], form) for values in entry[key].values())

    clusters, shares = entry["clusters"].values(), dict(entry["between_recordings"])
    chance = shares.pop("chance")
    agreed = entry["ami_video_audio"]
    moved = "/".join(f"{c['nmi_last']:.2f}" for c in clusters if c["nmi_last"] is not None)
    alone = f" {next(iter(entry['loss']))}" if len(entry["loss"]) == 1 else ""
    parts = [
        f"round {entry['round'] + 1}/{rounds}{alone}",
        f"loss {ends('loss', '.2f')}",
        f"accuracy {ends('accuracy', '.0%')}"
        + (f" (held out {ends('heldout_accuracy', '.0%')})" if entry["heldout_accuracy"] else ""),
        f"NMI with last {moved or '-'}",
        *([] if agreed is None else [f"AMI video-audio {agreed:.2f}"]),
        "sizes " + ", ".join(f"{c['smallest']}-{c['largest']}" for c in clusters),
        f"{entry['timing']['clips_per_second']:.0f} clips/s",
    ]
    if ranks := entry.get("rankme"):
        parts.append(f"RankMe {'/'.join(f'{rank:.0f}' for rank in ranks.values())}")
    if chance < 1:  # else each row is a recording of its own
        named = "/".join(f"{share:.0%}" for share in shares.values())
        parts.append(f"variance between recordings {named} (chance {chance:.0%})")
    if reseeded := sum(c["reseeded"] for c in clusters):
        parts.append(f"{reseeded} empty clusters re-seeded")
    if entry.get("stable"):
        parts.append(f"clusters stable for {entry['stable']} round{'s' * (entry['stable'] > 1)}")
    if entry.get("skipped"):
        parts.append(f"{entry['skipped']} steps skipped")
    if entry["unreadable"]:
        parts.append(f"{sum(entry['unreadable'].values())} unreadable")
    return "  ".join(parts)


def check_tensorboard() -> None:
    """Raise SettingsError when TensorBoard is not installed."""
    if find_spec("tensorboard") is None:
        raise SettingsError(
            "TensorBoard is not installed. `pip install 'seehear[tensorboard]'`, or leave it out."
        )


def summary_writer(folder: Path) -> SummaryWriter:
    """A TensorBoard writer."""
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder))


def write_scalars(writer: SummaryWriter, entry: dict[str, Any], prefix: str = "") -> None:
    """Every number of a round as a scalar named by its path; of lists the last epoch's."""
    for key, value in entry.items():
        if isinstance(value, dict):
            write_scalars(writer, {"round": entry["round"], **value}, f"{prefix}{key}/")
        elif key != "round":
            value = value[-1] if isinstance(value, list) and value else value
            if isinstance(value, int | float):
                writer.add_scalar(prefix + key, value, entry["round"])
    if not prefix:
        writer.flush()
