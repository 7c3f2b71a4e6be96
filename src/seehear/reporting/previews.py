"""Which segments are shown as pictures and sound, and how are they cut, once, from the original files?

A preview is three small files named by a key: KEY.mp4 (2 s, at most 160 pixels wide and high, H.264 and AAC, which
every browser plays), KEY.webp (its middle frame) and KEY.spectrogram.webp. The key is a digest of which stretch of
which file it is, with size and time of change, so a file that changed gets new previews. They are kept in RUN/previews,
and a later report cuts only what is not there. Worker processes cut, so a file that crashes or hangs the decoder costs
only its own preview.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np

from seehear.errors import MediaError
from seehear.indexing import Index
from seehear.indexing.examination import Rejection
from seehear.indexing.workers import in_workers
from seehear.progress import Console
from seehear.runs import TEMPORARY

RECIPE = 1  # raised when previews are made in another way, so that old ones are not taken for new ones
SECONDS = 2.0
SIDE_PIXELS = 160  # of the longer side
FRAME_RATE_HZ = 12
SOUND_RATE_HZ = 32000
TIMEOUT_S = 30.0
SUFFIXES = (".webp", ".spectrogram.webp", ".mp4")  # the last is written last, so where it is, all are

_BANDS = 48
_WINDOW = 1024  # samples
_TOP_HZ = 10000.0
_RANGE_DB = 70.0  # from the loudest band down to black
_PALETTE = np.array(  # dark to light, RGB
    [[16, 19, 34], [31, 52, 92], [16, 104, 122], [61, 161, 132], [168, 205, 125], [253, 243, 190]], np.float64
)


@dataclass
class Previews:
    """What could be cut.

    keys: row -> key; failed: row -> reason; wanted: how many were asked for; cut: how many were not there already.
    """

    keys: dict[int, str] = field(default_factory=dict)
    failed: dict[int, str] = field(default_factory=dict)
    wanted: int = 0
    cut: int = 0

    @property
    def reasons(self) -> dict[str, int]:
        """Reason -> how many failed for it."""
        return dict(Counter(self.failed.values()).most_common())


def choose(ranks: Mapping[str, np.ndarray], cells: np.ndarray, budget: int) -> np.ndarray:
    """The rows that get a preview, in the order in which they matter.

    First the row nearest to each centroid of each space, then the second nearest, and so on to the sixth; then the rows
    that stand for the cells of the matrix; then further neighbours; then rows spread evenly over the rest.

    Args:
        ranks: space -> (N,) int, 0 for the row nearest to its centroid; negative for rows without a label.
        cells: rows that stand for cells of the matrix.
        budget: so many at most.
    """
    num_rows = len(next(iter(ranks.values())))
    near = [np.flatnonzero(rank_N == r) for r in range(6) for rank_N in ranks.values()]
    further = [np.flatnonzero(rank_N == r) for r in range(6, 24) for rank_N in ranks.values()]
    rest = np.random.default_rng(0).permutation(num_rows)[: 2 * budget]
    rows = np.concatenate([*near, cells, *further, rest]).astype(np.int64)
    first = np.sort(np.unique(rows, return_index=True)[1])
    return rows[first][:budget]


def make(index: Index, rows: Sequence[int] | np.ndarray, cache: Path, workers: int, console: Console) -> Previews:
    """Cut the previews of some rows that are not in `cache` yet."""
    previews = Previews(wanted=len(rows))
    cache.mkdir(parents=True, exist_ok=True)
    root = str(index.info["root"])
    jobs, missing = [], []
    for row in map(int, rows):
        begin_s = float(index.start_s[row] + max(0.0, (index.seconds[row] - SECONDS) / 2))
        begin_s = round(begin_s, 3)
        seconds = round(min(SECONDS, float(index.seconds[row])), 3)
        path, stamp = index.path(row), (int(index.file_bytes[row]), int(index.modified_ns[row]))
        key = key_of(os.path.relpath(path, root), stamp, begin_s, seconds)
        previews.keys[row] = key
        if not (cache / f"{key}.mp4").exists():
            missing.append(row)
            size = (int(index.width[row]), int(index.height[row]))
            jobs.append((path, stamp, size, begin_s, seconds, str(cache), key))
    count = console.watch("previews", len(jobs))
    for done, (number, answer) in enumerate(in_workers("seehear.reporting.previews:cut", jobs, workers, TIMEOUT_S), 1):
        if isinstance(answer, Rejection):
            row = missing[number]
            previews.failed[row] = answer.reason
            del previews.keys[row]
        count(done)
    previews.cut = len(jobs) - len(previews.failed)
    return previews


def key_of(path: str, stamp: tuple[int, int], begin_s: float, seconds: float) -> str:
    """The name of a preview, from what it is of: 16 hexadecimal digits."""
    what = json.dumps([RECIPE, path, *stamp, begin_s, seconds])
    return hashlib.sha256(what.encode()).hexdigest()[:16]


def link(keys: Sequence[str], cache: Path, folder: Path) -> int:
    """Put previews into a report, by hard links where the file system can; returns their bytes."""
    folder.mkdir()
    total = 0
    for key in sorted(set(keys)):
        for suffix in SUFFIXES:
            source, target = cache / f"{key}{suffix}", folder / f"{key}{suffix}"
            try:
                os.link(source, target)
            except OSError:
                shutil.copyfile(source, target)
            total += target.stat().st_size
    return total


def cut(
    path: str, stamp: tuple[int, int], size: tuple[int, int], begin_s: float, seconds: float, cache: str, key: str
) -> Rejection | None:
    """Cut one preview; runs in a worker process.

    Args:
        path: the original.
        stamp: its size in bytes and time of change in ns, as the index has them.
        size: its width and height in pixels, as displayed.
        begin_s, seconds: the stretch.
        cache, key: where the three files go.
    Returns:
        None, or why it could not be done.
    """
    from seehear.media import read_clip

    try:
        status = os.stat(path)  # noqa: PTH116
    except OSError:
        return Rejection("not found")
    if (status.st_size, status.st_mtime_ns) != tuple(stamp):
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
    """Write an MP4 file with H.264 and AAC. Frames are uint8 RGB with even sides, sound is float32 in [-1, 1]."""
    import av

    with av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"}) as container:
        video = container.add_stream("libx264", rate=FRAME_RATE_HZ, options={"crf": "28", "preset": "veryfast"})
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
    import av

    context = av.CodecContext.create("libwebp", "w")
    assert isinstance(context, av.VideoCodecContext)
    context.height, context.width = image_HWC.shape[:2]
    context.pix_fmt, context.time_base = "yuv420p", Fraction(1, 25)
    context.options = {"quality": "70"}
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image_HWC), format="rgb24").reformat(format="yuv420p")
    return b"".join(bytes(packet) for packet in [*context.encode(frame), *context.encode()])


def spectrogram(sound_S: np.ndarray) -> np.ndarray:
    """Loudness by time and pitch as a uint8 RGB image: low is at the bottom, loud is light."""
    columns = SIDE_PIXELS
    padded = np.pad(sound_S.astype(np.float64), _WINDOW // 2)
    starts = np.linspace(0, max(0, len(padded) - _WINDOW), columns).astype(int)
    windows = np.lib.stride_tricks.sliding_window_view(padded, _WINDOW)[starts] * np.hanning(_WINDOW)
    power_SF = np.abs(np.fft.rfft(windows, axis=1)) ** 2
    mels = np.linspace(0, np.log1p(_TOP_HZ / 700), _BANDS + 1)  # 700 Hz: where the mel scale bends
    edges = (700 * np.expm1(mels) / SOUND_RATE_HZ * _WINDOW).astype(int)
    bands_SM = np.stack([power_SF[:, a : max(b, a + 1)].mean(axis=1) for a, b in pairwise(edges)], axis=1)
    level_db = 10 * np.log10(bands_SM + 1e-12)
    loudest_db = max(float(level_db.max()), -20.0)  # silence stays dark
    share = np.clip(1 + (level_db - loudest_db) / _RANGE_DB, 0, 1).T[::-1]
    at = share * (len(_PALETTE) - 1)
    colours = np.stack([np.interp(at, np.arange(len(_PALETTE)), _PALETTE[:, c]) for c in range(3)], axis=-1)
    return colours.round().astype(np.uint8)
