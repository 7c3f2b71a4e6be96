"""How does a round become data for a checkpoint, and a round again?

Nothing random has state, so none is saved: every draw is a function of (seed, round, epoch, row), and these are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch

from seehear.config import Settings
from seehear.errors import CheckpointError
from seehear.machine import distributed
from seehear.method.clusters import Clusters, Space
from seehear.method.encoders import Pair
from seehear.method.kmeans import Clustering
from seehear.method.method import TEACHERS, Begun, Round, derive, heads_of
from seehear.method.train import Learning
from seehear.runs.checkpoint import newest, parse
from seehear.runs.folder import Run

NUMBERS = ("inertia", "reseeded", "iterations")  # of a clustering, beside its tensors


@dataclass(frozen=True)
class Restored:
    """Where a run goes on: after `last`, within `begun` if that is given; and the failures counted in it so far."""

    last: Round | None = None
    begun: Begun | None = None
    failures: Mapping[str, int] | None = None


def state_of_clusters(clusters: Mapping[str, Clusters]) -> dict[str, Any]:
    """Clusterings as tensors and plain data."""
    return {
        "clusters": {name: tensors_of(c) for name, c in clusters.items()},
        "numbers": {name: {key: getattr(c.clustering, key) for key in NUMBERS} for name, c in clusters.items()},
    }


def state_of_round(now: Round) -> dict[str, Any]:
    """A round that is over, but for the weights."""
    return about_round(now) | state_of_clusters(now.clusters)


def about_round(now: Round | Begun) -> dict[str, Any]:
    """What is known of a round beside its clusters."""
    learned = {student: asdict(learning) for student, learning in now.learned.items()}
    return {"number": now.number, "stable": now.stable, "learned": learned}


def state_of(now: Round, pair: Pair) -> dict[str, Any]:
    """A round that is over, for its checkpoint."""
    return state_of_round(now) | {"pair": pair.state_dict()}


def state_within(begun: Begun, last: Round | None, pair: Pair, run: Run, failures: Mapping[str, int]) -> dict[str, Any]:
    """A round that has begun, for a checkpoint that needs no other file."""
    return {
        "settings": run.record["settings"],
        "index": run.record["index"]["digest"],
        "last": state_of_round(last) if last else None,
        **about_round(begun),
        **state_of_clusters(begun.clusters),
        "training": begun.training,
        "failures": dict(failures),
        "pair": pair.state_dict(),
    }


def tensors_of(c: Clusters) -> dict[str, torch.Tensor]:
    """One clustering as tensors."""
    return {
        "labels": torch.from_numpy(c.labels_N),
        "centroids": c.clustering.centroids,
        "sizes": c.clustering.sizes,
        **{f"space.{key}": value for key, value in c.space.state_dict().items()},
    }


def clusters_from(state: Mapping[str, Any]) -> dict[str, Clusters]:
    """The inverse of `state_of_clusters`, as far as going on needs it."""
    found = {}
    for name, tensors in state["clusters"].items():
        numbers: dict[str, Any] = {"inertia": float("nan"), "reseeded": 0, "iterations": 0}
        numbers |= state.get("numbers", {}).get(name, {})
        parts = {k.removeprefix("space."): v for k, v in tensors.items() if k.startswith("space.")}
        labels = tensors["labels"]
        clustering = Clustering(labels, tensors["centroids"], tensors["sizes"], **numbers)
        found[name] = Clusters(labels.numpy(), clustering, Space.from_state_dict(parts))
    return found


def round_from(state: Mapping[str, Any]) -> Round:
    """The inverse of `state_of_round`."""
    return Round(state["number"], clusters_from(state), learned_from(state), state["stable"])


def learned_from(state: Mapping[str, Any]) -> dict[str, Learning]:
    """What happened to each student of a round."""
    return {student: Learning(**learning) for student, learning in state["learned"].items()}


def restore(run: Run, pair: Pair, cfg: Settings) -> Restored:
    """Where a run was at its last good checkpoint, with `pair` set to its weights; what came after it is removed.

    Rank 0 reads the file, and all ranks get its content. A run without a checkpoint begins again, in the same folder.

    Raises:
        CheckpointError: there are checkpoints, and none can be used.
    """
    data, over = b"", False
    if distributed.rank() == 0 and (found := newest(run)) is not None:
        number, over, data = found
        run.forget_after(number if over else number - 1)
    elif distributed.rank() == 0:
        run.forget_after(-1)
    data = distributed.share(data)
    if not data:
        return Restored()
    state = parse(data)
    over = "training" not in state
    clusters = clusters_from(state)
    pair.renew_heads(heads_of(clusters, TEACHERS[cfg.variant]), torch.Generator().manual_seed(derive(cfg.seed)))
    pair.load_state_dict(state["pair"], strict=True)
    if over:
        return Restored(round_from(state))
    if state["index"] != run.record["index"]["digest"]:
        raise CheckpointError(
            f"A checkpoint in {run.path}/midway belongs to the index {state['index'][:12]}..., and the run to "
            f"{run.record['index']['digest'][:12]}... Remove the folder midway to go on from the last whole round."
        )
    last = round_from(state["last"]) if state["last"] else None
    begun = Begun(state["number"], clusters, state["stable"], learned_from(state), state["training"])
    return Restored(last, begun, state["failures"])
