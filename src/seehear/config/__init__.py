"""Which settings are there? Each typed, frozen, with its meaning beside it.

`Settings` is the one object that a run is built from and that `run.json` records. A setting is
changed by its dotted name (`train.lr`), from the command line (`--train.lr 0.01`), from a TOML
file, or from Python (`override(preset("demo"), {"train.lr": 0.01})`); an unknown name is an error
that suggests the nearest one. `changing` has what does that.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from seehear.config.changing import (
    Leaf,
    convert,
    differences,
    flatten,
    leaves,
    override,
    parse,
    read_toml,
    setting,
)
from seehear.errors import SettingsError

__all__ = [
    "Checkpoint",
    "Clip",
    "Cluster",
    "Compute",
    "Data",
    "Encoders",
    "Leaf",
    "Settings",
    "Start",
    "Train",
    "convert",
    "differences",
    "flatten",
    "from_dict",
    "leaves",
    "override",
    "parse",
    "read_toml",
    "setting",
]

Variant = Literal["xdc", "sdc", "mdc", "cdc", "same-modality"]
# modality -> the settings that its encoder's shapes are, and those of a clip that it takes
SHAPES = {
    "video": ("video_width", "video_depth", "midplanes"),
    "audio": ("audio_width", "audio_depth"),
}
INPUT = {
    "video": ("frames", "frame_rate_hz", "short_side_pixels", "crop_pixels"),
    "audio": ("sound_seconds", "sample_rate_hz", "mel_bins", "spectrogram_frames"),
}


@dataclass(frozen=True)
class Clip:
    """What one draw takes from a segment: some frames and the sound around them."""

    frames: int = setting(8, "frames in a clip", low=1, high=1024, usual="8 or 32")
    frame_rate_hz: float = setting(
        30.0, "frames a second within a clip", low=0.1, high=240, usual="4 to 30"
    )
    short_side_pixels: int = setting(
        128, "short side that frames are decoded to", low=8, high=4096, usual="crop + 1/8"
    )
    crop_pixels: int = setting(
        112, "side of the square that the encoder sees", low=8, high=4096, usual="112 or 224"
    )
    sound_seconds: float = setting(
        2.0, "sound that goes with a clip", low=0.05, high=60, usual="1 to 2"
    )
    sample_rate_hz: int = setting(16000, "sound is resampled to this rate", low=1000, high=192000)
    mel_bins: int = setting(40, "rows of the log-mel image", low=8, high=256)
    spectrogram_frames: int = setting(100, "columns of the log-mel image", low=8, high=4096)
    flip: bool = setting(True, "mirror half of the training clips, left to right")
    brightness: float = setting(0.0, "jitter, share of full range", low=0, high=1, usual="0 to 0.2")
    contrast: float = setting(
        0.0, "jitter: factor within 1 +- this", low=0, high=1, usual="0 to 0.4"
    )
    scale_jitter: float = setting(
        0.0, "side of the crop within 1 +- this, then resized", low=0, high=0.5, usual="0 to 0.2"
    )
    gain_decibels: float = setting(0.0, "loudness jitter, +- this", low=0, high=40, usual="0 to 6")

    def seconds_of(self, modality: str) -> float:
        """How long the frames ("video") or the sound ("audio") of one clip are."""
        return self.frames / self.frame_rate_hz if modality == "video" else self.sound_seconds

    def with_input_of(self, modality: str, other: Clip) -> Clip:
        """These settings, with what an encoder of one modality takes by others."""
        names = INPUT[modality]
        return dataclasses.replace(self, **{name: getattr(other, name) for name in names})

    def span_seconds(self, modalities: Sequence[str]) -> float:
        """How much of a segment one clip spans: the longest of what is read of it."""
        return max(self.seconds_of(modality) for modality in modalities)


@dataclass(frozen=True)
class Encoders:
    """The two networks; the paper's are 64 wide and 18 deep."""

    video_width: int = setting(64, "channels of R(2+1)D's first stage", low=1, high=512)
    video_depth: int = setting(18, "layers of R(2+1)D: 10 or 18", low=10, high=18)
    midplanes: Literal["conv", "block"] = setting(
        "conv", "R(2+1)D's inner width: conv (XDC) or block (torchvision)"
    )
    audio_width: int = setting(64, "channels of the audio ResNet's first stage", low=1, high=512)
    audio_depth: int = setting(18, "layers of the audio ResNet: 10 or 18", low=10, high=18)


