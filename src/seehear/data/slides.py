"""What is to be seen while a sound plays that only still pictures go with? One after the other.

Each is shown equally long, upright, with a short side of `SHORT_SIDE_PIXELS`; those of other
proportions than the first have black beside them. Nothing is made to move that does not.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence

import av
import numpy as np
from numpy.typing import NDArray

from seehear.data.media.stills import scaled_still

SHORT_SIDE_PIXELS = 480
FRAME_RATE_HZ = 4  # between two, a reader goes by the earlier; an unchanged frame is some bytes
# a key frame every ten seconds, and where a picture begins
ENCODER = {"preset": "veryfast", "tune": "stillimage", "crf": "20", "bf": "0", "g": "40"}
ENCODER |= {"mbtree": "0"}  # the same bytes in every run: `packing.encoding`


def slides(pictures: Sequence[bytes], seconds: float) -> bytes:
    """A video without sound (Matroska, H.264) of pictures in JPEG, PNG, WebP or BMP.

    Raises:
        MediaError: one cannot be decoded, or is absurdly large.
    """
    shown = [scaled_still("", one, short_side_pixels=SHORT_SIDE_PIXELS) for one in pictures]
    height, width = (side // 2 * 2 for side in shown[0].shape[:2])
    shown = [fitted(picture_HWC, height, width) for picture_HWC in shown]
    count = max(1, math.ceil(seconds * FRAME_RATE_HZ))
    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as container:
        video = container.add_stream("libx264", rate=FRAME_RATE_HZ, options=ENCODER)
        video.codec_context.thread_count = 1  # the bytes do not depend on the machine's cores
        video.width, video.height, video.pix_fmt = width, height, "yuv420p"
        for number in range(count):
            picture_HWC = shown[number * len(shown) // count]
            frame = av.VideoFrame.from_ndarray(picture_HWC, format="rgb24")
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
    return file.getvalue()


def fitted(picture_HWC: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """A picture in the middle of a frame, as large as it can be whole."""
    scale = min(height / picture_HWC.shape[0], width / picture_HWC.shape[1])
    high, wide = (max(1, int(side * scale + 0.5)) for side in picture_HWC.shape[:2])
    given = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture_HWC), format="rgb24")
    frame_HWC = np.zeros((height, width, 3), np.uint8)
    top, left = (height - high) // 2, (width - wide) // 2
    frame_HWC[top : top + high, left : left + wide] = given.reformat(wide, high).to_ndarray()
    return frame_HWC
