"""How does a stretch of a video become something small to look at and hear? Three files by a key:

    KEY.mp4               2 s, at most 160 pixels wide and high, H.264 and AAC
    KEY.webp              the frame in the middle
    KEY.spectrogram.webp  what is heard, as a picture

This module is imported by worker processes, so it imports little.
"""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np

from seehear.data.index.examination import Rejection
from seehear.data.media import read_clip
from seehear.data.media import stamp as stamp_of
from seehear.errors import MediaError
from seehear.machine.files import TEMPORARY

SECONDS = 2.0
SIDE_PIXELS = 160  # of the longer side
FRAME_RATE_HZ = 12
SOUND_RATE_HZ = 32000
# the last is written last, so where it is, all are
SUFFIXES = (".webp", ".spectrogram.webp", ".mp4")

_BANDS = 48
_WINDOW = 1024  # samples
_TOP_HZ = 10000.0
_RANGE_DB = 70.0  # from the loudest band down to black
_PALETTE = np.array(  # dark to light, RGB
    [[16, 19, 34], [31, 52, 92], [16, 104, 122], [61, 161, 132], [168, 205, 125], [253, 243, 190]],
    np.float64,
)


def cut(
    path: str,
    stamp: tuple[int, int],
    size: tuple[int, int],
    begin_s: float,
    seconds: float,
    cache: str,
    key: str,
) -> Rejection | None:
    """Write one excerpt; runs in a worker process; returns why it could not be done, or None.

    `stamp` and `size` are the original's, as the index has them: bytes and time of change in ns,
    width and height as displayed. The three files go to `cache`, by `key`.
    """
    try:
        found = stamp_of(path)
    except MediaError as error:
        return Rejection(error.reason, error.detail)
    except OSError:
        return Rejection("not found")
    if found != tuple(stamp):
        return Rejection("changed since it was indexed")
    longest = min(SIDE_PIXELS, max(size))  # a small picture is not blown up
    short = max(2, round(longest * min(size) / max(size)))
    times_s = begin_s + (np.arange(max(1, round(seconds * FRAME_RATE_HZ))) + 0.5) / FRAME_RATE_HZ
    try:
        frames_THWC, sound_S = read_clip(
            path, times_s, begin_s, seconds, short_side_pixels=short, sample_rate_hz=SOUND_RATE_HZ
        )
    except MediaError as error:
        return Rejection(error.reason, error.detail)
    even = frames_THWC[:, : frames_THWC.shape[1] // 2 * 2, : frames_THWC.shape[2] // 2 * 2]
    temporary = [Path(cache) / f"{TEMPORARY}{key}{suffix}" for suffix in SUFFIXES]
    temporary[0].write_bytes(picture(even[len(even) // 2]))
    temporary[1].write_bytes(picture(spectrogram(sound_S)))
    write_film(temporary[2], even, sound_S)
    for part, suffix in zip(temporary, SUFFIXES, strict=True):
        part.replace(Path(cache) / f"{key}{suffix}")
    return None


def write_film(path: Path, frames_THWC: np.ndarray, sound_S: np.ndarray) -> None:
    """Write H.264 and AAC to MP4; frames are uint8 RGB with even sides, sound is in [-1, 1]."""
    with av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"}) as container:
        video = container.add_stream(
            "libx264", rate=FRAME_RATE_HZ, options={"crf": "30", "preset": "veryfast"}
        )
        video.height, video.width = frames_THWC.shape[1:3]
        video.pix_fmt = "yuv420p"
        video.codec_context.thread_count = 1
        audio = container.add_stream(
            "aac", rate=SOUND_RATE_HZ, layout="mono", bit_rate=48000, options={"aac_coder": "fast"}
        )
        for number, frame_HWC in enumerate(frames_THWC):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame_HWC), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, FRAME_RATE_HZ)
            container.mux(video.encode(frame))
        container.mux(video.encode())
        sound = av.AudioFrame.from_ndarray(sound_S[None], format="fltp", layout="mono")
        sound.sample_rate, sound.pts, sound.time_base = SOUND_RATE_HZ, 0, Fraction(1, SOUND_RATE_HZ)
        container.mux(audio.encode(sound))
        container.mux(audio.encode())


def picture(image_HWC: np.ndarray) -> bytes:
    """A WebP file of a uint8 RGB image."""
    context = av.CodecContext.create("libwebp", "w")
    assert isinstance(context, av.VideoCodecContext)
    context.height, context.width = image_HWC.shape[:2]
    context.pix_fmt, context.time_base = "yuv420p", Fraction(1, 25)
    context.options = {"quality": "70"}
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image_HWC), format="rgb24").reformat(
        format="yuv420p"
    )
    return b"".join(bytes(packet) for packet in [*context.encode(frame), *context.encode()])


def spectrogram(sound_S: np.ndarray) -> np.ndarray:
    """Loudness by time and pitch as a uint8 RGB image: low is at the bottom, loud is light."""
    columns = SIDE_PIXELS
    padded = np.pad(sound_S.astype(np.float64), _WINDOW // 2)
    starts = np.linspace(0, max(0, len(padded) - _WINDOW), columns).astype(int)
    windows = np.lib.stride_tricks.sliding_window_view(padded, _WINDOW)[starts] * np.hanning(
        _WINDOW
    )
    power_SF = np.abs(np.fft.rfft(windows, axis=1)) ** 2
    mels = np.linspace(0, np.log1p(_TOP_HZ / 700), _BANDS + 1)  # 700 Hz: where the mel scale bends
    edges = (700 * np.expm1(mels) / SOUND_RATE_HZ * _WINDOW).astype(int)
    bands_SM = np.stack(
        [power_SF[:, a : max(b, a + 1)].mean(axis=1) for a, b in pairwise(edges)], axis=1
    )
    level_db = 10 * np.log10(bands_SM + 1e-12)
    loudest_db = max(float(level_db.max()), -20.0)  # silence stays dark
    share = np.clip(1 + (level_db - loudest_db) / _RANGE_DB, 0, 1).T[::-1]
    at = share * (len(_PALETTE) - 1)
    colours = np.stack(
        [np.interp(at, np.arange(len(_PALETTE)), _PALETTE[:, c]) for c in range(3)], axis=-1
    )
    return colours.round().astype(np.uint8)
