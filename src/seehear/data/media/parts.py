"""Where in a file does its clock start again? Recordings that were joined byte by byte, or cut,
keep their clocks.

FFmpeg goes to a time in such a file by its timestamps, and finds pictures of one part and sound of
another. Each part by itself is a file as any other, so one part is read: the first, unless it is a
mere scrap. What follows is left out, and the index says so.

- Matroska, Ogg and FLV: each part has a header of its own.
- MPEG transport and programme streams: the timestamps of the picture or the sound go back by more
  than `BACK_S`, or jump ahead by more than `AHEAD_S` with no sound (no picture) for the time
  between. A clock of 33 bits that wraps around goes on. A few stamps that are wrong, after which
  the clock is as before, are damage and no other part.

All of such a stream is looked at once a process. Timestamps are in the headers of packetized
elementary streams (PES): ISO/IEC 13818-1, 2.4.3.6; ISO/IEC 11172-1, 2.4.3.3 for MPEG-1.
"""

from __future__ import annotations

import functools
import itertools
import mmap
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from seehear.data.media.members import open_bytes, stamp
from seehear.errors import MediaError

CLOCK_HZ = 90_000
"""Ticks of a timestamp per second."""

WRAP_TICKS = 2**33
"""After so many ticks, 26.5 hours, a clock begins at 0 again and goes on."""

PES_HEADER_BYTES = 38
"""Enough of a packet to find its timestamps: MPEG-1 allows 16 bytes of stuffing."""

_PREFIX = b"\0\0\1"

BACK_S = 0.5
"""Decoding times rise; presentation times alone go back by a few frames."""

AHEAD_S = 10.0
"""As FFmpeg's `dts_delta_threshold`."""

MOST_PARTS = 200
"""What lies behind so many is left out: that is damage."""

SCRAP = 0.1
"""A part with less of the longest's bytes is a scrap that a receiver had of another recording."""

Span = tuple[int, int]
"""First byte, and the one after the last."""

_KINDS = ("matroska", "ogg", "flv", "mpegts", "mpeg")
_FILES_REMEMBERED = 4096
_WRONG_STAMPS = 2  # in a row that are taken for damage
_INTERLEAVED_BYTES = 2**21  # within which picture and sound of a moment are written
_SLACK_S = 1.0
_FLV_HEADER = re.compile(rb"FLV\x01[\x01\x04\x05]\0\0\0\x09\0\0\0\0")
_PACK = b"\0\0\1\xba"
_EBML = b"\x1aE\xdf\xa3"
_SEGMENT = b"\x18S\x80g"
_FEW_PACKETS, _CHUNK_PACKETS = 64, 50_000  # that are looked at together: few behind damage


@dataclass(frozen=True)
class Stamps:
    """The timestamps of some streams, in the order of the file."""

    positions: NDArray[np.int64]  # of the packets, in bytes
    kinds: NDArray[np.int64]  # which stream
    ticks: NDArray[np.int64]
    # where the container's packets begin that belong to what follows: tables, headers
    begins: NDArray[np.int64]


def part_to_read(path: str, format_name: str, stream_ids: Sequence[int]) -> tuple[Span | None, int]:
    """Which bytes of a file are read (None: all), and how many parts it has; see `find_parts`."""
    if format_name.split(",")[0] not in _KINDS:
        return None, 1
    try:
        spans = _remembered(path, format_name, tuple(stream_ids), stamp(path))
    except OSError as error:
        raise MediaError(path, "not found", error.strerror or "") from None
    if len(spans) < 2:
        return None, 1
    longest = max(end - begin for begin, end in spans)
    return next(span for span in spans if span[1] - span[0] >= longest * SCRAP), len(spans)


@functools.lru_cache(_FILES_REMEMBERED)
def _remembered(
    path: str, format_name: str, stream_ids: tuple[int, ...], _version: tuple[int, int]
) -> list[Span]:
    return find_parts(path, format_name, stream_ids)


def find_parts(path: str, format_name: str, stream_ids: Sequence[int]) -> list[Span]:
    """The parts of a file, one if its clock runs through.

    `path` may lead to a member of a shard, in which bytes are counted from its own first;
    `stream_ids` are those of picture and sound, as the container numbers them.
    """
    name = format_name.split(",")[0]
    with (
        open_bytes(path) as (file, first, size),
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
    ):
        end = first + size
        if name == "matroska":
            begins = _matroska(content, first, end)
        elif name == "ogg":
            begins = _ogg(content, first, end)
        elif name == "flv":
            begins = [found.start() for found in _FLV_HEADER.finditer(content, first + 1, end)]
        else:
            scan = _transport_stamps if name == "mpegts" else _program_stamps
            begins = new_clocks(scan(content, first, end, stream_ids))
    places = [0, *(begin - first for begin in begins[:MOST_PARTS]), end - first]
    return [(a, b) for a, b in pairwise(places[: MOST_PARTS + 1]) if a < b]


