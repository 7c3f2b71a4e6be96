"""How sound becomes an image: waveform (B, samples) -> log-mel (B, 1, M, S), batched in torch.

Window, hop and logarithm are VMZ's (16 kHz, 16 ms Hann window, 10 ms hop, natural log); 40 filters
and 100 frames are the usual shape for XDC. The filters are librosa's defaults and not VMZ's:
triangles on Slaney's mel scale, each of unit area over frequency, where VMZ's lie on HTK's scale,
1127 ln(1 + f / 700 Hz), and each sums to 1. What that does to a level is a constant for each
filter, which a network learns at once; the floor is what may lose something for good.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

# Added to mel energies before the logarithm. It is the energy of rounding to 16 bits: little in a
# file lies below.
# Everyday sound does lie below 1e-6: nine tenths of the image of brown noise (a random walk) at -40
# dBFS.
LOG_FLOOR = 1e-10
MEL_BREAK_HZ = 1000.0  # the Slaney scale is linear below and logarithmic above
HZ_PER_MEL_BELOW = 200.0 / 3.0
LOG_STEP_ABOVE = 0.06875177742094912  # ln(6.4) / 27: 27 mels from 1 kHz to 6.4 kHz


@dataclass(frozen=True)
class Spectrogram:
    """What a log-mel image is."""

    sample_rate_hz: int = 16000  # of the waveform
    mel_bins: int = 40  # M, filters from 0 Hz to Nyquist
    frames: int = 100  # S, the image is resized in time to this many columns
    # of the short-time Fourier transform
    window_seconds: float = 0.016
    hop_seconds: float = 0.010

    def __call__(self, waveform_BL: Tensor) -> Tensor:
        """Waveforms (B, L), float in [-1, 1] -> log-mel images (B, 1, M, S), float32.

        L must be at least one window. Always computed in float32, also inside autocast: energies
        span nine decades.
        """
        window_length = round(self.window_seconds * self.sample_rate_hz)
        hop_length = round(self.hop_seconds * self.sample_rate_hz)
        device = waveform_BL.device
        with torch.autocast(device.type, enabled=False):
            spectrum = torch.stft(
                waveform_BL.float(),
                n_fft=window_length,
                hop_length=hop_length,
                window=torch.hann_window(window_length, device=device),
                center=True,
                pad_mode="reflect",
                return_complex=True,
            )
            filters_MF = filters_on(str(device), self.mel_bins, window_length, self.sample_rate_hz)
            logmel_BMS = (filters_MF @ spectrum.abs().square() + LOG_FLOOR).log()
            if logmel_BMS.shape[-1] != self.frames:
                logmel_BMS = F.interpolate(
                    logmel_BMS, size=self.frames, mode="linear", align_corners=False
                )
        return logmel_BMS.unsqueeze(1)


@lru_cache(maxsize=8)
def filters_on(device: str, mel_bins: int, fft_length: int, sample_rate_hz: int) -> Tensor:
    """`mel_filters` on a device, copied once: a copy waits for all the device was given before."""
    return mel_filters(mel_bins, fft_length, sample_rate_hz).to(device)


@lru_cache(maxsize=8)
def mel_filters(mel_bins: int, fft_length: int, sample_rate_hz: int) -> Tensor:
    """Triangular mel filters (M, fft_length / 2 + 1), float32, of unit area over hertz."""
    frequencies_hz = torch.linspace(0, sample_rate_hz / 2, fft_length // 2 + 1, dtype=torch.float64)
    top_mel = hz_to_mel(torch.tensor(sample_rate_hz / 2, dtype=torch.float64))
    edges_hz = mel_to_hz(torch.linspace(0, float(top_mel), mel_bins + 2, dtype=torch.float64))
    widths_hz = edges_hz.diff()
    slopes = edges_hz[:, None] - frequencies_hz[None, :]
    rising = -slopes[:-2] / widths_hz[:-1, None]
    falling = slopes[2:] / widths_hz[1:, None]
    triangles = torch.minimum(rising, falling).clamp_min(0)
    return (triangles * (2.0 / (edges_hz[2:] - edges_hz[:-2]))[:, None]).float()


def hz_to_mel(frequency_hz: Tensor) -> Tensor:
    """Slaney's mel scale: linear to 1 kHz, logarithmic above."""
    above = (
        MEL_BREAK_HZ / HZ_PER_MEL_BELOW
        + (frequency_hz / MEL_BREAK_HZ).clamp_min(1.0).log() / LOG_STEP_ABOVE
    )
    return torch.where(frequency_hz < MEL_BREAK_HZ, frequency_hz / HZ_PER_MEL_BELOW, above)


def mel_to_hz(mel: Tensor) -> Tensor:
    """The inverse of `hz_to_mel`."""
    break_mel = MEL_BREAK_HZ / HZ_PER_MEL_BELOW
    above = MEL_BREAK_HZ * ((mel - break_mel).clamp_min(0.0) * LOG_STEP_ABOVE).exp()
    return torch.where(mel < break_mel, mel * HZ_PER_MEL_BELOW, above)
