"""What does a run leave? Features of all rows, clusters of all spaces, and the encoders."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from seehear.config import Settings
from seehear.data.clips import Clips
from seehear.machine import distributed, outputs
from seehear.machine.console import Console
from seehear.machine.files import whole_folder
from seehear.method.features import Features, write_features
from seehear.method.method import final_clusters, outdated
from seehear.method.state import State
from seehear.models.files import save_encoders
from seehear.models.matching import fit_matching
from seehear.runs.checkpoint import write_clusters
from seehear.runs.folder import Run

MATCHING_ROWS = 2**20
"""Rows from which it is learnt how sights and sounds match, and which memory holds for that."""

Piece = tuple[np.ndarray, Mapping[str, torch.Tensor]]


def finish(
    run: Run,
    cfg: Settings,
    state: State,
    clips: Clips,
    console: Console,
    origin: Mapping[str, Any],
    features: Features | None = None,
) -> None:
    """Write features of every row, the clusters of every space, and encoders with their origin."""
    rows = len(distributed.rows_of_rank(len(clips)))
    count = console.watch("features" if features is None else "clusters", rows, unit="clips")
    features, final = final_clusters(state, clips, cfg, count, features)
    pieces = distributed.gathered_rows(features.rows, features.of)
    if distributed.rank() > 0:
        for _ in pieces:
            pass
        return
    sample: list[Features] = []
    with whole_folder(run.path / "features", replaces=outputs.RUN_FEATURES) as folder:
        write_features(folder, sampled(pieces, len(clips), sample), len(clips))
        np.save(folder / "recording.npy", clips.index.recording.astype(np.int32))
    with whole_folder(run.path / "clusters", replaces=outputs.CLUSTERS) as folder:
        write_clusters(folder, {name: c.state_dict() for name, c in final.items()})
    info = {key: run.record[key] for key in ("seehear", "commit", "index")} | dict(origin)
    matching = None
    if len(state.pair.modalities) > 1:
        taught = state.last or final  # where nothing was, sights and sounds meet in their clusters
        how = (cfg.cluster, clips.index.recording, outdated(state, cfg))
        with distributed.without_ranks():
            matching = fit_matching(state.pair, joined(sample), taught, *how)
    save_encoders(run.path / "encoders", state.pair, cfg, info, matching)


def sampled(pieces: Iterable[Piece], num_rows: int, sample: list[Features]) -> Iterator[Piece]:
    """The same pieces; on the way `sample` gets all rows, or `MATCHING_ROWS` evenly spread ones."""
    step = -(-num_rows // MATCHING_ROWS)
    for rows, parts in pieces:
        kept_n = rows % step == 0
        at = torch.from_numpy(kept_n)
        sample.append(Features(rows[kept_n], {m: part[at] for m, part in parts.items()}))
        yield rows, parts


def joined(pieces: Sequence[Features]) -> Features:
    """One after the other."""
    rows = np.concatenate([piece.rows for piece in pieces])
    return Features(rows, {m: torch.cat([p.of[m] for p in pieces]) for m in pieces[0].of})