def new_clocks(stamps: Stamps) -> list[int]:
    """Where other clocks begin, in bytes."""
    kinds = np.unique(stamps.kinds).tolist()
    jumps = [jump for kind in kinds for jump in itertools.islice(_jumps(stamps, kind), MOST_PARTS)]
    begins: list[int] = []
    seen: set[int] = set()
    delta = 0
    for index, jump_delta in sorted(jumps):
        kind = int(stamps.kinds[index])
        if begins and kind not in seen and abs(jump_delta - delta) < AHEAD_S * CLOCK_HZ:
            seen.add(kind)  # the other stream arrives at the same clock
            continue
        begins.append(int(stamps.begins[index]))
        seen, delta = {kind}, jump_delta
    return begins


def _jumps(stamps: Stamps, kind: int) -> Iterator[tuple[int, int]]:
    """The stamps of one stream with which another clock begins, and by how many ticks they jump."""
    places = np.flatnonzero(stamps.kinds == kind)
    ticks = stamps.ticks[places]
    if not np.any(_is_jump(_difference(ticks[1:], ticks[:-1]))):
        return
    last = 0
    for i in range(1, len(places)):
        delta = int(_difference(ticks[i], ticks[last]))
        if not _is_jump(delta):
            last = i
            continue
        after = _difference(ticks[i + 1 : i + 1 + _WRONG_STAMPS], ticks[last])
        if not np.all(_is_jump(after)):
            continue
        if delta < 0 or not _goes_on_meanwhile(stamps, int(places[last]), int(places[i]), delta):
            yield int(places[i]), delta
        last = i


def _goes_on_meanwhile(stamps: Stamps, before: int, after: int, delta: int) -> bool:
    """Does another stream fill the time between two stamps of a stream?"""
    near = np.abs(stamps.positions - stamps.positions[after]) < _INTERLEAVED_BYTES
    near[before:after] = True
    others = stamps.ticks[near & (stamps.kinds != stamps.kinds[after])]
    since = _difference(others, stamps.ticks[before])
    slack = _SLACK_S * CLOCK_HZ
    return bool(np.sum((since > slack) & (since < delta - slack)) > _WRONG_STAMPS)


