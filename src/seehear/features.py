"""What does each encoder say of every row? One feature per row and modality, in row order, without augmentation.

The features are what is clustered (paper: one per clip, over the whole data set, offline). They are float32 whatever
the precision of the encoders.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from seehear.augment import augment_frames, augment_sound
from seehear.clips import CENTRED, Batch, Clips
from seehear.config import Clip
from seehear.encoders import Pair
from seehear.numerics import Numerics
from seehear.spectrogram import Spectrogram

CALIBRATION_ROWS = 1024  # enough for a mean and a variance of every channel


@dataclass(frozen=True)
class Features:
    """Features of the rows that could be read.

    rows: (n,) int64, ascending; video, audio: (n, D) float32 on the CPU.
    """

    rows: np.ndarray
    video: Tensor
    audio: Tensor


def spectrogram_of(clip: Clip) -> Spectrogram:
    """The log-mel transform that the settings describe."""
    return Spectrogram(clip.sample_rate_hz, clip.mel_bins, clip.spectrogram_frames)


def encoder_inputs(batch: Batch, clip: Clip, numerics: Numerics) -> dict[str, Tensor]:
    """A batch as the encoders take it, on the device: {"video": (B, 3, T, P, P), "audio": (B, 1, M, S)}."""
    device = numerics.device
    draws_BD = batch.draws_BD.to(device, non_blocking=True)
    frames_BCTHW = augment_frames(batch.frames_BTHWC.to(device, non_blocking=True), draws_BD, clip)
    waveform_BL = augment_sound(batch.waveform_BL.to(device, non_blocking=True), draws_BD, clip)
    return {"video": numerics.arrange(frames_BCTHW), "audio": spectrogram_of(clip)(waveform_BL)}


@torch.inference_mode()
def calibrate(pair: Pair, clips: Clips, numerics: Numerics, *, batch_size: int = 64) -> None:
    """Set the batch norms of untrained encoders to the statistics of the data, without learning anything.

    A fresh network's running mean and variance are 0 and 1, whatever passes through it, so that its features mirror
    loudness and brightness more than they need to. On the synthetic videos this raises the NMI of random audio features
    with the true events from 0.13 to 0.20, and the first round is what the video encoder has to start from.
    """
    norms = [m for m in pair.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain average over all batches
    pair.train()
    rows = np.random.default_rng((clips.seed, 0xCA1)).permutation(len(clips))[:CALIBRATION_ROWS]
    for batch in clips.batches(rows, epoch=CENTRED, batch_size=batch_size, keep_last=False):
        if len(batch.rows_B) > 1:
            inputs = encoder_inputs(batch, clips.clip, numerics)
            with numerics.autocast():
                for modality, tensor in inputs.items():
                    pair.encoders[modality](tensor)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


@torch.inference_mode()
def extract(
    pair: Pair,
    clips: Clips,
    numerics: Numerics,
    *,
    rows: np.ndarray | None = None,
    batch_size: int = 64,
    progress: Callable[[int], None] = lambda done: None,
) -> Features:
    """One feature per row and modality, from the middle clip of each segment.

    Args:
        pair: the encoders; used in evaluation mode and left in the mode they were in.
        rows: ascending row numbers; all by default.
        progress: called with the number of rows done.
    """
    rows = np.arange(len(clips)) if rows is None else rows
    was_training = pair.training
    pair.eval()
    done: list[np.ndarray] = []
    parts: dict[str, list[Tensor]] = {"video": [], "audio": []}
    for batch in clips.batches(rows, epoch=CENTRED, batch_size=batch_size):
        inputs = encoder_inputs(batch, clips.clip, numerics)
        with numerics.autocast():
            for modality, part in parts.items():
                part.append(pair.encoders[modality](inputs[modality]).float().cpu())
        done.append(batch.rows_B)
        progress(sum(map(len, done)))
    pair.train(was_training)
    empty = {m: torch.empty(0, pair.feature_dim(m)) for m in parts}
    return Features(
        rows=np.concatenate(done) if done else np.empty(0, dtype=np.int64),
        video=torch.cat(parts["video"]) if done else empty["video"],
        audio=torch.cat(parts["audio"]) if done else empty["audio"],
    )
