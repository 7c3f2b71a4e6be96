"""What is a benchmark? Items with classes, the official splits, and what is missing.

A reader puts one together with a `Draft`, line by line of the lists; contradictions are told where
they are met.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from seehear.data.stretches import Stretch
from seehear.errors import SettingsError
from seehear.evaluation.datasets.tree import Tree, is_video
from seehear.machine.lists import Line

PARTS = ("train", "test", "validation")


@dataclass(frozen=True, kw_only=True)
class Item(Stretch):
    """One example of a benchmark: a file that is there, or a stretch of one."""

    name: str  # the official id, for example "v_ApplyEyeMakeup_g01_c01" or "1-100032-A-0.wav"
    # indexes into `Benchmark.classes`; one number unless the benchmark is multi-label
    classes: tuple[int, ...]


@dataclass(frozen=True)
class Split:
    """One official division of the items; the parts do not overlap."""

    name: str  # "1", "fold 3", "official"
    train: np.ndarray  # (n,) int64 numbers of items, ascending
    test: np.ndarray  # (n,) int64 numbers of items, ascending
    # (n,) int64, the official part for choosing settings; empty where there is none
    validation: np.ndarray


@dataclass(frozen=True)
class Benchmark:
    """A public benchmark as it lies in a folder."""

    name: str  # the layout: "ucf101", "esc50", ..
    root: Path  # the folder, absolute
    # the names of the classes, in the official order where there is one, otherwise sorted
    classes: tuple[str, ...]
    items: tuple[Item, ...]  # those whose file is there, in the order of the lists
    missing: tuple[str, ...]  # official names without a file
    num_official: int  # items in the official lists, there or not
    splits: tuple[Split, ...]  # all official splits; a result is their mean
    # what the files can serve: ("video",), ("audio",) or ("video", "audio")
    modalities: tuple[str, ...]
    multilabel: bool  # may an item have several classes?
    # which lists and which definition were used, one sentence for the record of a result
    source: str


class Draft:
    """A benchmark in the making; SettingsError for fewer than two classes.

    `file` is the list that most is read from, for errors; `source` one sentence for results.
    """

    def __init__(
        self, name: str, tree: Tree, file: str, classes: Iterable[str], source: str
    ) -> None:
        self.name, self.tree, self.file, self.source = name, tree, file, source
        self.classes = tuple(classes)
        if len(self.classes) < 2:
            found = f"{file} has {len(self.classes)} class(es), read as {name}"
            raise SettingsError(f"{found}. A classifier needs at least 2.")
        self._number_of = {label: i for i, label in enumerate(self.classes)}
        # by official name, in the order of the lists
        self._classes: dict[str, tuple[int, ...]] = {}
        self._items: dict[str, Item] = {}  # those whose file is there
        self._parts: dict[str, dict[str, str]] = {}  # split -> official name -> part

    def add(
        self,
        line: Line,
        name: str,
        labels: str | tuple[str, ...],
        parts: Mapping[str, str],
        path: str | None = None,
        start_s: float = 0.0,
        seconds: float | None = None,
    ) -> None:
        """Take an item of the lists. It may come again, for a part in another split.

        `parts` says split -> the part that the item is in; `path` is None where there is no file.

        Raises:
            SettingsError: an unknown class, or the item came before with other classes or in
                another part of the same split.
        """
        named = (labels,) if isinstance(labels, str) else labels
        classes = tuple(sorted({self._class_of(line, label) for label in named}))
        before = self._classes.get(name)
        if before is None:
            self._classes[name] = classes
            if path is not None:
                self._items[name] = Item(path, start_s, seconds, name=name, classes=classes)
        elif before != classes:
            then, now = (", ".join(self.classes[c] for c in some) for some in (before, classes))
            raise line.wrong(
                f"{name} has the class {now!r} here and {then!r} before. It must have one."
            )
        for split, part in parts.items():
            known = self._parts.setdefault(split, {}).setdefault(name, part)
            if known != part:
                both = f"{name} is in {part} and in {known} of split {split}"
                raise line.wrong(f"{both}. Parts must not overlap.")

    def finish(
        self,
        modalities: tuple[str, ...] | None = None,
        *,
        multilabel: bool = False,
        num_official: int = 0,
    ) -> Benchmark:
        """The benchmark; by default its modalities are what the endings of its files say.

        `num_official` items were published, where the lists do not say. Raises SettingsError where
        nothing is listed or there, or a split has no train or no test part.
        """
        missing = tuple(name for name in self._classes if name not in self._items)
        if not self._items:
            example = f", for example {missing[0]}" if missing else ""
            raise SettingsError(
                f"{self.file}: none of the {len(missing)} files of {self.name} is below "
                f"{self.tree.root}{example}. Put them there, or name the folder that holds both "
                "lists and files."
            )
        return Benchmark(
            name=self.name,
            root=Path(self.tree.root),
            classes=self.classes,
            items=tuple(self._items.values()),
            missing=missing,
            num_official=max(num_official, len(self._classes)),
            splits=tuple(self._split(name, part_of) for name, part_of in self._parts.items()),
            modalities=modalities or served(self._items.values()),
            multilabel=multilabel,
            source=self.source,
        )

    def _class_of(self, line: Line, label: str) -> int:
        number = self._number_of.get(label)
        if number is None:
            near = difflib.get_close_matches(label[:100], self.classes, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            what = f"{label[:100]!r} is not one of the {len(self.classes)} classes"
            raise line.wrong(f"{what}.{hint}")
        return number

    def _split(self, name: str, part_of: Mapping[str, str]) -> Split:
        for part in ("train", "test"):
            if part not in part_of.values():
                what = f"split {name} of {self.name} has nothing to {part} on"
                raise SettingsError(f"{self.file}: {what}. Complete the lists.")
        members: dict[str, list[int]] = {part: [] for part in PARTS}
        for number, item in enumerate(self._items):
            if item in part_of:
                members[part_of[item]].append(number)
        return Split(name, *(np.array(members[part], dtype=np.int64) for part in PARTS))


def served(items: Iterable[Item]) -> tuple[str, ...]:
    """What the files of some items can all serve, by their endings: sound, or sight and sound."""
    return ("video", "audio") if all(is_video(item.path) for item in items) else ("audio",)
