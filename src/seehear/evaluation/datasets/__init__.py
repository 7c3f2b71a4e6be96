"""Public benchmarks, read as their makers publish them: which file is of which class, and which
part is it in?

`layouts.py` names and detects the layouts · `benchmark.py` what a benchmark is · `actions.py`,
`kinetics.py`, `sights_and_sounds.py`, `sounds.py`, `scenes.py` read the public ones · `plain.py`
reads one's own · `draft.py`, `tree.py`, `youtube.py` and `lists.py` above are what the readers
share. Only lists are opened, never media.
"""

from seehear.evaluation.datasets.benchmark import Benchmark, Item, Split
from seehear.evaluation.datasets.layouts import LAYOUTS, read_benchmark

__all__ = ["LAYOUTS", "Benchmark", "Item", "Split", "read_benchmark"]
