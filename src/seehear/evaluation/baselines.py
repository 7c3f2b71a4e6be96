"""What does no learning at all reach? Colour histograms of frames and statistics of the log-mel,
one vector a row.
"""

from __future__ import annotations

import numpy as np

from seehear.data.clips import Clips
from seehear.method.features import spectrogram_of

HISTOGRAM_BINS = 8  # for each of R, G and B


def baseline_features(
    clips: Clips, rows: np.ndarray | None = None, num_clips: int | np.ndarray = 1
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Rows that could be read, and their plain statistics, for the modalities that `clips` reads.

    "video": (n, 27) shares of each colour channel's histogram over all frames of a clip, and the
    deviation of its mean over time; "audio": (n, 2 M) mean and deviation over time of each log-mel
    band. Of the middle clip, or averaged over so many clips of each row.
    """
    done: list[np.ndarray] = []
    found: dict[str, list[np.ndarray]] = {modality: [] for modality in clips.modalities}
    logmel = spectrogram_of(clips.clip)
    for batch in clips.sampled(np.arange(len(clips)) if rows is None else rows, num_clips):
        if batch.frames_BTHWC is not None:
            found["video"].extend(
                colour_statistics(frames_THWC) for frames_THWC in batch.frames_BTHWC.numpy()
            )
        if batch.waveform_BL is not None:
            image_BMS = logmel(batch.waveform_BL)[:, 0].numpy()
            found["audio"].extend(
                np.concatenate([image_BMS.mean(axis=2), image_BMS.std(axis=2)], axis=1)
            )
        done.append(batch.rows_B)
    there, place_n = np.unique(np.concatenate(done), return_inverse=True)
    counts = np.bincount(place_n)[:, None]
    means = {}
    for modality, part in found.items():
        sums = np.zeros((len(there), len(part[0])))
        np.add.at(sums, place_n, np.stack(part))
        means[modality] = sums / counts
    return there, means


def colour_statistics(frames_THWC: np.ndarray) -> np.ndarray:
    """Histogram shares of each channel, and the deviation over time of its mean, in [0, 1]."""
    pixels = frames_THWC.reshape(-1, 3)
    shares = [
        np.bincount(pixels[:, c] // (256 // HISTOGRAM_BINS), minlength=HISTOGRAM_BINS)
        for c in range(3)
    ]
    means_TC = frames_THWC.reshape(len(frames_THWC), -1, 3).mean(axis=1) / 255
    return np.concatenate([np.concatenate(shares) / len(pixels), means_TC.std(axis=0)])
