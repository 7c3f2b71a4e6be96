"""How does a reader put a benchmark together? Line by line, and contradictions are told where they
are met.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from seehear.errors import SettingsError
from seehear.evaluation.datasets.benchmark import Benchmark, Item, Split
from seehear.evaluation.datasets.tree import Tree, is_video
from seehear.evaluation.lists import wrong

PARTS = ("train", "test", "validation")
VERBS = {"train": "train on", "test": "test on"}


class Draft:
    """A benchmark in the making.

    Args:
        name: of the layout.
        tree: the folder.
        file: the list that most is read from, for errors.
        classes: their names, in the order of their numbers.
        source: one sentence for the result's record.
    Raises:
        SettingsError: fewer than two classes.
    """

    def __init__(
        self, name: str, tree: Tree, file: str, classes: Iterable[str], source: str
    ) -> None:
        self.name, self.tree, self.file, self.classes, self.source = (
            name,
            tree,
            file,
            tuple(classes),
            source,
        )
        if len(self.classes) < 2:
            raise SettingsError(
                f"{file} has {len(self.classes)} class(es), read as {name}. A classifier needs at "
                f"least 2."
            )
        self._number_of = {label: i for i, label in enumerate(self.classes)}
        self._order: dict[
            str, int
        ] = {}  # official name -> official number, in the order of the lists
        self._classes: list[tuple[int, ...]] = []
        self._found: list[Item | None] = []
        self._parts: dict[str, dict[int, str]] = {}

    def class_of(self, file: str, line: int, label: str) -> int:
        """The number of a class.

        Raises:
            SettingsError: it is not in the list of classes.
        """
        number = self._number_of.get(label)
        if number is None:
            near = difflib.get_close_matches(label[:100], self.classes, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise wrong(
                file, line, f"{label[:100]!r} is not one of the {len(self.classes)} classes.{hint}"
            )
        return number

    def add(
        self,
        file: str,
        line: int,
        name: str,
        classes: tuple[int, ...],
        path: str | None,
        start_s: float = 0.0,
        seconds: float | None = None,
    ) -> int:
        """Take an item of the lists; its official number. The same item may come again.

        Args:
            file, line: where it is listed.
            path: its file; None where there is none.
        Raises:
            SettingsError: it came before with other classes.
        """
        number = self._order.setdefault(name, len(self._order))
        if number == len(self._classes):
            self._classes.append(classes)
            self._found.append(
                None if path is None else Item(name, path, classes, start_s, seconds)
            )
        elif self._classes[number] != classes:
            before = ", ".join(self.classes[c] for c in self._classes[number])
            now = ", ".join(self.classes[c] for c in classes)
            raise wrong(
                file,
                line,
                f"{name} has the class {now!r} here and {before!r} before. It must have one.",
            )
        return number

    def put(self, file: str, line: int, split: str, part: str, number: int) -> None:
        """Put an item into a part of a split.

        Raises:
            SettingsError: it is in another part of the same split.
        """
        before = self._parts.setdefault(split, {}).setdefault(number, part)
        if before != part:
            name = next(name for name, n in self._order.items() if n == number)
            raise wrong(
                file,
                line,
                f"{name} is in {part} and in {before} of split {split}. Parts must not overlap.",
            )

    def finish(
        self,
        modalities: tuple[str, ...] | None = None,
        *,
        multilabel: bool = False,
        num_official: int = 0,
    ) -> Benchmark:
        """The benchmark.

        Args:
            modalities: what the files can serve; by default what their endings say.
            num_official: how many items were published, where the lists do not say.
        Raises:
            SettingsError: nothing is listed, no listed file is there, or a split has no train or no
                test part.
        """
        items: list[Item] = []
        place_of: dict[int, int] = {}
        for number, item in enumerate(self._found):
            if item is not None:
                place_of[number] = len(items)
                items.append(item)
        missing = tuple(
            name for name, item in zip(self._order, self._found, strict=True) if item is None
        )
        if not items:
            example = f", for example {missing[0]}" if missing else ""
            raise SettingsError(
                f"{self.file}: none of the {len(missing)} files of {self.name} is below "
                f"{self.tree.root}{example}. "
                "Put them there, or name the folder that holds both lists and files."
            )
        return Benchmark(
            name=self.name,
            root=Path(self.tree.root),
            classes=self.classes,
            items=tuple(items),
            missing=missing,
            num_official=max(num_official, len(self._order)),
            splits=tuple(self._split(name, place_of) for name in self._parts),
            modalities=modalities or served(item.path for item in items),
            multilabel=multilabel,
            source=self.source,
        )

    def _split(self, name: str, place_of: dict[int, int]) -> Split:
        parts = self._parts[name]
        for part in ("train", "test"):
            if part not in parts.values():
                raise SettingsError(
                    f"{self.file}: split {name} of {self.name} has nothing to {VERBS[part]}. "
                    f"Complete the lists."
                )
        members: dict[str, list[int]] = {part: [] for part in PARTS}
        for number, part in parts.items():
            if number in place_of:
                members[part].append(place_of[number])
        return Split(name, *(np.array(sorted(members[part]), dtype=np.int64) for part in PARTS))


def served(paths: Iterable[str]) -> tuple[str, ...]:
    """What some files can all serve, by their endings: sound alone, or sight and sound."""
    return ("video", "audio") if all(is_video(path) for path in paths) else ("audio",)
