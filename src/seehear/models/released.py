"""Which checkpoints of others are known by name, and what should a clip for them look like?

XDC's weights: H. Alwassel et al., "Self-Supervised Learning by Cross-Modal Audio-Video Clustering",
NeurIPS 2020, video encoders only; the audio encoders were never released. torchvision's: trained
with labels on Kinetics-400. Both are R(2+1)D-18, but differ in the planes between space and time
and in the epsilon of batch norm, so that neither fits into the other.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from seehear.config import Clip
from seehear.errors import UsageError

# Each rule of mid-planes comes with the epsilon that its weights were trained with.
BN_EPS: Mapping[str, float] = {"conv": 1e-3, "block": 1e-5}

# The accuracies of the release were reached with clips of 32 frames. Neither its page nor its code
# states rate or size: these are usual for this family of networks, and our choice.
XDC_CLIP = Clip(frames=32, frame_rate_hz=30.0, short_side_pixels=128, crop_pixels=112)
XDC_INPUT = (
    "RGB statistics are confirmed by the authors, 32 frames are what the accuracies were reached "
    "with; 30 frames a second and a crop of 112 out of a short side of 128 are our choice, since "
    "the release does not say."
)
TORCHVISION_CLIP = Clip(frames=16, frame_rate_hz=15.0, short_side_pixels=128, crop_pixels=112)
# of a file that nobody knows, by its mid-planes
CLIPS: Mapping[str, Clip] = {"conv": XDC_CLIP, "block": TORCHVISION_CLIP}


@dataclass(frozen=True)
class Released:
    """A checkpoint that somebody published."""

    name: str  # how it is asked for
    url: str  # of the file
    sha256: str  # how the file's SHA-256 begins, in hexadecimal
    licence: str  # of the weights
    home: str  # where its makers describe it
    # what it was trained on, and which of its clip settings are known and which are our choice
    about: str
    # "conv" or "block", see `seehear.method.encoders.VideoEncoder`
    midplanes: Literal["conv", "block"]
    clip: Clip
    # accuracies in % that its makers publish for it, by benchmark; full fine-tuning, mean of all
    # splits
    published: Mapping[str, float] = field(default_factory=dict)

    @property
    def file(self) -> str:
        """The file's name."""
        return self.url.rsplit("/", 1)[-1]

    @property
    def origin(self) -> dict[str, Any]:
        """What the record of its encoders says of it."""
        names = ("name", "url", "home", "licence", "about")
        return {key: getattr(self, key) for key in names} | {"published": dict(self.published)}


def xdc(name: str, sha256: str, trained_on: str, ucf101: float, hmdb51: float) -> Released:
    """One line of the release of XDC."""
    home = "https://github.com/HumamAlwassel/XDC"
    url = f"{home}/releases/download/model_weights/{name}-{sha256}.pth"
    about = f"R(2+1)D-18, {trained_on}. {XDC_INPUT}"
    published = {"UCF101": ucf101, "HMDB51": hmdb51}
    return Released(name, url, sha256, "MIT", home, about, "conv", XDC_CLIP, published)


IG_KINETICS, IG_RANDOM = "XDC on IG-Kinetics, without labels", "XDC on IG-Random, without labels"
FS_KINETICS = "fully supervised on Kinetics, XDC's baseline"
FS_IMAGENET = "fully supervised on ImageNet, XDC's baseline"
_ENTRIES = (
    xdc("r2plus1d_18_xdc_ig65m_kinetics", "f24f6ffb", IG_KINETICS, 95.5, 68.9),
    xdc("r2plus1d_18_xdc_ig65m_random", "189d23f4", IG_RANDOM, 94.6, 66.5),
    xdc("r2plus1d_18_xdc_audioset", "f29ffe8f", "XDC on AudioSet, without labels", 93.0, 63.7),
    xdc("r2plus1d_18_fs_kinetics", "622bdad9", FS_KINETICS, 94.2, 65.1),
    xdc("r2plus1d_18_fs_imagenet", "ff446670", FS_IMAGENET, 84.0, 48.1),
    Released(
        name="r2plus1d_18_kinetics400",
        url="https://download.pytorch.org/models/r2plus1d_18-91a641e6.pth",
        sha256="91a641e6",
        licence="BSD-3-Clause",
        home="https://docs.pytorch.org/vision/stable/models/video_resnet.html",
        about="torchvision's R(2+1)D-18, trained with labels on Kinetics-400. 16 frames at 15 a "
        "second and a crop of 112 are torchvision's; it resizes frames to 128 x 171, we keep their "
        "proportions.",
        midplanes="block",
        clip=TORCHVISION_CLIP,
    ),
)
RELEASED: Mapping[str, Released] = {entry.name: entry for entry in _ENTRIES}


def find(name: str) -> Released:
    """The released checkpoint of a name.

    Raises:
        UsageError: there is none, with the nearest names.
    """
    if name not in RELEASED:
        raise UsageError(f"There are no released weights {name}. {suggestion(name)}")
    return RELEASED[name]


def suggestion(name: str) -> str:
    """What may have been meant: the nearest released names, or where they are listed."""
    near = difflib.get_close_matches(name, RELEASED, n=2, cutoff=0.6)
    return f"Did you mean {' or '.join(near)}?" if near else "`seehear weights list` shows them."
