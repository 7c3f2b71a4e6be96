"""Which streams of a file are its picture and its sound, and what do they say about their times?

All times are seconds since the container's start.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeAlias, TypeVar

from av.audio.stream import AudioStream
from av.packet import Packet
from av.stream import Disposition
from av.video.stream import VideoStream

from seehear.data.media.reasons import MAX_CHANNELS, MAX_PIXELS, MAX_SAMPLE_RATE_HZ
from seehear.errors import MediaError

TIME_TOLERANCE_S = 0.0005
"""Matroska rounds to milliseconds: a wanted time may be meant for a timestamp this much later."""

_COVER = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.still_image

Kind = Literal["video", "audio"]
AnyPacket: TypeAlias = "Packet[Any]"  # generic for type checkers only
StreamT = TypeVar("StreamT", VideoStream, AudioStream)


@dataclass(frozen=True)
class Track(Generic[StreamT]):
    """One stream of an open file and its clock."""

    stream: StreamT
    tick_s: float  # seconds per unit of its timestamps
    origin_s: float  # the container's start on the stream's own clock
    knows_end: bool = True  # else what is said about it is FFmpeg's guess

    def seconds(self, tick: float) -> float:
        """When a timestamp is, in seconds since the container's start."""
        return tick * self.tick_s - self.origin_s

    def last_tick(self, time_s: float) -> int:
        """The last timestamp that is not after a time."""
        # the origin is in microseconds
        tolerance = max(min(0.5, TIME_TOLERANCE_S / self.tick_s), 1e-6 / self.tick_s)
        return math.floor((time_s + self.origin_s) / self.tick_s + tolerance)

    @property
    def declared_start_s(self) -> float | None:
        """When the stream starts, if the file says so."""
        return None if self.stream.start_time is None else self.seconds(self.stream.start_time)

    @property
    def declared_end_s(self) -> float | None:
        """When the stream ends, if the file says so."""
        if not self.knows_end:
            return None
        if self.stream.duration:  # 0 stands for unknown: a recorder that could not go back
            return self.seconds((self.stream.start_time or 0) + self.stream.duration)
        # Matroska's writers note each stream's end: 00:00:09.876000000
        tag = self.stream.metadata.get("DURATION", "")
        try:
            hours, minutes, seconds = (float(part) for part in tag.split(":"))
        except ValueError:
            return None
        return hours * 3600 + minutes * 60 + seconds - self.origin_s

    def packet_span_s(self, packet: AnyPacket) -> tuple[float, float]:
        """When a packet starts and ends."""
        tick = packet.pts if packet.pts is not None else packet.dts or 0
        return self.seconds(tick), self.seconds(tick + (packet.duration or 0))


AnyTrack = Track[VideoStream] | Track[AudioStream]


def moving(streams: tuple[StreamT, ...]) -> list[StreamT]:
    """Those that are more than pictures to illustrate the file, the likeliest first.

    These are streams that can be decoded, that are marked as default, and that come early.
    """
    found = [stream for stream in streams if not stream.disposition & _COVER]
    return sorted(found, key=_likelihood, reverse=True)


def track_of(
    path: str, stream: StreamT | None, origin_s: float, knows_end: bool
) -> Track[StreamT] | None:
    """The track of a stream, ready to be decoded; None without a stream.

    Raises:
        MediaError: it has no decoder, or absurd sizes.
    """
    if stream is None:
        return None
    check(path, stream)
    assert stream.time_base is not None
    stream.codec_context.thread_count = 1  # processes run in parallel instead, at less CPU in all
    # for sizes that change on the way
    stream.codec_context.options = {"max_pixels": str(MAX_PIXELS)}
    return Track(stream, float(stream.time_base), origin_s, knows_end)


def check(path: str, stream: VideoStream | AudioStream) -> None:
    """Raise MediaError for a stream that has no decoder, or absurd sizes."""
    context = stream.codec_context
    if context is None:
        raise MediaError(path, "unknown codec", f"stream {stream.index}, a {stream.type} stream")
    if isinstance(stream, VideoStream):
        pixels = stream.width * stream.height  # FFmpeg makes 0 of what is too much
        if not 0 < pixels <= MAX_PIXELS:
            size = f"{stream.width}x{stream.height}" if pixels else "none, or too large"
            raise MediaError(
                path, "absurd size", f"{size}; the limit is {MAX_PIXELS} pixels in all"
            )
        return
    for value, limit, what in (
        (stream.codec_context.channels, MAX_CHANNELS, "channels"),
        (stream.codec_context.sample_rate, MAX_SAMPLE_RATE_HZ, "samples of sound per second"),
    ):
        if value > limit:
            raise MediaError(path, "absurd size", f"{value} {what}; the limit is {limit}")


def _likelihood(stream: VideoStream | AudioStream) -> tuple[bool, bool]:
    return stream.codec_context is not None, bool(stream.disposition & Disposition.default)
