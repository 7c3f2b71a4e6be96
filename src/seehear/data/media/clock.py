"""When is a decoded frame to be seen? Which of a file's timestamps can be believed.

A packet has two: when it is to be decoded (dts) and when its frame is to be seen (pts). With
B-frames the two differ, since a frame is decoded after those that it refers to. Four cases:

- `presentation`: pts, nearly always.
- `decoding`: a frame is seen when the packet is due that lets the decoder give it out. AVI and ASF
  know no other time; what FFmpeg calls pts there is a guess. Programs that copied such a file to
  another kind wrote pts = dts: that shows when frames come out in another order than their pts
  although the packets' pts only rise, or when packets hold two frames of MPEG-4, as DivX packed
  them for AVI, which have one time between them. FFmpeg's best-effort timestamps end up there as
  well (`guess_correct_pts` in libavcodec), after some frames; here it holds for all frames, so that
  a frame has the same time wherever reading begins.
- `arrival`: the same by the pts of that packet, where FFmpeg has worked out dts that do not rise
  from such pts.
- `number`: bare streams have no timestamps; frame k is seen at k / fps.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from seehear.data.media.container import Source
from seehear.data.media.tracks import AnyPacket, Track

_DECODING_TIMES_ONLY = frozenset({"avi", "asf", "asf_o"})
# ASF has pts of these, since its inventor's own programs read them
_FOREIGN_TIMES = frozenset({"vc1", "wmv3"})
_ONE_IN_ONE_OUT = frozenset({"mpeg1video", "mpeg2video", "mpeg4"})
"""Codecs whose decoder holds one frame back, also while others are skipped."""

_MPEG4_FRAME = b"\0\0\1\xb6"  # what a frame begins with
_FRAMES_HELD = 16  # so many frames in order of their pts show that they are right
_USUAL_FPS = 25.0


class Misordered(Exception):
    """Presentation times are wrong: the stretch is read again, by other timestamps."""


@dataclass(frozen=True)
class Still:
    """A decoded frame and when it is to be seen first."""

    tick: int
    frame: VideoFrame


class Clock:
    """Gives the frames of a stretch their times, in ascending order.

    While nothing shows whether pts are right, frames are held back, and `feed` allows no skipping:
    that is so where the decoder reorders frames, and until the first packet whose pts falls, which
    is the second or third as a rule.
    """

    is_sure: bool  # which timestamps are right is known

    def __init__(self, source: Source, video: Track[VideoStream], fps: float) -> None:
        context = video.stream.codec_context
        only_dts = (
            source.container.format.name in _DECODING_TIMES_ONLY
            and context.name not in _FOREIGN_TIMES
        )
        self._goes_by: Literal["presentation", "decoding", "arrival", "number"] = "presentation"
        if source.is_numbered:
            self._goes_by = "number"
        elif only_dts and context.has_b_frames:
            self._goes_by = "decoding"
        self._step_ticks = 1 / ((fps or _USUAL_FPS) * video.tick_s)
        self._may_skip_by_dts = context.name in _ONE_IN_ONE_OUT
        self._may_be_packed = context.name == "mpeg4"
        self.is_sure = not context.has_b_frames or self._goes_by != "presentation"
        self.restart()

    def restart(self) -> None:
        """Another stretch begins, at a key frame."""
        self._newest_pts = self._newest_dts = -math.inf  # of packets
        self._pts_rise = self._dts_rise = True  # from packet to packet
        self._arrived: int | None = None  # pts of the packet that is being decoded
        self._last_tick: float = -math.inf  # of frames
        self._count = 0  # of frames
        self._held: list[Still] = []

    def feed(self, packet: AnyPacket | None) -> float:
        """Note a packet before it is decoded; raises Misordered where pts are not what they seem.

        Returns when its frame is to be seen, in ticks, so that it may be skipped; infinity if it
        must be decoded.
        """
        self._arrived = None if packet is None else packet.pts
        if packet is None or self._goes_by in ("number", "arrival"):
            return math.inf
        if self._pts_rise and packet.pts is not None:
            self._note_order(packet.pts, packet.dts)
        if self._may_be_packed and bytes(packet).count(_MPEG4_FRAME) > 1:
            # the decoder holds the second frame back
            self._may_be_packed = self._may_skip_by_dts = False
            if self._goes_by == "presentation":
                raise self._misordered("decoding")
        if self._goes_by == "presentation":
            return packet.pts if self.is_sure and packet.pts is not None else math.inf
        return packet.dts if self._may_skip_by_dts and packet.dts is not None else math.inf

    def _note_order(self, pts: int, dts: int | None) -> None:
        self._pts_rise, self._newest_pts = pts > self._newest_pts, pts
        self.is_sure = self.is_sure or not self._pts_rise
        if dts is not None:
            self._dts_rise, self._newest_dts = self._dts_rise and dts > self._newest_dts, dts

    def told(self, frame: VideoFrame) -> Iterator[Still]:
        """Take a frame, and give those whose time is known.

        Raises:
            Misordered: pts are not what they seem.
        """
        tick = self._tick(frame)
        # two frames for one time: the timestamps are damaged
        if tick is None or tick <= self._last_tick:
            return
        self._last_tick = tick
        self._count += 1
        self._held.append(Still(tick, frame))
        self.is_sure = self.is_sure or len(self._held) >= _FRAMES_HELD
        if self.is_sure:
            yield from self.rest()

    def rest(self) -> Iterator[Still]:
        """The frames that were held back: no more will come."""
        held, self._held = self._held, []
        yield from held

    def _tick(self, frame: VideoFrame) -> int | None:
        if self._goes_by == "number":
            return round(self._count * self._step_ticks)
        ticks = {"presentation": frame.pts, "decoding": frame.dts, "arrival": self._arrived}
        tick = ticks[self._goes_by]
        if tick is None:  # the decoder still held it when the packets ended; or there are no pts
            tick = frame.dts if self._count == 0 else round(self._last_tick + self._step_ticks)
        if tick is None or tick > self._last_tick:
            return tick
        if self._goes_by != "presentation":
            return round(self._last_tick + self._step_ticks)
        if self._pts_rise and frame.pts is not None:
            raise self._misordered("decoding" if self._dts_rise else "arrival")
        return tick

    def _misordered(self, goes_by: Literal["decoding", "arrival"]) -> Misordered:
        self._goes_by, self.is_sure = goes_by, True
        return Misordered()
