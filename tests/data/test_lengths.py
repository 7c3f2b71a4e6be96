"""Files that do not say how long they are, or say it wrongly: the length is that of what
decodes.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from media_files import numbered_picture
from seehear.data import media
from seehear.data.media.lengths import is_estimated

SECONDS = 16.0
RATE_HZ = 32000
VARIABLE = {"flags": "+qscale", "global_quality": str(4 * 118)}  # 118: FFmpeg's FF_QP2LAMBDA
BARE = {"write_xing": "0", "id3v2_version": "0"}


class Pipe:
    """A place to write to, where nobody can go back."""

    def __init__(self) -> None:
        self.content = io.BytesIO()

    def write(self, data: bytes) -> int:
        return self.content.write(data)


def uneven(loud_first: bool) -> NDArray[np.float32]:
    """Noise in one quarter, silence in the other three: hard and easy to code."""
    noise_S = np.random.default_rng(0).uniform(-0.9, 0.9, round(SECONDS * RATE_HZ))
    is_first = np.arange(len(noise_S)) < len(noise_S) // 4
    return np.where(is_first if loud_first else is_first[::-1], noise_S, 0).astype(np.float32)


def write_sound(
    target: Path | Pipe,
    codec: str,
    sound_S: NDArray[np.float32],
    container_format: str | None = None,
    options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
    bit_rate: int = 0,
) -> None:
    place = target if isinstance(target, Pipe) else str(target)
    with av.open(place, "w", format=container_format, options=container_options or {}) as out:
        sound = out.add_stream(
            codec, rate=RATE_HZ, layout="mono", options={"strict": "-2"} | (options or {})
        )
        if bit_rate:
            sound.bit_rate = bit_rate
        sound.codec_context.open()
        frame = av.AudioFrame.from_ndarray(sound_S[None], format="flt", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = RATE_HZ, 0, Fraction(1, RATE_HZ)
        size = sound.codec_context.frame_size or 1024
        cut = av.AudioResampler(
            format=sound.codec_context.format, layout="mono", rate=RATE_HZ, frame_size=size
        )
        position = 0
        for part in (*cut.resample(frame), *cut.resample(None)):
            part.pts, part.time_base = position, Fraction(1, RATE_HZ)
            position += part.samples
            out.mux(sound.encode(part))
        out.mux(sound.encode(None))


def decoded_seconds(path: Path) -> float:
    """The reference: all that PyAV decodes, counted in samples."""
    seconds = 0.0
    with av.open(str(path)) as container:
        context = container.streams.audio[0].codec_context
        for packet in container.demux(audio=0):
            with contextlib.suppress(av.FFmpegError):
                seconds += sum(
                    frame.samples / frame.sample_rate for frame in context.decode(packet)
                )
    return seconds


def tagged(content: bytes) -> bytes:
    """An MP3 file with an ID3 tag of 200 kB in front, as of a cover picture, and one of 128 bytes
    behind.
    """
    size = 200_000
    syncsafe = bytes(size >> shift & 0x7F for shift in (21, 14, 7, 0))
    picture = np.random.default_rng(1).integers(0, 256, size - 10, np.uint8).tobytes()
    frame = (
        b"PRIV" + bytes((size - 10) >> shift & 0x7F for shift in (21, 14, 7, 0)) + b"\0\0" + picture
    )
    return b"ID3\x04\0\0" + syncsafe + frame + content + b"TAG" + b" " * 125


KINDS: dict[str, tuple[str, str, dict[str, str], dict[str, str]]] = {
    "aac": ("a.aac", "aac", {}, {}),
    "eac3": ("a.eac3", "eac3", {}, {}),
    "mp3": ("a.mp3", "libmp3lame", VARIABLE, BARE),
    "mp3 with its header": ("a.mp3", "libmp3lame", VARIABLE, {}),
}


@pytest.mark.parametrize("loud_first", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_elementary_streams_are_as_long_as_what_decodes(
    tmp_path: Path, kind: str, loud_first: bool
) -> None:
    name, codec, options, container_options = KINDS[kind]
    path = tmp_path / name
    write_sound(path, codec, uneven(loud_first), None, options, container_options)
    content = path.read_bytes()
    assert media.probe(path).audio_seconds == pytest.approx(SECONDS, abs=0.5)
    path.write_bytes(content[: len(content) * 6 // 10])  # cut off
    assert media.probe(path).audio_seconds == pytest.approx(decoded_seconds(path), abs=0.5)
    if codec == "libmp3lame":
        path.write_bytes(tagged(content))
        assert media.probe(path).audio_seconds == pytest.approx(SECONDS, abs=0.5)


@pytest.mark.parametrize(
    ("ending", "codec", "rates"),
    [("ac3", "ac3", (64000, 640000)), ("mp2", "mp2", (384000, 32000))],
)
def test_a_rate_that_changes_on_the_way_changes_no_length(
    tmp_path: Path, ending: str, codec: str, rates: tuple[int, int]
) -> None:
    sound_S = uneven(True)
    for number, rate in enumerate(rates):
        write_sound(tmp_path / f"{number}.{ending}", codec, sound_S, bit_rate=rate)
    path = tmp_path / f"both.{ending}"
    path.write_bytes(b"".join((tmp_path / f"{number}.{ending}").read_bytes() for number in (0, 1)))
    assert decoded_seconds(path) == pytest.approx(2 * SECONDS, abs=0.2)
    assert media.probe(path).audio_seconds == pytest.approx(2 * SECONDS, abs=0.5)


def test_joined_mp3_files_are_as_long_as_all_of_them(tmp_path: Path) -> None:
    for name, loud_first in (("a", True), ("b", False)):
        write_sound(tmp_path / f"{name}.mp3", "libmp3lame", uneven(loud_first), None, VARIABLE)
    (tmp_path / "ab.mp3").write_bytes(
        (tmp_path / "a.mp3").read_bytes() + (tmp_path / "b.mp3").read_bytes()
    )
    assert media.probe(tmp_path / "ab.mp3").audio_seconds == pytest.approx(2 * SECONDS, abs=0.5)


@pytest.mark.parametrize("before", [b"\0" * 3000, b"\0" * 10, b"RIFFnoise" * 50])
def test_a_tag_about_the_length_counts_in_the_first_frame_alone(
    tmp_path: Path, before: bytes
) -> None:
    path = tmp_path / "a.mp3"
    write_sound(path, "libmp3lame", uneven(False), None, VARIABLE)
    seconds = decoded_seconds(path)
    # FFmpeg finds no tag then, and guesses from the first frames
    path.write_bytes(before + path.read_bytes())
    with media.Reader(path) as reader:
        assert reader.info().audio_seconds == pytest.approx(seconds, abs=0.5)


@pytest.mark.parametrize(
    ("container_format", "codec"),
    [
        ("wav", "pcm_s16le"),
        ("wav", "adpcm_ima_wav"),
        ("flac", "flac"),
        ("au", "pcm_s16be"),
        ("caf", "pcm_s16le"),
        ("matroska", "aac"),
        ("asf", "wmav2"),
        ("wv", "wavpack"),
        ("flv", "aac"),
        ("mp3", "libmp3lame"),
    ],
)
def test_what_a_program_wrote_that_could_not_go_back_has_its_length(
    tmp_path: Path, container_format: str, codec: str
) -> None:
    pipe, path = Pipe(), tmp_path / f"a.{container_format}"
    options = VARIABLE if codec == "libmp3lame" else None
    write_sound(
        pipe, codec, uneven(False), container_format, options, bit_rate=96000 * (codec == "wmav2")
    )
    path.write_bytes(pipe.content.getvalue())
    assert media.probe(path).audio_seconds == pytest.approx(SECONDS, abs=0.5)
    levels = [
        float(np.std(media.read_sound(path, start_s, 1.0))) for start_s in (1.0, 8.0, 12.5, 14.5)
    ]
    np.testing.assert_array_equal(np.array(levels) > 0.1, [False, False, True, True])


@pytest.mark.parametrize("bytes_declared", [0, 0xFFFFFFFF])
def test_a_wav_file_whose_size_is_unknown_has_its_length(
    tmp_path: Path, bytes_declared: int
) -> None:
    path = tmp_path / "a.wav"
    write_sound(path, "pcm_s16le", uneven(False))
    content = bytearray(path.read_bytes())
    at = content.index(b"data")
    content[at + 4 : at + 8] = content[4:8] = bytes_declared.to_bytes(4, "little")
    path.write_bytes(content)
    assert media.probe(path).audio_seconds == pytest.approx(SECONDS, abs=0.5)


def test_sound_of_adpcm_is_that_of_the_time_that_was_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    write_sound(path, "adpcm_ima_wav", uneven(False))
    with media.Reader(path) as reader:
        whole_S = reader.sound(0.0, SECONDS)
    np.testing.assert_allclose(
        media.read_sound(path, 13.0, 1.0), whole_S[13 * 16000 : 14 * 16000], atol=1e-3
    )


@pytest.mark.parametrize(
    ("name", "codec"), [("v.m1v", "mpeg1video"), ("v.ivf", "libvpx"), ("v.m4v", "mpeg4")]
)
def test_bare_pictures_have_their_length(tmp_path: Path, name: str, codec: str) -> None:
    pipe = Pipe()
    kind = {"m1v": "mpeg1video", "ivf": "ivf", "m4v": "m4v"}[name.split(".")[1]]
    with av.open(pipe, "w", format=kind) as out:
        options = {"deadline": "realtime", "cpu-used": "8"} if codec == "libvpx" else {}
        video = out.add_stream(codec, rate=25, options=options)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        for number in range(300):
            picture = (
                numbered_picture(number) if number < 100 else np.full((48, 64, 3), 90, np.uint8)
            )
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            out.mux(video.encode(frame))
        out.mux(video.encode(None))
    (tmp_path / name).write_bytes(pipe.content.getvalue())
    assert media.probe(tmp_path / name).video_seconds == pytest.approx(12.0, abs=0.5)


def write_xing(path: Path) -> None:
    write_sound(path, "libmp3lame", uneven(True), None, VARIABLE)
    path.write_bytes(tagged(path.read_bytes()))


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("a.mp3", write_xing),
        ("a.wav", lambda path: write_sound(path, "pcm_s16le", uneven(True))),
        ("a.flac", lambda path: write_sound(path, "flac", uneven(True))),
        ("a.m4a", lambda path: write_sound(path, "aac", uneven(True))),
        ("a.mka", lambda path: write_sound(path, "aac", uneven(True))),
        ("a.ogg", lambda path: write_sound(path, "flac", uneven(True))),
    ],
)
def test_of_files_that_know_their_length_no_packets_are_counted(
    tmp_path: Path, name: str, write: Callable[[Path], None]
) -> None:
    write(tmp_path / name)
    with av.open(str(tmp_path / name)) as container:
        assert not is_estimated(str(tmp_path / name), container)
