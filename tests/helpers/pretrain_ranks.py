"""What each rank does in test_ranks.py; run under torchrun with a folder, then the numbers of
ranks, falling.
"""

from __future__ import annotations

import copy
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from driven import learn, rounds_of_pair
from fewer_ranks import fewer_and_fewer
from planted import AS_DEBUG, planted_clips, tiny_settings
from seehear.data.clips import Clips
from seehear.errors import MediaError, SettingsError, TrainingError
from seehear.machine import distributed
from seehear.method.encoders.building import build_pair
from seehear.method.learning import GO_ON, SAVE
from seehear.method.state import State

WAYS = {
    "each rank": {"train.batch_parts": 4},
    "in turns": {"train.batch_parts": 4, "train.order": "alternating"},
}
UNREADABLE = (3, 10, 11, 30)
ROWS = 32
SAVED_STEP = 6  # of 8: in the second epoch


def method(way: str) -> dict[str, Any]:
    """Two rounds on planted clips, a few of which cannot be read."""
    cfg = tiny_settings(
        {
            "rounds": 2,
            "train.batch_size": 16,
            "train.optimizer": "sgd",
            "train.lr": 0.02,
            **WAYS[way],
            **AS_DEBUG,
        }
    )
    clips, _ = planted_clips(cfg, ROWS)
    clips.index.recording = np.arange(ROWS, dtype=np.int32) // 3  # some lie on two ranks
    for row in UNREADABLE:
        clips._cached[row] = MediaError("bad.mp4", "unreadable")  # type: ignore[index]
    clips.data = tiny_settings({"data.max_failed_share": 0.5}).data
    pair = build_pair(cfg)
    rounds = rounds_of_pair(pair, clips, cfg)
    return {
        "labels": [
            {name: torch.from_numpy(c.labels_N) for name, c in r.clusters.items()} for r in rounds
        ],
        "learning": [asdict(r.learning) for r in rounds],
        "pair": pair.state_dict(),
        "failures": distributed.sum_counters(clips.failures),
    }


def lesson(begun: dict[str, Any] | None) -> dict[str, Any]:
    """Two epochs on known labels, or the rest of them; which rows this rank read, and the state
    after a step.
    """
    cfg = tiny_settings(
        {"train.epochs": 2, "train.batch_parts": 4, "train.uniform_clusters": False, **AS_DEBUG}
    )
    clips, classes_N = planted_clips(cfg, ROWS)
    pair, read, kept = build_pair(cfg), [], []
    pair.renew_heads(
        {"video": {"class": 4}, "audio": {"class": 4}}, torch.Generator().manual_seed(0)
    )

    class Recording(Clips):
        def pieces(self, chunks: list[np.ndarray], **which: Any) -> Any:
            for rows, batch in zip(chunks, super().pieces(chunks, **which), strict=True):
                read.append((which["epoch"], rows.tolist())) if isinstance(
                    which["epoch"], int
                ) else None
                yield batch

    clips.__class__ = Recording

    def save(state: State, request: int) -> None:
        kept.append(copy.deepcopy(state.state_dict()))
        read.append(("saved", []))

    def ask(step: int) -> int:
        return SAVE if step == SAVED_STEP and not begun else GO_ON

    rows, labels = np.arange(len(clips)), {"class": classes_N.astype(np.int32)}
    which = {"train_rows": rows, "heldout_rows": rows[:5]}
    learning = learn(pair, clips, labels, cfg.train, begun=begun, ask=ask, save=save, **which)
    state = kept[0] if kept else None
    return {"read": read, "state": state, "learning": asdict(learning), "pair": pair.state_dict()}


