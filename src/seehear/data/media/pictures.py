"""Which frame is to be seen at each wanted time?

The last one whose timestamp is not after it. Nearly all the time goes into decoding from the key
frame before the first wanted time; on that way, frames that no other frame refers to are skipped
(`skip_frame="NONREF"`), and only wanted frames are converted to RGB and scaled, in one call.

Skipping changes no picture: every frame that starts within the lead before a wanted time is
decoded, and when the frame found is older than that, so that a skipped one may lie in between, the
stretch is read again without skipping.

Timestamps: `clock` says which of them are believed.
"""

from __future__ import annotations

import contextlib
import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from enum import Enum, auto

import av
import numpy as np
from av.sidedata.sidedata import SideData
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream
from numpy.typing import NDArray

from seehear.data.media.clock import Clock, Misordered, Still
from seehear.data.media.container import Source
from seehear.data.media.reasons import MAX_PIXELS
from seehear.data.media.tracks import AnyPacket, Track

Times = Sequence[float] | NDArray[np.float64]

SKIP_LEAD_S = 0.3
"""Nothing is skipped so long before a wanted time, or three frames before at low rates."""

JUMP_S = 2.0
"""Between wanted times farther apart than this, a key frame in between is gone to."""

BLIND_JUMP_S = 10.0
"""The same where the file does not list its key frames."""

HOLD_S = 0.5
"""The last frame is still an answer so long after its end."""

# frames nothing refers to are marked so
_SKIPPABLE_CODECS = frozenset({"h264", "mpeg1video", "mpeg2video", "mpeg4"})
_MOST_FPS = 1000  # more is a unit of time taken for a rate, as in DV
_MAX_PIXEL_ASPECT = 8  # wider or taller pixels than this are a mistake in the header
_UPRIGHT = np.eye(2, dtype=np.int32)
# how much earlier to start when nothing could be decoded in time, then twice as much, and so on
_FIRST_BACK_S = 1.0


class _Outcome(Enum):
    DONE = auto()  # all wanted frames are there
    JUMP = auto()  # the next one is far away: seek
    LATE = auto()  # the first frame that came out is already after the wanted time: start earlier
    UNSURE = auto()  # a wanted frame may have been skipped: do not skip


