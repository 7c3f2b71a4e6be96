"""What is the method? The paper: cluster what one encoder says, teach the other, repeat.

Open `method.py` first: the loop, whole. Then `train.py`, how one round's labels are learned;
`step.py`, one update, divided among ranks and parts; `skips.py`, when its loss is not finite;
`heldout.py`, how well labels are learned; `features.py`, one feature a row; `clusters.py`, what is
clustered; `state.py`, what a checkpoint holds; `learning.py`, the numbers on the way. `encoders/`
are the two networks and what they see and hear; `kmeans/` is k-means over rows on ranks. Nothing
here knows of run folders, reports or classes.

    from seehear.method import Clips, Round, State, deep_cluster, preset_settings

is all that a loop of one's own needs (docs/method.md). Names are imported when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from seehear.machine.lazy import lazily

if TYPE_CHECKING:
    from seehear.data.clips import Clips
    from seehear.method.learning import LEAVE, SAVE, Step
    from seehear.method.method import deep_cluster, final_clusters
    from seehear.method.state import Round, State
    from seehear.presets import preset_settings

__all__ = [
    "LEAVE",
    "SAVE",
    "Clips",
    "Round",
    "State",
    "Step",
    "deep_cluster",
    "final_clusters",
    "preset_settings",
]

_HOMES = {
    "LEAVE": "learning",
    "SAVE": "learning",
    "Clips": ".data.clips",
    "Round": "state",
    "State": "state",
    "Step": "learning",
    "deep_cluster": "method",
    "final_clusters": "method",
    "preset_settings": ".presets",
}

__getattr__ = lazily(__name__, _HOMES)
