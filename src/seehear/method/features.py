"""What does each encoder say of every row? One feature per row and modality, in row order, without
augmentation.

The features are what is clustered (paper: one per clip, over the whole data set, offline). They are
float32 whatever the precision of the encoders.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from seehear.config import Clip
from seehear.data.augment import augment_frames, augment_sound
from seehear.data.clips import Batch, Clips
from seehear.data.order import shuffled
from seehear.data.placing import CENTRED, MODALITIES
from seehear.errors import SeehearError
from seehear.machine import distributed
from seehear.machine.devices import Numerics, upload
from seehear.method.encoders import Pair
from seehear.method.encoders.pair import modalities_of, modality_of
from seehear.method.encoders.spectrogram import Spectrogram
from seehear.method.learning import FEATURES, Learning, Step, timed

CALIBRATION_ROWS = 1024  # enough for a mean and a variance of every channel
WRITTEN_ROWS = 2**16  # so many at a time are made float16


@dataclass(frozen=True)
class Features:
    """Features of the rows that could be read.

    rows: (n,) int64, ascending; of: modality -> (n, D) float32 on the CPU.
    """

    rows: np.ndarray
    of: Mapping[str, Tensor]

    @property
    def video(self) -> Tensor:
        """(n, D) of the video encoder."""
        return self.of["video"]

    @property
    def audio(self) -> Tensor:
        """(n, D) of the audio encoder."""
        return self.of["audio"]


def spectrogram_of(clip: Clip) -> Spectrogram:
    """The log-mel transform that the settings describe."""
    return Spectrogram(clip.sample_rate_hz, clip.mel_bins, clip.spectrogram_frames)


def encoder_inputs(
    batch: Batch, clip: Clip, numerics: Numerics, pair: Pair, encoders: Collection[str] = MODALITIES
) -> dict[str, Tensor]:
    """A batch as some encoders of `pair` take it, on the device.

    {"video": (B, 3, T, P, P), "audio": (B, 1, M, S)}, each where the batch has it and the pair an
    encoder for it; an audio encoder with a true attribute `takes_waveform` gets (B, L) instead.
    """
    device, inputs = numerics.device, {}
    wanted = modalities_of([name for name in encoders if name in pair.encoders])
    if batch.frames_BTHWC is not None and "video" in wanted:
        frames_BCTHW = augment_frames(upload(batch.frames_BTHWC, device), batch.draws_BD, clip)
        inputs["video"] = numerics.arrange(frames_BCTHW)
    if batch.waveform_BL is not None and "audio" in wanted:
        waveform_BL = augment_sound(upload(batch.waveform_BL, device), batch.draws_BD, clip)
        inputs["audio"] = audio_input(waveform_BL, clip, pair)
    return {
        name: inputs[modality_of(name)]
        for name in pair.encoders
        if name in encoders and modality_of(name) in inputs
    }


def audio_input(waveform_BL: Tensor, clip: Clip, pair: Pair) -> Tensor:
    """Waveforms (B, L) as the audio encoder takes them: log-mel (B, 1, M, S), or as they are."""
    raw = getattr(pair.encoders["audio"], "takes_waveform", False)
    return waveform_BL if raw else spectrogram_of(clip)(waveform_BL)


@torch.inference_mode()
def calibrate(
    pair: Pair,
    clips: Clips,
    numerics: Numerics,
    *,
    rows: np.ndarray | None = None,
    batch_size: int = 64,
) -> None:
    """Set the batch norms of untrained encoders to the data's statistics; learns nothing.

    Encoders that have seen any data are left as they are.

    Args:
        rows: whose clips are looked at, at most `CALIBRATION_ROWS` of them, drawn; all by default.

    Every rank looks at the same rows, so that the result does not depend on their number; the first
    counts failures. What it gives is in docs/method.md.
    """
    fresh = [name for name, encoder in pair.encoders.items() if is_untouched(encoder)]
    fresh = [name for name in fresh if modality_of(name) in clips.modalities]
    if not fresh:
        return
    norms = [m for name in fresh for m in norms_of(pair.encoders[name])]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain average over all batches
    pair.train()
    rows = np.arange(len(clips)) if rows is None else rows
    rows = shuffled(rows, (clips.seed, 0xCA1))[:CALIBRATION_ROWS]
    for batch in clips.batches(
        rows, epoch=CENTRED, batch_size=batch_size, keep_last=False, modalities=modalities_of(fresh)
    ):
        if len(batch.rows_B) > 1:
            inputs = encoder_inputs(batch, clips.clip, numerics, pair, fresh)
            with numerics.autocast(), distributed.without_ranks():
                for name, tensor in inputs.items():
                    pair.encoders[name](tensor)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    if distributed.rank() > 0:
        clips.failures.clear()


def norms_of(encoder: nn.Module) -> list[nn.modules.batchnorm._BatchNorm]:
    """The batch norms of an encoder that keep running statistics."""
    norms = [m for m in encoder.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    return [norm for norm in norms if norm.running_mean is not None]


def is_untouched(encoder: nn.Module) -> bool:
    """Whether an encoder's batch norms are as PyTorch makes them, before any batch.

    Some published weights have statistics and no count.
    """
    norms = norms_of(encoder)
    return bool(norms) and all(
        not norm.get_buffer("num_batches_tracked").any()
        and not norm.get_buffer("running_mean").any()
        and bool((norm.get_buffer("running_var") == 1).all())
        for norm in norms
    )


def extract(
    pair: Pair,
    clips: Clips,
    numerics: Numerics,
    *,
    rows: np.ndarray | None = None,
    num_clips: int | np.ndarray = 1,
    num_crops: int = 1,
    batch_size: int = 64,
    progress: Callable[[int], None] = lambda done: None,
) -> Features:
    """One feature a row and modality, of the middle clip, or the mean over several clips.

    Args:
        pair: the encoders; used in evaluation mode and left in the mode they were in.
        rows: ascending row numbers; all by default.
        num_clips: so many clips, evenly spread over the segment; an array has a number for each
            row.
        num_crops: of the frames of each clip, from end to end of their longer side; 1 is the
            centre.
        batch_size: clips on the device at once, crops and all.
        progress: called with the number of clips done, not counting crops.
    """
    rows = np.arange(len(clips)) if rows is None else rows
    work = extracting(pair, clips, numerics, rows, num_clips, num_crops, batch_size)
    while True:
        try:
            progress(next(work).done)
        except StopIteration as end:
            return cast(Features, end.value)


@torch.inference_mode()
def extracting(
    pair: Pair,
    clips: Clips,
    numerics: Numerics,
    rows: np.ndarray,
    num_clips: int | np.ndarray = 1,
    num_crops: int = 1,
    batch_size: int = 64,
    encoders: Collection[str] = MODALITIES,
) -> Generator[Step, None, Features]:
    """`extract`, yielding how far it is after each batch; nothing is read but for `encoders`."""
    was_training = pair.training
    pair.eval()
    wanted = [
        name for name in pair.encoders if name in encoders and modality_of(name) in clips.modalities
    ]
    sums = {m: torch.zeros(len(rows), pair.feature_dim(m)) for m in wanted}
    counts, done = np.zeros(len(rows), dtype=np.int32), 0
    # on the device, on their way
    before: tuple[np.ndarray, dict[str, Tensor]] = (np.zeros(0, dtype=np.int64), {})

    def add(at: np.ndarray, features: Mapping[str, Tensor]) -> None:
        for modality, part in features.items():
            sums[modality].index_add_(0, torch.from_numpy(at), part.float().cpu())

    yield Step(FEATURES, 0, len(rows))
    read = modalities_of(wanted)
    how: dict[str, Any] = {"num_crops": num_crops, "batch_size": batch_size, "modalities": read}
    looked = Learning()  # of which only the time spent waiting means anything here
    for batch in timed(clips.sampled(rows, num_clips, **how), looked):
        inputs = encoder_inputs(batch, clips.clip, numerics, pair, wanted)
        at = np.searchsorted(rows, batch.rows_B)
        with numerics.autocast():
            now = (at, pair.features(inputs))
        add(*before)  # only now, so that the device has work while this process waits for it
        before = now
        np.add.at(counts, at, 1)
        done += len(at) // num_crops
        yield Step(FEATURES, done, len(rows), waiting_s=looked.waiting_seconds)
    add(*before)
    pair.train(was_training)
    there = counts > 0
    if not there.all():
        rows, counts = rows[there], counts[there]
        sums = {m: part[torch.from_numpy(there)] for m, part in sums.items()}
    divisors = torch.from_numpy(counts).float()[:, None]
    for modality, part in sums.items():
        wrong_n = ~torch.isfinite(part).all(dim=1).numpy()
        if wrong_n.any():  # clusters and neighbours of these would be made up
            raise SeehearError(
                f"The {modality} encoder gives features that are NaN or infinite for "
                f"{int(wrong_n.sum())} of {len(rows)} segments, first for "
                f"{clips.index.path(int(rows[wrong_n][0]))}. Its weights are too large, or "
                "--compute.precision is too coarse: take an earlier checkpoint, or fp32."
            )
    return Features(rows, {m: part.div_(divisors) for m, part in sums.items()})


def rows_of_this_rank(clips: Clips) -> np.ndarray:
    """Which rows this rank extracts and clusters."""
    mine = distributed.rows_of_rank(len(clips))
    return np.arange(mine.start, mine.stop)


def write_features(
    folder: Path, pieces: Iterable[tuple[np.ndarray, Mapping[str, Tensor]]], num_rows: int
) -> None:
    """Write `video.npy`, `audio.npy`: (N, D) float16 in row order, NaN for unreadable rows.

    Args:
        pieces: rows (n,) and their features by modality; only one piece is in memory.
    """
    arrays: dict[str, np.memmap] = {}
    for rows, parts in pieces:
        for modality, part in parts.items():
            if modality not in arrays:
                path, shape = folder / f"{modality}.npy", (num_rows, part.shape[1])
                arrays[modality] = np.lib.format.open_memmap(path, "w+", np.float16, shape)
                for start in range(0, num_rows, WRITTEN_ROWS):
                    arrays[modality][start : start + WRITTEN_ROWS] = np.nan
            for start in range(0, len(part), WRITTEN_ROWS):
                half = part[start : start + WRITTEN_ROWS].clamp(-65504, 65504).numpy()
                arrays[modality][rows[start : start + WRITTEN_ROWS]] = half
    for array in arrays.values():
        array.flush()


def read_features(folder: Path) -> Features:
    """The inverse of `write_features`, but for the rounding to float16.

    Raises:
        FileNotFoundError: there are none.
    """
    paths = [path for path in (folder / "video.npy", folder / "audio.npy") if path.exists()]
    if not paths:
        raise FileNotFoundError(folder / "video.npy")
    arrays = {path.stem: np.load(path, mmap_mode="r") for path in paths}
    rows = np.flatnonzero(~np.isnan(next(iter(arrays.values()))[:, 0]))
    parts = {
        modality: torch.from_numpy(array[rows].astype(np.float32))
        for modality, array in arrays.items()
    }
    return Features(rows, parts)
