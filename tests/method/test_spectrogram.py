from __future__ import annotations

import numpy as np
import pytest
import torch

from seehear.method.encoders.spectrogram import (
    LOG_FLOOR,
    Spectrogram,
    hz_to_mel,
    mel_filters,
    mel_to_hz,
)


@pytest.mark.parametrize(
    ("bins", "fft", "rate"), [(40, 256, 16000), (64, 512, 16000), (80, 400, 22050), (40, 128, 8000)]
)
def test_mel_filters_agree_with_librosa(bins, fft, rate):
    librosa = pytest.importorskip("librosa")
    reference = librosa.filters.mel(sr=rate, n_fft=fft, n_mels=bins)
    assert np.abs(mel_filters(bins, fft, rate).numpy() - reference).max() < 1e-6


def test_log_mel_agrees_with_librosa():
    librosa = pytest.importorskip("librosa")
    wave = np.random.default_rng(0).normal(0, 0.1, 16000).astype(np.float32)
    power = librosa.feature.melspectrogram(
        y=wave,
        sr=16000,
        n_fft=256,
        hop_length=160,
        window="hann",
        center=True,
        pad_mode="reflect",
        n_mels=40,
    )
    ours = Spectrogram(frames=101)(torch.from_numpy(wave)[None])[0, 0].numpy()
    # the weakest bins round differently in float32
    assert np.abs(ours - np.log(power + LOG_FLOOR)).max() < 1e-3
    assert np.abs(ours - np.log(power + LOG_FLOOR)).mean() < 1e-6


def brown_noise(seed: int, level_dbfs: float) -> np.ndarray:
    """Ten seconds of noise whose power falls with the square of frequency, as wind, traffic and
    rooms have it.
    """
    walk = np.cumsum(np.random.default_rng(seed).normal(size=160000))
    walk -= walk.mean()
    return (walk / walk.std() * 10 ** (level_dbfs / 20)).astype(np.float32)


@pytest.mark.parametrize("level_dbfs", [-30, -40])
def test_quiet_sound_lies_above_the_floor(level_dbfs):
    librosa = pytest.importorskip("librosa")
    wave = np.round(brown_noise(0, level_dbfs) * 32768) / 32768  # as a file of 16 bits holds it
    power = librosa.feature.melspectrogram(
        y=wave.astype(np.float32),
        sr=16000,
        n_fft=256,
        hop_length=160,
        pad_mode="reflect",
        n_mels=40,
    )
    image = Spectrogram(frames=power.shape[1])(torch.from_numpy(wave.astype(np.float32))[None])[
        0, 0
    ].numpy()
    assert (image < np.log(4 * LOG_FLOOR)).mean() < 0.005
    # nothing but the sound decides what a cell says
    assert np.quantile(np.abs(image - np.log(power)), 0.99) < 0.5


def test_rounding_to_16_bits_is_what_the_floor_hides():
    rounding = np.random.default_rng(0).uniform(-0.5, 0.5, 160000).astype(np.float32) / 32768
    image = Spectrogram()(torch.from_numpy(rounding)[None])
    assert 0.5 < float(image.exp().median()) / LOG_FLOOR < 4


def test_silence_beside_loud_sound_stays_within_what_bf16_resolves():
    """Digital silence is the lowest value; encoders standardise by a mean and deviation over all
    cells.
    """
    waves = [brown_noise(seed, level) for seed, level in enumerate((-60, -40, -30, -20, -12, -12))]
    waves[-1][:80000] = 0.0
    images = torch.cat([Spectrogram()(torch.from_numpy(wave)[None]) for wave in waves])
    standardised = (images - images.mean()) / images.std()
    assert standardised.abs().max() < 4
    assert (standardised.bfloat16().float() - standardised).abs().max() < 0.02  # deviations


def test_mel_scale_inverts():
    hz = torch.linspace(0, 8000, 500, dtype=torch.float64)
    torch.testing.assert_close(mel_to_hz(hz_to_mel(hz)), hz, rtol=1e-9, atol=1e-6)


def test_a_tone_lights_the_band_of_its_pitch():
    t = torch.arange(32000) / 16000
    tones = torch.stack([torch.sin(2 * torch.pi * hz * t) for hz in (300.0, 1000.0, 4000.0)])
    brightest = Spectrogram()(tones)[:, 0].mean(dim=2).argmax(dim=1)
    centres = mel_to_hz(torch.linspace(0, float(hz_to_mel(torch.tensor(8000.0))), 42))[1:-1]
    for band, hz in zip(brightest, (300.0, 1000.0, 4000.0), strict=True):
        assert abs(centres[band] - hz) < 0.15 * hz


@pytest.mark.parametrize("samples", [8000, 16000, 32000, 80000])
def test_the_image_has_its_size_whatever_the_length_and_silence_is_finite(samples):
    image = Spectrogram()(torch.zeros(2, samples))
    assert image.shape == (2, 1, 40, 100)
    assert torch.equal(image, torch.full_like(image, float(np.log(np.float32(LOG_FLOOR)))))


def test_autocast_does_not_change_it():
    wave = torch.randn(2, 16000)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = Spectrogram()(wave)
    assert inside.dtype == torch.float32
    assert torch.equal(inside, Spectrogram()(wave))