@dataclass(frozen=True)
class Start:
    """What training starts from: new encoders, or trained ones."""

    video: str = setting("", "its video encoder: a run, hf:NAME, or weights; empty: a new one")
    audio: str = setting("", "its audio encoder, likewise")
    frozen: Literal["none", "video", "audio"] = setting(
        "none", "trained encoder (video or audio) that never learns: its clusters teach the other"
    )

    @property
    def given(self) -> dict[str, str]:
        """The modalities of the encoders that are trained already -> where they are from."""
        return {m: name for m in INPUT if (name := getattr(self, m))}


@dataclass(frozen=True)
class Cluster:
    """k-means on the features of all rows, once a round."""

    num_clusters: tuple[int, ...] = setting((256,), "K; several numbers make one head each", low=2)
    iterations: int = setting(20, "Lloyd iterations", low=1, high=1000)
    features: Literal["l2", "whiten", "none"] = setting(
        "l2",
        "before k-means: l2 (centre, L2), whiten (PCA, L2; final clusters: l2), none (as they are)",
    )
    centre: Literal["all", "recording", "auto"] = setting(
        "all",
        "features are compared with all rows (all), with those of their recording (recording), or "
        "with those where they are at least 4 (auto)",
    )
    warm_start: bool = setting(False, "start from the last round's labels instead of random rows")
    points_per_centroid: int = setting(
        0, "iterate on a sample of this many rows a cluster; 0 is all rows", low=0
    )


@dataclass(frozen=True)
class Train:
    """Learning one round's labels."""

    order: Literal["together", "alternating"] = setting(
        "together",
        "who learns in a round: both encoders, from clusters made before (together, the paper's "
        "figure), or one, whose clusters then teach the other (alternating)",
    )
    epochs: int = setting(
        3, "most epochs a round, each student's last with the rate falling to zero", low=1
    )
    patience: int = setting(
        0,
        "held-out loss has not improved for so many epochs: the last one follows, from the best; "
        "0: never",
        low=0,
    )
    batch_size: int = setting(32, "clips a step, over all ranks together", low=2)
    batch_parts: int = setting(
        1, "cut a batch into at least so many parts, one after another or on ranks", low=1
    )
    optimizer: Literal["sgd", "adamw"] = setting("sgd", "sgd with momentum, or adamw")
    lr: float = setting(0.01, "peak learning rate", low=0, usual="0.01 for sgd, 0.001 for adamw")
    momentum: float = setting(0.9, "of sgd", low=0, high=1)
    weight_decay: float = setting(1e-4, "L2 penalty (sgd) or decay (adamw)", low=0)
    warmup_share: float = setting(
        0.05, "share of a round's steps that lr rises over", low=0, high=1
    )
    renew_heads: bool = setting(
        True, "new heads each round, since cluster numbers mean nothing across rounds"
    )
    uniform_clusters: bool = setting(
        True, "draw clips uniformly over clusters instead of over rows"
    )
    label_smoothing: float = setting(0.0, "of the cross-entropy", low=0, high=1)
    heldout_share: float = setting(
        0.05, "share of the recordings kept out of training, to see it saturate", low=0, high=0.5
    )


@dataclass(frozen=True, kw_only=True)
class Data:
    """How clips get from files to the device."""

    workers: int = setting(-1, "decoding processes; -1: one a core", low=-1, high=1024)
    cache_gigabytes: float = setting(2.0, "keep decoded segments if all fit", low=0)
    timeout_s: float = setting(
        60.0, "a clip that takes longer to decode is tried once more, then left out", low=0.1
    )
    remote_cache_gigabytes: float = setting(
        -1.0, "copies of remote files on disk; -1: $SEEHEAR_CACHE_GIGABYTES, or 20", low=-1
    )
    split: str = setting("", "train on the rows of this split of the index alone; empty: on all")
    max_failed_share: float = setting(
        0.05, "stop when more rows fail than this share", low=0, high=1
    )