def _difference(later: NDArray[np.int64], earlier: NDArray[np.int64]) -> NDArray[np.int64]:
    """In ticks, on a clock that may have wrapped around."""
    return (later - earlier + WRAP_TICKS // 2) % WRAP_TICKS - WRAP_TICKS // 2


def _is_jump(delta: NDArray[np.int64] | int) -> NDArray[np.bool_]:
    return np.asarray(
        (np.asarray(delta) < -BACK_S * CLOCK_HZ) | (np.asarray(delta) > AHEAD_S * CLOCK_HZ)
    )


def _matroska(content: mmap.mmap, first: int, end: int) -> list[int]:
    """Where documents begin behind the first."""
    begins: list[int] = []
    at = first
    while len(begins) <= MOST_PARTS:
        segment = content.find(_SEGMENT, at, min(at + 4096, end))
        at = (
            _end_of_element(content, segment + len(_SEGMENT), end)
            if segment >= 0
            else at + len(_EBML)
        )
        while (at := content.find(_EBML, at, end)) >= 0 and not _is_document(content, at, end):
            at += len(_EBML)
        if at < 0:
            break
        begins.append(at)
    return begins


def _is_document(content: mmap.mmap, at: int, end: int) -> bool:
    head = content[at : min(at + 64, end)]
    return b"\x42\x82" in head and (b"matroska" in head or b"webm" in head)


def _end_of_element(content: mmap.mmap, at: int, end: int) -> int:
    """Where the element ends whose size stands here; right here if its size is not known."""
    head = content[at : at + 8]
    if not head or head[0] == 0:
        return at
    width = 9 - head[0].bit_length()
    value = int.from_bytes(head[:width], "big") & ((1 << 7 * width) - 1)
    is_unknown = value == (1 << 7 * width) - 1
    return at if is_unknown or at + width + value > end else at + width + value


def _ogg(content: mmap.mmap, first: int, end: int) -> list[int]:
    """Where chains begin behind the first: pages that begin a stream, behind one that does not."""
    begins: list[int] = []
    was_beginning = True
    at = first
    while (
        len(begins) <= MOST_PARTS
        and (at := content.find(b"OggS\0", at, end)) >= 0
        and at + 27 <= end
    ):
        is_beginning = bool(content[at + 5] & 2)
        if is_beginning and not was_beginning:
            begins.append(at)
        was_beginning = is_beginning
        count = content[at + 26]
        at += 27 + count + sum(content[at + 27 : at + 27 + count])
    return begins


def _transport_stamps(content: mmap.mmap, first: int, end: int, ids: Sequence[int]) -> Stamps:
    """The stamps in packets of 188 bytes, 192 with a time in front, or 204 with check bytes."""
    found: list[tuple[NDArray[np.int64], ...]] = []
    at, carried, most = first, first, _FEW_PACKETS
    while (sync := _synchronized(content, at, end)) is not None:
        start, size = sync
        count = min((end - start) // size, most)
        packets = np.frombuffer(content[start : start + count * size], np.uint8).reshape(
            count, size
        )
        is_good = packets[:, 0] == 0x47
        good = count if is_good.all() else int(np.argmin(is_good))
        positions = start + size * np.arange(good)
        found.append(_stamps_in(packets[:good], positions, ids, carried))
        streams = np.isin(_ids_of(packets[:good]), ids)
        if streams.any():
            carried = int(positions[np.flatnonzero(streams)[-1]]) + size
        at = start + good * size
        most = min(2 * most, _CHUNK_PACKETS) if good == count else _FEW_PACKETS
        # the last good packet may have been cut, and hold the begin of the next part
        if good < count:
            at = max(at - size, start) + 1
            carried = min(carried, at - 1)
    columns = (
        [np.concatenate(column) for column in zip(*found, strict=True)]
        if found
        else [np.zeros(0, np.int64)] * 4
    )
    return Stamps(*columns)


def _synchronized(content: mmap.mmap, at: int, end: int) -> tuple[int, int] | None:
    """Where the next row of packets begins, and their size."""
    while (at := content.find(b"\x47", at, end)) >= 0:
        for size in (188, 192, 204):
            others = range(at + size, min(at + 4 * size, end), size)
            if at + size <= end and all(content[other] == 0x47 for other in others):
                return at, size
        at += 1
    return None


def _ids_of(packets: NDArray[np.uint8]) -> NDArray[np.int64]:
    return (packets[:, 1].astype(np.int64) & 0x1F) << 8 | packets[:, 2]


def _stamps_in(
    packets: NDArray[np.uint8], positions: NDArray[np.int64], ids: Sequence[int], carried: int
) -> tuple[NDArray[np.int64], ...]:
    """The columns of `Stamps` for some packets; `carried`: where the streams' last one ended."""
    of_streams = np.isin(_ids_of(packets), ids)
    behind = np.where(of_streams, positions + packets.shape[1], carried)
    ends = (
        np.concatenate([[carried], np.maximum.accumulate(behind)[:-1]]) if len(behind) else behind
    )
    rows = np.flatnonzero(of_streams & (packets[:, 1] & 0x40 > 0))
    fields = packets[rows, 4].astype(np.int64)
    headers = 4 + np.where(packets[rows, 3] & 0x20, 1 + fields, 0)
    kept: list[tuple[int, int, int, int]] = []
    for row, header in zip(rows.tolist(), headers.tolist(), strict=True):
        tick = (
            decoding_tick(packets[row, header : header + PES_HEADER_BYTES].tobytes())
            if header < 170
            else None
        )
        if tick is not None:
            number = int(packets[row, 1] & 0x1F) << 8 | int(packets[row, 2])
            kept.append((int(positions[row]), number, tick, int(ends[row])))
    return tuple(np.array(kept, np.int64).reshape(-1, 4).T)


def _program_stamps(content: mmap.mmap, first: int, end: int, ids: Sequence[int]) -> Stamps:
    """The stamps in a programme stream; its packets say how long they are."""
    kept: list[tuple[int, int, int, int]] = []
    at, begin, before = first, -1, first
    while at + 14 <= end:
        # the packet before was cut, and the next part begins within it
        if content[at : at + 3] != b"\0\0\1":
            at = content.find(_PACK, before + 4, end)
            if at < 0:
                break
        before = at
        code = content[at + 3]
        if code == 0xBA:  # a pack's header, of MPEG-2 or of MPEG-1
            begin = at if begin < 0 else begin
            at += 14 + (content[at + 13] & 7) if content[at + 4] >> 6 == 0b01 else 12
            continue
        if code < 0xBA:  # the stream's end
            at += 4
            continue
        header = content[at : at + PES_HEADER_BYTES]
        stream = header[9 + header[8]] if code == 0xBD and 9 + header[8] < len(header) else code
        if stream in ids or code | 0x100 in ids:
            tick = decoding_tick(header)
            if tick is not None:
                kept.append((at, stream, tick, begin if begin >= 0 else at))
            begin = -1
        at += 6 + int.from_bytes(header[4:6], "big")
    return Stamps(*np.array(kept, np.int64).reshape(-1, 4).T)


def decoding_tick(header: bytes) -> int | None:
    """The decoding time in the first bytes of a PES packet, or that of presentation, or None."""
    if header[:3] != _PREFIX or len(header) < 14:
        return None
    if header[6] >> 6 == 0b10:  # MPEG-2
        kinds, at = header[7] >> 6, 9
    else:  # MPEG-1
        at = 6
        while at < len(header) and header[at] == 0xFF:
            at += 1
        if at < len(header) and header[at] >> 6 == 0b01:  # size of a buffer
            at += 2
        kinds = header[at] >> 4 if at < len(header) else 0
    if kinds & 0b11 not in (0b10, 0b11):
        return None
    if kinds & 0b11 == 0b11:
        at += 5  # the time of presentation comes first
    return _tick(header[at : at + 5]) if at + 5 <= len(header) else None


def _tick(field: bytes) -> int:
    """33 bits in three pieces, each followed by a marker bit."""
    return (
        (field[0] >> 1 & 7) << 30
        | field[1] << 22
        | field[2] >> 1 << 15
        | field[3] << 7
        | field[4] >> 1
    )
