"""Which videos have known classes? Twelve synthetic events, both seen and heard, behind strong
nuisances.

timing.py     the one clock that a picture and its sound share
pictures.py   how each event looks           sounds.py   how each event sounds
scenes.py     the nuisances, and `render`: one video as arrays
writer.py     `synth`: a folder of real video files with their classes beside them
"""

from __future__ import annotations

from seehear.data.synthetic.scenes import EVENTS, FRAMES_PER_SECOND, render
from seehear.data.synthetic.sounds import SAMPLE_RATE_HZ
from seehear.data.synthetic.writer import synth

__all__ = ["EVENTS", "FRAMES_PER_SECOND", "SAMPLE_RATE_HZ", "render", "synth"]
