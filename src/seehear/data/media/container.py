"""Which streams of a file are its picture and its sound, when do they run, and where must reading
start?

All times are seconds since the container's start.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Literal, TypeAlias, TypeVar

import av
from av.audio.stream import AudioStream
from av.packet import Packet
from av.stream import Discard, Disposition
from av.video.stream import VideoStream

from seehear.data.media.lengths import is_estimated, seeks_by_rate
from seehear.data.media.members import member_of
from seehear.data.media.opening import open_container
from seehear.data.media.parts import Span, part_to_read
from seehear.data.media.reasons import MAX_CHANNELS, MAX_PIXELS, MAX_SAMPLE_RATE_HZ
from seehear.data.media.stamps import PES_HEADER_BYTES, decoding_tick
from seehear.errors import MediaError

TIME_TOLERANCE_S = 0.0005
"""Matroska rounds timestamps to milliseconds: a wanted time may be meant for a timestamp this much
later."""

NUMBERED = frozenset(
    {
        "h261",
        "h263",
        "h264",
        "hevc",
        "vvc",
        "m4v",
        "mpegvideo",
        "vc1",
        "dirac",
        "mjpeg",
        "obu",
        "av1",
    }
)
"""Bare streams of pictures: nothing says when a frame is to be seen, so frame k is seen at k /
fps."""

_COVER = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.still_image
# an end that is not declared is looked for in the last seconds, then in four times as many, and so
# on
_FIRST_TAIL_S = 2.0
_FIRST_BACK_S = (
    1.0  # a seek that landed too late is tried again so much earlier, then twice as much, and so on
)

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


class Source:
    """An open file and its tracks; `video` or `audio` is None where there is none. Formats without
    seeking are opened anew now and then, so a track is to be taken from here after each
    `packets_from`.

    Where the file's clock starts again, only one of its `parts` is read (`parts.part_to_read`).

    Raises:
        MediaError: the file cannot be opened, its codecs are unknown, or a declared size is absurd.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        self._span: Span | None = None  # the bytes that are read; None: all
        self.video: Track[VideoStream] | None = None
        self.audio: Track[AudioStream] | None = None
        self._sound: int | None = None  # the number of the track that was taken; None: `sounds[0]`
        self._open()
        tracks: list[AnyTrack | None] = [self.video, self.audio]
        ids = [track.stream.id for track in tracks if track is not None]
        self._span, self.parts = part_to_read(self.path, self.container.format.name, ids)
        if self._span is not None:
            self.close()
            self._open()

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        self.video = self.audio = None
        self.container.close()

    def fail(self, reason: str, detail: str = "") -> MediaError:
        """The error to raise about this file."""
        return MediaError(self.path, reason, detail)

    @property
    def end_s(self) -> float:
        """When the file ends, if it says so; otherwise never."""
        ends_s = [track.declared_end_s for track in (self.video, self.audio) if track is not None]
        known_s = [end_s for end_s in ends_s if end_s is not None]
        if self.container.duration is not None and not self._is_estimated:
            known_s.append(self.container.duration / av.time_base)
        return max(known_s, default=math.inf)

    @property
    def lists_key_frames(self) -> bool:
        """Does the index hold all key frames? That of MP4 does; others grow while reading, or hold
        some.
        """
        return str(self.container.format.name).startswith("mov")

    @property
    def sounds(self) -> list[int]:
        """Numbers of the tracks of sound, 0 up in the file, the likeliest first: decodable,
        default, early ones.
        """
        streams = self.container.streams.audio
        moving = [
            number for number, stream in enumerate(streams) if not stream.disposition & _COVER
        ]
        return sorted(moving, key=lambda number: _rank(streams[number]), reverse=True)

    def take_sound(self, number: int) -> None:
        """Hear another track from now on; raises `MediaError` where it has no decoder, or absurd
        sizes.
        """
        stream = self.container.streams.audio[number]
        self._check(None, stream)
        self._sound = number
        if self.audio is None or self.audio.stream.index != stream.index:
            self.close()
            self._open()

    @property
    def is_numbered(self) -> bool:
        """Is this a bare stream of pictures, in which a frame's time is its number?"""
        return self.container.format.name in NUMBERED

    @property
    def declares_ends(self) -> bool:
        """Does the file know how long its streams are?"""
        format_name = self.container.format.name
        if (
            format_name == "mpeg"
        ):  # FFmpeg looks for the last timestamp, and many small frames may follow it
            return False
        if format_name != "avi" or self.video is None:
            return True
        # A recorder that died has written neither the number of frames nor the index.
        entries, declared_s = self.video.stream.index_entries, self.video.declared_end_s
        if declared_s is None or len(entries) < 2:  # of those, FFmpeg has added some itself
            return False
        return abs(declared_s - self.video.seconds(entries[-1].timestamp)) < _FIRST_TAIL_S

    def track(self, kind: Kind) -> AnyTrack:
        """The track of that kind; raises `MediaError` where there is none."""
        track = self.video if kind == "video" else self.audio
        if track is None:
            raise self.fail(f"no {kind} stream")
        return track

    def packets_from(self, kind: Kind, time_s: float) -> tuple[bool, Iterator[AnyPacket | None]]:
        """The packets of one stream from a key frame at or before a time, then None for the end of
        the file.

        Returns:
            Whether these are the very first packets of the file, key frame or not; and the packets.
        """
        back_s = 0.0
        while True:
            at_start = self._seek(kind, time_s - back_s)
            packets = self._packets(kind)
            if at_start:
                return True, packets
            track = self.track(kind)
            for packet in packets:
                packet_s = math.inf if packet is None else track.packet_span_s(packet)[0]
                if packet_s > time_s + TIME_TOLERANCE_S:
                    break
                if packet is not None and packet.is_keyframe:
                    return False, itertools.chain([packet], packets)
            back_s = max(_FIRST_BACK_S, 2 * back_s)

    def extent_s(self, kind: Kind) -> tuple[float, float] | None:
        """When a stream starts and ends, looked up in the packets where the file does not say; None
        without packets.
        """
        start_s, end_s = self.track(kind).declared_start_s, self.track(kind).declared_end_s
        if start_s is None:
            _, packets = self.packets_from(kind, -math.inf)
            first = next(packets)
            start_s = None if first is None else self.track(kind).packet_span_s(first)[0]
        if self.is_numbered and kind == "video":
            return 0.0, self._sum_s()
        if end_s is None or not self.declares_ends:
            end_s = self._find_end_s(kind)
        return None if start_s is None or end_s is None else (start_s, end_s)

    def _sum_s(self) -> float:
        """How long all packets of a bare stream are."""
        _, packets = self.packets_from("video", -math.inf)
        return self.track("video").tick_s * sum(
            packet.duration or 0 for packet in packets if packet is not None
        )

    def _find_end_s(self, kind: Kind) -> float | None:
        total_s = 0.0 if self._is_estimated else (self.container.duration or 0) / av.time_base
        tail_s = _FIRST_TAIL_S
        while True:
            at_start = self._seek(kind, total_s - tail_s)
            end_s = self._last_end_s(kind)
            if end_s is not None or at_start:
                return end_s
            tail_s *= 4

    def _last_end_s(self, kind: Kind) -> float | None:
        """When the last packet from here on ends."""
        track, end_s, last_s = self.track(kind), 0.0, None
        for packet in self._packets(kind):
            if packet is not None:
                is_timed = packet.pts is not None or packet.dts is not None
                end_s = (
                    track.packet_span_s(packet)[1]
                    if is_timed
                    else end_s + (packet.duration or 0) * track.tick_s
                )
                last_s = end_s if last_s is None else max(last_s, end_s)
        return last_s

    def _seek(self, kind: Kind, time_s: float) -> bool:
        """Go to a key frame near a time, before it if the format can; True at the very beginning of
        the file.
        """
        starts_s = [
            track.declared_start_s for track in (self.video, self.audio) if track is not None
        ]
        start_s = min((s for s in starts_s if s is not None), default=0.0)
        at_start = time_s <= start_s or self.is_numbered or seeks_by_rate(self.container)
        wanted = self.track(kind)
        # MP4 seeks exactly in each stream; most other formats have an index of the video only.
        guide = wanted if self.video is None or self.lists_key_frames else self.video
        if at_start and not self.lists_key_frames:
            # a seek may lose what precedes the first key frame: the first packet of sound in
            # Matroska
            self._rewind()
        else:
            self._is_fresh = False  # a seek that fails leaves the file anywhere
            self._read_only(guide)  # MPEG-TS looks for packets of this stream
            try:
                tick = guide.last_tick(max(time_s, start_s))
                if at_start and len(
                    guide.stream.index_entries
                ):  # what precedes the start primes the decoder of AAC
                    tick = min(tick, guide.stream.index_entries[0].timestamp)
                self.container.seek(tick, stream=guide.stream, backward=True)
            except (
                av.FFmpegError
            ):  # no index, or a broken one: all that is left is to read from the beginning
                self._rewind()
                at_start = True
        self._is_astray = not self._is_fresh and self.container.format.name == "mpeg"
        self._read_only(self.track(kind))
        return at_start

    def _rewind(self) -> None:
        if not self._is_fresh:
            self.close()
            self._open()

    def _read_only(self, track: AnyTrack) -> None:
        """Let the demuxer pass over all other streams."""
        for stream in self.container.streams:
            stream.discard = Discard.default if stream.index == track.stream.index else Discard.all

    def _packets(self, kind: Kind) -> Iterator[AnyPacket | None]:
        self._is_fresh = False
        # An unreadable rest is the end of the file. PyAV raises IndexError there when damage looked
        # like a new stream.
        with contextlib.suppress(av.FFmpegError, IndexError):
            packets = (
                packet for packet in self.container.demux(self.track(kind).stream) if packet.size
            )
            yield from self._with_own_stamp(packets) if self._is_astray else packets
        yield None

    def _with_own_stamp(self, packets: Iterator[AnyPacket]) -> Iterator[AnyPacket]:
        """Packets of a programme stream after a seek, from one on whose timestamp is its own.

        A timestamp there belongs to the first frame that begins in a packet of the stream. FFmpeg's
        parser gives the first one after a seek to the frame that it lands in the middle of, and
        counts the others from there on.
        """
        begun = 0
        for packet in packets:
            # FFmpeg gives a position to the first frame that begins in a packet of the stream, and
            # to no other.
            if packet.pos is not None:
                begun += 1
                if begun > 1 and self._has_stamp(packet.pos):
                    yield packet
                    break
        yield from packets

    def _has_stamp(self, position: int) -> bool:
        member = member_of(self.path)
        with Path(member.shard if member else self.path).open("rb") as file:
            file.seek(
                position + (member.offset if member else 0) + (self._span[0] if self._span else 0)
            )
            return decoding_tick(file.read(PES_HEADER_BYTES)) is not None

    def _open(self) -> None:
        self.container = open_container(self.path, self._span)
        self._is_fresh = True  # nothing has been read yet
        self._is_astray = False  # a seek has gone to where timestamps cannot be trusted yet
        try:
            video, audio = (
                _choose(self.container.streams.video),
                _choose(self.container.streams.audio),
            )
            if self._sound is not None:
                audio = self.container.streams.audio[self._sound]
            self._check(video, audio)
            start_us = self.container.start_time
            # None: no stream says when it starts
            self._origin_s = 0.0 if start_us is None else start_us / av.time_base
            self._is_estimated = is_estimated(self.path, self.container)
            self.video = _track(video, self._origin_s, not self._is_estimated)
            self.audio = _track(audio, self._origin_s, not self._is_estimated)
        except BaseException:
            self.container.close()
            raise

    def _check(self, video: VideoStream | None, audio: AudioStream | None) -> None:
        for stream in (video, audio):
            if stream is not None and stream.codec_context is None:
                raise self.fail("unknown codec", f"stream {stream.index}, a {stream.type} stream")
        if (
            video is not None and not 0 < video.width * video.height <= MAX_PIXELS
        ):  # FFmpeg makes 0 of what is too much
            size = (
                f"{video.width}x{video.height}"
                if video.width * video.height
                else "none, or too large"
            )
            raise self.fail("absurd size", f"{size}; the limit is {MAX_PIXELS} pixels in all")
        if audio is not None and audio.codec_context.channels > MAX_CHANNELS:
            raise self.fail(
                "absurd size",
                f"{audio.codec_context.channels} channels; the limit is {MAX_CHANNELS}",
            )
        if audio is not None and audio.codec_context.sample_rate > MAX_SAMPLE_RATE_HZ:
            rate_hz = audio.codec_context.sample_rate
            raise self.fail(
                "absurd size",
                f"{rate_hz} samples of sound per second; the limit is {MAX_SAMPLE_RATE_HZ}",
            )


def _choose(streams: tuple[StreamT, ...]) -> StreamT | None:
    """The likeliest stream, and of those the first; pictures that only illustrate the file do not
    count.
    """
    moving = [stream for stream in streams if not stream.disposition & _COVER]
    return max(moving, key=_rank, default=None)


def _rank(stream: VideoStream | AudioStream) -> tuple[bool, bool]:
    """How likely a stream is meant, the greater the likelier: is there a decoder, is it marked as
    default?
    """
    return stream.codec_context is not None, bool(stream.disposition & Disposition.default)


def _track(stream: StreamT | None, origin_s: float, knows_end: bool) -> Track[StreamT] | None:
    if stream is None:
        return None
    assert stream.time_base is not None
    stream.codec_context.thread_count = (
        1  # more threads would cost more CPU in all; processes run in parallel instead
    )
    # for sizes that change on the way
    stream.codec_context.options = {"max_pixels": str(MAX_PIXELS)}
    return Track(stream, float(stream.time_base), origin_s, knows_end)
