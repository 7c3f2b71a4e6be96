"""What turns a clip into a feature? Our two networks, any module of yours, and the pair of both.

`resnets` has R(2+1)D and the audio ResNet, `wrapping` makes an encoder of any PyTorch module,
`pair` joins a video and an audio encoder, or holds one alone.
"""

from seehear.method.encoders.pair import Pair
from seehear.method.encoders.resnets import (
    RGB_MEAN,
    RGB_STD,
    AudioEncoder,
    Conv2Plus1D,
    Midplanes,
    VideoEncoder,
    midplanes,
)
from seehear.method.encoders.wrapping import wrap

__all__ = [
    "RGB_MEAN",
    "RGB_STD",
    "AudioEncoder",
    "Conv2Plus1D",
    "Midplanes",
    "Pair",
    "VideoEncoder",
    "midplanes",
    "wrap",
]
