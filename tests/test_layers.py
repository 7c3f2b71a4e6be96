"""Imports point down: a module imports only from layers below its own, or from its own package."""

from __future__ import annotations

import ast
from pathlib import Path

import seehear

SOURCE = Path(seehear.__file__).parent
LAYERS = """
cli
showcase
reporting
pretraining | evaluation | exporting
library | diagnosis
journal | hub | restoring
method
trainer | model
updates
weights | huggingface
stored
matching
features | throughput
agreement
clips | checkpoint | spaces | numerics | excerpts | packing
decoders | placing
decoding | fingerprint
indexing | synthetic | naming | sampling | segments
remote
media | spectrogram | augment | encoders | kmeans | runs | progress
presets | tensors | spreadsheets
config | distributed | signals
locks | reading
outputs
errors | meeting | lazy
"""
DEPTH = {name: i for i, names in enumerate(LAYERS.split("\n")) for name in names.replace("|", " ").split()}


def imported(path: Path) -> set[str]:
    """Modules of ours that a file imports, anywhere in it, by their first name below `seehear`."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module == "seehear":
            found |= {alias.name for alias in node.names if alias.name in DEPTH}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("seehear."):
            found.add(node.module.split(".")[1])
        elif isinstance(node, ast.Import):
            found |= {a.name.split(".")[1] for a in node.names if a.name.startswith("seehear.")}
    return found


def test_imports_point_down():
    wrong = []
    for path in sorted(SOURCE.rglob("*.py")):
        own = path.relative_to(SOURCE).with_suffix("").parts[0]
        if own in ("__init__", "__main__"):
            continue
        assert own in DEPTH, f"{path.name} has no layer: add it to LAYERS in this test, and to docs/architecture.md"
        upwards = [name for name in imported(path) - {own} if DEPTH[name] <= DEPTH[own]]
        wrong += [f"{path.relative_to(SOURCE)} imports {name}, which is not below {own}" for name in upwards]
    assert not wrong, "\n".join(wrong)


def test_the_method_imports_nothing_but_its_steps():
    ours = imported(SOURCE / "method.py")
    assert ours <= {
        "agreement",
        "clips",
        "config",
        "encoders",
        "features",
        "kmeans",
        "numerics",
        "progress",
        "spaces",
        "trainer",
    } | {"distributed"}


def test_files_stay_short():
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in SOURCE.rglob("*.py")}
    assert not {str(path): n for path, n in lengths.items() if n > 400}
    assert not list(SOURCE.rglob("utils.py"))
