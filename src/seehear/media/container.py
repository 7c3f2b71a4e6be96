"""Which streams of a file are its picture and its sound, when do they run, and where must reading start?

A file is data, not a programme: only regular files, and members of tar files, are opened, only by the demuxers of
`FORMATS`, so that playlists, network addresses, image patterns and devices are refused. All times are seconds since the
container's start.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Literal, TypeAlias, TypeVar

import av
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.packet import Packet
from av.stream import Discard, Disposition
from av.video.stream import VideoStream

from seehear.errors import MediaError
from seehear.media.lengths import is_estimated, seeks_by_rate
from seehear.media.members import Member, member_of
from seehear.media.reasons import MAX_CHANNELS, MAX_PIXELS, MAX_SAMPLE_RATE_HZ
from seehear.media.signatures import HEAD_BYTES, looks_like_media, looks_like_playlist

FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,flv,live_flv,kux,asf,asf_o,ogg,rm,wtv,mxf,gxf,nut,"
    "dv,ivf,nsv,nuv,swf,obu,av1,h261,h263,h264,hevc,vvc,m4v,vc1,dirac,mjpeg,yuv4mpegpipe,gif,apng,ty,pva,dhav,ivr,"
    "wav,w64,aiff,au,caf,mp3,flac,aac,ac3,eac3,dts,dtshd,truehd,mlp,ape,wv,tta,tak,amr,mpc,mpc8,shn,voc,loas"
)
"""FFmpeg's names of the demuxers that may open a file: none of them follows a reference to another file."""

TIME_TOLERANCE_S = 0.0005
"""Matroska rounds timestamps to milliseconds: a wanted time may be meant for a timestamp this much later."""

_OPEN_OPTIONS = {"protocol_whitelist": "file", "format_whitelist": FORMATS, "max_pixels": str(MAX_PIXELS)}
_COVER = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.still_image
_FIRST_TAIL_S = (
    2.0  # an end that is not declared is looked for in the last seconds, then in four times as many, and so on
)
_FIRST_BACK_S = 1.0  # a seek that landed too late is tried again so much earlier, then twice as much, and so on

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
        tolerance = max(min(0.5, TIME_TOLERANCE_S / self.tick_s), 1e-6 / self.tick_s)  # the origin is in microseconds
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
        tag = self.stream.metadata.get("DURATION", "")  # Matroska's writers note each stream's end: 00:00:09.876000000
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
    """An open file and its tracks; `video` or `audio` is None where there is none. Formats without seeking are opened
    anew now and then, so a track is to be taken from here after each `packets_from`.

    Raises:
        MediaError: the file cannot be opened, its codecs are unknown, or a declared size is absurd.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        self.video: Track[VideoStream] | None = None
        self.audio: Track[AudioStream] | None = None
        self._sound: int | None = None  # the number of the track that was taken; None: `sounds[0]`
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
        """Does the index hold all key frames? That of MP4 does; others grow while reading, or hold some."""
        return self.container.format.name.startswith("mov")

    @property
    def sounds(self) -> list[int]:
        """Numbers of the tracks of sound, 0 up in the file, the likeliest first: decodable, default, early ones."""
        streams = self.container.streams.audio
        moving = [number for number, stream in enumerate(streams) if not stream.disposition & _COVER]
        return sorted(moving, key=lambda number: _rank(streams[number]), reverse=True)

    def take_sound(self, number: int) -> None:
        """Hear another track from now on; raises `MediaError` where it has no decoder, or absurd sizes."""
        stream = self.container.streams.audio[number]
        self._check(None, stream)
        self._sound = number
        if self.audio is None or self.audio.stream.index != stream.index:
            self.close()
            self._open()

    def track(self, kind: Kind) -> AnyTrack:
        """The track of that kind; raises `MediaError` where there is none."""
        track = self.video if kind == "video" else self.audio
        if track is None:
            raise self.fail(f"no {kind} stream")
        return track

    def packets_from(self, kind: Kind, time_s: float) -> tuple[bool, Iterator[AnyPacket | None]]:
        """The packets of one stream from a key frame at or before a time, then None for the end of the file.

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
        """When a stream starts and ends, looked up in the packets where the file does not say; None without packets."""
        start_s, end_s = self.track(kind).declared_start_s, self.track(kind).declared_end_s
        if start_s is None:
            _, packets = self.packets_from(kind, -math.inf)
            first = next(packets)
            start_s = None if first is None else self.track(kind).packet_span_s(first)[0]
        if end_s is None:
            end_s = self._find_end_s(kind)
        return None if start_s is None or end_s is None else (start_s, end_s)

    def _find_end_s(self, kind: Kind) -> float | None:
        total_s = 0.0 if self._is_estimated else (self.container.duration or 0) / av.time_base
        tail_s = _FIRST_TAIL_S
        while True:
            at_start = self._seek(kind, total_s - tail_s)
            ends = [self.track(kind).packet_span_s(packet)[1] for packet in self._packets(kind) if packet]
            if ends or at_start:
                return max(ends, default=None)
            tail_s *= 4

    def _seek(self, kind: Kind, time_s: float) -> bool:
        """Go to a key frame near a time, before it if the format can; True at the very beginning of the file."""
        starts_s = [track.declared_start_s for track in (self.video, self.audio) if track is not None]
        start_s = min((s for s in starts_s if s is not None), default=0.0)
        at_start = time_s <= start_s or seeks_by_rate(self.container)
        wanted = self.track(kind)
        # MP4 seeks exactly in each stream; most other formats have an index of the video only.
        guide = wanted if self.video is None or self.lists_key_frames else self.video
        if at_start and not self.lists_key_frames:
            self._rewind()  # a seek may lose what precedes the first key frame: the first packet of sound in Matroska
        else:
            self._is_fresh = False  # a seek that fails leaves the file anywhere
            self._read_only(guide)  # MPEG-TS looks for packets of this stream
            try:
                tick = guide.last_tick(max(time_s, start_s))
                if at_start and len(guide.stream.index_entries):  # what precedes the start primes the decoder of AAC
                    tick = min(tick, guide.stream.index_entries[0].timestamp)
                self.container.seek(tick, stream=guide.stream, backward=True)
            except av.FFmpegError:  # no index, or a broken one: all that is left is to read from the beginning
                self._rewind()
                at_start = True
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
        # An unreadable rest is the end of the file. PyAV raises IndexError there when damage looked like a new stream.
        with contextlib.suppress(av.FFmpegError, IndexError):
            yield from (packet for packet in self.container.demux(self.track(kind).stream) if packet.size)
        yield None

    def _open(self) -> None:
        self.container = _open_container(self.path)
        self._is_fresh = True  # nothing has been read yet
        try:
            video, audio = _choose(self.container.streams.video), _choose(self.container.streams.audio)
            if self._sound is not None:
                audio = self.container.streams.audio[self._sound]
            self._check(video, audio)
            start_us = self.container.start_time
            self._origin_s = 0.0 if start_us is None else start_us / av.time_base  # None: no stream says when it starts
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
        if video is not None and not 0 < video.width * video.height <= MAX_PIXELS:  # FFmpeg makes 0 of what is too much
            size = f"{video.width}x{video.height}" if video.width * video.height else "none, or too large"
            raise self.fail("absurd size", f"{size}; the limit is {MAX_PIXELS} pixels in all")
        if audio is not None and audio.codec_context.channels > MAX_CHANNELS:
            raise self.fail("absurd size", f"{audio.codec_context.channels} channels; the limit is {MAX_CHANNELS}")
        if audio is not None and audio.codec_context.sample_rate > MAX_SAMPLE_RATE_HZ:
            rate_hz = audio.codec_context.sample_rate
            raise self.fail("absurd size", f"{rate_hz} samples of sound per second; the limit is {MAX_SAMPLE_RATE_HZ}")


