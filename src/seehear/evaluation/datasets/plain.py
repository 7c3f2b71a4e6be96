"""One's own sets: folders named by class, and `classes.csv`."""

from __future__ import annotations

import os
from pathlib import Path

from seehear.data.index.chosen import real
from seehear.errors import SettingsError
from seehear.evaluation.classes import Classes, Written, classes_written, read_classes
from seehear.evaluation.datasets.benchmark import Benchmark, Draft, Item, served
from seehear.evaluation.datasets.tree import Tree
from seehear.machine.lists import Line

PART_OF_FOLDER = {"train": "train", "training": "train", "test": "test", "testing": "test"}
PART_OF_FOLDER |= dict.fromkeys(("val", "valid", "validation"), "validation")
DRAWN = "a quarter of each class is tested on, drawn with seed"


def read_folders(tree: Tree, seed: int = 0) -> Benchmark:
    """Folders named by class, with files at any depth, as most tools take them; no paper.

    Either `<class>/...`, of which a quarter of each class is drawn for testing, by the seed, or
    `train/<class>/...` and `test/<class>/...`, with `val/<class>/...` if wanted; where there is a
    val and no test, val is what is tested on. Names may also be training, testing, valid and
    validation. An item's name is its path.
    """
    names, tops, part_of = _folders(tree)
    if len(part_of) > 1 and set(part_of) == tops and "train" not in part_of.values():
        what = f"{tree.root} has {' and '.join(sorted(tops))} and no train"
        raise SettingsError(f"{what}. Add train/<class>/..., or name folders by class.")
    if "train" not in part_of.values() or len(part_of) < 2:
        return _drawn(tree, names, seed)
    if stray := sorted(tops - set(part_of)):
        what = f"{tree.root}/{stray[0]} lies beside {', '.join(sorted(part_of))}"
        raise SettingsError(f"{what}. Only those may be there.")
    if "test" not in part_of.values():
        part_of = {top: "test" if part == "validation" else part for top, part in part_of.items()}
    parted = [(name, *name.split("/")[:2]) for name in names if name.count("/") >= 2]
    classes = sorted({label for _, top, label in parted if part_of[top] == "train"})
    tested = next(top for top in sorted(part_of) if part_of[top] == "test")
    source = f"folders {', '.join(sorted(part_of))} with one folder a class; {tested} is tested on"
    draft = Draft("folders", tree, tree.root, classes, source)
    for name, top, label in parted:
        if label not in classes:
            what = f"{tree.root}/{top}/{label} is a class that train does not have"
            raise SettingsError(f"{what}. Add it, or remove this.")
        draft.add(Line(name, 1), name, label, {"official": part_of[top]}, tree.path(name))
    return draft.finish()


def read_csv(tree: Tree, seed: int = 0) -> Benchmark:
    """`classes.csv` in the folder itself: path,class[,split], paths relative to the file.

    The rules are those of `seehear.evaluation.classes.read_classes`; besides, a path must stay
    below the folder. An item's name is its path as it is written. Without a column `split` a
    quarter of each class is drawn for testing, by the seed.
    """
    file = tree.path("classes.csv")
    classes = read_classes(Path(file))
    source = (
        "classes.csv with its column split" if classes.split else f"classes.csv; {DRAWN} {seed}"
    )
    draft = Draft("csv", tree, file, classes.names, source)
    first: dict[str, Written] = {}  # by the name that read_classes gives it
    for found in classes_written(Path(file)):
        first.setdefault(real(tree.path(found.line.inside(found.path))) + found.fragment, found)
    there, split = set(tree.media), "official" if classes.split else "drawn"
    tests = classes.is_test(list(first), seed)
    for (item, found), is_test in zip(first.items(), tests, strict=True):
        place = os.path.normpath(tree.path(found.path))
        is_there = place in there or os.path.isfile(place)  # noqa: PTH113 (one look for what has no media ending)
        part = {split: "test" if is_test else "train"}
        label, path = classes.names[classes.of[item]], place if is_there else None
        name = found.path + found.fragment
        draft.add(found.line, name, label, part, path, found.start_s, found.seconds)
    return draft.finish()


def read_files(tree: Tree) -> Benchmark:
    """All media files of a folder, by path, without classes, for tasks that need none.

    Raises:
        SettingsError: there are none.
    """
    names = sorted(tree.relative(path) for path in tree.media)
    if not names:
        what = f"{tree.root} has no videos and no sounds"
        raise SettingsError(f"{what}. Name the folder that holds them.")
    items = tuple(Item(tree.path(name), name=name, classes=(-1,)) for name in names)
    return Benchmark(
        name=Path(tree.root).name or "files",
        root=Path(tree.root),
        classes=(),
        items=items,
        missing=(),
        num_official=len(items),
        splits=(),
        modalities=served(items),
        multilabel=False,
        source="all files of a folder, without classes",
    )


def has_classes(tree: Tree) -> bool:
    """Do the names of folders say at least two classes to train on?"""
    names, tops, part_of = _folders(tree)
    if len(part_of) < 2 or set(part_of) != tops:
        return len(tops) > 1
    parted = [name.split("/") for name in names if name.count("/") >= 2]
    return len({label for top, label, *_ in parted if part_of[top] == "train"}) > 1


def has_class_folders(tree: Tree) -> bool:
    """Are there at least two folders with media files?"""
    return len(_folders(tree)[1]) > 1


def _folders(tree: Tree) -> tuple[list[str], set[str], dict[str, str]]:
    """Files by name; the folders that hold them; and folder -> part, of those named so."""
    names = sorted(tree.relative(path) for path in tree.media)
    tops = {name.split("/")[0] for name in names if "/" in name}
    parts = {top: PART_OF_FOLDER.get(top.lower()) for top in tops}
    return names, tops, {top: part for top, part in parts.items() if part}


def _drawn(tree: Tree, names: list[str], seed: int) -> Benchmark:
    """Class folders without a split: a quarter of each class for testing."""
    label_of = {name: name.split("/")[0] for name in names if "/" in name}
    source = f"one folder a class; {DRAWN} {seed}"
    draft = Draft("folders", tree, tree.root, sorted(set(label_of.values())), source)
    of = {name: draft.classes.index(label) for name, label in label_of.items()}
    tests = Classes(Path(tree.root), draft.classes, of, {}).is_test(list(of), seed)
    for (name, label), is_test in zip(label_of.items(), tests, strict=True):
        part = {"drawn": "test" if is_test else "train"}
        draft.add(Line(name, 1), name, label, part, tree.path(name))
    return draft.finish()
