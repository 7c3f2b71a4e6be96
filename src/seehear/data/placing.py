"""Where in its segment, and where in the picture, does a clip lie? By a draw, or by a position.

A draw belongs to (seed, epoch, row); a position stands for an epoch where nothing is drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from seehear.config import Clip
from seehear.data.augment import CENTRE, LEFT, START, TOP, WINDOW, draw
from seehear.data.decoding.request import Request, square

if TYPE_CHECKING:
    from seehear.data.index import Index

MODALITIES = ("video", "audio")
SHORTEST_S = 1e-3  # of a segment: where a file of one frame does not say how long that is seen
ROUNDING_S = 1e-6
BELOW_ONE = 1 - 2.0**-24  # the largest float32


@dataclass(frozen=True)
class Position:
    """In place of an epoch: the unaugmented clip at a share in [0, 1) of the way."""

    share: float  # where in the segment
    # where the crops are along the frames' longer side, shares in [0, 1): each is a clip of the
    # batch
    across: tuple[float, ...] = (0.5,)


CENTRED = Position(0.5)  # the middle of each segment


@lru_cache(maxsize=2**14)  # each is asked for when its clip is requested, and again when that comes
def draws_of(seed: int, epoch: int | Position, row: int) -> np.ndarray:
    """The draw of a row in an epoch; at a position the centre, at its moment. Read-only."""
    if isinstance(epoch, Position):
        draws = CENTRE.copy()
        draws[START] = epoch.share
    else:
        draws = draw(seed, epoch, row)
    draws.flags.writeable = False
    return draws


def evenly(num_clips: int, num_crops: int = 1) -> list[Position]:
    """Positions spread evenly: 1 is the middle; crops from end to end: 1 is the centre."""
    across = (
        (0.5,)
        if num_crops == 1
        else tuple(min(i / (num_crops - 1), BELOW_ONE) for i in range(num_crops))
    )
    return [Position((i + 0.5) / num_clips, across) for i in range(num_clips)]


def num_crops(epoch: int | Position) -> int:
    """How many crops of a clip's frames are wanted: 1 in training."""
    return len(epoch.across) if isinstance(epoch, Position) else 1


def crops_of(
    frames_THWC: np.ndarray | None, draws: np.ndarray, epoch: int | Position, clip: Clip
) -> list[tuple[np.ndarray | None, np.ndarray]]:
    """Square frames with their draws: one, or one for each crop that a position asks for."""
    if frames_THWC is None:
        return [(None, draws)]
    if not isinstance(epoch, Position) or num_crops(epoch) == 1:
        return [(window(frames_THWC, draws, clip), draws)]
    along = LEFT if frames_THWC.shape[2] >= frames_THWC.shape[1] else TOP
    crops: list[tuple[np.ndarray | None, np.ndarray]] = []
    for place in epoch.across:
        placed = draws.copy()
        placed[WINDOW] = placed[along] = place
        crops.append((window(frames_THWC, placed, clip), placed))
    return crops


def start_of(
    draws: np.ndarray, segment_seconds: float, clip: Clip, modalities: Sequence[str] = MODALITIES
) -> int:
    """At which grid moment a clip starts, 0 up to what the segment is longer than a clip."""
    return int(float(draws[START]) * int(num_starts(segment_seconds, clip, modalities)))


def window(frames_THWC: np.ndarray, draws: np.ndarray, clip: Clip) -> np.ndarray:
    """A square of `short_side_pixels` out of frames longer on one side, placed by the draw."""
    return square(frames_THWC, place_of(draws), clip.short_side_pixels)


def place_of(draws: np.ndarray) -> float:
    """Where on the longer side the square is, a share in [0, 1) of the way."""
    return float(draws[WINDOW])


def num_starts(segment_seconds: Any, clip: Clip, modalities: Sequence[str]) -> Any:
    """How many grid moments a clip may start at: one if the segment is shorter than a clip."""
    slack_s = np.maximum(
        0.0, np.asarray(segment_seconds, dtype=np.float64) - clip.span_seconds(modalities)
    )
    return np.floor(slack_s * clip.frame_rate_hz + 1e-6).astype(np.int64) + 1


def looped(moments_s: np.ndarray, segment_seconds: float) -> np.ndarray:
    """Seconds since a segment's start, of moments beyond its end too: it plays in a loop."""
    phases_s: np.ndarray = np.mod(moments_s, segment_seconds)
    at_end = segment_seconds - phases_s < ROUNDING_S
    phases_s[at_end] = 0.0  # the end of a turn is the start of the next
    return phases_s


def request_of(
    index: Index,
    row: int,
    draws: np.ndarray,
    clip: Clip,
    modalities: Sequence[str],
    *,
    whole: bool = False,
) -> Request:
    """What is to be decoded of a row: a clip, or all moments at which a clip of it may start."""
    seconds = max(float(index.seconds[row]), SHORTEST_S)
    count = int(num_starts(seconds, clip, modalities)) if whole else 1
    first = 0 if whole else start_of(draws, seconds, clip, modalities)
    begin_s = float(index.start_s[row]) + first / clip.frame_rate_hz
    # frames and sound lie in the middle of a clip; what repeats begins with the segment
    room_s = min(clip.span_seconds(modalities), seconds)
    offset_s = {m: max(0.0, (room_s - clip.seconds_of(m)) / 2) for m in modalities}
    times_s = sound_s = None
    if "video" in modalities:
        grid_s = np.arange(count + clip.frames - 1) / clip.frame_rate_hz
        times_s = begin_s + looped(offset_s["video"] + grid_s, seconds)
    if "audio" in modalities:
        length_s = clip.sound_seconds + (count - 1) / clip.frame_rate_hz
        length_s = min(length_s, seconds) if clip.sound_seconds > seconds else length_s
        sound_s = begin_s + offset_s["audio"], length_s
    return Request(
        row,
        index.path(row),
        times_s=times_s,
        short_side_pixels=clip.short_side_pixels,
        sound_s=sound_s,
        sample_rate_hz=clip.sample_rate_hz,
        place=place_of(draws),
        hearing=index.hearing(row) if "audio" in modalities else None,
    )