class Pictures:
    """Frames of an open file at wanted times, upright and in display proportions.

    Raises:
        MediaError: there is no video stream.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._reformatter = VideoReformatter()
        video = self._track.stream
        rates = video.average_rate or 0, video.guessed_rate or 0
        # Of a bare stream the mean is what FFmpeg presumes, and the guess is what the stream says.
        self.fps = float(
            rates[1] if source.is_numbered or rates[0] > _MOST_FPS else rates[0] or rates[1]
        )
        self._clock = Clock(source, self._track, self.fps)
        self._lead_s = max(SKIP_LEAD_S, 3 / self.fps) if self.fps else SKIP_LEAD_S
        self._can_skip = _is_skippable(video)
        self._stored_size = _with_square_pixels(video)

    def at(self, times_s: Times, short_side_pixels: int | None) -> NDArray[np.uint8]:
        """The frames to be seen at some times, in any order: uint8 (T, H, W, 3) RGB.

        The shorter of H and W is `short_side_pixels`; with None nothing is scaled. Raises
        MediaError for a time past the end, or where no frame can be decoded.
        """
        if len(times_s) == 0:
            return np.zeros((0, 0, 0, 3), np.uint8)
        order = np.argsort(np.asarray(times_s, np.float64), kind="stable")
        wanted_s = [float(times_s[i]) for i in order]
        size = self._scaled_size(short_side_pixels)
        images: list[NDArray[np.uint8]] = []
        back_s, may_skip = 0.0, self._can_skip
        while len(images) < len(wanted_s):
            try:
                outcome = self._collect(wanted_s[len(images) :], size, back_s, may_skip, images)
            except Misordered:  # once: from now on the clock goes by other timestamps
                images.clear()
                back_s, may_skip = 0.0, self._can_skip
                continue
            if outcome is _Outcome.LATE:
                back_s = max(_FIRST_BACK_S, 2 * back_s)
            elif outcome is _Outcome.UNSURE:
                may_skip = False
            else:
                back_s, may_skip = 0.0, self._can_skip
        frames_THWC = np.empty((len(images), *images[0].shape), np.uint8)
        for i, image in zip(order, images, strict=True):
            frames_THWC[i] = image
        return frames_THWC

    def upright(self) -> tuple[int, int, int]:
        """Width and height as displayed, and by how many degrees it is turned clockwise."""
        _, packets = self._source.packets_from("video", -math.inf)
        for frame in self._frames(packets, lambda packet: False):
            matrix = display_matrix(frame)
            width, height = self._scaled_size(None)
            if _is_transposed(matrix):
                width, height = height, width
            degrees = math.degrees(math.atan2(matrix[0, 1], matrix[0, 0]))
            return width, height, round(degrees / 90) % 4 * 90
        raise self._source.fail("unreadable", "no frame can be decoded")

    @property
    def _track(self) -> Track[VideoStream]:
        track = self._source.track("video")
        assert isinstance(track.stream, VideoStream)
        return track

    def _collect(
        self,
        wanted_s: list[float],
        size: tuple[int, int],
        back_s: float,
        may_skip: bool,
        images: list[NDArray[np.uint8]],
    ) -> _Outcome:
        """Append images at ascending wanted times, as far as one stretch of decoding goes."""
        at_start, packets = self._source.packets_from("video", wanted_s[0] - back_s)
        waiting = deque(self._track.last_tick(time_s) for time_s in wanted_s)
        lead_ticks = self._lead_s / self._track.tick_s if may_skip else math.inf
        for shown, until_tick in _spans(
            self._decoded(packets, at_start, lambda: waiting[0] - lead_ticks), at_start
        ):
            if waiting[0] < until_tick:
                if shown is None:
                    return _Outcome.LATE
                if shown.tick < waiting[0] - lead_ticks:
                    return _Outcome.UNSURE
                if math.isinf(until_tick):
                    self._check_hold(shown, waiting[-1], wanted_s[-1])
                image = self._convert(shown.frame, size)
            while waiting and waiting[0] < until_tick:
                images.append(image)
                waiting.popleft()
            if not waiting:
                return _Outcome.DONE
            if (
                shown is not None
                and len(waiting) < len(wanted_s)
                and self._pays_to_jump(shown.tick, waiting[0])
            ):
                return _Outcome.JUMP
        raise self._source.fail("unreadable", "no frame can be decoded")

    def _decoded(
        self, packets: Iterator[AnyPacket | None], at_start: bool, skip_before: Callable[[], float]
    ) -> Iterator[Still]:
        """Frames in ascending order of time, but before a tick none that nothing refers to.

        None at all where the packets end before it is known which timestamps are right, unless
        there are none before.
        """
        clock = self._clock
        clock.restart()
        for frame in self._frames(packets, lambda packet: clock.feed(packet) < skip_before()):
            yield from clock.told(frame)
        if clock.is_sure or at_start:
            yield from clock.rest()

    def _frames(
        self, packets: Iterator[AnyPacket | None], skip: Callable[[AnyPacket | None], bool]
    ) -> Iterator[VideoFrame]:
        """Frames as they are decoded; of packets to skip only what other frames refer to.

        A packet that cannot be decoded is passed over, as players do.
        """
        context = self._track.stream.codec_context
        context.skip_frame = "DEFAULT"
        skipping = False
        for packet in packets:
            if skip(packet) != skipping:
                skipping = not skipping
                context.skip_frame = "NONREF" if skipping else "DEFAULT"
            with contextlib.suppress(av.FFmpegError):
                yield from context.decode(packet)

    def _pays_to_jump(self, now_tick: int, next_tick: int) -> bool:
        """Whether the next wanted time is far away, with a key frame before it yet to come."""
        track = self._track
        gap_s = (next_tick - now_tick) * track.tick_s
        if gap_s <= JUMP_S:
            return False
        entries = track.stream.index_entries
        # The index may hold decoding times, which are a little earlier than those of presentation.
        key = (
            entries.search_timestamp(next_tick - round(self._lead_s / track.tick_s))
            if len(entries)
            else -1
        )
        if key >= 0 and entries[key].timestamp > now_tick:
            return True
        return gap_s > BLIND_JUMP_S and not self._source.lists_key_frames

    def _check_hold(self, shown: Still, tick: int, time_s: float) -> None:
        """Raise when a time is so long after the last frame that this one is no answer any more."""
        track = self._track
        if (tick - shown.tick - max(shown.frame.duration, 0)) * track.tick_s <= HOLD_S:
            return
        end_s = track.declared_end_s
        found = f"the last frame is at {track.seconds(shown.tick):.2f} s, wanted was {time_s:.2f} s"
        raise self._source.fail(
            "past the end" if end_s is None or time_s > end_s + HOLD_S else "truncated", found
        )

    def _scaled_size(self, short_side_pixels: int | None) -> tuple[int, int]:
        width, height = self._stored_size
        scale = 1.0 if short_side_pixels is None else short_side_pixels / min(width, height)
        size = max(1, round(width * scale)), max(1, round(height * scale))
        if size[0] * size[1] > MAX_PIXELS:
            raise self._source.fail(
                "absurd size",
                f"{size[0]}x{size[1]} after scaling; the limit is {MAX_PIXELS} pixels",
            )
        return size

    def _convert(self, frame: VideoFrame, size: tuple[int, int]) -> NDArray[np.uint8]:
        try:
            rgb = self._reformatter.reformat(frame, size[0], size[1], "rgb24", threads=1)
        except (av.FFmpegError, ValueError) as error:
            raise self._source.fail(
                "unreadable", f"a frame of format {frame.format.name} cannot be converted"
            ) from error
        return turn(np.asarray(rgb.to_ndarray(), np.uint8), display_matrix(frame))


def _spans(decoded: Iterator[Still], at_start: bool) -> Iterator[tuple[Still | None, float]]:
    """Each frame with the tick until which it is to be seen, and before the first frame None.

    At the start of the file, the first frame is to be seen from ever; the last frame is until ever.
    """
    shown: Still | None = None
    for still in decoded:
        if shown is not None or not at_start:
            yield shown, still.tick
        shown = still
    if shown is not None or not at_start:
        yield shown, math.inf


def _is_skippable(video: VideoStream) -> bool:
    if video.codec_context.name in _SKIPPABLE_CODECS:
        return True
    # HEVC marks what nothing of the same temporal layer refers to: safe where the header says that
    # there is one layer.
    header = video.codec_context.extradata or b""
    return (
        video.codec_context.name == "hevc"
        and len(header) > 22
        and header[0] == 1
        and header[21] >> 3 & 7 == 1
    )


def _with_square_pixels(video: VideoStream) -> tuple[float, float]:
    """Width and height of a stored picture once its pixels are square, not rounded."""
    aspect = video.sample_aspect_ratio
    if not aspect or not 1 / _MAX_PIXEL_ASPECT <= aspect <= _MAX_PIXEL_ASPECT:
        return video.width, video.height
    return float(video.width * aspect), video.height


def display_matrix(frame: VideoFrame) -> NDArray[np.int32]:
    """The linear part of the display matrix: rows are the stored x and y axes, y downwards."""
    data = frame.side_data.get("DISPLAYMATRIX")
    if not isinstance(data, SideData):
        return _UPRIGHT
    return np.frombuffer(bytes(data), np.int32, 9).reshape(3, 3)[:2, :2]


def _is_transposed(matrix: NDArray[np.int32]) -> bool:
    return bool(abs(int(matrix[0, 1])) > abs(int(matrix[0, 0])))


def turn(image_HWC: NDArray[np.uint8], matrix: NDArray[np.int32]) -> NDArray[np.uint8]:
    """A view of the picture as the display matrix wants it, to the nearest right angle."""
    if _is_transposed(matrix):
        image_HWC = image_HWC.swapaxes(0, 1)
        flip_x, flip_y = matrix[1, 0] < 0, matrix[0, 1] < 0
    else:
        flip_x, flip_y = matrix[0, 0] < 0, matrix[1, 1] < 0
    return image_HWC[:: -1 if flip_y else 1, :: -1 if flip_x else 1]
