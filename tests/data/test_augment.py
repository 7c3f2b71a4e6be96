from __future__ import annotations

import dataclasses

import numpy as np
import torch
from scipy.ndimage import map_coordinates

from seehear.config import Clip
from seehear.data.augment import (
    CENTRE,
    DRAWS,
    FLIP,
    LEFT,
    SCALE,
    TOP,
    augment_frames,
    augment_sound,
    draw,
)

CLIP = Clip(frames=3, short_side_pixels=12, crop_pixels=8)


def obvious_crop(frames_TSSC: np.ndarray, draws: np.ndarray, clip: Clip) -> np.ndarray:
    """The slow version: slice one clip, mirror it, move the channels."""
    room = clip.short_side_pixels - clip.crop_pixels + 1
    top, left = int(draws[TOP] * room), int(draws[LEFT] * room)
    out = frames_TSSC[:, top : top + clip.crop_pixels, left : left + clip.crop_pixels]
    if clip.flip and draws[FLIP] < 0.5:
        out = out[:, :, ::-1]
    return out.transpose(3, 0, 1, 2)


def batch(rows: int = 32) -> tuple[torch.Tensor, torch.Tensor]:
    generator = np.random.default_rng(0)
    frames = generator.integers(0, 256, (rows, 3, 12, 12, 3), dtype=np.uint8)
    draws = np.stack([draw(5, 1, row) for row in range(rows)])
    return torch.from_numpy(frames), torch.from_numpy(draws)


def test_crop_and_flip_agree_with_the_slow_version():
    frames, draws = batch()
    ours = augment_frames(frames, draws, CLIP)
    assert ours.dtype == torch.uint8
    assert ours.is_contiguous(memory_format=torch.channels_last_3d)
    for i in range(len(frames)):
        assert np.array_equal(
            ours[i].numpy(), obvious_crop(frames[i].numpy(), draws[i].numpy(), CLIP)
        )
    assert 8 < int((draws[:, FLIP] < 0.5).sum()) < 24


def test_crops_of_no_clip_of_strided_frames_and_at_the_ends_of_draws():
    frames, draws = batch(4)
    assert augment_frames(frames[:0], draws[:0], CLIP).shape == (0, 3, 3, 8, 8)
    most = 1 - 2**-24  # the largest that is drawn
    draws[:2, [TOP, LEFT, FLIP]] = torch.tensor([[0.0, most, 0.5], [most, 0.0, most / 2]])
    strided = frames.transpose(2, 3)[::2]
    for ours, one, of in zip(
        augment_frames(strided, draws[:2], CLIP), strided, draws, strict=False
    ):
        assert np.array_equal(ours.numpy(), obvious_crop(one.numpy(), of.numpy(), CLIP))


def test_the_centre_draw_is_the_middle_without_change():
    clip = dataclasses.replace(CLIP, brightness=0.3, contrast=0.3, gain_decibels=6.0)
    frames, _ = batch(4)
    centre = torch.from_numpy(np.stack([CENTRE] * 4))
    ours = augment_frames(frames, centre, clip)
    torch.testing.assert_close(ours, frames[:, :, 2:10, 2:10].permute(0, 4, 1, 2, 3).float() / 255)
    sound = torch.randn(4, 100)
    torch.testing.assert_close(augment_sound(sound, centre, clip), sound)


def test_other_sizes_are_what_scipy_reads_at_the_same_points():
    clip = dataclasses.replace(CLIP, scale_jitter=0.4)
    frames, draws = batch()
    ours = augment_frames(frames, draws, clip).numpy()
    assert ours.dtype == np.float32
    sizes = np.minimum(8 * (1 + 0.4 * (2 * draws[:, SCALE].numpy() - 1)), 12)
    assert sizes.min() < 6
    assert sizes.max() > 10
    for i, size in enumerate(sizes):
        top, left = (float(draws[i, side]) * (12 - size) for side in (TOP, LEFT))
        points = (np.arange(8) + 0.5) / 8 * size - 0.5
        across = left + (points[::-1] if draws[i, FLIP] < 0.5 else points)
        where = np.meshgrid(top + points, across, indexing="ij")
        for t, colour in ((0, 0), (2, 1)):
            picture = frames[i, t, :, :, colour].double().numpy() / 255
            wanted = map_coordinates(picture, where, order=1, mode="nearest")
            np.testing.assert_allclose(ours[i, colour, t], wanted, atol=1e-5)


def test_at_the_centre_draw_other_sizes_and_colours_change_nothing():
    clip = dataclasses.replace(CLIP, scale_jitter=0.3, brightness=0.2, contrast=0.2)
    frames, _ = batch(4)
    ours = augment_frames(frames, torch.from_numpy(np.stack([CENTRE] * 4)), clip)
    middle = frames[:, :, 2:10, 2:10].permute(0, 4, 1, 2, 3).float() / 255
    torch.testing.assert_close(ours, middle)


def test_jitter_stays_in_range_and_differs_between_clips():
    clip = dataclasses.replace(CLIP, brightness=0.5, contrast=0.5)
    frames, draws = batch()
    ours = augment_frames(frames, draws, clip)
    assert ours.dtype == torch.float32
    assert 0 <= float(ours.min()) <= float(ours.max()) <= 1
    assert float(ours.mean(dim=(1, 2, 3, 4)).std()) > 0.02


def test_gain_stays_within_its_decibels():
    clip = dataclasses.replace(CLIP, gain_decibels=6.0)
    _, draws = batch()
    gains_db = 20 * augment_sound(torch.ones(32, 1), draws, clip).log10()
    assert float(gains_db.abs().max()) <= 6
    assert float(gains_db.std()) > 2


def test_a_draw_is_a_function_of_seed_epoch_and_row():
    assert np.array_equal(draw(1, 2, 3), draw(1, 2, 3))
    others = [draw(1, 2, 4), draw(1, 3, 3), draw(2, 2, 3), draw(3, 2, 1)]
    assert all(not np.array_equal(draw(1, 2, 3), other) for other in others)
    many = np.stack([draw(0, 0, row) for row in range(4000)])
    assert many.shape == (4000, DRAWS)
    assert np.abs(many.mean(axis=0) - 0.5).max() < 0.02
    assert np.abs(np.corrcoef(many.T) - np.eye(DRAWS)).max() < 0.06
