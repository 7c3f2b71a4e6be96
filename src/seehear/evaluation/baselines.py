"""What does no learning at all reach? Colour histograms of frames and statistics of the log-mel, one vector a row."""

from __future__ import annotations

import numpy as np

from seehear.clips import CENTRED, Clips
from seehear.features import spectrogram_of

HISTOGRAM_BINS = 8  # for each of R, G and B


def baseline_features(clips: Clips, rows: np.ndarray | None = None) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Rows that could be read, and their plain statistics, for the modalities that `clips` reads.

    "video": (n, 27) shares of each colour channel's histogram over all frames of the middle clip, and the deviation
    of its mean over time; "audio": (n, 2 M) mean and deviation over time of each log-mel band.
    """
    done: list[np.ndarray] = []
    found: dict[str, list[np.ndarray]] = {modality: [] for modality in clips.modalities}
    logmel = spectrogram_of(clips.clip)
    for batch in clips.batches(np.arange(len(clips)) if rows is None else rows, epoch=CENTRED, batch_size=64):
        if batch.frames_BTHWC is not None:
            found["video"].extend(colour_statistics(frames_THWC) for frames_THWC in batch.frames_BTHWC.numpy())
        if batch.waveform_BL is not None:
            image_BMS = logmel(batch.waveform_BL)[:, 0].numpy()
            found["audio"].extend(np.concatenate([image_BMS.mean(axis=2), image_BMS.std(axis=2)], axis=1))
        done.append(batch.rows_B)
    return np.concatenate(done), {modality: np.stack(part) for modality, part in found.items()}


def colour_statistics(frames_THWC: np.ndarray) -> np.ndarray:
    """Histogram shares of each channel, and the deviation over time of its mean, in [0, 1]."""
    pixels = frames_THWC.reshape(-1, 3)
    shares = [np.bincount(pixels[:, c] // (256 // HISTOGRAM_BINS), minlength=HISTOGRAM_BINS) for c in range(3)]
    means_TC = frames_THWC.reshape(len(frames_THWC), -1, 3).mean(axis=1) / 255
    return np.concatenate([np.concatenate(shares) / len(pixels), means_TC.std(axis=0)])