@dataclass(frozen=True)
class Compute:
    """Where and how precisely."""

    device: str = setting("auto", "auto, cpu, cuda, cuda:1, ...")
    precision: Literal["auto", "fp32", "bf16"] = setting(
        "auto", "fp32, bf16 (autocast), or auto: the faster"
    )
    memory_format: Literal["auto", "contiguous", "channels_last"] = setting(
        "auto", "of video: contiguous, channels_last, or auto: the faster"
    )
    threads: int = setting(0, "CPU threads; 0: PyTorch's choice", low=0)
    compile: Literal["off", "inductor"] = setting(
        "off", "or torch.compile's inductor, taken if it works and pays"
    )
    checkpoint_activations: bool = setting(
        False, "compute video activations again going backward: less memory, 1/3 more time"
    )
    deterministic: bool = setting(False, "only kernels that give the same bits each time")
    sync_batch_norm: bool = setting(False, "batch norm over all ranks instead of each one's")
    timeout_minutes: float = setting(30.0, "ranks wait so long for each other", low=0.01)


@dataclass(frozen=True)
class Checkpoint:
    """How often training is saved in the middle of a round; whole rounds are always saved."""

    minutes: float = setting(
        10.0, "save when so many minutes have passed; 0: never", low=0, usual="5 to 30"
    )
    steps: int = setting(0, "save after every so many steps; 0: by minutes alone", low=0)


@dataclass(frozen=True)
class Settings:
    """All settings of a pretraining run."""

    variant: Variant = setting(
        "xdc", "who teaches whom: xdc, sdc, mdc, cdc, or same-modality (a control)"
    )
    seed: int = setting(0, "every random choice derives from it", low=0)
    rounds: int = setting(10, "most rounds of extract, cluster, train", low=1)
    stop_nmi: float = setting(
        0.0,
        "end when clusters agree with the last round's by more than this NMI, twice in a row; 0: "
        "never",
        low=0,
        high=1,
    )
    clip: Clip = Clip()
    encoders: Encoders = Encoders()
    start: Start = Start()
    cluster: Cluster = Cluster()
    train: Train = Train()
    data: Data = Data()
    compute: Compute = Compute()
    checkpoint: Checkpoint = Checkpoint()

    def to_dict(self) -> dict[str, Any]:
        """Plain nested data, as `run.json` holds it."""
        return dataclasses.asdict(self)

    def check(self) -> None:
        """Raise SettingsError for settings that contradict each other."""
        clip, train, start = self.clip, self.train, self.start
        for is_wrong, text in (
            (
                train.batch_size < 2 * train.batch_parts,
                f"train.batch_parts is {train.batch_parts}, which leaves less than 2 of the "
                f"{train.batch_size} clips of train.batch_size to a part. Raise the batch size, or "
                f"lower the parts.",
            ),
            (
                clip.crop_pixels > clip.short_side_pixels,
                f"clip.crop_pixels is {clip.crop_pixels}, more than clip.short_side_pixels "
                f"({clip.short_side_pixels}). Lower the crop or raise the short side.",
            ),
            (
                start.frozen not in ("none", *start.given),
                f"start.frozen is {start.frozen}, and a new encoder has nothing to teach. Name a "
                f"trained one: --start.{start.frozen} RUN.",
            ),
            (
                start.frozen != "none" and self.variant == "sdc",
                f"start.frozen is {start.frozen}, which teaches nobody in variant sdc. Take xdc.",
            ),
            (
                start.given and self.variant == "same-modality",
                "variant is same-modality, whose encoders are all new. Leave out start.",
            ),
        ):
            if is_wrong:
                raise SettingsError(text)
        for name in ("video_depth", "audio_depth"):
            depth = getattr(self.encoders, name)
            if depth not in (10, 18):
                raise SettingsError(f"encoders.{name} is {depth}. It must be 10 or 18.")


def from_dict(values: Mapping[str, Any], base: Settings | None = None) -> Settings:
    """Settings from nested data, as `to_dict` writes and TOML holds; what is not named stays."""
    return override(base or Settings(), flatten(values))
