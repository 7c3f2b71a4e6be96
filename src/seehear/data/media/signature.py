"""What stays of a segment that was encoded anew, made smaller, cropped a little, or cut elsewhere?

When picture and sound change, and where. 16 times a second, coarsely, as int8:

    picture_TC  in each of 4 x 4 blocks, by how much brightness differs from an eighth second before
    sound_TC    in each of 16 bands, by how many dB more than in the others loudness has risen
    still_C     how bright the blocks are in the mean of all moments, of unit length

Two recordings of one thing may look and sound alike, but do not change in the same way at the same
moments; copies of one recording do. `correlation` is that of two signatures at the best of all
shifts in time. This module is imported by worker processes, so it imports little.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from seehear.data.index.examination import Rejection
from seehear.data.media.hearing import Hearing
from seehear.data.media.reader import Reader
from seehear.errors import MediaError

MOMENTS_HZ = 16
BLOCKS = 4  # a side
BANDS = 16
LONGEST_S = 30.0  # of a segment; what follows is not looked at
LEAST_SHARED = 0.5  # of the shorter one, in time, and a second, for a shift to count
LEAST_ENERGY = 0.2  # of either, which must lie in what is shared

_LAG = 2  # moments
_SHORT_SIDE_PIXELS = 32
_RATE_HZ = 8000
_WINDOW = 2048  # samples
_PITCHES_HZ = (150.0, 3800.0)
_RANGE_DB = 50.0  # from the loudest band down; what is quieter is all the same
_LEAST_CHANGE = 0.25  # of brightness (0 to 255), and in dB: below, nothing changes

Signature = NDArray[np.int8]


def signatures(
    path: str, begin_s: float, seconds: float, hearing: Hearing | None
) -> tuple[Signature, Signature, NDArray[np.float32]] | Rejection:
    """Picture, sound and still of a stretch of a file. T is 0 where there is none, where nothing
    changes, or where it is shorter than about a second, which says too little.
    """
    still_C = np.zeros(BLOCKS**2, np.float32)
    picture_TC, sound_TC = np.zeros((0, BLOCKS**2), np.int8), np.zeros((0, BANDS), np.int8)
    seconds = min(seconds, LONGEST_S)
    times_s = begin_s + np.arange(max(1, int(seconds * MOMENTS_HZ))) / MOMENTS_HZ
    try:
        with Reader(path, hearing) as reader:
            if reader.has_video:
                frames = reader.frames(times_s, short_side_pixels=_SHORT_SIDE_PIXELS)
                picture_TC, still_C = of_picture(frames)
            if reader.has_audio:
                sound_TC = of_sound(reader.sound(begin_s, seconds, sample_rate_hz=_RATE_HZ))
    except MediaError as error:
        return Rejection(error.reason, error.detail)
    return picture_TC, sound_TC, still_C


def of_picture(frames_THWC: NDArray[np.uint8]) -> tuple[Signature, NDArray[np.float32]]:
    """Signature and still of frames that are `MOMENTS_HZ` apart."""
    blocks: NDArray[Any] = frames_THWC @ np.array([0.299, 0.587, 0.114])
    for axis in (1, 2):
        edges = np.arange(BLOCKS + 1) * blocks.shape[axis] // BLOCKS
        sums = np.add.reduceat(blocks, edges[:-1], axis=axis)
        counts = np.diff(edges).reshape(-1, *[1] * (2 - axis))
        blocks = np.asarray(sums / counts)
    blocks_TC = blocks.reshape(len(blocks), -1)
    smooth_TC = (blocks_TC[1:] + blocks_TC[:-1]) / 2  # frame rates differ, and so do moments
    mean_C = blocks_TC.mean(axis=0) - blocks_TC.mean()
    still_C = mean_C / max(float(np.linalg.norm(mean_C)), 1.0)
    return _packed(smooth_TC[_LAG:] - smooth_TC[:-_LAG]), still_C.astype(np.float32)


def of_sound(sound_S: NDArray[np.float32]) -> Signature:
    """The signature of sound at 8 kHz."""
    every = np.lib.stride_tricks.sliding_window_view(np.pad(sound_S, _WINDOW // 2), _WINDOW)
    windows = every[:: _RATE_HZ // MOMENTS_HZ] * np.hanning(_WINDOW)
    power_TF = np.abs(np.fft.rfft(windows, axis=1)) ** 2
    edges = (np.geomspace(*_PITCHES_HZ, BANDS + 1) * _WINDOW / _RATE_HZ).round().astype(int)
    bands_TC = np.add.reduceat(power_TF[:, : edges[-1]], edges[:-1], axis=1) / np.diff(edges)
    level_TC = 10 * np.log10(bands_TC + 1e-12)
    level_TC = np.maximum(level_TC, max(float(level_TC.max(initial=-60)), -60) - _RANGE_DB)
    level_TC -= level_TC.mean(axis=1, keepdims=True)
    return _packed(np.diff(level_TC, axis=0))


def _packed(change_TC: NDArray[np.floating]) -> Signature:
    """As int8; a correlation does not depend on the scale."""
    spread = float(change_TC.std()) if change_TC.size else 0.0
    if spread < _LEAST_CHANGE or len(change_TC) < MOMENTS_HZ:
        return np.zeros((0, change_TC.shape[1]), np.int8)
    return np.asarray(np.clip(change_TC / spread * 32, -127, 127).round(), np.int8)


def correlation(a_TC: Signature, b_TC: Signature) -> tuple[float, float]:
    """The best correlation of two signatures, in [-1, 1], and by how many seconds `a` is later."""
    if not len(a_TC) or not len(b_TC):
        return 0.0, 0.0
    size = 1 << (len(a_TC) + len(b_TC) - 2).bit_length()
    spectra = [np.fft.rfft(x_TC.astype(np.float32), size, axis=0) for x_TC in (a_TC, b_TC)]
    products = np.fft.irfft((spectra[0] * spectra[1].conj()).sum(axis=1), size)
    shifts = np.arange(1 - len(b_TC), len(a_TC))
    first, last = np.maximum(0, shifts), np.minimum(len(a_TC), len(b_TC) + shifts)
    least = max(MOMENTS_HZ, LEAST_SHARED * min(len(a_TC), len(b_TC)))
    good = last - first >= least
    scale = np.ones(len(shifts))
    for x_TC, begin, end in ((a_TC, first, last), (b_TC, first - shifts, last - shifts)):
        energy = np.append(0.0, np.cumsum((x_TC.astype(np.float64) ** 2).sum(axis=1)))
        shared = energy[end] - energy[begin]
        good &= shared >= LEAST_ENERGY * energy[-1]
        scale *= np.sqrt(np.maximum(shared, 1))
    found = np.where(good, products[shifts] / scale, -1.0)
    best = int(found.argmax())
    return float(found[best]), float(shifts[best]) / MOMENTS_HZ


def outline(signature_TC: Signature, bins: int = 16) -> NDArray[np.float32]:
    """How fast a signature's channels change, (bins * C,) of unit length: the same at every shift,
    so that those of copies are neighbours. Zero where nothing changes.
    """
    size = 2 * int(LONGEST_S * MOMENTS_HZ // bins + 1) * bins
    spectrum_FC = np.abs(np.fft.rfft(signature_TC.astype(np.float32), size, axis=0))[1:]
    rates = np.sqrt(spectrum_FC.reshape(bins, -1, spectrum_FC.shape[1]).mean(axis=1)).ravel()
    length = float(np.linalg.norm(rates))
    return np.asarray(rates / length if length else rates, np.float32)
