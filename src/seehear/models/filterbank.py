"""What do networks of others hear? Log filter banks, batched, as their own extractors make them.

AST: Kaldi's. Windows of 25 ms every 10 ms (no padding at the ends), their mean taken off,
pre-emphasis 0.97, a symmetric Hann window, the power of a 512-point FFT, triangles on Kaldi's mel
scale, 1127 ln(1 + f / 700), from 20 Hz to Nyquist, natural log; zeros after the end of the sound,
then normalised. CLAP: decibels of mel filters; sound that is short of 10 s is repeated.

Shapes: waveforms (B, L) in [-1, 1] -> (B, S, M). Final zeros of a waveform are no sound.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

PREEMPHASIS = 0.97
LOWEST_HZ = 20.0
FLOOR = torch.finfo(torch.float32).eps  # of energies before the logarithm


class AstNetwork(nn.Module):
    """An AST behind its filter bank: waveforms (B, L) -> what the network returns.

    Args:
        network: takes (B, S, M).
        mel_bins: M.
        columns: S; longer sound is cut, and what comes after the end of shorter sound is zero, the
            network's padding.
        sample_rate_hz: of the waveforms.
        mean, scale: the filter bank is normalised to (x - mean) / scale, padding included.
    """

    def __init__(
        self,
        network: nn.Module,
        mel_bins: int,
        columns: int,
        sample_rate_hz: int,
        mean: float,
        scale: float,
    ) -> None:
        super().__init__()
        self.network, self.columns, self.mean, self.scale = network, columns, mean, scale
        self.window_length = round(0.025 * sample_rate_hz)
        self.hop_length = round(0.010 * sample_rate_hz)
        self.fft_length = 1 << (self.window_length - 1).bit_length()
        with torch.device("cpu"):  # they are computed, also where the network has shapes alone
            window = torch.hann_window(self.window_length, periodic=False)
            filters_MF = kaldi_filters(mel_bins, self.fft_length, sample_rate_hz)
        self.register_buffer("window", window, persistent=False)
        self.register_buffer("filters_MF", filters_MF, persistent=False)

    def forward(self, waveform_BL: Tensor) -> Any:
        return self.network(self.filter_bank(waveform_BL))

    def filter_bank(self, waveform_BL: Tensor) -> Tensor:
        """Waveforms (B, L) -> normalised log filter banks (B, S, M); final zeros are padding."""
        with torch.autocast(waveform_BL.device.type, enabled=False):
            x = waveform_BL.float()
            x = F.pad(x, (0, max(0, self.window_length - x.shape[1])))
            frames_BSW = x.unfold(1, self.window_length, self.hop_length)[:, : self.columns]
            frames_BSW = frames_BSW - frames_BSW.mean(dim=2, keepdim=True)
            before_BSW = torch.cat([frames_BSW[..., :1], frames_BSW[..., :-1]], dim=2)
            frames_BSW = (frames_BSW - PREEMPHASIS * before_BSW) * self.get_buffer("window")
            power_BSF = torch.fft.rfft(frames_BSW, n=self.fft_length).abs().square()
            bank_BSM = (power_BSF @ self.get_buffer("filters_MF").T).clamp_min(FLOOR).log()
            bank_BSM = bank_BSM * self.is_sound(x, bank_BSM.shape[1])[:, :, None]
            bank_BSM = F.pad(bank_BSM, (0, 0, 0, self.columns - bank_BSM.shape[1]))
            return (bank_BSM - self.mean) / self.scale

    def is_sound(self, waveform_BL: Tensor, columns: int) -> Tensor:
        """Which columns lie wholly before the end of the sound, (B, columns) bool."""
        lengths_B = lengths_of(waveform_BL)
        columns_S = torch.arange(columns, device=waveform_BL.device)
        ends_S = self.window_length + self.hop_length * columns_S
        return ends_S[None, :] <= lengths_B[:, None]


class ClapNetwork(nn.Module):
    """A CLAP's audio network behind its filter bank: waveforms (B, L) -> what the network returns.

    Args:
        network: takes (B, 1, S, M), or with `is_fused` four times the same, the fourth part of
            which it looks at where sound is longer than its input.
        filters_FM: mel filters of the power spectrum, M of them.
        hop_length: samples between columns.
        samples: of its input; longer sound is cut.
    """

    def __init__(
        self, network: nn.Module, filters_FM: Tensor, hop_length: int, samples: int, is_fused: bool
    ) -> None:
        super().__init__()
        self.network, self.hop_length, self.samples = network, hop_length, samples
        self.is_fused, self.fft_length = is_fused, 2 * (len(filters_FM) - 1)
        with torch.device("cpu"):
            window = torch.hann_window(self.fft_length)
        self.register_buffer("window", window, persistent=False)
        self.register_buffer("filters_FM", filters_FM, persistent=False)

    def forward(self, waveform_BL: Tensor) -> Any:
        bank_B1SM = self.filter_bank(waveform_BL)[:, None]
        if not self.is_fused:
            return self.network(bank_B1SM)
        is_longer_B1 = torch.zeros(len(bank_B1SM), 1, dtype=torch.bool, device=bank_B1SM.device)
        return self.network(bank_B1SM.expand(-1, 4, -1, -1), is_longer=is_longer_B1)

    def filter_bank(self, waveform_BL: Tensor) -> Tensor:
        """Waveforms (B, L) -> filter banks (B, S, M) in decibels."""
        with torch.autocast(waveform_BL.device.type, enabled=False):
            x = repeated(waveform_BL.float(), self.samples)
            window, filters_FM = self.get_buffer("window"), self.get_buffer("filters_FM")
            spectrum_BFS = torch.stft(
                x, self.fft_length, self.hop_length, window=window, return_complex=True
            )
            power_BSF = spectrum_BFS.abs().square().transpose(1, 2)
            return 10 * (power_BSF @ filters_FM).clamp_min(1e-10).log10()


def lengths_of(waveform_BL: Tensor) -> Tensor:
    """Samples of each waveform up to its last that is not zero, (B,) int64."""
    positions_L = torch.arange(1, waveform_BL.shape[1] + 1, device=waveform_BL.device)
    return ((waveform_BL != 0) * positions_L).amax(dim=1)


def repeated(waveform_BL: Tensor, samples: int) -> Tensor:
    """Waveforms of `samples`: cut, or as many whole copies as there is room for, then zeros."""
    x = F.pad(waveform_BL, (0, max(0, samples - waveform_BL.shape[1])))[:, :samples]
    lengths_B1 = lengths_of(x).clamp_min(1)[:, None]
    positions_L = torch.arange(samples, device=x.device)[None]
    copies_BL = x.gather(1, positions_L % lengths_B1)
    return copies_BL * (positions_L < lengths_B1 * (samples // lengths_B1))


def kaldi_filters(mel_bins: int, fft_length: int, sample_rate_hz: int) -> Tensor:
    """Triangles (M, fft_length / 2 + 1), float32, straight on the mel scale, each of height 1."""
    nyquist_hz = sample_rate_hz / 2
    mel_F = kaldi_mel(torch.linspace(0, nyquist_hz, fft_length // 2 + 1, dtype=torch.float64))
    low, high = kaldi_mel(torch.tensor([LOWEST_HZ, nyquist_hz], dtype=torch.float64)).tolist()
    edges_E = torch.linspace(low, high, mel_bins + 2, dtype=torch.float64)
    rising_MF = (mel_F[None, :] - edges_E[:-2, None]) / (edges_E[1:-1] - edges_E[:-2])[:, None]
    falling_MF = (edges_E[2:, None] - mel_F[None, :]) / (edges_E[2:] - edges_E[1:-1])[:, None]
    return torch.minimum(rising_MF, falling_MF).clamp_min(0).float()


def kaldi_mel(frequency_hz: Tensor) -> Tensor:
    """Kaldi's mel scale."""
    return 1127.0 * torch.log1p(frequency_hz / 700.0)
