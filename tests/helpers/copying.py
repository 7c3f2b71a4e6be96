"""Copies of videos as people make them: encoded anew at 12 pictures a second, and more."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from seehear.data.media import probe, read_clip
from seehear.data.media.previews import FRAME_RATE_HZ, SOUND_RATE_HZ, write_film


def write_copy(
    source: Path, out: Path, *, sound_of: Path | None = None, cropped: float = 0.0, later: float = 0
) -> Path:
    """Write a copy of a video.

    Args:
        sound_of: another video, whose sound it gets.
        cropped: the share of width and of height that is lost on each side.
        later: so many seconds of the beginning are lost.
    """
    info = probe(source)
    begin_s, seconds = info.start_s + later, info.seconds - later
    times_s = begin_s + (np.arange(int(seconds * FRAME_RATE_HZ)) + 0.5) / FRAME_RATE_HZ
    frames_THWC, sound_S = read_clip(
        source, times_s, begin_s, seconds, short_side_pixels=None, sample_rate_hz=SOUND_RATE_HZ
    )
    if sound_of is not None:
        other = probe(sound_of)
        length = min(seconds, other.seconds)
        _, sound_S = read_clip(
            sound_of, [], other.start_s, length, short_side_pixels=8, sample_rate_hz=SOUND_RATE_HZ
        )
    height, width = frames_THWC.shape[1:3]
    y, x = round(cropped * height), round(cropped * width)
    kept = frames_THWC[:, y : height - y, x : width - x]
    even = kept[:, : kept.shape[1] // 2 * 2, : kept.shape[2] // 2 * 2]
    write_film(out, even, sound_S)
    return out
