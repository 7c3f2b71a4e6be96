"""Which benchmark lies in a folder? The layouts by name, each known by characteristic files."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from functools import partial
from pathlib import Path

from seehear.errors import SettingsError
from seehear.evaluation.datasets.actions import read_hmdb51, read_ucf101
from seehear.evaluation.datasets.benchmark import Benchmark
from seehear.evaluation.datasets.kinetics import (
    SIZES,
    SOUNDS,
    kinetics_size,
    read_kinetics,
    read_kinetics_sounds,
)
from seehear.evaluation.datasets.plain import (
    has_class_folders,
    has_classes,
    read_csv,
    read_files,
    read_folders,
)
from seehear.evaluation.datasets.sights_and_sounds import read_audioset, read_ave, read_vggsound
from seehear.evaluation.datasets.sounds import (
    dcase2014_part,
    esc10_sounds,
    read_dcase2014,
    read_esc10,
    read_esc50,
    read_speechcommands,
    read_tut,
    read_urbansound8k,
)
from seehear.evaluation.datasets.tree import Tree

_OWN = {"folders": read_folders, "csv": read_csv}  # which draw a split where there is none

LAYOUTS: dict[str, Callable[[Tree], Benchmark]] = {
    "ucf101": read_ucf101,
    "hmdb51": read_hmdb51,
    **{f"kinetics{size}": partial(read_kinetics, size=size) for size in SIZES},
    "kinetics-sounds": partial(read_kinetics_sounds, size=31),
    **{f"kinetics-sounds-{size}": partial(read_kinetics_sounds, size=size) for size in SOUNDS},
    "vggsound": read_vggsound,
    "audioset": read_audioset,
    "audioset-balanced": partial(read_audioset, balanced=True),
    "ave": read_ave,
    "esc50": read_esc50,
    "esc10": read_esc10,
    "dcase2014": read_dcase2014,
    "tut": read_tut,
    "urbansound8k": read_urbansound8k,
    "speechcommands": read_speechcommands,
    **_OWN,
}
"""Name of a layout -> what reads a folder in it."""

_KNOWN_BY = {
    "ucf101": "classInd.txt",
    "hmdb51": "<class>_test_split1.txt",
    "vggsound": "vggsound.csv",
    "audioset": "eval_segments.csv",
    "ave": "trainSet.txt",
    "esc50": "esc50.csv",
    "tut": "fold1_train.txt",
    "urbansound8k": "UrbanSound8K.csv",
    "speechcommands": "testing_list.txt",
}


def read_benchmark(
    root: str | Path, layout: str = "auto", *, seed: int = 0, needs_classes: bool = True
) -> Benchmark:
    """Read a benchmark as its makers publish it, from the folder where its lists and files lie.

    Nothing is opened but lists. Files that are listed and not there are counted, in
    `Benchmark.missing`.

    Args:
        root: the folder.
        layout: a name of `LAYOUTS`, or "auto", which knows a layout by its characteristic files; a
            definition of Kinetics-Sounds and "audioset-balanced" must be named.
        seed: draws the split of one's own files where they come without.
        needs_classes: if not, a folder of files without classes is a benchmark, too.
    Raises:
        SettingsError: an unknown layout, none or several found, a malformed list (names file and
            line), or none of the listed files there.
    """
    if layout != "auto" and layout not in LAYOUTS:
        near = difflib.get_close_matches(layout.lower(), LAYOUTS, n=1)
        hint = f"Did you mean {near[0]}? " if near else ""
        known = f"Layouts: auto, {', '.join(LAYOUTS)}"
        raise SettingsError(f"There is no layout {layout}. {hint}{known}.")
    tree = Tree(root)
    is_plain = layout == "folders" or (layout == "auto" and not (_known(tree) or _has_csv(tree)))
    if is_plain and not needs_classes and not has_classes(tree):
        return read_files(tree)
    name = _detected(tree) if layout == "auto" else layout
    return _OWN[name](tree, seed) if name in _OWN else LAYOUTS[name](tree)


def _known(tree: Tree) -> list[str]:
    """The public benchmarks whose characteristic files are there."""
    names = {Path(path).name.lower() for path in tree.lists}
    found = [layout for layout, file in _KNOWN_BY.items() if file.lower() in names]
    if any(name.endswith("_test_split1.txt") for name in names):
        found.append("hmdb51")
    if size := kinetics_size(tree):
        found.append(f"kinetics{size}")
    scenes = [tree.relative(path) for path in tree.media if "scenes_stereo" in path]
    if {dcase2014_part(name) for name in scenes} >= {"train", "test"}:
        found.append("dcase2014")
    if len({sound.label for sound in esc10_sounds(tree)}) > 1:
        found.append("esc10")
    return found


def _detected(tree: Tree) -> str:
    """The one layout whose characteristic files are there."""
    found = _known(tree)
    if len(found) > 1:
        what = f"{tree.root} has the lists of {' and '.join(found)}"
        raise SettingsError(f"{what}. Name the layout that is meant.")
    if found:
        return found[0]
    if _has_csv(tree):
        return "csv"
    if has_class_folders(tree):
        return "folders"
    raise SettingsError(
        f"No benchmark was found in {tree.root}. Looked for: {', '.join(_KNOWN_BY.values())}, a "
        "CSV file that begins with label,youtube_id,time_start,time_end, the folders scenes_stereo "
        "and scenes_stereo_testset, folders such as 001 - Dog bark, classes.csv, and two folders "
        f"with media files. Layouts that can be named: {', '.join(LAYOUTS)}."
    )


def _has_csv(tree: Tree) -> bool:
    return tree.path("classes.csv") in tree.lists
