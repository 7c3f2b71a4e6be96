"""What do the encoders say of a query: a video, a sound, or a picture?

Of a video or a sound the middle clip counts, as of a segment of the gallery; one that is longer
than a usual segment is taken as several, evenly spread, whose features are averaged. A picture is
shown to the video encoder as a clip in which nothing moves. That finds what looks alike (a scene,
colours, an object that fills the frame); what an event is known by its motion for, it cannot find,
and no encoder here was trained on stills.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from seehear.data.augment import CENTRE
from seehear.data.clips import Batch
from seehear.data.media.stills import is_still, read_still
from seehear.data.placing import window
from seehear.errors import MediaError, UsageError
from seehear.library.embedding import features_of
from seehear.library.sources import group_of_file
from seehear.method.features import encoder_inputs
from seehear.models.model import Model

SECONDS_A_CLIP = 10.0  # as long as segments usually are
MOST_CLIPS = 10


def features_of_query(model: Model, path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """A file's features: modality -> (1, D) float32, for what both the file and the model have."""
    if not Path(path).is_file():
        what = "is no file" if Path(path).exists() else "does not exist"
        raise UsageError(
            f"{os.fspath(path)} {what}. Give a video, a sound file or a picture as --query."
        )
    if is_still(path):
        return {"video": features_of_picture(model, path)}
    group = group_of_file(path, model.modalities)
    seconds = float(group.index.seconds[0])
    num_clips = min(MOST_CLIPS, max(1, round(seconds / SECONDS_A_CLIP)))
    found, reasons = features_of(model, group, num_clips)
    # rounded as galleries are, so that a segment's own feature is exactly its own
    rounded = {m: torch.from_numpy(part_1D).half().float() for m, part_1D in found.items()}
    there = {m: part_1D for m, part_1D in rounded.items() if not part_1D.isnan().any()}
    if not there:
        raise MediaError(path, reasons[0])
    return there


@torch.inference_mode()
def features_of_picture(model: Model, path: str | os.PathLike[str]) -> Tensor:
    """A picture's features as a clip in which nothing moves, (1, D) float32."""
    if "video" not in model.modalities:
        raise UsageError(
            f"{os.fspath(path)} is a picture, and this model has no video encoder. Give a sound."
        )
    clip = model.clip
    picture_HWC = read_still(path, short_side_pixels=clip.short_side_pixels)
    square_THWC = window(np.repeat(picture_HWC[None], clip.frames, axis=0), CENTRE, clip)
    frames = torch.from_numpy(np.ascontiguousarray(square_THWC))[None]
    batch = Batch(np.zeros(1, np.int64), frames, None, torch.from_numpy(CENTRE[None].copy()))
    inputs = encoder_inputs(batch, clip, model.numerics, model.pair)
    with model.numerics.autocast():
        features: Tensor = model.pair.encoders["video"](inputs["video"])
    return features.float().cpu()
