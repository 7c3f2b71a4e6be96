"""Small video files, ordinary and odd, for tests: every frame carries its number and the sound
tells the time.

A frame is a grid of 4 x 4 dark and bright blocks, the binary digits of its number. The sound is a
rising tone whose value at any time is known (`tone`), so that both can be read back and compared
with what was written.
"""

from __future__ import annotations

import os
import wave
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

CLOCK_HZ = (
    90_000  # of the video's timestamps, so that any frame rate and any odd time can be written
)
Waveform = Callable[[NDArray[np.float64]], NDArray[np.float64]]


def tone(times_s: NDArray[np.float64]) -> NDArray[np.float64]:
    """A tone of 300 Hz that rises by 20 Hz per second, in [-0.5, 0.5]."""
    return np.asarray(0.5 * np.sin(2 * np.pi * (300 * times_s + 10 * times_s**2)))


def silence(times_s: NDArray[np.float64]) -> NDArray[np.float64]:
    """Nothing."""
    return np.zeros_like(times_s)


def numbered_picture(number: int, width: int = 64, height: int = 48) -> NDArray[np.uint8]:
    """A frame that shows its number, uint8 (H, W, 3)."""
    digits = np.array([number >> bit & 1 for bit in range(16)]).reshape(4, 4)
    rows, columns = np.arange(height) * 4 // height, np.arange(width) * 4 // width
    grid = np.where(digits[rows][:, columns], 210, 40)
    return np.stack([grid, grid * 0.8 + 20, grid * 0.9], axis=-1).astype(np.uint8)


def grainy_picture(number: int, width: int, height: int) -> NDArray[np.uint8]:
    """The same under noise, which no codec can make small."""
    noise = np.random.default_rng(number).integers(-30, 30, (height, width, 1))
    return (numbered_picture(number, width, height) + noise).clip(0, 255).astype(np.uint8)


def number_of(picture_HWC: NDArray[np.uint8]) -> int:
    """The number that a frame shows, whatever its size."""
    height, width, _ = picture_HWC.shape
    number = 0
    for bit in range(16):
        top, left = bit // 4 * height // 4, bit % 4 * width // 4
        block = picture_HWC[
            top + height // 16 : top + height * 3 // 16, left + width // 16 : left + width * 3 // 16
        ]
        number |= int(block.mean() > 120) << bit
    return number


@contextmanager
def at_its_own_priority() -> Iterator[None]:
    """Give this thread back the scheduling that it has now.

    SVT-AV1 makes the thread that opens it a real-time one (SCHED_FIFO, priority 99) where it may,
    as root may. It, and every process that it starts, would keep the cores from all others.
    """
    if not hasattr(os, "sched_getscheduler"):
        yield
        return
    policy, priority = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        os.sched_setscheduler(0, policy, priority)


