"""What do MPEG streams say about time? The timestamps in the headers of their packetized elementary
streams (PES).

Needed where FFmpeg does not tell: which packets of a programme stream have a timestamp of their
own, and where in a file a clock starts again. ISO/IEC 13818-1, 2.4.3.6; ISO/IEC 11172-1, 2.4.3.3
for MPEG-1.
"""

from __future__ import annotations

CLOCK_HZ = 90_000
"""Ticks of a timestamp per second."""

WRAP_TICKS = 2**33
"""After so many ticks, 26.5 hours, a clock begins at 0 again and goes on."""

PES_HEADER_BYTES = 38
"""Enough of a packet to find its timestamps: MPEG-1 allows 16 bytes of stuffing."""

_PREFIX = b"\0\0\1"


def decoding_tick(header: bytes) -> int | None:
    """The decoding time in the header of a PES packet, or that of presentation where there is no
    other; None: neither.

    Args:
        header: the packet's first bytes, `PES_HEADER_BYTES` if there are so many.
    """
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
