"""Seconds a..b of one file: uint8 frames and a float32 waveform, from one opening of it."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from seehear.data.media.container import Source
from seehear.data.media.hearing import Heard, Hearing, listen
from seehear.data.media.pictures import Pictures, Times
from seehear.data.media.sound import MEAN, read_samples

USUAL_FPS = 25.0


@dataclass(frozen=True)
class MediaInfo:
    """What a file holds. All times are seconds since the container's start.

    A stream that is not there, or that has no packets, has an empty codec and 0 everywhere else.
    """

    path: str
    video_codec: str = ""
    video_start_s: float = 0.0
    video_seconds: float = 0.0
    fps: float = 0.0  # mean frame rate; 0 if the file does not say
    width: int = 0  # as displayed: pixels made square, rotation applied
    height: int = 0
    # the stored picture is turned clockwise by 0, 90, 180 or 270 to stand upright
    rotation_degrees: int = 0
    audio_codec: str = ""
    audio_start_s: float = 0.0
    audio_seconds: float = 0.0
    sample_rate_hz: int = 0
    channels: int = 0
    audio_track: int = 0  # which of the tracks of sound is heard, 0 up
    audio_channel: int = MEAN  # which of its channels, 0 up; -1: their mean
    parts: int = 1  # recordings in the file, each with a clock of its own; one of them is read

    def extent_s(self, wanted: Sequence[str]) -> tuple[float, float]:
        """From when until when all wanted streams are there; if never, it ends too early."""
        starts = {"video": self.video_start_s, "audio": self.audio_start_s}
        lengths = {"video": self.video_seconds, "audio": self.audio_seconds}
        return max(0.0, *(starts[m] for m in wanted)), min(starts[m] + lengths[m] for m in wanted)

    @property
    def start_s(self) -> float:
        """When both picture and sound are there for the first time."""
        return self.extent_s(("video", "audio"))[0]

    @property
    def seconds(self) -> float:
        """How long both picture and sound are there; 0 if one is missing."""
        start_s, end_s = self.extent_s(("video", "audio"))
        return max(end_s - start_s, 0.0)


class Reader:
    """One open file, for several reads; to be used as a context manager, which closes it.

    Args:
        path: a local, regular file. Playlists, pipes and network addresses are refused.
        hearing: which of its sound is heard, if known; else found out when it is needed.

    Raises:
        MediaError: here and in every method, with `path` and a `reason` out of `REASONS`.
    """

    def __init__(self, path: str | os.PathLike[str], hearing: Hearing | None = None) -> None:
        self._source = Source(path)
        self._pictures: Pictures | None = None
        self._heard: Heard | None = None
        self._hearing = hearing
        # in a file that is not what it was there may be none such
        if hearing is not None and hearing.track in self._source.sounds:
            self._source.take_sound(hearing.track)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        self._source.close()

    @property
    def has_video(self) -> bool:
        """Is there a stream of pictures that move?"""
        return self._source.video is not None

    @property
    def has_audio(self) -> bool:
        """Is there a stream of sound?"""
        return self._source.audio is not None

    @property
    def num_sounds(self) -> int:
        """How many tracks of sound there are."""
        return len(self._source.sounds)

    @property
    def hearing(self) -> Hearing:
        """Which of the file's sound is heard; the file must have a track of sound."""
        if self._hearing is None:
            sounds, audio = self._source.sounds, self._source.audio
            is_plain = (
                len(sounds) == 1 and audio is not None and audio.stream.codec_context.channels == 1
            )
            self._hearing = Hearing(sounds[0]) if is_plain else self.listen().hearing
        return self._hearing

    def listen(self) -> Heard:
        """Find the first track with sound, and one channel of it where the channels cancel."""
        if self._heard is None:
            self._heard = listen(self._source)
            self._hearing = self._heard.hearing
        return self._heard

    def frames(self, times_s: Times, *, short_side_pixels: int | None = None) -> NDArray[np.uint8]:
        """The frame to be seen at each time: the last that begins by then, or the file's first.

        Args:
            times_s: seconds since the container's start, in any order. Times close to each other
                are read in one pass.
            short_side_pixels: scale so that the shorter side is this long, keeping the proportions;
                None: no scaling.

        Returns:
            uint8 (T, H, W, 3) RGB, upright, in display proportions; (0, 0, 0, 3) without times.
        """
        if len(times_s) == 0:
            return np.zeros((0, 0, 0, 3), np.uint8)
        assert all(math.isfinite(time_s) for time_s in times_s), times_s
        assert short_side_pixels is None or short_side_pixels > 0, short_side_pixels
        return self._open_pictures().at(times_s, short_side_pixels)

    def sound(
        self, start_s: float, seconds: float, *, sample_rate_hz: int = 16000
    ) -> NDArray[np.float32]:
        """The sound of a stretch, mixed to one channel, with zeros where the file has none.

        Args:
            start_s, seconds: the stretch, since the container's start.
            sample_rate_hz: of the result.

        Returns:
            float32 (round(seconds * sample_rate_hz),) in [-1, 1]: the mean of all channels but the
            low-frequency one, or one channel where they cancel in the file; of the first track with
            sound (`hearing`).
        """
        assert math.isfinite(start_s), start_s
        assert 0 <= seconds < math.inf, seconds
        assert sample_rate_hz > 0, sample_rate_hz
        channel = self.hearing.channel if self.has_audio else MEAN
        return read_samples(self._source, start_s, seconds, sample_rate_hz, channel)

    def info(self, *, listens: bool = True) -> MediaInfo:
        """What the file holds; decodes a frame, and looks in packets for what is not declared.

        Args:
            listens: look for the track and the channel that are heard, if need be; otherwise the
                likeliest is told of.
        """
        info = MediaInfo(self._source.path, parts=self._source.parts)
        hearing = self.hearing if listens and self.has_audio else None
        video_s = self._source.extent_s("video") if self._source.video is not None else None
        if video_s is not None:
            pictures = self._open_pictures()
            width, height, rotation_degrees = pictures.upright()
            info = replace(
                info,
                video_codec=self._source.track("video").stream.codec_context.name,
                video_start_s=video_s[0],
                # A single frame, where the file does not say how long it is seen, is seen for one
                # frame spacing.
                video_seconds=max(video_s[1] - video_s[0], 0.0) or 1 / (pictures.fps or USUAL_FPS),
                fps=pictures.fps,
                width=width,
                height=height,
                rotation_degrees=rotation_degrees,
            )
        audio_s = self._source.extent_s("audio") if self._source.audio is not None else None
        if audio_s is not None and self._source.audio is not None:
            context = self._source.audio.stream.codec_context
            info = replace(
                info,
                audio_codec=context.name,
                audio_start_s=audio_s[0],
                audio_seconds=max(audio_s[1] - audio_s[0], 0.0),
                sample_rate_hz=context.sample_rate,
                channels=context.channels,
            )
        if hearing is not None:
            info = replace(info, audio_track=hearing.track, audio_channel=hearing.channel)
        return info

    def _open_pictures(self) -> Pictures:
        if self._pictures is None:
            self._pictures = Pictures(self._source)
        return self._pictures
