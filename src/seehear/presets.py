"""Settings that belong together; each preset states the paper it follows, its cost, what to expect,
and its command.

A number that is not known from a publication is our own measurement, with its conditions, or is
said to be unknown.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from seehear.config import Clip, Cluster, Compute, Data, Encoders, Settings, Train
from seehear.errors import SettingsError


@dataclass(frozen=True)
class Preset:
    """Settings and what is known of them."""

    settings: Settings
    paper: str
    cost: str
    expected: str
    command: str


# our choice, not measured at that size: k-means from other rows agrees less than fully by itself
STOP_NMI = 0.9

DEBUG = Preset(
    Settings(
        rounds=2,
        clip=Clip(
            frames=4, frame_rate_hz=4.0, short_side_pixels=36, crop_pixels=32, sound_seconds=1.0
        ),
        encoders=Encoders(video_width=4, video_depth=10, audio_width=4, audio_depth=10),
        cluster=Cluster(num_clusters=(4,), iterations=10),
        train=Train(epochs=1, batch_size=8, optimizer="adamw", lr=1e-3),
    ),
    paper="none: the smallest thing that runs every stage",
    cost="seconds on one core",
    expected="nothing: it learns nothing worth having",
    command="seehear pretrain INDEX --out RUN --preset debug",
)

DEMO = Preset(
    Settings(
        rounds=14,
        clip=Clip(
            frames=8, frame_rate_hz=4.0, short_side_pixels=36, crop_pixels=32, sound_seconds=2.0
        ),
        encoders=Encoders(video_width=16, video_depth=10, audio_width=16, audio_depth=10),
        cluster=Cluster(num_clusters=(8, 16, 32, 64), features="whiten"),
        train=Train(
            order="alternating",
            epochs=3,
            batch_size=16,
            optimizer="adamw",
            lr=2e-3,
            weight_decay=0.01,
        ),
        # Networks this small gain little from a second thread, and on a busy machine threads that
        # wait for each other are several times slower than one (344 clips/s with two against 267,
        # and 62 to 97 against 267 beside another busy process, two cores, bf16).
        compute=Compute(threads=1),
    ),
    paper="XDC's method in small: narrow 10-layer encoders, 32x32 pixels, 8, 16, 32 and 64 "
    "clusters at once, of whitened features",
    cost="minutes on two CPU cores for 1,500 videos of 2 s",
    expected="see the table in README.md: `seehear demo` measures it",
    command="seehear pretrain INDEX --out RUN --preset demo",
)

SMALL = Preset(
    Settings(
        rounds=20,
        stop_nmi=STOP_NMI,
        clip=Clip(
            frames=8, frame_rate_hz=15.0, short_side_pixels=128, crop_pixels=112, sound_seconds=2.0
        ),
        cluster=Cluster(num_clusters=(256,)),
        train=Train(
            order="alternating", epochs=5, patience=2, batch_size=64, optimizer="sgd", lr=0.02
        ),
        data=Data(cache_gigabytes=16.0),
    ),
    paper="XDC's encoders (R(2+1)D-18, ResNet-18) at 112x112; learning rate, rounds and epochs "
    "are our choice",
    cost="one GPU; not yet measured",
    expected="unknown: not yet measured",
    command="seehear pretrain INDEX --out RUN --preset small",
)

PAPER = Preset(
    Settings(
        rounds=20,
        stop_nmi=STOP_NMI,
        clip=Clip(
            frames=8,
            frame_rate_hz=30.0,
            short_side_pixels=256,
            crop_pixels=224,
            sound_seconds=2.0,
            scale_jitter=1 / 9,  # 256 to 320, as recipes of this family draw sizes, is 1 to 1.25
        ),
        cluster=Cluster(num_clusters=(256,)),
        train=Train(epochs=10, patience=2, batch_size=32, optimizer="sgd", lr=0.01),
    ),
    paper="XDC (NeurIPS 2020): R(2+1)D-18, ResNet-18, rounds until saturation; 8 frames as "
    "recalled. Learning rate, "
    "epochs a round and rounds are in the supplement, which we could not read; ours follow the "
    "same group's supervised "
    "recipe.",
    cost="many GPU days at the size of Kinetics; not yet measured",
    expected="unknown for this reimplementation. Published for XDC on 65 million videos, "
    "fine-tuned on 32 frames, "
    "UCF101 / HMDB51: 94.6 / 66.5",
    command="seehear pretrain INDEX --out RUN --preset paper",
)

PRESETS: dict[str, Preset] = {"debug": DEBUG, "demo": DEMO, "small": SMALL, "paper": PAPER}


def preset_settings(name: str) -> Settings:
    """The settings of a preset.

    Raises:
        SettingsError: there is no such preset.
    """
    if name not in PRESETS:
        near = difflib.get_close_matches(name, PRESETS, n=1)
        hint = f"Did you mean {near[0]}? " if near else ""
        raise SettingsError(f"There is no preset {name}. {hint}Presets: {', '.join(PRESETS)}.")
    return PRESETS[name].settings
