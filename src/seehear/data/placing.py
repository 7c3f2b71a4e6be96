"""Where in its segment, and where in the picture, does a clip lie? Decided by a draw, or by a
position.

A draw belongs to (seed, epoch, row); a position stands for an epoch where nothing is drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from seehear.config import Clip
from seehear.data.augment import CENTRE, LEFT, START, TOP, WINDOW, draw
from seehear.data.decoding.request import square
from seehear.data.segments import num_starts

MODALITIES = ("video", "audio")
BELOW_ONE = 1 - 2.0**-24  # the largest float32


@dataclass(frozen=True)
class Position:
    """Stands for an epoch where nothing is drawn: the unaugmented clip at a share in [0, 1) of the
    way.

    Args:
        share: where in the segment.
        across: where the crops are along the frames' longer side, shares in [0, 1): each is a clip
            of the batch.
    """

    share: float
    across: tuple[float, ...] = (0.5,)


CENTRED = Position(0.5)  # the middle of each segment


@lru_cache(maxsize=2**14)  # each is asked for when its clip is requested, and again when that comes
def draws_of(seed: int, epoch: int | Position, row: int) -> np.ndarray:
    """The draw of a row in an epoch; at a position, the centre draw but for the moment.
    Read-only.
    """
    if isinstance(epoch, Position):
        draws = CENTRE.copy()
        draws[START] = epoch.share
    else:
        draws = draw(seed, epoch, row)
    draws.flags.writeable = False
    return draws


def evenly(num_clips: int, num_crops: int = 1) -> list[Position]:
    """So many positions, spread evenly: 1 is the middle; so many crops from end to end: 1 is the
    centre.
    """
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
    """Square frames with the draws that go with them: one, or where a position asks for several
    crops, one for each.
    """
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
    """At which grid moment a clip starts: 0 to the number of frame spacings that the segment is
    longer than a clip.
    """
    return int(float(draws[START]) * int(num_starts(segment_seconds, clip, modalities)))


def window(frames_THWC: np.ndarray, draws: np.ndarray, clip: Clip) -> np.ndarray:
    """A square of `short_side_pixels` out of frames that are longer on one side, placed by the
    draw.
    """
    return square(frames_THWC, place_of(draws), clip.short_side_pixels)


def place_of(draws: np.ndarray) -> float:
    """Where on the longer side the square is, a share in [0, 1) of the way."""
    return float(draws[WINDOW])
