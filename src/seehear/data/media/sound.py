"""What is to be heard from a time on?

Decoded frames are laid end to end from their timestamps, made one channel (`hearing` says how),
resampled, and put where they belong on the wanted grid of samples; where the file has no sound,
there are zeros.

Alignment: the start of a run of frames is the middle of what all its timestamps say (Matroska
rounds each to a millisecond, which leaves less than 0.1 ms so), and as many zeros are put in front
as make its first sample fall on the grid, to within half a sample of the source at worst.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import av
import numpy as np
from av.audio.format import AudioFormat
from av.audio.frame import AudioFrame
from av.audio.layout import AudioLayout
from av.audio.plane import AudioPlane
from av.audio.resampler import AudioResampler
from numpy.typing import NDArray

from seehear.data.media.container import Source
from seehear.data.media.reasons import MAX_CHANNELS, MAX_SAMPLE_RATE_HZ
from seehear.data.media.tracks import AnyTrack

PREROLL_S = 0.2
"""Decoded and dropped before the wanted sound: frames of AAC, Opus and MP3 need earlier ones."""

POSTROLL_S = 0.02
"""Decoded beyond the wanted sound: the resampler looks ahead."""

GAP_S = 0.02
"""Frames with timestamps so far off the end of the one before start at their own time."""

HOLD_S = 0.5
"""So much of the sound that a file declares may be missing at its end."""

MEAN = -1
"""In place of the number of a channel: the mean of all but the low-frequency one."""

# samples in front of a run; enough to meet the grid for all usual pairs of rates
_MAX_PADDING = 1000
_KINDS: dict[str, type[np.generic[Any]]] = {  # of samples
    "u8": np.uint8,
    "s16": np.int16,
    "s32": np.int32,
    "flt": np.float32,
    "dbl": np.float64,
}


@dataclass
class Run:
    """Frames of one kind that follow each other without a gap."""

    rate_hz: int
    sample_format: AudioFormat
    layout: AudioLayout
    # of the run, as each frame's timestamp says it
    starts_s: list[float] = field(default_factory=list)
    # planes of each frame, as decoded
    chunks: list[list[NDArray[Any]]] = field(default_factory=list)
    samples: int = 0

    @property
    def start_s(self) -> float:
        return (min(self.starts_s) + max(self.starts_s)) / 2

    @property
    def end_s(self) -> float:
        """Where the next frame should start, by the first timestamp alone, which is quick."""
        return self.starts_s[0] + self.samples / self.rate_hz

    def continues_with(self, frame: AudioFrame, time_s: float) -> bool:
        """Is the frame of the same kind, and does it come when it should?"""
        same = frame.sample_rate == self.rate_hz and frame.layout.name == self.layout.name
        return (
            same
            and frame.format.name == self.sample_format.name
            and abs(time_s - self.end_s) <= GAP_S
        )

    def append(self, frame: AudioFrame, time_s: float) -> None:
        self.starts_s.append(time_s - self.samples / self.rate_hz)
        kind, count, planes = (
            _KINDS[frame.format.name.removesuffix("p")],
            frame.samples,
            frame.layout.nb_channels,
        )
        if not frame.format.is_planar:
            count, planes = count * planes, 1
        # Views of the frame's memory: `frame.to_ndarray` costs more than decoding it did.
        # `frame.planes` counts planes up to a null pointer, which does not follow when there are 8
        # or more: it reads past them.
        views = [memoryview(AudioPlane(frame, i)) for i in range(planes)]
        self.chunks.append([np.frombuffer(view, kind, count) for view in views])
        self.samples += frame.samples

    def mono(self, channel: int = MEAN) -> NDArray[np.float32]:
        """One channel, or the mean, as float32 in [-1, 1] if the file keeps to that.

        A run that has no such channel gives the mean.
        """
        if 0 <= channel < self.layout.nb_channels:
            return _scaled(self._by_channel()[channel])
        samples_CS = self._by_channel()
        if len(samples_CS) == 1:
            return _scaled(samples_CS[0])
        audible = self.audible()
        if len(audible) < len(samples_CS):
            samples_CS = samples_CS[audible]
        return _scaled(samples_CS.mean(axis=0, dtype=np.float32), samples_CS.dtype)

    def channels(self) -> NDArray[np.float32]:
        """All channels, float32 (C, S) in [-1, 1] if the file keeps to that."""
        return _scaled(self._by_channel())

    def audible(self) -> list[int]:
        """The numbers of all channels but the low-frequency one; of all where there is no other."""
        names = [channel.name for channel in self.layout.channels]
        return [i for i, name in enumerate(names) if not name.startswith("LFE")] or list(
            range(len(names))
        )

    def _by_channel(self) -> NDArray[Any]:
        """The samples as decoded, (C, S)."""
        planes = [np.concatenate(chunks) for chunks in zip(*self.chunks, strict=True)]
        if self.layout.nb_channels == 1:
            return planes[0][None]
        return (
            np.stack(planes)
            if self.sample_format.is_planar
            else planes[0].reshape(-1, self.layout.nb_channels).T
        )


def _scaled(samples: NDArray[Any], kind: np.dtype[Any] | None = None) -> NDArray[np.float32]:
    """Samples of a kind, by default of their own, as finite float32 whose full scale is 1."""
    kind = kind or samples.dtype
    if kind == np.uint8:
        samples = (samples.astype(np.float32) - 128) / 128
    elif kind.kind == "i":
        samples = samples.astype(np.float32) / -float(np.iinfo(kind).min)
    with np.errstate(over="ignore"):  # of 64-bit samples
        samples = np.asarray(samples, np.float32)
    return (
        samples
        if np.isfinite(samples).all()
        else np.nan_to_num(samples, nan=0.0, posinf=1.0, neginf=-1.0)
    )


def read_samples(
    source: Source, start_s: float, seconds: float, sample_rate_hz: int, channel: int = MEAN
) -> NDArray[np.float32]:
    """The sound of a stretch, float32 (round(seconds * sample_rate_hz),) in [-1, 1].

    A channel, or the mean of all but the low-frequency one. Raises MediaError without audio stream,
    past the end, or where nothing can be decoded.
    """
    samples_S = np.zeros(round(seconds * sample_rate_hz), np.float32)
    if len(samples_S) == 0:
        return samples_S
    end_s = start_s + len(samples_S) / sample_rate_hz
    runs = decode_runs(source, start_s - PREROLL_S, end_s + POSTROLL_S)
    if not runs and start_s >= source.end_s:
        raise source.fail(
            "past the end", f"the file ends at {source.end_s:.2f} s, wanted was {start_s:.2f} s"
        )
    for run in runs:
        _place(samples_S, run, start_s, sample_rate_hz, channel)
    return samples_S


def decode_runs(source: Source, start_s: float, end_s: float) -> list[Run]:
    """All that can be decoded between two times, in runs without gaps.

    A packet that cannot be decoded is passed over, as players do; an error if there is no other.
    """
    _, packets = source.packets_from("audio", start_s)
    track = source.track("audio")
    runs: list[Run] = []
    failure: av.FFmpegError | None = None
    for packet in packets:
        if packet is not None and packet.pts is not None:
            packet_start_s, packet_end_s = track.packet_span_s(packet)
            if packet_end_s < start_s:
                continue
            if packet_start_s > end_s:
                break
        try:
            frames = track.stream.codec_context.decode(packet)
        except av.FFmpegError as error:
            failure = error
            continue
        for frame in frames:
            assert isinstance(frame, AudioFrame)
            _append(runs, source, track, frame)
    else:
        _check_end(source, runs[-1].end_s if runs else start_s, end_s - POSTROLL_S)
    if failure is not None and not runs:
        raise source.fail(
            "unreadable", f"no sound at {start_s + PREROLL_S:.2f} s: {failure.strerror}"
        )
    return runs


def _append(runs: list[Run], source: Source, track: AnyTrack, frame: AudioFrame) -> None:
    if frame.layout.nb_channels > MAX_CHANNELS or not 0 < frame.sample_rate <= MAX_SAMPLE_RATE_HZ:
        raise source.fail(
            "absurd size", f"{frame.layout.nb_channels} channels at {frame.sample_rate} Hz"
        )
    if frame.format.name.removesuffix("p") not in _KINDS:  # 64-bit integers
        pts, frame = frame.pts, AudioResampler(format="fltp").resample(frame)[0]
        frame.pts = pts
    time_s = track.seconds(frame.pts) if frame.pts is not None else runs[-1].end_s if runs else 0.0
    if not runs or not runs[-1].continues_with(frame, time_s):
        runs.append(Run(frame.sample_rate, frame.format, frame.layout))
    runs[-1].append(frame, time_s)


def _check_end(source: Source, heard_s: float, wanted_s: float) -> None:
    """Raise when the packets ended well before the file says they do."""
    declared_s = source.track("audio").declared_end_s
    if declared_s is not None and heard_s < min(declared_s, wanted_s) - HOLD_S:
        raise source.fail(
            "truncated", f"the sound ends at {heard_s:.2f} s, declared is {declared_s:.2f} s"
        )


def _place(
    samples_S: NDArray[np.float32], run: Run, start_s: float, rate_hz: int, channel: int
) -> None:
    """Resample a run and write it over the part of the grid that it covers."""
    padding = np.arange(min(run.rate_hz // math.gcd(run.rate_hz, rate_hz), _MAX_PADDING))
    positions = ((run.start_s - padding / run.rate_hz) - start_s) * rate_hz
    best = int(np.argmin(np.abs(positions - np.round(positions))))
    position = round(positions[best])
    run_S = _resample(
        np.concatenate([np.zeros(best, np.float32), run.mono(channel)]), run.rate_hz, rate_hz
    )
    first, last = max(position, 0), min(position + len(run_S), len(samples_S))
    if first < last:
        np.clip(run_S[first - position : last - position], -1, 1, out=samples_S[first:last])


def _resample(samples_S: NDArray[np.float32], from_hz: int, to_hz: int) -> NDArray[np.float32]:
    """The same sound at another rate; the first sample stays at the same moment."""
    if from_hz == to_hz:
        return samples_S
    frame = AudioFrame.from_ndarray(samples_S[None], format="fltp", layout="mono")
    frame.sample_rate = from_hz
    resampler = AudioResampler(format="fltp", layout="mono", rate=to_hz)
    parts = [
        part.to_ndarray()[0] for part in (*resampler.resample(frame), *resampler.resample(None))
    ]
    return np.concatenate(parts) if parts else np.zeros(0, np.float32)
