"""Which networks are trained here: R(2+1)D for frames, and a ResNet for log-mel sound.

R(2+1)D factors each 3-D convolution into a spatial one (1xkxk), batch norm, ReLU, and a temporal
one (kx1x1) (Tran et al., "A Closer Look at Spatiotemporal Convolutions", CVPR 2018). Parameter
names are those of torchvision's `VideoResNet`, so that released checkpoints load key by key. The
audio encoder is ResNet-18 (He et al., CVPR 2016) with one input channel.

Shapes: frames (B, 3, T, H, W), uint8 in 0..255 or float in [0, 1] -> features (B, 8 * width);
        log-mel (B, 1, M, S) float -> features (B, 8 * width). Width 64 and depth 18 are the
        paper's: 512-d features.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

Midplanes = Literal["conv", "block"]
BLOCKS_PER_STAGE = {10: 1, 18: 2}  # depth -> residual blocks in each of the four stages

# Statistics of the RGB values, in [0, 1], that XDC's and torchvision's video weights were trained
# with.
RGB_MEAN = (0.43216, 0.394666, 0.37645)
RGB_STD = (0.22803, 0.22145, 0.216989)


class VideoEncoder(nn.Module):
    """R(2+1)D: frames (B, 3, T, H, W) -> features (B, 8 * width).

    Args:
        width: channels of the first stage; 64 is the published network, 8 or 16 train on a CPU.
        depth: 18 (two blocks a stage) or 10 (one block a stage).
        midplanes: how wide the convolution between space and time is. "conv" counts it for every
            convolution, as XDC's weights do; "block" counts it once a block, as torchvision's
            `r2plus1d_18` does. See `midplanes()`.
        bn_eps: added to the variance in batch norm; XDC uses 1e-3, torchvision 1e-5.

    Frames are uint8 (0..255) or float in [0, 1]; the RGB mean and deviation are applied here.

    Attributes:
        recompute: keep only what goes into each block, and compute the rest again going back.
    """

    def __init__(
        self, width: int = 64, depth: int = 18, midplanes: Midplanes = "conv", bn_eps: float = 1e-3
    ) -> None:
        super().__init__()
        check_shape("video", width, depth)
        self.feature_dim = 8 * width
        self.recompute = False
        stem_mid = max(1, 45 * width // 64)
        self.stem = nn.Sequential(
            Conv2Plus1D(3, stem_mid, (1, 7, 7), stride=(1, 2, 2), padding=(0, 3, 3), bias=False),
            nn.BatchNorm3d(stem_mid, eps=bn_eps),
            nn.ReLU(inplace=True),
            Conv2Plus1D(stem_mid, width, (3, 1, 1), padding=(1, 0, 0), bias=False),
            nn.BatchNorm3d(width, eps=bn_eps),
            nn.ReLU(inplace=True),
        )
        block = partial(VideoBlock, rule=midplanes, bn_eps=bn_eps)
        for i, stage in enumerate(stages(width, depth, block)):
            setattr(self, f"layer{i + 1}", stage)
        self.pool = nn.AdaptiveAvgPool3d(1)
        for name, values in (("rgb_mean", RGB_MEAN), ("rgb_std", RGB_STD)):
            self.register_buffer(name, torch.tensor(values).view(1, 3, 1, 1, 1), persistent=False)
        initialise(self)

    def forward(self, frames_BCTHW: Tensor) -> Tensor:
        x = frames_BCTHW
        if x.dtype == torch.uint8:
            x = x.float().div_(255.0)
        x = (x - self.get_buffer("rgb_mean")) / self.get_buffer("rgb_std")
        blocks: list[nn.Module] = [self.stem]
        for stage in range(1, 5):
            blocks += self.get_submodule(f"layer{stage}").children()
        for block in blocks:
            x = forgetful(block, x) if self.recompute and torch.is_grad_enabled() else block(x)
        features_BD: Tensor = self.pool(x).flatten(1)
        return features_BD


class AudioEncoder(nn.Module):
    """ResNet on log-mel spectrograms: (B, 1, M, S) -> features (B, 8 * width).

    Args:
        width: channels of the first stage; 64 and depth 18 make ResNet-18.
        depth: 18 (two blocks a stage) or 10 (one block a stage).

    The spectrograms are standardised here by a running mean and deviation (a batch norm without
    weights), so that a change of recording level between data sets needs no setting.
    """

    def __init__(self, width: int = 64, depth: int = 18) -> None:
        super().__init__()
        check_shape("audio", width, depth)
        self.feature_dim = 8 * width
        self.standardise = nn.BatchNorm2d(1, affine=False)
        self.stem = nn.Sequential(
            nn.Conv2d(1, width, 7, stride=2, padding=3, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, stride=2, padding=1),
        )
        for i, stage in enumerate(stages(width, depth, AudioBlock)):
            setattr(self, f"layer{i + 1}", stage)
        self.pool = nn.AdaptiveAvgPool2d(1)
        initialise(self)

    def forward(self, logmel_B1MS: Tensor) -> Tensor:
        x = self.stem(self.standardise(logmel_B1MS))
        for stage in range(1, 5):
            x = self.get_submodule(f"layer{stage}")(x)
        features_BD: Tensor = self.pool(x).flatten(1)
        return features_BD


def forgetful(block: nn.Module, x: Tensor) -> Tensor:
    """`block(x)`, whose activations are computed again in the backward pass instead of kept.

    The second pass leaves running statistics alone: they have counted the batch in the first.
    """

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), statistics_left_alone(block)

    y: Tensor = checkpoint(
        block, x, use_reentrant=False, preserve_rng_state=False, context_fn=contexts
    )
    return y


@contextmanager
def statistics_left_alone(module: nn.Module) -> Iterator[None]:
    """In this block the running statistics of a module's batch norms stay as they are."""
    norms = [m for m in module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    before = [
        (norm, norm.momentum, norm.num_batches_tracked.clone())
        for norm in norms
        if norm.num_batches_tracked is not None
    ]
    for norm, _, _ in before:
        # switching them off instead would save other tensors than the first pass
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum, batches in before:
            norm.momentum = momentum
            norm.get_buffer("num_batches_tracked").copy_(batches)


def midplanes(c_in: int, c_out: int) -> int:
    """Channels between the spatial and the temporal part that keep a 3x3x3's parameters.

    27 Cin Cout parameters = M (9 Cin + 3 Cout), solved for M and rounded down.
    """
    return (27 * c_in * c_out) // (9 * c_in + 3 * c_out)


class Conv2Plus1D(nn.Conv3d):
    """A 3-D convolution, spatial (1, k, k), temporal (k, 1, 1), or a point (1, 1, 1).

    On a CPU it is computed as a 2-D one on a view: (1, k, k) over B * T images, (k, 1, 1) over
    planes of T x (H * W). The weights are the same; on channels-last frames nothing is copied. The
    reason is correctness: with bf16 on CPUs with AMX, PyTorch 2.13's 3-D weight gradients are wrong
    for some shapes (128 to 230 channels at 28x28: 7 % off; others not finite), and its 2-D ones are
    right (0.3 %, the rounding of bf16).
    """

    def forward(self, x: Tensor) -> Tensor:
        if x.device.type != "cpu":
            return super().forward(x)
        step_t, step_h, step_w = self.stride
        if self.kernel_size == (1, 1, 1):
            x = x[:, :, ::step_t, ::step_h, ::step_w]
            step_h = step_w = 1
        batch, channels, frames, height, width = x.shape
        nhwc = x.permute(0, 2, 3, 4, 1)
        if self.kernel_size[0] > 1:
            plane = nhwc.reshape(batch, frames, height * width, channels).permute(0, 3, 1, 2)
            y = F.conv2d(plane, self.weight.squeeze(4), None, (step_t, 1), (self.padding[0], 0))  # type: ignore[arg-type]
            y = y.permute(0, 2, 3, 1).reshape(batch, y.shape[2], height, width, y.shape[1])
        else:
            images = nhwc.reshape(batch * frames, height, width, channels).permute(0, 3, 1, 2)
            y = F.conv2d(images, self.weight.squeeze(2), None, (step_h, step_w), self.padding[1:])
            y = y.permute(0, 2, 3, 1).reshape(batch, frames, y.shape[2], y.shape[3], y.shape[1])
        return y.permute(0, 4, 1, 2, 3)


class VideoBlock(nn.Module):
    """Two (2+1)D convolutions and a shortcut."""

    def __init__(self, c_in: int, c_out: int, stride: int, rule: Midplanes, bn_eps: float) -> None:
        super().__init__()
        first = midplanes(c_in, c_out)
        second = first if rule == "block" else midplanes(c_out, c_out)
        self.conv1 = nn.Sequential(
            conv2plus1d(c_in, first, c_out, stride, bn_eps),
            nn.BatchNorm3d(c_out, eps=bn_eps),
            nn.ReLU(inplace=True),
        )
        self.conv2 = nn.Sequential(
            conv2plus1d(c_out, second, c_out, 1, bn_eps), nn.BatchNorm3d(c_out, eps=bn_eps)
        )
        self.relu = nn.ReLU(inplace=True)
        self.downsample: nn.Module | None = None
        if stride != 1 or c_in != c_out:
            self.downsample = nn.Sequential(
                Conv2Plus1D(c_in, c_out, 1, stride=stride, bias=False),
                nn.BatchNorm3d(c_out, eps=bn_eps),
            )

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        return self.relu(self.conv2(self.conv1(x)) + shortcut)  # type: ignore[no-any-return]


def conv2plus1d(c_in: int, c_mid: int, c_out: int, stride: int, bn_eps: float) -> nn.Sequential:
    """Spatial 1x3x3, batch norm, ReLU, temporal 3x1x1; both strided by `stride`, no biases."""
    return nn.Sequential(
        Conv2Plus1D(
            c_in, c_mid, (1, 3, 3), stride=(1, stride, stride), padding=(0, 1, 1), bias=False
        ),
        nn.BatchNorm3d(c_mid, eps=bn_eps),
        nn.ReLU(inplace=True),
        Conv2Plus1D(c_mid, c_out, (3, 1, 1), stride=(stride, 1, 1), padding=(1, 0, 0), bias=False),
    )


class AudioBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut."""

    def __init__(self, c_in: int, c_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(c_in, c_out, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(c_out)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(c_out)
        self.relu = nn.ReLU(inplace=True)
        self.downsample: nn.Module | None = None
        if stride != 1 or c_in != c_out:
            self.downsample = nn.Sequential(
                nn.Conv2d(c_in, c_out, 1, stride=stride, bias=False), nn.BatchNorm2d(c_out)
            )

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(x)) + shortcut)  # type: ignore[no-any-return]


def stages(
    width: int, depth: int, block: Callable[[int, int, int], nn.Module]
) -> Iterator[nn.Sequential]:
    """The four stages of a residual network of `block(in, out, stride)`, widths 1, 2, 4, 8."""
    channels = width
    for stage in range(4):
        blocks = []
        for number in range(BLOCKS_PER_STAGE[depth]):
            blocks.append(block(channels, width << stage, 2 if stage > 0 and number == 0 else 1))
            channels = width << stage
        yield nn.Sequential(*blocks)


def check_shape(name: str, width: int, depth: int) -> None:
    """Raise ValueError for an encoder that cannot be built."""
    if depth not in BLOCKS_PER_STAGE:
        raise ValueError(f"{name} depth is {depth}. It must be one of {sorted(BLOCKS_PER_STAGE)}.")
    if width < 1:
        raise ValueError(f"{name} width is {width}. It must be positive; 64 is the paper's.")


def initialise(encoder: nn.Module) -> None:
    """He initialisation of all convolutions (fan-out); batch norms start at weight 1, bias 0."""
    for module in convolutions(encoder):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


def convolutions(module: nn.Module) -> Iterable[nn.Conv2d | nn.Conv3d]:
    """Every convolution of a module, in order."""
    return (m for m in module.modules() if isinstance(m, nn.Conv2d | nn.Conv3d))
