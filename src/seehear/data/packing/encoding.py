"""One segment of a video -> a small file that decodes fast: what is kept, what is lost, and is it
what it was?

The picture is what training reads: the short side scaled down (never up), upright, square pixels,
one frame at each moment of a grid of `frame_rate_hz` that begins with the segment, and none where
the picture has not changed since the moment before. H.264 without B-frames, a key frame every
`KEY_FRAMES` frames that nothing refers across, no loop filter and no arithmetic coding, which cost
the decoder more than they save on disk. The sound is mono AAC.

This module is imported by worker processes, so it imports little.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from seehear.data.index.examination import Rejection
from seehear.data.media import Reader
from seehear.errors import MediaError
from seehear.machine.files import unfinished

KEY_FRAMES = 12
STILL_FRAMES_S = 0.5  # an unchanged picture is written again after so long
ENCODER = {
    "preset": "veryfast",
    "tune": "fastdecode",
    "g": str(KEY_FRAMES),
    "keyint_min": str(KEY_FRAMES),
    "sc_threshold": "0",
    "bf": "0",
    # With it the last macroblock of a frame was coded in one of several ways, from run to run (6 of
    # 28 runs; 0 of 56 without, at 14 % more bytes): the same segments are to make the same bytes.
    "mbtree": "0",
}
# of AAC
SOUND_RATES_HZ = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000)
SOUND_BITS = 4  # a sample, which at 16 kHz is 64 kbit/s

# levels of 255 by which a packed frame may differ from its original, on average
MAX_DIFFERENCE = 24.0
# root mean square of the difference, as a share of that of the sound, plus `SOUND_FLOOR`
MAX_SOUND_ERROR = 0.5
SOUND_FLOOR = 0.01
_CHUNK_BYTES = 2**27  # of frames that are held at once
_EDGE_S = 0.05  # of the sound, where coding may differ


@dataclass(frozen=True)
class Recipe:
    """What training reads of a segment."""

    # of the picture; even, since half of it is the size of the colour planes
    short_side_pixels: int
    frame_rate_hz: float  # of the grid on which frames are kept
    sample_rate_hz: int  # one of `SOUND_RATES_HZ`
    quality: int  # x264's constant rate factor, 0 to 51; lower is better and larger


def encode(
    path: str,
    start_s: float,
    seconds: float,
    size: tuple[int, int],
    recipe: Recipe,
    folder: str,
    key: str,
    note: str,
) -> dict[str, Any] | Rejection:
    """Write `KEY.mp4` and `KEY.json`, whole or not at all; runs in a worker process.

    `size` is the video's, width and height as displayed; `note`, JSON of what is known of the
    original, goes into `KEY.json`. Returns what that holds, or why the segment cannot be packed;
    StorageError on a full disk, which is no fault of the segment.
    """
    target = Path(folder) / f"{key}.mp4"
    with unfinished(target) as temporary:
        try:
            sound_S = _write(temporary, path, start_s, seconds, size, recipe)
            facts = _verify(temporary, path, start_s, seconds, size, recipe, sound_S)
        except MediaError as error:
            return Rejection(error.reason, error.detail)
        content = temporary.read_bytes()
        written = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        record: dict[str, Any] = json.loads(note) | facts | written
        temporary.replace(target)
        temporary.write_text(json.dumps(record, ensure_ascii=False), encoding="utf-8")
        temporary.replace(target.with_suffix(".json"))
        return record


def packed_side(size: tuple[int, int], recipe: Recipe) -> int:
    """The short side of a packed picture: the recipe's, or a smaller original's, made even."""
    return max(2, min(recipe.short_side_pixels, min(size) // 2 * 2))


def sound_rate_hz(wanted_hz: int) -> int:
    """The lowest rate of AAC that loses nothing of a wanted one."""
    return next((rate for rate in SOUND_RATES_HZ if rate >= wanted_hz), SOUND_RATES_HZ[-1])


def moments(start_s: float, seconds: float, recipe: Recipe) -> NDArray[np.float64]:
    """When frames are kept, float64 (T,)."""
    count = max(1, math.ceil(seconds * recipe.frame_rate_hz - 1e-6))
    return start_s + np.arange(count) / recipe.frame_rate_hz


def _chunks(
    reader: Reader, times_s: NDArray[np.float64], size: tuple[int, int], side: int
) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Frames at some times, as many at once as memory allows, and the number of the first."""
    width, height = size[0] * side / min(size), size[1] * side / min(size)
    step = max(1, int(_CHUNK_BYTES / (width * height * 3)))
    for first in range(0, len(times_s), step):
        frames_THWC = reader.frames(times_s[first : first + step].tolist(), short_side_pixels=side)
        yield (
            first,
            frames_THWC[:, : frames_THWC.shape[1] // 2 * 2, : frames_THWC.shape[2] // 2 * 2],
        )


def _write(
    target: Path, path: str, start_s: float, seconds: float, size: tuple[int, int], recipe: Recipe
) -> NDArray[np.float32]:
    """Write the file and give back the sound that was meant."""
    rate = Fraction(recipe.frame_rate_hz).limit_denominator(1001)
    rate_hz = recipe.sample_rate_hz
    last_frame, last_number = None, -math.inf
    times_s = moments(start_s, seconds, recipe)
    with (
        Reader(path) as reader,
        av.open(str(target), "w", format="mp4", options={"movflags": "+faststart"}) as file,
    ):
        sound_S = reader.sound(start_s, seconds, sample_rate_hz=rate_hz)
        video = file.add_stream(
            "libx264", rate=rate, options=ENCODER | {"crf": str(recipe.quality)}
        )
        video.codec_context.thread_count = 1
        video.pix_fmt = "yuv420p"
        audio = file.add_stream("aac", rate=rate_hz, layout="mono", bit_rate=rate_hz * SOUND_BITS)
        for first, frames_THWC in _chunks(reader, times_s, size, packed_side(size, recipe)):
            video.height, video.width = frames_THWC.shape[1:3]
            for number, frame_HWC in enumerate(frames_THWC, first):
                is_last = number == len(times_s) - 1
                is_old = number - last_number >= STILL_FRAMES_S * recipe.frame_rate_hz
                if (
                    is_last
                    or is_old
                    or last_frame is None
                    or not np.array_equal(frame_HWC, last_frame)
                ):
                    frame = av.VideoFrame.from_ndarray(
                        np.ascontiguousarray(frame_HWC), format="rgb24"
                    )
                    frame.pts, frame.time_base, frame.duration = number, 1 / rate, 1
                    file.mux(video.encode(frame))
                    last_frame, last_number = frame_HWC, number
        file.mux(video.encode(None))
        heard = av.AudioFrame.from_ndarray(sound_S[None], format="fltp", layout="mono")
        heard.sample_rate, heard.pts, heard.time_base = rate_hz, 0, Fraction(1, rate_hz)
        file.mux(audio.encode(heard))
        file.mux(audio.encode(None))
    return sound_S


def _verify(
    packed: Path,
    path: str,
    start_s: float,
    seconds: float,
    size: tuple[int, int],
    recipe: Recipe,
    sound_S: NDArray[np.float32],
) -> dict[str, Any]:
    """Read all of a packed file and compare it with its original.

    Raises:
        MediaError: it cannot be read, or is not the original at each moment.
    """
    side = packed_side(size, recipe)
    with Reader(packed) as reader, Reader(path) as original:
        info = reader.info()
        theirs = _chunks(original, moments(start_s, seconds, recipe), size, side)
        ours = _chunks(reader, moments(0.0, seconds, recipe), size, side)
        for (first, wanted_THWC), (_, found_THWC) in zip(theirs, ours, strict=True):
            if wanted_THWC.shape != found_THWC.shape:
                raise MediaError(
                    path, "unreadable", f"packed {found_THWC.shape}, original {wanted_THWC.shape}"
                )
            difference_T = np.abs(wanted_THWC.astype(np.int16) - found_THWC).mean(axis=(1, 2, 3))
            if difference_T.max() > MAX_DIFFERENCE:
                worst = first + int(difference_T.argmax())
                raise MediaError(
                    path,
                    "unreadable",
                    f"frame {worst} is {difference_T.max():.0f} levels off when packed",
                )
        heard_S = reader.sound(0.0, seconds, sample_rate_hz=recipe.sample_rate_hz)
    edge = min(len(sound_S) // 4, round(_EDGE_S * recipe.sample_rate_hz))
    inner = slice(edge, len(sound_S) - edge)
    error = float(np.sqrt(np.mean((heard_S[inner] - sound_S[inner]) ** 2)))
    level = float(np.sqrt(np.mean(sound_S[inner] ** 2)))
    if error > MAX_SOUND_ERROR * level + SOUND_FLOOR:
        raise MediaError(
            path, "unreadable", f"the packed sound differs by {error:.3f} at a level of {level:.3f}"
        )
    return {
        "fps": info.fps,
        "width": info.width,
        "height": info.height,
        "rotation_degrees": 0,
        "sample_rate_hz": info.sample_rate_hz,
        "channels": info.channels,
        "video_codec": info.video_codec,
        "audio_codec": info.audio_codec,
        "audio_track": info.audio_track,
        "audio_channel": info.audio_channel,
        "parts": info.parts,
    }
