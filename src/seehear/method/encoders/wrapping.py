"""How does any PyTorch module become an encoder? By saying what it takes and where its feature is.

Shapes: frames (B, 3, T, H, W), uint8 in 0..255 or float in [0, 1], or log-mel (B, 1, M, S), or
        waveforms (B, L) in [-1, 1] -> features (B, D).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

Layout = Literal["BCTHW", "BTCHW"]
Takes = Literal["spectrogram", "waveform"]
# a usual input
PROBES = {"frames": (1, 3, 16, 112, 112), "spectrogram": (1, 1, 40, 100), "waveform": (1, 32000)}


class WrappedEncoder(nn.Module):
    """A module as an encoder, with `feature_dim` and, for sound, `takes_waveform`: see `wrap`."""

    def __init__(
        self,
        module: nn.Module,
        normalisation: tuple[Tensor, Tensor] | None,
        layout: Layout,
        takes_waveform: bool,
        output: Callable[[Any], Tensor] | None,
    ) -> None:
        super().__init__()
        self.module, self.layout = module, layout
        self.takes_waveform, self.output = takes_waveform, output
        self.feature_dim, self.stays_eval = 0, False  # set by `wrap`
        mean, std = normalisation or (None, None)
        self.register_buffer("rgb_mean", mean, persistent=False)
        self.register_buffer("rgb_std", std, persistent=False)

    def train(self, mode: bool = True) -> WrappedEncoder:
        """As every module's, but for a module that stays in evaluation mode."""
        super().train(mode)
        self.module.train(mode and not self.stays_eval)
        return self

    def forward(self, x: Tensor) -> Tensor:
        if self.rgb_mean is not None:
            x = x.float().div(255.0) if x.dtype == torch.uint8 else x
            x = (x - self.get_buffer("rgb_mean")) / self.get_buffer("rgb_std")
            x = x.transpose(1, 2).contiguous() if self.layout == "BTCHW" else x
        y = self.module(x)
        features_BD = y if self.output is None else self.output(y)
        if (
            not isinstance(features_BD, Tensor)
            or features_BD.ndim != 2
            or len(features_BD) != len(x)
        ):
            raise ValueError(
                f"{type(self.module).__name__} gave {describe(features_BD)} for {len(x)} clips. It "
                "must be one (B, D) tensor of features; take them out with wrap(..., output=lambda "
                "y: ...)."
            )
        return features_BD


def wrap(
    module: nn.Module,
    feature_dim: int | None = None,
    *,
    rgb_mean: Sequence[float] | None = None,
    rgb_std: Sequence[float] | None = None,
    layout: Layout = "BCTHW",
    takes: Takes | None = None,
    output: Callable[[Any], Tensor] | None = None,
    stays_eval: bool = False,
) -> WrappedEncoder:
    """Make an encoder of any PyTorch module, for `Pair`, `Model`, extraction and evaluation.

    Args:
        module: a video network if `rgb_mean` and `rgb_std` are given, an audio network if `takes`
            is.
        feature_dim: D; None runs the module once on zeros of a usual size to see.
        rgb_mean, rgb_std: the module was trained on (RGB - mean) / std, RGB in [0, 1]; three
            numbers each. (0, 0, 0) and (1, 1, 1) give it plain RGB in [0, 1].
        layout: the axes that a video network takes its frames in.
        takes: what an audio network takes: log-mel "spectrogram" (B, 1, M, S), or "waveform" (B, L)
            in [-1, 1].
        output: takes the features (B, D) out of what the module returns; None where it returns
            them.
        stays_eval: train it in evaluation mode: without dropout, which would draw from PyTorch's
            global generator, so that a resumed run differs, and with batch norms as they are.
    Raises:
        ValueError: arguments of neither or both kinds, an unknown layout, or a module that gives no
            (B, D) features.
    """
    is_video = rgb_mean is not None and rgb_std is not None
    if is_video == (takes is not None) or (rgb_mean is None) != (rgb_std is None):
        raise ValueError(
            "A video network needs rgb_mean and rgb_std; an audio network needs "
            "takes='spectrogram' or takes='waveform' and neither of them."
        )
    if layout not in ("BCTHW", "BTCHW") or takes not in (None, "spectrogram", "waveform"):
        raise ValueError(
            f"layout is {layout!r} and takes is {takes!r}. See wrap() for what they may be."
        )
    normalisation = (
        (channels(rgb_mean), channels(rgb_std))
        if rgb_mean is not None and rgb_std is not None
        else None
    )
    encoder = WrappedEncoder(module, normalisation, layout, takes == "waveform", output)
    encoder.training, encoder.stays_eval = module.training, stays_eval
    encoder.feature_dim = feature_dim or probe_dim(encoder, PROBES[takes or "frames"])
    return encoder


def channels(values: Sequence[float]) -> Tensor:
    """Three numbers as (1, 3, 1, 1, 1)."""
    if len(values) != 3:
        raise ValueError(f"{tuple(values)} has {len(values)} numbers. RGB statistics have three.")
    return torch.tensor(list(values), dtype=torch.float32).view(1, 3, 1, 1, 1)


@torch.no_grad()
def probe_dim(encoder: WrappedEncoder, shape: tuple[int, ...]) -> int:
    """The width of the features for zeros of a shape; the module is left as it was."""
    modes = [(part, part.training) for part in encoder.modules()]
    parameter = next(encoder.module.parameters(), None)
    zeros = torch.zeros(shape, device=parameter.device if parameter is not None else "cpu")
    try:
        return int(encoder.eval()(zeros).shape[1])
    except (RuntimeError, IndexError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"{type(encoder.module).__name__} cannot take {shape} ({reason}). Give feature_dim, so "
            "that it need not be tried out."
        ) from None
    finally:
        for part, mode in modes:
            part.training = mode


def describe(y: Any) -> str:
    """What a module returned, in words."""
    return (
        f"a tensor of shape {tuple(y.shape)}" if isinstance(y, Tensor) else f"a {type(y).__name__}"
    )
