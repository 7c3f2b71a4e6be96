"""Files as damage leaves them: a case is a function of (seed, number) and of the whole files it is
made from.

Whole files are small videos in MP4, Matroska, WebM, AVI, ASF, MPEG-TS and MPEG-PS, many with
B-frames, made here: scenes of `seehear.synth`, others encoded anew by PyAV with each of the usual
codecs; and real ones where `.cache/real-media` is there.
"""

from __future__ import annotations

import shutil
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import seehear
from media_files import grainy_picture, pack_b_frames, write_media

REAL_MEDIA = Path(__file__).parents[2] / ".cache" / "real-media"
REAL_BYTES = 2_000_000  # larger real files would make the corpus large, and their damage thin
ENDINGS = (".mp4", ".mkv", ".webm", ".avi")
HEADER_BYTES = 1500  # where headers are, at both ends of a file

_B_FRAMES: dict[str, Any] = {
    "video_options": {"bf": "3", "b_strategy": "0", "g": "12"},
    "has_fine_clock": False,
}
WHOLE: dict[str, dict[str, Any]] = {
    "h264.mp4": {},
    "fast.mp4": {"container_options": {"movflags": "faststart"}, "rotation_degrees": 90},
    "fragments.mp4": {
        "container_options": {"movflags": "frag_keyframe+empty_moov"},
        "video_options": {"g": "12"},
    },
    "mpeg4.mp4": {"video_codec": "mpeg4", "audio_codec": "mp3"},
    "h264.mkv": {"audio_codec": "libopus", "sample_rate_hz": 48000},
    "ffv1.mkv": {"video_codec": "ffv1", "audio_codec": "flac"},
    "vp9.webm": {"video_codec": "libvpx-vp9", "audio_codec": "libopus", "sample_rate_hz": 48000},
    "vp8.webm": {"video_codec": "libvpx", "audio_codec": "libopus", "sample_rate_hz": 48000},
    "mpeg4.avi": {"video_codec": "mpeg4", "audio_codec": "mp3"},
    "bframes.avi": _B_FRAMES | {"audio_codec": "mp3"},
    "packed.avi": {
        "video_codec": "mpeg4",
        "audio_codec": "mp3",
        "video_options": {"bf": "2", "b_strategy": "0"},
    },
    "bframes.asf": _B_FRAMES | {"audio_codec": "mp3"},
    "bframes.m2t": _B_FRAMES
    | {"container_format": "mpegts"},  # .ts is no promise that a file is a video
    "joined.m2t": _B_FRAMES | {"container_format": "mpegts"},
    "bframes.mpg": {
        "video_codec": "mpeg2video",
        "audio_codec": "mp2",
        "fps": 25.0,
        "video_options": {"bf": "2"},
    },
    "mjpeg.avi": {"video_codec": "mjpeg", "pixel_format": "yuvj420p", "audio_codec": "pcm_s16le"},
}
"""Name -> how `media_files.write_media` makes it."""

Content = bytearray
Damage = Callable[[Content, np.random.Generator], None]


def whole_files(
    folder: Path, *, real: bool = True, names: Sequence[str] = tuple(WHOLE)
) -> list[Path]:
    """Write whole files into a folder, sorted by name; each can be used as it is."""
    folder.mkdir(parents=True)
    for name in names:
        # A few grains, so that no codec makes a file of almost nothing, of which any damage is the
        # end.
        path = write_media(
            folder / name, **{"seconds": 1.6, "fps": 12.5, "picture": grainy_picture} | WHOLE[name]
        )
        if name.startswith("packed"):
            path.write_bytes(pack_b_frames(path, path.with_name(f"unpacked-{name}")).read_bytes())
            path.with_name(f"unpacked-{name}").unlink()
        if name.startswith("joined"):
            path.write_bytes(2 * path.read_bytes())  # the clock starts again
    seehear.synth(folder / "synth", videos=8, classes=4, seed=1, progress=False)
    for path in sorted((folder / "synth").rglob("*.mp4"))[:2]:
        path.rename(folder / f"synth{path.name}")
    shutil.rmtree(folder / "synth")
    for path in sorted(REAL_MEDIA.rglob("*")) if real else []:
        if path.suffix in ENDINGS and path.stat().st_size <= REAL_BYTES:
            shutil.copy(path, folder / f"real-{path.parent.name}-{path.name}")
    return sorted(folder.iterdir())


