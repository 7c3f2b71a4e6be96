"""Which networks do the settings describe? They are built here, with random weights."""

from __future__ import annotations

from collections.abc import Sequence
from threading import RLock

import torch

from seehear.config import Encoders, Settings
from seehear.data.placing import MODALITIES
from seehear.method.encoders.pair import Pair
from seehear.method.encoders.resnets import AudioEncoder, VideoEncoder

BN_EPS = 1e-3  # of the video encoder, where nothing else is recorded: XDC's
_GLOBAL_GENERATOR = RLock()  # runs may be built side by side in threads


def pair_of(
    e: Encoders,
    modalities: Sequence[str] = MODALITIES,
    bn_eps: float = BN_EPS,
    with_twins: bool = False,
) -> Pair:
    """Encoders of the given shapes; random weights from PyTorch's global generator."""

    def video() -> VideoEncoder:
        return VideoEncoder(e.video_width, e.video_depth, e.midplanes, bn_eps)

    def audio() -> AudioEncoder:
        return AudioEncoder(e.audio_width, e.audio_depth)

    with _GLOBAL_GENERATOR:
        pair = Pair(
            video() if "video" in modalities else None, audio() if "audio" in modalities else None
        )
        return pair.add_twins({"video2": video(), "audio2": audio()}) if with_twins else pair


def build_pair(settings: Settings, modalities: Sequence[str] = MODALITIES) -> Pair:
    """New encoders, random weights from the seed, without heads; twins if the variant has them."""
    twins = settings.variant == "same-modality"
    with _GLOBAL_GENERATOR, torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        return pair_of(settings.encoders, modalities, with_twins=twins)
