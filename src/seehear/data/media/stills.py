"""What does a picture file show? JPEG, PNG, WebP and BMP, decoded by FFmpeg like everything else.

The bytes are handed to the decoder, never the name: a pattern in it means nothing.
"""

from __future__ import annotations

import io
import os
from pathlib import Path

import av
import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from seehear.data.media.pictures import display_matrix, turn
from seehear.data.media.reasons import MAX_PIXELS
from seehear.errors import MediaError

MAX_BYTES = 2**28  # of a picture file
_FORMATS = "jpeg_pipe,png_pipe,webp_pipe,bmp_pipe"
_OPTIONS = {"format_whitelist": _FORMATS, "max_pixels": str(MAX_PIXELS)}


def is_still(path: str | os.PathLike[str]) -> bool:
    """Whether a file begins like a still picture; False for what cannot be read."""
    try:
        with Path(path).open("rb") as file:
            head = file.read(16)
    except (OSError, ValueError):
        return False
    return head.startswith((b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"BM")) or (
        head[:4] == b"RIFF" and head[8:12] == b"WEBP"
    )


def read_still(path: str | os.PathLike[str], *, short_side_pixels: int) -> NDArray[np.uint8]:
    """A picture, upright, uint8 (H, W, 3) RGB, the shorter side so long.

    Raises:
        MediaError: it cannot be decoded, or is absurdly large.
    """
    try:
        size_bytes = Path(path).stat().st_size
        if size_bytes > MAX_BYTES:
            raise MediaError(path, "absurd size", f"{size_bytes} bytes; the limit is {MAX_BYTES}")
        content = Path(path).read_bytes()
    except OSError as error:
        raise MediaError(path, "no permission", error.strerror or "") from None
    return scaled_still(path, content, short_side_pixels=short_side_pixels)


def scaled_still(
    path: str | os.PathLike[str], content: bytes, *, short_side_pixels: int
) -> NDArray[np.uint8]:
    """The same of the bytes of a picture; the path is for errors."""
    try:
        with av.open(io.BytesIO(content), "r", options=_OPTIONS) as container:
            frame = next(container.decode(video=0))
            return scaled(path, frame, short_side_pixels)
    except (av.FFmpegError, StopIteration, IndexError, ValueError) as error:
        raise MediaError(path, "unreadable", str(error)) from None


def scaled(
    path: str | os.PathLike[str], frame: VideoFrame, short_side_pixels: int
) -> NDArray[np.uint8]:
    """A decoded frame as an array of the wanted size."""
    scale = short_side_pixels / min(frame.width, frame.height)
    width, height = (max(1, round(side * scale)) for side in (frame.width, frame.height))
    if width * height > MAX_PIXELS:
        raise MediaError(
            path, "absurd size", f"{width}x{height} after scaling; the limit is {MAX_PIXELS} pixels"
        )
    rgb = frame.reformat(width, height, "rgb24", interpolation="BICUBIC").to_ndarray()
    return turn(np.asarray(rgb, np.uint8), display_matrix(frame))