def stumbling(bad_rows: range) -> dict[str, Any]:
    """Two epochs in which the sound of some rows is no number: what was said on the way, and what
    came of it.
    """
    cfg = tiny_settings(
        {"train.epochs": 2, "train.batch_size": 8, "train.batch_parts": 4, **AS_DEBUG}
    )
    clips, classes_N = planted_clips(cfg, ROWS)
    for row in bad_rows:
        clips._cached[row].waveform_L[:] = np.nan  # type: ignore[index, union-attr]
    pair, rows, said = build_pair(cfg), np.arange(len(clips)), []
    pair.renew_heads(
        {"video": {"class": 4}, "audio": {"class": 4}}, torch.Generator().manual_seed(0)
    )
    which = {"train_rows": rows, "heldout_rows": rows[:0]}
    try:
        learning = learn(
            pair, clips, {"class": classes_N.astype(np.int32)}, cfg.train, say=said.append, **which
        )
    except TrainingError as error:
        return {"said": said, "error": str(error)}
    return {"said": said, "error": None, "skipped": learning.skipped, "pair": pair.state_dict()}


def helpers() -> None:
    """What ranks tell each other."""
    me, ranks = distributed.rank(), distributed.world_size()
    assert distributed.broadcast_bytes(bytes([me, 7])) == bytes([0, 7])
    assert distributed.broadcast_bytes(b"") == b""
    assert distributed.on_rank_zero(lambda: {"rank": me}) == {"rank": 0}
    assert distributed.sum_counters({"x": 1, f"y{me}": 2}) == {"x": ranks} | {
        f"y{i}": 2 for i in range(ranks)
    }
    rows = np.arange(me, 2 * me + 1)
    numbers, parts = distributed.gather_rows(rows, {"video": torch.full((len(rows), 3), float(me))})
    assert len(numbers) == len(parts["video"]) == (ranks * (ranks + 1) // 2 if me == 0 else me + 1)
    pieces = list(
        distributed.gathered_rows(rows, {"video": torch.full((len(rows), 3), float(me))}, 2)
    )
    assert max(len(piece) for piece, _ in pieces) <= 2
    assert np.concatenate([piece for piece, _ in pieces]).tolist() == [
        row for other in range(ranks) for row in range(other, 2 * other + 1)
    ]
    assert all(
        bool((part["video"] == float(r)).all())
        for part, r in zip(
            [p for _, p in pieces],
            [r for r in range(ranks) for _ in range(r // 2 + 1)],
            strict=True,
        )
    )
    several = [torch.ones(2, 3).t(), torch.full((2,), float(me))]
    distributed.all_reduce_at_once(several)
    assert several[0].tolist() == [[ranks] * 2] * 3
    assert several[1].tolist() == [ranks * (ranks - 1) / 2] * 2
    try:
        distributed.on_rank_zero(refuse)
    except SettingsError as error:
        assert str(error) == "no"  # noqa: PT017 - on every rank
    else:
        raise AssertionError("nothing was raised")
    with distributed.without_ranks():
        assert (distributed.rank(), distributed.world_size()) == (0, 1)


def refuse() -> None:
    """An error of ours."""
    raise SettingsError("no")


def everything(begun: dict[str, Any] | None) -> dict[str, Any]:
    """All that a rank reports; `begun` is the state that more ranks have left."""
    found: dict[str, Any] = {way: method(way) for way in WAYS}
    found["lesson"] = lesson(None)
    found["one bad"], found["many bad"] = stumbling(range(7, 8)), stumbling(range(8))
    if begun:
        found["resumed"] = lesson(begun)
    return found


def main() -> None:
    folder, *counts = sys.argv[1:]
    distributed.start("cpu", timeout_s=120)
    started_as = distributed.rank()
    saved = Path(folder, "begun.pt")
    for ranks in fewer_and_fewer(folder, map(int, counts)):
        # before rank 0, which meets the others next, can write it
        begun = torch.load(saved) if saved.exists() else None
        helpers()
        found = everything(begun)
        torch.save(found, Path(folder, f"{ranks}-{started_as}.pt"))
        if started_as == 0 and begun is None:
            torch.save(found["lesson"]["state"], saved)
        distributed.barrier()


if __name__ == "__main__":
    main()
