"""What becomes of each case? Index, clips, and the reader itself must answer: pictures and sound,
or a reason.

`try_cases` raises AssertionError for an answer that is neither: an exception of another kind, a
file that no table names, a case over the time limit.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from seehear.config import Clip, Data
from seehear.data.clips import CENTRED, Clips
from seehear.data.decoding.pool import run
from seehear.data.index import Index, index
from seehear.data.index.examination import Rejection
from seehear.data.media import REASONS, Reader
from seehear.errors import MediaError

CLIP = Clip(frames=4, frame_rate_hz=8.0, short_side_pixels=36, crop_pixels=32, sound_seconds=0.5)
LOT = 500
"""So many cases are made and tried at a time; a case's number within its lot draws where `Reader`
reads it."""

USED = "used"
EPOCHS = (CENTRED, 0, 1)


@dataclass
class Outcomes:
    """Case by case, what each of three ways of reading said: `USED` or a reason."""

    indexed: dict[str, str] = field(default_factory=dict)  # by `index`
    # by clips of what was indexed, the worst of some epochs
    clips: dict[str, str] = field(default_factory=dict)
    read: dict[str, str] = field(default_factory=dict)  # by `Reader`, whatever the index said
    details: dict[str, str] = field(default_factory=dict)
    # of each way, and of each case by `Reader`
    seconds: dict[str, float] = field(default_factory=dict)

    def ways(self) -> dict[str, dict[str, str]]:
        """What each way of reading said of each case."""
        return {"index": self.indexed, "clips": self.clips, "reader": self.read}

    def counts(self) -> dict[str, Counter[str]]:
        """How often each outcome came, by the way of reading."""
        return {way: Counter(outcomes.values()) for way, outcomes in self.ways().items()}


def try_cases(
    paths: Sequence[Path], folder: Path, *, workers: int = 2, timeout_s: float = 30.0
) -> Outcomes:
    """Run all cases, which lie in one folder, through index, clips and reader; `folder` is for the
    index.
    """
    outcomes = Outcomes()
    begin = time.monotonic()
    index(
        paths[0].parent,
        folder,
        min_seconds=0.4,
        workers=workers,
        timeout_s=timeout_s,
        progress=False,
    )
    outcomes.seconds["index"] = time.monotonic() - begin
    opened = Index.open(folder)
    by_index(paths, opened, outcomes)
    begin = time.monotonic()
    by_clips(opened, outcomes, workers)
    outcomes.seconds["clips"] = time.monotonic() - begin
    begin = time.monotonic()
    by_reader(paths, outcomes, workers, timeout_s)
    outcomes.seconds["reader"] = time.monotonic() - begin
    for way, said in outcomes.ways().items():
        wrong = {
            name: reason
            for name, reason in said.items()
            if reason != USED and reason not in REASONS
        }
        assert not wrong, f"{way} gave no reason of the list: {wrong}"
        unforeseen = {
            name: outcomes.details[name]
            for name in said
            if "Error: " in outcomes.details.get(name, "")
        }
        assert not unforeseen, f"{way} stumbled: {unforeseen}"
    return outcomes


def by_index(paths: Sequence[Path], opened: Index, outcomes: Outcomes) -> None:
    """Every case is in one of the two tables."""
    outcomes.indexed |= {Path(opened.path(row)).name: USED for row in range(len(opened))}
    for entry in opened.rejected_files():
        outcomes.indexed[Path(entry.path).name] = entry.reason
        outcomes.details[Path(entry.path).name] = entry.detail
    assert sorted(outcomes.indexed) == sorted(path.name for path in paths)


def by_clips(opened: Index, outcomes: Outcomes, workers: int) -> None:
    """Clips of all rows in some epochs, as training draws them, from decoding processes."""
    clips = Clips(opened, CLIP, Data(workers=workers, max_failed_share=1.0), seed=0)
    for epoch in EPOCHS:
        for batch in clips.batches(np.arange(len(opened)), epoch=epoch, batch_size=16):
            assert batch.frames_BTHWC is not None
            assert batch.waveform_BL is not None
            assert batch.frames_BTHWC.shape[1:] == (4, 36, 36, 3)
            assert bool((batch.waveform_BL.abs() <= 1).all())
            for row in batch.rows_B:
                outcomes.clips.setdefault(Path(opened.path(int(row))).name, USED)
        outcomes.clips |= {
            Path(opened.path(row)).name: reason for row, reason in clips.reasons.items()
        }


def by_reader(paths: Sequence[Path], outcomes: Outcomes, workers: int, timeout_s: float) -> None:
    """`Reader` on every file, in processes that may die."""
    jobs = [(str(path), int(path.name[:6]) % LOT) for path in paths]
    answers = run("fuzz.trial:read_anyhow", jobs, workers, timeout_s)
    for path, answer in zip(paths, answers, strict=True):
        name = path.name
        if isinstance(answer, Rejection):
            outcomes.read[name], outcomes.details[name] = answer.reason, answer.detail
        else:
            outcomes.read[name], outcomes.seconds[name] = answer


def read_anyhow(path: str, seed: int) -> tuple[str, float] | Rejection:
    """Pictures and sound at places drawn anywhere, and what the file says of itself; runs in a
    worker.

    Returns:
        `USED` or the last reason, and how long it took, in seconds; a Rejection for what is no
        reason.
    """
    begin = time.monotonic()
    rng = np.random.default_rng(seed)
    said = USED
    for what in ("info", "frames", "sound", "frames", "sound"):
        try:
            with Reader(path) as reader:
                if what == "info":
                    reader.info()
                elif what == "frames":
                    frames_THWC = reader.frames(
                        rng.uniform(0, 2.5, 3).tolist(), short_side_pixels=24
                    )
                    assert frames_THWC.shape[0] == 3
                    assert min(frames_THWC.shape[1:3]) == 24
                else:
                    sound_S = reader.sound(float(rng.uniform(0, 2)), 0.3, sample_rate_hz=8000)
                    assert sound_S.shape == (2400,)
                    assert np.abs(sound_S).max() <= 1
        except MediaError as error:
            if error.reason not in REASONS:
                return Rejection(error.reason, "Error: an unknown reason")
            said = error.reason
    return said, time.monotonic() - begin