def write_case(folder: Path, whole: Sequence[Path], seed: int, number: int) -> Path:
    """Write one case: a whole file with one to three kinds of damage, named after both."""
    rng = np.random.default_rng((seed, number))
    source = whole[number % len(whole)]
    content = bytearray(source.read_bytes())
    kinds = rng.choice(len(DAMAGES), size=int(rng.choice([1, 1, 1, 2, 3])), replace=False)
    names = sorted(DAMAGES)
    for kind in kinds:
        if content:
            DAMAGES[names[kind]](content, rng)
    path = folder / f"{number:06d}-{'-'.join(names[kind] for kind in kinds)}-{source.name}"
    path.write_bytes(content)
    return path


def damage_of(path: Path) -> str:
    """The first kind of damage in a case's name."""
    return path.name.split("-")[1]


def turn_bits(content: Content, rng: np.random.Generator) -> None:
    """A few to a few hundred bits anywhere."""
    _turn(content, rng.integers(len(content), size=int(2 ** rng.uniform(0, 8))), rng)


def turn_header_bits(content: Content, rng: np.random.Generator) -> None:
    """A few bits where headers are."""
    _turn(content, _in_header(content, rng, int(rng.integers(1, 12))), rng)


def set_header_field(content: Content, rng: np.random.Generator) -> None:
    """A number of 1 to 8 bytes in a header becomes an extreme one."""
    for position in _in_header(content, rng, int(rng.integers(1, 4))):
        width = int(rng.choice([1, 2, 4, 8]))
        value = [b"\0", b"\xff", b"\x7f" + b"\xff" * 7, b"\x80" + b"\0" * 7, rng.bytes(8)][
            int(rng.integers(5))
        ]
        field = (value * 8)[:width] if len(value) == 1 else value[:width]
        content[position : position + width] = field[: len(content) - position]


def set_length_field(content: Content, rng: np.random.Generator) -> None:
    """The length that stands before (MP4) or after (AVI) a name of four letters becomes another."""
    names = [i for i in range(4, len(content) - 8) if i < 4000 or i > len(content) - 4000]
    names = [i for i in names if content[i : i + 4].isalnum() and content[i : i + 4].isascii()]
    if not names:
        return turn_header_bits(content, rng)
    at = int(rng.choice(names))
    value = int(rng.choice([0, 1, 7, 8, 2**31 - 1, 2**31, 2**32 - 1, int(rng.integers(2**32))]))
    content[at - 4 : at] = struct.pack(">I", value)
    content[at + 4 : at + 8] = struct.pack("<I", value)


def truncate(content: Content, rng: np.random.Generator) -> None:
    """The end is missing."""
    del content[int(rng.integers(len(content))) :]


def cut_out(content: Content, rng: np.random.Generator) -> None:
    """Some of the middle is missing, so that all offsets after it are wrong."""
    first = int(rng.integers(len(content)))
    del content[first : first + int(2 ** rng.uniform(0, 13))]


def repeat(content: Content, rng: np.random.Generator) -> None:
    """A stretch comes twice."""
    first = int(rng.integers(len(content)))
    content[first:first] = content[first : first + int(2 ** rng.uniform(0, 13))]


def blank(content: Content, rng: np.random.Generator) -> None:
    """Blocks of a disk read as zeros, or as something else."""
    for _ in range(int(rng.integers(1, 4))):
        first = int(rng.integers(len(content))) & ~511
        block = min(512 << int(rng.integers(4)), len(content) - first)
        content[first : first + block] = bytes(block) if rng.random() < 0.5 else rng.bytes(block)


def swap(content: Content, rng: np.random.Generator) -> None:
    """Two stretches change places."""
    size = min(int(2 ** rng.uniform(2, 12)), len(content) // 2)
    a, b = sorted(rng.integers(len(content) - size + 1, size=2).tolist())
    if b - a >= size:
        content[a : a + size], content[b : b + size] = content[b : b + size], content[a : a + size]


DAMAGES: dict[str, Damage] = {
    "bits": turn_bits,
    "headerbits": turn_header_bits,
    "field": set_header_field,
    "length": set_length_field,
    "truncated": truncate,
    "cut": cut_out,
    "repeated": repeat,
    "blank": blank,
    "swapped": swap,
}


def _turn(content: Content, positions: NDArray[np.int64], rng: np.random.Generator) -> None:
    for position in positions:
        content[position] ^= 1 << int(rng.integers(8))


def _in_header(content: Content, rng: np.random.Generator, count: int) -> NDArray[np.int64]:
    reach = min(HEADER_BYTES, len(content))
    places = rng.integers(reach, size=count)
    return np.where(rng.random(count) < 0.7, places, len(content) - reach + places)
