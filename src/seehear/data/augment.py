"""What a training clip looks like: crop, flip, colour and loudness jitter, on uint8 batches, on the
device.

Nothing random happens here. Each clip comes with its `draw`, DRAWS numbers in [0, 1) that were
drawn from (seed, epoch, row); this file turns them into a crop window, a mirror image and so on.
`CENTRE` is the draw of a clip that is not augmented: the middle crop of the middle moment.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from seehear.config import Clip

# What each number of a draw decides.
START, WINDOW, TOP, LEFT, FLIP, BRIGHTNESS, CONTRAST, GAIN = range(8)
DRAWS = 8

# FLIP below one half mirrors, so the centre draw must lie above it; the others are "no change" at
# one half.
CENTRE = np.full(DRAWS, 0.5, dtype=np.float32)


def draw(seed: int, epoch: int, row: int) -> np.ndarray:
    """DRAWS float32 numbers in [0, 1), a function of the three integers alone."""
    return np.random.default_rng((seed, epoch, row)).random(DRAWS, dtype=np.float32)


def augment_frames(frames_BTHWC: Tensor, draws_BD: Tensor, clip: Clip) -> Tensor:
    """Crop, mirror and jitter each clip by its draw.

    Args:
        frames_BTHWC: uint8, (B, T, S, S, 3) with S = `clip.short_side_pixels`, on any device.
        draws_BD: float, (B, DRAWS), on the same device.
    Returns:
        (B, 3, T, P, P) with P = `clip.crop_pixels`: uint8, or float32 in [0, 1] when colours are
        jittered. In memory it is channels-last, as it came from the decoder: nothing is copied to
        permute it.
    """
    batch, side, crop = frames_BTHWC.shape[0], frames_BTHWC.shape[2], clip.crop_pixels
    device = frames_BTHWC.device
    offsets = torch.arange(crop, device=device)
    rows_BP = (draws_BD[:, TOP] * (side - crop + 1)).long()[:, None] + offsets
    mirror_B = (draws_BD[:, FLIP] < 0.5) & clip.flip
    across_BP = torch.where(mirror_B[:, None], crop - 1 - offsets, offsets)
    columns_BP = (draws_BD[:, LEFT] * (side - crop + 1)).long()[:, None] + across_BP
    which = torch.arange(batch, device=device)[:, None, None]
    # Indexing puts (B, P, P) first when the indexed axes are side by side; T stays where it is by
    # moving it to the end.
    picked_BPPTC = frames_BTHWC.permute(0, 2, 3, 1, 4)[
        which, rows_BP[:, :, None], columns_BP[:, None, :]
    ]
    cropped_BTHWC = picked_BPPTC.permute(0, 3, 1, 2, 4).contiguous()
    if clip.brightness or clip.contrast:
        cropped_BTHWC = jitter(cropped_BTHWC, draws_BD, clip)
    return cropped_BTHWC.permute(0, 4, 1, 2, 3)


def jitter(frames_BTHWC: Tensor, draws_BD: Tensor, clip: Clip) -> Tensor:
    """Contrast about middle grey, then brightness: uint8 -> float32 clamped to [0, 1]."""
    contrast_B = 1 + clip.contrast * (2 * draws_BD[:, CONTRAST] - 1)
    brightness_B = clip.brightness * (2 * draws_BD[:, BRIGHTNESS] - 1)
    shape = (-1, 1, 1, 1, 1)
    x = frames_BTHWC.float().div_(255.0).sub_(0.5).mul_(contrast_B.view(shape))
    return x.add_((0.5 + brightness_B).view(shape)).clamp_(0.0, 1.0)


def augment_sound(waveform_BL: Tensor, draws_BD: Tensor, clip: Clip) -> Tensor:
    """Scale each waveform (B, L) by its own gain, within +- `clip.gain_decibels`."""
    if not clip.gain_decibels:
        return waveform_BL
    decibels_B = clip.gain_decibels * (2 * draws_BD[:, GAIN] - 1)
    gains_B: Tensor = torch.exp(decibels_B * (np.log(10.0) / 20.0))
    return waveform_BL * gains_B[:, None]
