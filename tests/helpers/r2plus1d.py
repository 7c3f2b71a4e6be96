"""R(2+1)D-18 once more, apart from our encoder: names and shapes of its checkpoints, and its output
by plain formulas.

From the description of the published networks: every 3x3x3 convolution is a spatial 1x3x3 one to M
planes, batch norm, ReLU, and a temporal 3x1x1 one; XDC counts M for each convolution, torchvision
once a block.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

CHANNELS = (64, 128, 256, 512)
MIDPLANES = {  # stage -> block -> planes of its two convolutions
    "conv": (
        ((144, 144), (144, 144)),
        ((230, 288), (288, 288)),
        ((460, 576), (576, 576)),
        ((921, 1152), (1152, 1152)),
    ),
    "block": (
        ((144, 144), (144, 144)),
        ((230, 230), (288, 288)),
        ((460, 460), (576, 576)),
        ((921, 921), (1152, 1152)),
    ),
}
PARAMETERS = {"conv": 33_165_639, "block": 31_300_125}
EPS = {"conv": 1e-3, "block": 1e-5}
MEAN, STD = (0.43216, 0.394666, 0.37645), (0.22803, 0.22145, 0.216989)


def norm(name: str, channels: int) -> dict[str, tuple[int, ...]]:
    shapes = {
        f"{name}.{part}": (channels,) for part in ("weight", "bias", "running_mean", "running_var")
    }
    return shapes | {f"{name}.num_batches_tracked": ()}


def shapes(rule: str) -> dict[str, tuple[int, ...]]:
    """Every key of a released checkpoint without classifier, with its shape."""
    found = {
        "stem.0.weight": (45, 3, 1, 7, 7),
        **norm("stem.1", 45),
        "stem.3.weight": (64, 45, 3, 1, 1),
    }
    found |= norm("stem.4", 64)
    before = 64
    for stage, channels in enumerate(CHANNELS, start=1):
        for block, planes in enumerate(MIDPLANES[rule][stage - 1]):
            for conv, mid in enumerate(planes, start=1):
                name = f"layer{stage}.{block}.conv{conv}"
                found[f"{name}.0.0.weight"] = (mid, before if conv == 1 else channels, 1, 3, 3)
                found |= norm(f"{name}.0.1", mid)
                found[f"{name}.0.3.weight"] = (channels, mid, 3, 1, 1)
                found |= norm(f"{name}.1", channels)
            if block == 0 and stage > 1:
                found[f"layer{stage}.0.downsample.0.weight"] = (channels, before, 1, 1, 1)
                found |= norm(f"layer{stage}.0.downsample.1", channels)
            before = channels
    return found


def state_dict(rule: str, seed: int = 0) -> dict[str, Tensor]:
    """A checkpoint with random weights whose activations neither vanish nor explode."""
    generator, state = torch.Generator().manual_seed(seed), {}
    for key, shape in shapes(rule).items():
        if key.endswith("num_batches_tracked"):
            state[key] = torch.tensor(7)
        elif len(shape) == 5:
            fan_in = shape[1] * shape[2] * shape[3] * shape[4]
            state[key] = torch.randn(shape, generator=generator) * (2 / fan_in) ** 0.5
        elif key.endswith(("running_var", "weight")):
            state[key] = torch.rand(shape, generator=generator) + 0.5
        else:
            state[key] = 0.1 * torch.randn(shape, generator=generator)
    return state


def forward(state: dict[str, Tensor], frames_BCTHW: Tensor, rule: str) -> Tensor:
    """Frames in [0, 1] -> (B, 512) features, in evaluation mode."""

    def bn(x: Tensor, name: str) -> Tensor:
        s = {
            part: state[f"{name}.{part}"]
            for part in ("running_mean", "running_var", "weight", "bias")
        }
        return F.batch_norm(
            x, s["running_mean"], s["running_var"], s["weight"], s["bias"], eps=EPS[rule]
        )

    def conv(x: Tensor, name: str, stride: int) -> Tensor:
        x = F.conv3d(x, state[f"{name}.0.0.weight"], None, (1, stride, stride), (0, 1, 1))
        x = F.relu(bn(x, f"{name}.0.1"))
        return bn(
            F.conv3d(x, state[f"{name}.0.3.weight"], None, (stride, 1, 1), (1, 0, 0)), f"{name}.1"
        )

    x = (frames_BCTHW - torch.tensor(MEAN).view(1, 3, 1, 1, 1)) / torch.tensor(STD).view(
        1, 3, 1, 1, 1
    )
    x = F.relu(bn(F.conv3d(x, state["stem.0.weight"], None, (1, 2, 2), (0, 3, 3)), "stem.1"))
    x = F.relu(bn(F.conv3d(x, state["stem.3.weight"], None, 1, (1, 0, 0)), "stem.4"))
    for stage in (1, 2, 3, 4):
        for block in (0, 1):
            stride = 2 if stage > 1 and block == 0 else 1
            name, shortcut = f"layer{stage}.{block}", x
            if stride == 2:
                shortcut = F.conv3d(x, state[f"{name}.downsample.0.weight"], None, 2)
                shortcut = bn(shortcut, f"{name}.downsample.1")
            x = conv(F.relu(conv(x, f"{name}.conv1", stride)), f"{name}.conv2", 1)
            x = F.relu(x + shortcut)
    return x.mean(dim=(2, 3, 4))
