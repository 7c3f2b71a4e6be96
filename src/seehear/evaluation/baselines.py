"""What does no learning at all reach? Plain numbers of a clip, written by hand, one vector each.

    colour   video   which colours there are, and how the brightness changes
    motion   video   edges of what moves, and which way and how fast it does; no colour
    log-mel  audio   levels of each band over time, and how they change

A number that does not beat these says nothing for an encoder: the same classifier gets both.
"""

from __future__ import annotations

import numpy as np

from seehear.data.clips import Clips
from seehear.method.features import spectrogram_of

BASELINES = {"video": ("colour", "motion"), "audio": ("log-mel",)}
HISTOGRAM_BINS = 8  # of levels, for each of R, G and B
GRID, HALVES = 4, 2  # motion is counted in 4 x 4 cells of the frame, in each half of the clip
DIRECTIONS = 8
STILL = 1e-3  # of the grey range 1: below it is no motion; keeps logarithms and quotients finite
QUANTILES = (0.1, 0.5, 0.9)


def baseline_features(
    clips: Clips, rows: np.ndarray | None = None, num_clips: int | np.ndarray = 1
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Rows that could be read, and each baseline of the modalities that `clips` reads, (n, D).

    Of the middle clip, or averaged over so many clips of each row.
    """
    done: list[np.ndarray] = []
    found: dict[str, list[np.ndarray]] = {
        name: [] for modality in clips.modalities for name in BASELINES[modality]
    }
    logmel = spectrogram_of(clips.clip)
    for batch in clips.sampled(np.arange(len(clips)) if rows is None else rows, num_clips):
        if batch.frames_BTHWC is not None:
            frames_BTHWC = batch.frames_BTHWC.numpy()
            found["colour"].extend(map(colour_statistics, frames_BTHWC))
            found["motion"].extend(map(motion_statistics, frames_BTHWC))
        if batch.waveform_BL is not None:
            found["log-mel"].extend(map(sound_statistics, logmel(batch.waveform_BL)[:, 0].numpy()))
        done.append(batch.rows_B)
    there, place_n = np.unique(np.concatenate(done), return_inverse=True)
    counts = np.bincount(place_n)[:, None]
    means = {}
    for name, part in found.items():
        sums = np.zeros((len(there), len(part[0])))
        np.add.at(sums, place_n, np.stack(part))
        means[name] = sums / counts
    return there, means


def colour_statistics(frames_THWC: np.ndarray) -> np.ndarray:
    """Histogram shares of each channel, and the deviation over time of its mean, in [0, 1]: 27."""
    pixels = frames_THWC.reshape(-1, 3)
    shares = [
        np.bincount(pixels[:, c] // (256 // HISTOGRAM_BINS), minlength=HISTOGRAM_BINS)
        for c in range(3)
    ]
    means_TC = frames_THWC.reshape(len(frames_THWC), -1, 3).mean(axis=1) / 255
    return np.concatenate([np.concatenate(shares) / len(pixels), means_TC.std(axis=0)])


def motion_statistics(frames_THWC: np.ndarray) -> np.ndarray:
    """Histograms of what moves, logarithms, 2 x 256.

    Edges: oriented gradients (HOG; Dalal and Triggs, CVPR 2005) of the frames less their median
    over time, which is the background. Flow: directions between neighbouring frames, weighted by
    speed (HOF; Dalal, Triggs and Schmid, ECCV 2006), of the normal flow, the part of the motion
    along the gradient that brightness constancy gives alone (Horn and Schunck, 1981).
    """
    grey_THW = frames_THWC.mean(axis=3, dtype=np.float32) / 255
    moving_THW = grey_THW - np.median(grey_THW, axis=0)
    down_THW, right_THW = np.gradient(moving_THW, axis=(1, 2))
    edges = histograms(down_THW, right_THW, half_turns=1)

    down_THW, right_THW = np.gradient((grey_THW[1:] + grey_THW[:-1]) / 2, axis=(1, 2))
    flow_THW = -np.diff(grey_THW, axis=0) / (down_THW**2 + right_THW**2 + STILL)
    return np.concatenate(
        [edges, histograms(flow_THW * down_THW, flow_THW * right_THW, half_turns=2)]
    )


def histograms(down_THW: np.ndarray, right_THW: np.ndarray, half_turns: int) -> np.ndarray:
    """Lengths of vectors by direction in each cell and half of the clip, as log of their mean.

    Vectors that point opposite ways are one direction with `half_turns` 1, two with 2.
    """
    turns_THW = np.arctan2(down_THW, right_THW) / (np.pi * half_turns) % 1
    direction_THW = (turns_THW * DIRECTIONS).astype(np.intp) % DIRECTIONS
    frames, height, width = down_THW.shape
    t, y, x = np.ogrid[:frames, :height, :width]
    cell_THW = (t * HALVES // frames * GRID + y * GRID // height) * GRID + x * GRID // width
    cells = HALVES * GRID * GRID
    lengths = np.bincount(
        (cell_THW * DIRECTIONS + direction_THW).ravel(),
        np.hypot(down_THW, right_THW).ravel(),
        minlength=cells * DIRECTIONS,
    )
    return np.log(lengths * cells / max(down_THW.size, 1) + STILL)


def sound_statistics(image_MS: np.ndarray) -> np.ndarray:
    """Mean, deviation and quantiles over time of each log-mel band and of its steps: (10 M,)."""
    steps_MS = np.diff(image_MS, axis=1, prepend=image_MS[:, :1])
    return np.concatenate(
        [
            part
            for values_MS in (image_MS, steps_MS)
            for part in (
                values_MS.mean(axis=1),
                values_MS.std(axis=1),
                *np.quantile(values_MS, QUANTILES, axis=1),
            )
        ]
    )
