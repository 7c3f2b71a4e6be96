"""Public benchmarks, read as their makers publish them: which file is of which class, and which
part is it in?

`layouts` names and detects the layouts · `benchmark` what a benchmark is, and how a reader puts one
together · `actions`, `kinetics`, `sights_and_sounds`, `sounds` read the public ones · `plain` reads
one's own · `tree` finds files. Only lists are opened, never media.
"""

from seehear.evaluation.datasets.benchmark import Benchmark, Item, Split
from seehear.evaluation.datasets.layouts import LAYOUTS, read_benchmark

__all__ = ["LAYOUTS", "Benchmark", "Item", "Split", "read_benchmark"]