def _open_container(path: str) -> InputContainer:
    member = member_of(path)
    if member is not None:
        member.check()
        return _open_address(path, _address_in_shard(member), _OPEN_OPTIONS | {"protocol_whitelist": "file,subfile"})
    try:
        status = Path(path).stat()
    except PermissionError as error:
        raise MediaError(path, "no permission", error.strerror or "") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise MediaError(path, "not found", getattr(error, "strerror", None) or str(error)) from None
    if not stat.S_ISREG(status.st_mode):
        raise MediaError(path, "not a regular file")
    if status.st_size == 0:
        raise MediaError(path, "empty file")
    # An absolute path never looks like a protocol ("concat:", "http:").
    return _open_address(path, os.path.abspath(path), _OPEN_OPTIONS)  # noqa: PTH100 (the links are the user's business)


def _address_in_shard(member: Member) -> str:
    """FFmpeg's address of some bytes of a file; the path is absolute, so it can be nothing but a file."""
    return f"subfile,,start,{member.offset},end,{member.offset + member.size},,:{member.shard}"


def _open_address(path: str, address: str, options: dict[str, str]) -> InputContainer:
    try:
        return av.open(address, "r", options=options, metadata_errors="replace")  # metadata may be in any encoding
    except PermissionError as error:
        raise MediaError(path, "no permission", error.strerror or "") from None
    except av.FFmpegError as error:
        raise MediaError(path, _reason_of_failed_open(path, error), error.strerror or str(error)) from None


def _reason_of_failed_open(path: str, error: av.FFmpegError) -> str:
    member = member_of(path)
    with Path(member.shard if member else path).open("rb") as file:
        file.seek(member.offset if member else 0)
        head = file.read(min(HEAD_BYTES, member.size) if member else HEAD_BYTES)
    if looks_like_playlist(head):
        return "playlist"
    # A demuxer that is not in FORMATS is refused as a wrong argument.
    is_refused = isinstance(error, av.error.ArgumentError)
    return "unreadable" if looks_like_media(head) and not is_refused else "not a media file"


def _choose(streams: tuple[StreamT, ...]) -> StreamT | None:
    """The likeliest stream, and of those the first; pictures that only illustrate the file do not count."""
    moving = [stream for stream in streams if not stream.disposition & _COVER]
    return max(moving, key=_rank, default=None)


def _rank(stream: VideoStream | AudioStream) -> tuple[bool, bool]:
    """How likely a stream is meant, the greater the likelier: is there a decoder, is it marked as default?"""
    return stream.codec_context is not None, bool(stream.disposition & Disposition.default)


def _track(stream: StreamT | None, origin_s: float, knows_end: bool) -> Track[StreamT] | None:
    if stream is None:
        return None
    assert stream.time_base is not None
    stream.codec_context.thread_count = 1  # more threads would cost more CPU in all; processes run in parallel instead
    stream.codec_context.options = {"max_pixels": str(MAX_PIXELS)}  # for sizes that change on the way
    return Track(stream, float(stream.time_base), origin_s, knows_end)
