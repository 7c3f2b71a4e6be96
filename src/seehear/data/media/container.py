"""When do the picture and the sound of a file run, and where must reading start?

All times are seconds since the container's start.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import os
from collections.abc import Iterator

import av
from av.audio.stream import AudioStream
from av.stream import Discard
from av.video.stream import VideoStream

from seehear.data.media.lengths import is_estimated, seeks_by_rate
from seehear.data.media.members import open_bytes
from seehear.data.media.opening import open_container
from seehear.data.media.parts import PES_HEADER_BYTES, Span, decoding_tick, part_to_read
from seehear.data.media.tracks import (
    TIME_TOLERANCE_S,
    AnyPacket,
    AnyTrack,
    Kind,
    Track,
    check,
    moving,
    track_of,
)
from seehear.errors import MediaError

NUMBERED = frozenset(
    ("h261", "h263", "h264", "hevc", "vvc", "m4v", "mpegvideo", "vc1", "dirac", "mjpeg")
).union(("obu", "av1"))
"""Bare streams of pictures: nothing says when a frame is to be seen; frame k is seen at k / fps."""

# An end that is not declared is looked for in the last seconds, then in four times as many, ...
_FIRST_TAIL_S = 2.0
# A seek that landed too late is tried again so much earlier, then twice as much, ...
_FIRST_BACK_S = 1.0


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
        """Whether the index lists all key frames: in MP4; in others it grows or holds some."""
        return str(self.container.format.name).startswith("mov")

    @property
    def sounds(self) -> list[int]:
        """Numbers of the tracks of sound, 0 up in the file, the likeliest first."""
        streams = self.container.streams.audio
        return [streams.index(stream) for stream in moving(streams)]

    def take_sound(self, number: int) -> None:
        """Read another track from now on; raises `MediaError` where that cannot be decoded."""
        stream = self.container.streams.audio[number]
        check(self.path, stream)
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
        if format_name == "mpeg":  # many small frames may follow the last timestamp
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
        """Packets of one stream from a key frame at or before a time, then None at the end.

        Also whether these are the very first packets of the file, key frame or not.
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
        """When a stream starts and ends, from its packets where the file does not say."""
        start_s, end_s = self.track(kind).declared_start_s, self.track(kind).declared_end_s
        if start_s is None:
            _, packets = self.packets_from(kind, -math.inf)
            first = next(packets)
            start_s = None if first is None else self.track(kind).packet_span_s(first)[0]
        if self.is_numbered and kind == "video":
            _, packets = self.packets_from("video", -math.inf)
            ticks = sum(packet.duration or 0 for packet in packets if packet is not None)
            return 0.0, self.track("video").tick_s * ticks
        if end_s is None or not self.declares_ends:
            end_s = self._find_end_s(kind)
        return None if start_s is None or end_s is None else (start_s, end_s)

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
        track, end_s = self.track(kind), 0.0
        ends_s: list[float] = []
        for packet in self._packets(kind):
            if packet is None:
                break
            if packet.pts is None and packet.dts is None:
                end_s += (packet.duration or 0) * track.tick_s
            else:
                end_s = track.packet_span_s(packet)[1]
            ends_s.append(end_s)
        return max(ends_s, default=None)

    def _seek(self, kind: Kind, time_s: float) -> bool:
        """Go to a key frame near a time, before it if the format can; True at the file's start."""
        starts_s = [
            track.declared_start_s for track in (self.video, self.audio) if track is not None
        ]
        start_s = min((s for s in starts_s if s is not None), default=0.0)
        at_start = time_s <= start_s or self.is_numbered or seeks_by_rate(self.container)
        wanted = self.track(kind)
        # MP4 seeks exactly in each stream; most other formats have an index of the video only.
        guide = wanted if self.video is None or self.lists_key_frames else self.video
        if at_start and not self.lists_key_frames:
            # a seek may lose what precedes the first key frame: Matroska's first packet of sound
            self._rewind()
        else:
            self._is_fresh = False  # a seek that fails leaves the file anywhere
            self._read_only(guide)  # MPEG-TS looks for packets of this stream
            try:
                tick = guide.last_tick(max(time_s, start_s))
                entries = guide.stream.index_entries
                if at_start and len(entries):  # what precedes the start primes the decoder of AAC
                    tick = min(tick, entries[0].timestamp)
                self.container.seek(tick, stream=guide.stream, backward=True)
            except av.FFmpegError:  # no index, or a broken one: only reading from the start is left
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
        with open_bytes(self.path) as (file, first, _):
            file.seek(first + position + (self._span[0] if self._span else 0))
            return decoding_tick(file.read(PES_HEADER_BYTES)) is not None

    def _open(self) -> None:
        self.container = open_container(self.path, self._span)
        self._is_fresh = True  # nothing has been read yet
        self._is_astray = False  # a seek has gone to where timestamps cannot be trusted yet
        try:
            streams = self.container.streams
            video = next(iter(moving(streams.video)), None)
            audio = next(iter(moving(streams.audio)), None)
            if self._sound is not None:
                audio = streams.audio[self._sound]
            # None: no stream says when it starts
            origin_s = (self.container.start_time or 0) / av.time_base
            self._is_estimated = is_estimated(self.path, self.container)
            self.video = track_of(self.path, video, origin_s, not self._is_estimated)
            self.audio = track_of(self.path, audio, origin_s, not self._is_estimated)
        except BaseException:
            self.container.close()
            raise
