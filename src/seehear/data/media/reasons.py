"""Why can a file not be used? The closed list of answers, and the limits behind some of them.

Every `MediaError` and every row of an index's `rejected.parquet` carries one key of `REASONS`.
"""

from __future__ import annotations

REASONS: dict[str, str] = {
    "not found": "The file is not there.",
    "no permission": "The file may not be read by this user.",
    "unreachable": "It is on another machine, and could not be fetched from there.",
    "not a regular file": "It is a pipe, a device, a socket or a folder.",
    "empty file": "The file has no bytes.",
    "not a media file": "The content is of no known format with moving pictures or sound, "
    "whatever the name says.",
    "playlist": "It points to other files or addresses, and those are not followed.",
    "unreadable": "The format is known, but the content is damaged or cannot be decoded.",
    "truncated": "The file ends before it says.",
    "unknown codec": "There is no decoder for the stream's codec.",
    "absurd size": "A declared size is missing, or beyond this program's limits.",
    "no video stream": "There is no video stream (a cover picture is none).",
    "no audio stream": "There is no audio stream.",
    "past the end": "The wanted time is not within the file.",
    "too short": "There is less than 0.02 s with both picture and sound.",
    "silent audio": "No channel of any track of sound reaches -60 dB wherever it was sampled, up "
    "to ten minutes of it.",
    "still picture": "The picture is the same wherever it was sampled; --stills keeps it.",
    "timed out": "Reading took longer than the time limit.",
    "crashed the decoder": "The process that read the file died of it.",
    "not in the list": "No line of the list of segments names the file.",
    "unusable segment": "A line of the list of segments is shorter than 0.02 s, or is not within "
    "what the file has of picture and sound.",
    "unusable name": "The name is not valid UTF-8, so no table can hold it.",
}
"""Reason -> a sentence for a person."""

MAX_PIXELS = 2**26
"""Pixels of one frame: 8192 x 8192, twice 8K video. More is a mistake or an attack."""

MAX_CHANNELS = 64
"""Channels of sound; 22.2 is the largest layout in use."""

MAX_SAMPLE_RATE_HZ = 1_000_000
"""Samples of sound per second; 768 kHz is the largest rate in use."""