@at_its_own_priority()
def write_media(
    path: Path,
    *,
    frame_times_s: Sequence[float] | None = None,
    seconds: float = 3.0,
    fps: float = 25.0,
    size: tuple[int, int] = (64, 48),
    video_codec: str | None = "libx264",
    video_options: dict[str, str] | None = None,
    pixel_format: str = "yuv420p",
    picture: Callable[..., NDArray[np.uint8]] = numbered_picture,
    rotation_degrees: float | None = None,
    pixel_aspect: Fraction | None = None,
    audio_codec: str | None = "aac",
    sample_rate_hz: int = 44100,
    layout: str = "stereo",
    audio_start_s: float = 0.0,
    audio_seconds: float | None = None,
    waveform: Waveform = tone,
    shift_s: float = 0.0,
    container_format: str | None = None,
    container_options: dict[str, str] | None = None,
    has_fine_clock: bool = True,
) -> Path:
    """Write a file; frame number n is presented at frame_times_s[n], and the sound at time t is
    `waveform(t)`.

    `shift_s` moves everything on the container's clock. Without `has_fine_clock`, timestamps are
    numbers of frames, as formats want it that know a frame rate only. Channels of the sound are all
    alike, but LFE is loud noise.
    """
    times_s = (
        np.arange(round(seconds * fps)) / fps
        if frame_times_s is None
        else np.asarray(frame_times_s)
    )
    with av.open(path, "w", format=container_format, options=container_options or {}) as container:
        video = audio = None
        if video_codec is not None:
            video = _add_video(container, video_codec, fps, size, pixel_format, video_options)
            if not has_fine_clock:
                video.codec_context.time_base = 1 / Fraction(fps).limit_denominator(1001)
            if rotation_degrees is not None:
                video.set_display_rotation(rotation_degrees)
            if pixel_aspect is not None:
                video.codec_context.sample_aspect_ratio = pixel_aspect
        if audio_codec is not None:
            audio = container.add_stream(audio_codec, rate=sample_rate_hz, layout=layout)
        if video is not None:
            for number, time_s in enumerate(times_s):
                frame = av.VideoFrame.from_ndarray(picture(number, *size), format="rgb24")
                frame.pts, frame.time_base = (
                    round((time_s + shift_s) * CLOCK_HZ),
                    Fraction(1, CLOCK_HZ),
                )
                container.mux(video.encode(frame))
            container.mux(video.encode(None))
        if audio is not None:
            stop_s = seconds if audio_seconds is None else audio_start_s + audio_seconds
            _write_sound(
                container, audio, sample_rate_hz, layout, audio_start_s, stop_s, waveform, shift_s
            )
    return path


def _add_video(
    container: Any,
    codec: str,
    fps: float,
    size: tuple[int, int],
    pixel_format: str,
    options: dict[str, str] | None,
) -> Any:
    rate = Fraction(fps).limit_denominator(1001)
    video = container.add_stream(codec, rate=rate, options=options or {})
    video.width, video.height = size
    video.pix_fmt = pixel_format
    if codec not in (
        "mpeg4",
        "mpeg2video",
        "mjpeg",
    ):  # those write their frame rate into the stream
        video.codec_context.time_base = Fraction(1, CLOCK_HZ)
    return video


def _write_sound(
    container: Any,
    audio: Any,
    rate_hz: int,
    layout: str,
    start_s: float,
    stop_s: float,
    waveform: Waveform,
    shift_s: float,
) -> None:
    first, last = round(start_s * rate_hz), round(stop_s * rate_hz)
    sound = waveform(np.arange(first, last) / rate_hz)
    channels = [channel.name for channel in av.AudioLayout(layout).channels]
    noise = np.random.default_rng(0).uniform(-0.9, 0.9, len(sound))
    samples_CS = np.stack([noise if name == "LFE" else sound for name in channels]).astype(
        np.float32
    )
    resampler = av.AudioResampler(
        format=audio.codec_context.format, layout=layout, rate=rate_hz, frame_size=1024
    )
    # Interleaved: PyAV miscounts the planes of 8 channels.
    frame = av.AudioFrame.from_ndarray(samples_CS.T.reshape(1, -1), format="flt", layout=layout)
    frame.sample_rate = rate_hz
    frame.pts, frame.time_base = 0, Fraction(1, rate_hz)
    position = first + round(shift_s * rate_hz)
    for part in (*resampler.resample(frame), *resampler.resample(None)):
        part.pts, part.time_base = position, Fraction(1, rate_hz)
        position += part.samples
        container.mux(audio.encode(part))
    container.mux(audio.encode(None))


def cut_with_edit_list(source: Path, target: Path, start_s: float) -> Path:
    """Copy an MP4 from `start_s` on without decoding: the packets before it stay, hidden by an edit
    list.
    """
    options = {"avoid_negative_ts": "disabled", "use_editlist": "1"}
    with av.open(source) as old, av.open(target, "w", options=options) as new:
        streams = {stream.index: new.add_stream_from_template(stream) for stream in old.streams}
        old.seek(round(start_s * av.time_base), backward=True)
        for packet in old.demux():
            if packet.dts is None:
                continue
            offset = round(start_s / packet.time_base)
            packet.pts, packet.dts = packet.pts - offset, packet.dts - offset
            packet.stream = streams[packet.stream_index]
            new.mux(packet)
    return target


