"""When does it happen? The one clock that the picture and the sound of an event share.

An event is a row of beats: the ball hits, the lamp lights up, the bar passes the vertical. Picture
and sound never talk to each other; both ask the same `Timing` about the same instants, and so they
are synchronous by construction. Times are seconds since the start of the video, as arrays of any
shape.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]  # real numbers: float32 where there is one for each pixel or sample

ONSET_S = (
    0.3  # the event starts at a time drawn between 0 and this; until then it rests, in silence
)
LONG_AGO_S = 1e3  # "no beat yet", and "no beat any more"


@dataclass(frozen=True)
class Timing:
    """The beats of one video.

    Args:
        onset_s: when the event starts; the phase stands still before.
        beats_s: the instants of the beats, increasing, from before the onset to after the end of
            the video.
    """

    onset_s: float
    beats_s: NDArray[np.float64]

    def turns(self, t_s: Array) -> Array:
        """How many beats have passed, with fractions between two beats: the phase of anything
        periodic.

        A whole number falls exactly on a beat. Same shape as `t_s`.
        """
        clock_s = np.maximum(t_s, self.onset_s)
        return np.interp(clock_s, self.beats_s, np.arange(len(self.beats_s))).astype(np.float32)

    def last(self, t_s: Array) -> NDArray[np.intp]:
        """The number of the last beat at or before `t_s`; beats before the onset count, too."""
        return np.searchsorted(self.beats_s, t_s, side="right") - 1

    def since(self, t_s: Array) -> Array:
        """Seconds since the last beat that happened; `LONG_AGO_S` before the first one."""
        beat_s = self.beats_s[np.maximum(self.last(t_s), 0)]
        return np.where(
            (beat_s >= self.onset_s) & (beat_s <= t_s), t_s - beat_s, LONG_AGO_S
        ).astype(np.float32)

    def until(self, t_s: Array) -> Array:
        """Seconds until the next beat that will happen; `LONG_AGO_S` after the last one."""
        number = np.searchsorted(self.beats_s, np.maximum(t_s, self.onset_s), side="left")
        after_s = np.append(self.beats_s, LONG_AGO_S)[number]
        return (after_s - t_s).astype(np.float32)


def draw_timing(
    rng: np.random.Generator, seconds: float, period_s: tuple[float, float], unevenness: float
) -> Timing:
    """Draw onset, phase and tempo of one video.

    Args:
        rng: the generator for what both modalities share.
        seconds: the length of the video.
        period_s: shortest and longest time between two beats; the tempo is drawn evenly on a log
            scale.
        unevenness: 0 for a clock; 0.5 lets every gap be up to 50 % shorter or longer.
    """
    onset_s = rng.uniform(0, ONSET_S)
    tempo_s = np.exp(rng.uniform(*np.log(period_s)))
    first_s = onset_s - rng.uniform(0, 1) * tempo_s
    count = int(np.ceil((seconds + 1) / (tempo_s * (1 - unevenness)))) + 2
    gaps_s = tempo_s * (1 + unevenness * rng.uniform(-1, 1, count))
    gaps_s[0] = tempo_s  # so that the first beat after the onset keeps the drawn phase
    return Timing(onset_s, first_s + np.concatenate([[0.0], np.cumsum(gaps_s)]))
