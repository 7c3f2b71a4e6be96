"""What do encoders say of one file? The mean feature of some clips, spread evenly over it; no index
is needed.

A file with picture and sound is one segment from the moment when both are there to the moment when
one ends, as in an index; a file with one stream, or used by a model of one modality, is one segment
of that stream.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from seehear.config import Data
from seehear.data.clips import Clips
from seehear.data.media import Hearing, MediaInfo, Reader
from seehear.data.remote import local
from seehear.errors import MediaError, UsageError
from seehear.method.features import extract
from seehear.models.model import Model

IN_THIS_PROCESS = Data(workers=0, cache_gigabytes=0.0, max_failed_share=1.0)


class OneFile:
    """What stands in for an index of one row: a stretch of one file."""

    def __init__(self, info: MediaInfo, start_s: float, seconds: float) -> None:
        self._path, self._hearing = info.path, Hearing(info.audio_track, info.audio_channel)
        self.video = self.recording = np.zeros(1, dtype=np.int32)
        self.start_s, self.seconds = np.array([start_s]), np.array([seconds])
        self.width, self.height = np.array([info.width]), np.array([info.height])

    def __len__(self) -> int:
        return 1

    def path(self, row: int) -> str:
        """The file."""
        return self._path

    def hearing(self, row: int) -> Hearing:
        """Which of its sound."""
        return self._hearing


def embed_file(
    model: Model, path: str | os.PathLike[str], *, num_clips: int = 10
) -> dict[str, np.ndarray]:
    """One feature a modality, of a file: modality -> (D,) float32; what both file and model have.

    Args:
        model: from `seehear.load`.
        path: a video or audio file.
        num_clips: so many clips, spread evenly, are averaged.
    Raises:
        MediaError: the file cannot be read, or has no stream that the model has an encoder for.
        UsageError: `num_clips` is not positive.
    """
    if num_clips < 1:
        raise UsageError(f"num_clips is {num_clips}. It must be positive; 10 is usual.")
    with local(path) as copy, Reader(copy) as reader:
        info = replace(reader.info(), path=os.fspath(path))
    found = [
        m for m in model.modalities if (info.video_codec if m == "video" else info.audio_codec)
    ]
    if not found:
        raise MediaError(path, f"no {model.modalities[0]} stream")
    features: dict[str, np.ndarray] = {}
    for start_s, seconds, modalities in stretches(info, found):
        clips = Clips(OneFile(info, start_s, seconds), model.clip, IN_THIS_PROCESS, 0, modalities)
        extracted = extract(model.pair, clips, model.numerics, num_clips=num_clips)
        if len(extracted.rows) == 0:
            raise MediaError(path, next(iter(clips.failures)))
        features |= {modality: extracted.of[modality][0].numpy() for modality in modalities}
    return features


def stretches(
    info: MediaInfo, modalities: Sequence[str]
) -> list[tuple[float, float, Sequence[str]]]:
    """Which stretches of a file are read for which modalities: (start, seconds, modalities)."""
    if len(modalities) == 2 and info.seconds > 0:
        return [(info.start_s, info.seconds, modalities)]
    spans = {
        "video": (info.video_start_s, info.video_seconds),
        "audio": (info.audio_start_s, info.audio_seconds),
    }
    return [(*spans[modality], [modality]) for modality in modalities]