def all_frames(path: Path, stream: int = 0) -> list[tuple[float, NDArray[np.uint8]]]:
    """Every frame with its time since the container's start, decoded one after the other: the
    reference.
    """
    with av.open(path) as container:
        origin_s = (container.start_time or 0) / av.time_base
        video = container.streams.video[stream]
        return [
            (float(frame.pts * frame.time_base) - origin_s, frame.to_ndarray(format="rgb24"))
            for frame in container.decode(video)
        ]


def copy_with_pts_from_dts(source: Path, target: Path) -> Path:
    """Copy the pictures without decoding, as a program does that knows one timestamp a packet
    only.
    """
    with av.open(source) as old, av.open(target, "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        packets = [packet for packet in old.demux(video=0) if packet.dts is not None]
        first = packets[0].dts
        for packet in packets:
            packet.dts -= first
            packet.pts, packet.stream = packet.dts, stream
            new.mux(packet)
    return target


def pack_b_frames(source: Path, target: Path) -> Path:
    """MPEG-4 as DivX wrote it for AVI: a frame and the B-frame behind it in a packet, an empty
    frame for its place.

    Sound is copied.
    """
    with av.open(source) as old:
        packets = [bytes(packet) for packet in old.demux(video=0) if packet.size]
        size, rate = (
            (old.streams.video[0].width, old.streams.video[0].height),
            old.streams.video[0].average_rate,
        )
    packed: list[bytes] = []
    while packets:
        packed.append(packets.pop(0))
        if packets and _mpeg4_kind(packed[-1]) in "IP" and _mpeg4_kind(packets[0]) == "B":
            packed[-1] += packets.pop(0)
            while packets and _mpeg4_kind(packets[0]) == "B":
                packed.append(packets.pop(0))
            # a P-frame, its time, "not coded"
            bits = "010" + format(len(packed) % 25, "05b") + "100"
            packed.append(b"\0\0\1\xb6" + int(bits + "1" * (-len(bits) % 8), 2).to_bytes(2, "big"))
    header, frame = packed[0].split(b"\0\0\1\xb6", 1)
    # by which decoders know it
    header = header.split(b"\0\0\1\xb2")[0] + b"\0\0\1\xb2DivX503b1393p"
    packed[0] = header + b"\0\0\1\xb6" + frame
    with av.open(source) as old, av.open(target, "w") as new:
        stream = new.add_stream("mpeg4", rate=rate)
        stream.codec_context.codec_tag = "XVID"
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        sound = new.add_stream_from_template(old.streams.audio[0]) if old.streams.audio else None
        for number, content in enumerate(packed):
            packet = av.Packet(content)
            packet.stream, packet.time_base = stream, 1 / rate
            packet.pts = packet.dts = number
            packet.is_keyframe = _mpeg4_kind(content) == "I"
            new.mux(packet)
        for packet in old.demux(audio=0) if sound else ():
            if packet.size:
                packet.stream = sound
                new.mux(packet)
    return target


def _mpeg4_kind(packet: bytes) -> str:
    return "IPBS"[packet[packet.find(b"\0\0\1\xb6") + 4] >> 6]


def leave_unfinished(avi: Path) -> Path:
    """Make of an AVI what a recorder leaves that dies: no index, and zeros for lengths and the
    number of frames.
    """
    content = bytearray(avi.read_bytes())
    del content[content.rfind(b"idx1") :]
    content[4:8] = bytes(4)
    start = content.find(b"avih")
    content[start + 24 : start + 28] = bytes(4)
    while (start := content.find(b"strh", start + 1)) > 0:
        content[start + 40 : start + 44] = bytes(4)
    avi.write_bytes(content)
    return avi


def write_wav(path, seconds, rate=16000):
    tone = (np.sin(np.arange(int(seconds * rate)) / 10) * 20000).astype(np.int16)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(tone.tobytes())
    return str(path)
