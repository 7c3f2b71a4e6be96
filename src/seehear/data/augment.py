"""What a training clip looks like: crop, size, flip, jitter of colour and loudness, on the device.

Nothing random happens here. Each clip comes with its `draw`, DRAWS numbers in [0, 1) that were
drawn from (seed, epoch, row); this file turns them into a crop window, a mirror image and so on.
`CENTRE` is the draw of a clip that is not augmented: the middle crop of the middle moment.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from seehear.config import Clip
from seehear.machine.devices import upload

# What each number of a draw decides.
START, WINDOW, TOP, LEFT, FLIP, BRIGHTNESS, CONTRAST, GAIN, SCALE = range(9)
DRAWS = 9  # more may follow: what is drawn first stays as it is

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
        draws_BD: float, (B, DRAWS), on the CPU: where to cut is known without asking the device.
    Returns:
        (B, 3, T, P, P) with P = `clip.crop_pixels`: uint8, or float32 in [0, 1] when sizes or
        colours are jittered. In memory it is channels-last, as it came from the decoder: nothing is
        copied to permute it.
    """
    cropped_BTHWC = (zoom if clip.scale_jitter else crop)(frames_BTHWC, draws_BD, clip)
    if clip.brightness or clip.contrast:
        cropped_BTHWC = jitter(cropped_BTHWC, draws_BD, clip)
    return cropped_BTHWC.permute(0, 4, 1, 2, 3)


def crop(frames_BTHWC: Tensor, draws_BD: Tensor, clip: Clip) -> Tensor:
    """A square of whole pixels out of each clip, mirrored or not: uint8 (B, T, P, P, 3)."""
    side, size = frames_BTHWC.shape[2], clip.crop_pixels
    corner_B2 = (draws_BD[:, [TOP, LEFT]] * (side - size + 1)).long()
    mirror_B = (draws_BD[:, FLIP] < 0.5) & clip.flip
    # Stretches are copied: indexing by pixel takes ten times as long on a CPU.
    squares_BTPPC = frames_BTHWC.new_empty((*frames_BTHWC.shape[:2], size, size, 3))
    for number, ((top, left), mirror) in enumerate(
        zip(corner_B2.tolist(), mirror_B.tolist(), strict=True)
    ):
        square_TPPC = frames_BTHWC[number, :, top : top + size, left : left + size]
        squares_BTPPC[number] = square_TPPC.flip(2) if mirror else square_TPPC
    return squares_BTPPC


def zoom(frames_BTHWC: Tensor, draws_BD: Tensor, clip: Clip) -> Tensor:
    """`crop` with squares of P * (1 +- `clip.scale_jitter`) pixels, at most S, resized to P.

    Bilinear; float32 in [0, 1].
    """
    batch, times, side, _, colours = frames_BTHWC.shape
    draws_BD = upload(draws_BD, frames_BTHWC.device)
    size_B = clip.crop_pixels * (1 + clip.scale_jitter * (2 * draws_BD[:, SCALE] - 1))
    share_B = size_B.clamp(max=side) / side  # `affine_grid` has the picture from -1 to 1
    mirror_B = (draws_BD[:, FLIP] < 0.5) & clip.flip
    affine_B23 = draws_BD.new_zeros(batch, 2, 3)
    affine_B23[:, 0, 0] = torch.where(mirror_B, -share_B, share_B)
    affine_B23[:, 1, 1] = share_B
    affine_B23[:, 0, 2] = (2 * draws_BD[:, LEFT] - 1) * (1 - share_B)
    affine_B23[:, 1, 2] = (2 * draws_BD[:, TOP] - 1) * (1 - share_B)
    shape = [batch, times * colours, clip.crop_pixels, clip.crop_pixels]
    grid_BPP2 = F.affine_grid(affine_B23, shape, align_corners=False)
    stacked_BKHW = frames_BTHWC.permute(0, 1, 4, 2, 3).reshape(batch, -1, side, side).float()
    zoomed_BKPP = F.grid_sample(
        stacked_BKHW.div_(255.0), grid_BPP2, padding_mode="border", align_corners=False
    )
    zoomed_BTCPP = zoomed_BKPP.reshape(batch, times, colours, *shape[2:])
    return zoomed_BTCPP.permute(0, 1, 3, 4, 2).contiguous()


def jitter(frames_BTHWC: Tensor, draws_BD: Tensor, clip: Clip) -> Tensor:
    """Contrast about middle grey, then brightness: float32 clamped to [0, 1]."""
    draws_BD = upload(draws_BD, frames_BTHWC.device)
    contrast_B = 1 + clip.contrast * (2 * draws_BD[:, CONTRAST] - 1)
    brightness_B = clip.brightness * (2 * draws_BD[:, BRIGHTNESS] - 1)
    shape = (-1, 1, 1, 1, 1)
    full = 255.0 if frames_BTHWC.dtype == torch.uint8 else 1.0
    x = frames_BTHWC.float().div_(full).sub_(0.5).mul_(contrast_B.view(shape))
    return x.add_((0.5 + brightness_B).view(shape)).clamp_(0.0, 1.0)


def augment_sound(waveform_BL: Tensor, draws_BD: Tensor, clip: Clip) -> Tensor:
    """Scale waveforms (B, L) by gains within +- `clip.gain_decibels`; draws are on the CPU."""
    if not clip.gain_decibels:
        return waveform_BL
    decibels_B = clip.gain_decibels * (2 * upload(draws_BD, waveform_BL.device)[:, GAIN] - 1)
    gains_B: Tensor = torch.exp(decibels_B * (np.log(10.0) / 20.0))
    return waveform_BL * gains_B[:, None]
