"""Which of a file's sound is heard: which of its tracks, and the mean of the channels or one of
them?

One answer a file, from the file alone: every clip, preview and packed copy of it hears the same,
wherever one reads. It takes a few reads, so an index keeps it.

The track is the likeliest one (`Source.sounds`) with any sound where it was sampled. The channel is
`MEAN`, unless the channels cancel: then it is the first that is about as loud as the loudest. They
cancel when the mean has less than `CANCELLED` of the power that it would have were the channels
independent, which is the sum of theirs over the square of their number. For two channels of equal
power this means a correlation below -0.75: a channel wired the wrong way round, "surround" effects,
karaoke. A track of which only the low-frequency channel sounds is heard by that channel.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from seehear.data.media.container import Source
from seehear.data.media.sound import MEAN, Run, decode_runs
from seehear.errors import MediaError

SILENCE_DB = -60.0
"""Of the loudest second of a channel, its RMS without the constant part, against full scale."""

CANCELLED = 0.25
"""A mean with a smaller share of the power of independent channels' mean has lost the sound."""

_SILENCE = 10 ** (SILENCE_DB / 10)
# a channel with so much of the loudest one's power is as loud: decoders differ in the last bits
_AS_LOUD = 0.8
_FIRST_READS, _FIRST_SECONDS = 9, 1.0  # evenly, the end first, to see that it is there
_MORE_READS, _MORE_SECONDS = 60, 10.0  # where those are silent: all of a track of up to ten minutes


@dataclass(frozen=True)
class Hearing:
    """Which sound of a file is heard."""

    track: int  # its number among the tracks of sound, 0 up
    channel: int = MEAN  # its number in the track, 0 up, or `MEAN`


@dataclass(frozen=True)
class Heard:
    """What listening to a file found."""

    hearing: Hearing  # what is to be heard of it
    # the loudest second of a channel, relative to full scale; without samples -inf
    loudest_db: float
    detail: str = ""  # where nothing is to be heard, where that was sampled
    failure: MediaError | None = None  # what went wrong on the way; None if nothing did

    @property
    def is_silent(self) -> bool:
        """Is nothing to be heard, wherever it was sampled?"""
        return self.loudest_db < SILENCE_DB


@dataclass(frozen=True)
class _Second:
    """The power of a second of sound by channel and of the mean, and the channels that count."""

    powers_C: NDArray[np.float64]
    mean: float
    audible: list[int]

    @property
    def loudest(self) -> float:
        return float(self.powers_C.max(initial=0.0))

    @property
    def cancels(self) -> bool:
        """Has the mean lost what is to be heard?"""
        if self.loudest < _SILENCE:
            return False
        independent = float(self.powers_C[self.audible].sum()) / len(self.audible) ** 2
        return self.mean < max(CANCELLED * independent, _SILENCE)


def listen(source: Source) -> Heard:
    """Find out what is to be heard of an open file, and take that track.

    The file must have a track of sound. It is sampled where its picture runs as well, if there is
    such a time.
    """
    found: list[Heard] = []
    for number in source.sounds:
        try:
            source.take_sound(number)
            found.append(_listen_to_track(source, number))
        except MediaError as error:  # of this track: another may be well
            found.append(Heard(Hearing(number), -math.inf, failure=error))
        if not found[-1].is_silent:
            break
    # All are silent: the likeliest one that can be read.
    best = (
        found[-1]
        if not found[-1].is_silent
        else next((h for h in found if h.failure is None), found[0])
    )
    source.take_sound(best.hearing.track)
    return best


def _listen_to_track(source: Source, number: int) -> Heard:
    """What is to be heard of the track that is taken."""
    start_s, end_s = _sampled_span_s(source)
    seconds: list[_Second] = []
    failures: list[MediaError] = []
    end_failed, detail = False, ""
    for place, (read_start_s, read_s) in enumerate(_first_reads(start_s, end_s)):
        try:
            seconds += _seconds(decode_runs(source, read_start_s, read_start_s + read_s))
        except MediaError as error:
            failures.append(error)
            end_failed |= place == 0
        if seconds and all(
            len(second.powers_C) == 1 and second.loudest >= _SILENCE for second in seconds
        ):
            break  # one channel cancels with nothing
    has_sound = any(second.loudest >= _SILENCE for second in seconds)
    if not failures and not has_sound:
        for read_start_s, read_s in _more_reads(start_s, end_s):
            seconds += _seconds(decode_runs(source, read_start_s, read_start_s + read_s))
            if seconds and max(second.loudest for second in seconds) >= _SILENCE:
                break
        sampled_s = min(end_s - start_s, _MORE_READS * _MORE_SECONDS)
        if sampled_s < end_s - start_s:
            detail = f"in {sampled_s:.0f} of {end_s - start_s:.0f} s, spread evenly"
    loudest = max((second.loudest for second in seconds), default=0.0)
    loudest_db = 10 * math.log10(loudest) if loudest > 0 else -math.inf
    is_bad = end_failed or not has_sound  # a damaged second elsewhere is passed over, as players do
    failure = failures[0] if failures and is_bad else None
    return Heard(Hearing(number, _channel(seconds)), loudest_db, detail, failure)


def _sampled_span_s(source: Source) -> tuple[float, float]:
    """When sound and picture both run, or else when the sound does."""
    audio_s = source.extent_s("audio")
    if audio_s is None:
        return 0.0, 0.0
    video_s = source.extent_s("video") if source.video is not None else None
    if video_s is None:
        return audio_s
    start_s, end_s = max(0.0, audio_s[0], video_s[0]), min(audio_s[1], video_s[1])
    return (start_s, end_s) if end_s > start_s else audio_s


def _first_reads(start_s: float, end_s: float) -> Iterator[tuple[float, float]]:
    seconds = min(_FIRST_SECONDS, end_s - start_s)
    starts_s = (
        np.linspace(end_s - seconds, start_s, _FIRST_READS)
        if end_s - start_s > seconds
        else [start_s]
    )
    yield from ((float(read_start_s), seconds) for read_start_s in starts_s if seconds > 0)


def _more_reads(start_s: float, end_s: float) -> Iterator[tuple[float, float]]:
    """The whole, or stretches that are spread evenly over it."""
    count = min(math.ceil((end_s - start_s) / _MORE_SECONDS), _MORE_READS)
    for number in range(count):
        read_start_s = start_s + (end_s - start_s) * number / count
        yield read_start_s, min(_MORE_SECONDS, end_s - read_start_s)


def _seconds(runs: list[Run]) -> Iterator[_Second]:
    """The power of each second; a rest is one of its own."""
    for run in runs:
        samples_CS, mean_S, audible = (
            run.channels().astype(np.float64),
            run.mono().astype(np.float64),
            run.audible(),
        )
        for first in range(0, samples_CS.shape[1], run.rate_hz):
            part = slice(first, first + run.rate_hz)
            yield _Second(samples_CS[:, part].var(axis=1), float(mean_S[part].var()), audible)


def _channel(seconds: list[_Second]) -> int:
    """`MEAN`, or a channel where the channels cancel in any second."""
    first = next((second for second in seconds if second.cancels), None)
    if first is None:
        return MEAN
    alike = [second for second in seconds if len(second.powers_C) == len(first.powers_C)]
    powers_C = np.sum([second.powers_C for second in alike], axis=0)
    audible = (
        first.audible if powers_C[first.audible].max() >= _SILENCE else list(range(len(powers_C)))
    )
    loudest = float(powers_C[audible].max())
    return next(i for i in audible if powers_C[i] >= _AS_LOUD * loudest)
