"""Can the length that FFmpeg gives for a file be believed, or must its packets be counted?

Where nothing says how long a file is, FFmpeg divides its size by a bit rate, that of the first
packets (`estimate_timings_from_bit_rate` in libavformat/demux.c); where the rate varies, 40 s
become 10 or 250. PyAV does not tell when that has happened, so it is known from the format:
elementary streams have no header, and the others here do not always have a complete one. To count
where the length was right costs time, since all packets are read, and nothing else.
"""

from __future__ import annotations

import struct

import av
from av.container import InputContainer

from seehear.data.media.members import open_bytes

_WITHOUT_HEADER = frozenset(
    ("aac", "ac3", "amr", "dirac", "dts", "dtshd", "eac3", "h261", "h263", "h264", "hevc")
).union(("loas", "m4v", "mjpeg", "mlp", "mpegvideo", "obu", "shn", "truehd", "vc1", "vvc"))
_COUNTED_LATER = frozenset({"ivf"})  # programs that stream leave the count in the header open
# which says how long it is if a sample has so many bytes: in PCM
_COUNTED_IN_BYTES = frozenset({"wav", "w64", "voc"})
# by which a guessed length differs from size over bit rate: the file's header
_RATE_TOLERANCE = 0.02

_HEAD_BYTES = 64  # of an MP3 file's first frame, in which the tag about its length is
_CUT_BYTES = 4096  # an MP3 file that has so much less than its header says was cut off
# one that has so much more was lengthened; texts about the music may stand there
_TAIL_BYTES = 8192


def is_estimated(path: str, container: InputContainer) -> bool:
    """May FFmpeg have guessed how long an open file is?"""
    name = container.format.name
    if name == "mp3":
        return not _mp3_tells_length(path, container.size)
    if name in _COUNTED_IN_BYTES:
        return seeks_by_rate(container)
    if name in ("asf", "asf_o"):
        streams = (*container.streams.video, *container.streams.audio)
        rates = [
            stream.codec_context.bit_rate or 0
            for stream in streams
            if stream.codec_context is not None
        ]
        guess_s = 8 * container.size / sum(rates) if sum(rates) else 0.0
        return abs(guess_s * av.time_base / (container.duration or 1) - 1) < _RATE_TOLERANCE
    return name in _WITHOUT_HEADER | _COUNTED_LATER


def seeks_by_rate(container: InputContainer) -> bool:
    """Does FFmpeg seek by the header's bytes a second, and give no other timestamps?

    So it does in WAV and its like, also where a sample has no fixed size (ADPCM) and that number is
    only a hint.
    """
    if container.format.name not in _COUNTED_IN_BYTES:
        return False
    codecs = [
        stream.codec_context.name
        for stream in container.streams.audio
        if stream.codec_context is not None
    ]
    return not all(codec.startswith("pcm_") for codec in codecs)


def _mp3_tells_length(path: str, size: int) -> bool:
    """Whether an MP3 file has a tag that counts its frames, and the bytes that this says."""
    with open_bytes(path) as (file, base, _):
        begin = base
        while (tag := file.read(10))[:3] == b"ID3" and len(tag) == 10:
            # Seven bits a byte; a footer repeats the header.
            length = sum(
                (byte & 0x7F) << shift for byte, shift in zip(tag[6:], (21, 14, 7, 0), strict=True)
            )
            begin += 10 + length + (10 if tag[5] & 0x10 else 0)
            file.seek(begin)
        file.seek(begin)
        head = file.read(_HEAD_BYTES)
    found = _declared(head)
    if found is None:
        return False
    frames, declared_bytes = found
    extra = size - (begin - base) - declared_bytes
    return frames > 0 and (declared_bytes == 0 or -_CUT_BYTES < extra < _TAIL_BYTES)


def _declared(head: bytes) -> tuple[int, int] | None:
    """How many frames and bytes an MP3 file says that it has; 0 bytes if it does not say.

    The tag is in the first frame; FFmpeg does not look for it behind bytes that are no frame.
    """
    if head[:1] != b"\xff" or head[1:2] < b"\xe0":
        return None
    for name in (b"Xing", b"Info"):
        at = head.find(name)
        if at >= 0 and at + 16 <= len(head):
            flags, first, second = struct.unpack_from(">III", head, at + 4)
            return (first if flags & 1 else 0), (
                0 if not flags & 2 else second if flags & 1 else first
            )
    at = head.find(b"VBRI")
    if at >= 0 and at + 18 <= len(head):
        count, frames = struct.unpack_from(">II", head, at + 10)
        return frames, count
    return None
