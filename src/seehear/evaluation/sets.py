"""On what is measured? Rows of an index, the items that they belong to, their classes, the splits.

An item is what a result counts: a video of an index, or an entry of a benchmark's official list.
Both become a `LabelledSet`, so that every task serves every set. Parts are never mixed: what is
chosen, is chosen on `train`.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np

from seehear.data.index import Index
from seehear.data.index.chosen import UNUSABLE, real, times
from seehear.data.index.lookup import look_up
from seehear.data.index.rejected import Rejected
from seehear.data.media import Reader
from seehear.data.placing import MODALITIES
from seehear.data.remote import is_remote
from seehear.errors import MediaError, SettingsError
from seehear.evaluation.classes import Classes, read_classes
from seehear.evaluation.datasets import Benchmark, Split, read_benchmark
from seehear.machine.console import Console

FIRST_FILES = 3  # looked at to know which streams one's own files have


@dataclass(frozen=True)
class LabelledSet:
    """What a task is given."""

    name: str  # of the benchmark, or of the index's folder
    source: str  # the lists and the definition behind it, one sentence
    index: Index  # rows that can be read
    item_N: np.ndarray  # (N,) int64, the item of each row; -1 for rows without a class
    target_V: np.ndarray  # (V,) int64 class of each item, or (V, C) bool where items have several
    items: tuple[str, ...]  # names of the items
    classes: tuple[str, ...]  # names of the classes
    splits: tuple[Split, ...]  # divisions of the items; a result is the mean over them
    modalities: tuple[str, ...]  # what may be measured, of "video" and "audio"
    num_official: int  # items in the official lists, there or not
    digest: str  # of the index or of the items and their classes
    missing: tuple[str, ...] = ()  # names of official items without a file
    # reason -> items whose file could not be opened
    unreadable: dict[str, int] = field(default_factory=dict)
    # official item that has no row -> why: a reason of the index, "no file", "not indexed"
    left_out: Mapping[str, str] = field(default_factory=dict)
    kind: Literal["benchmark", "index"] = "benchmark"

    @property
    def multilabel(self) -> bool:
        """Whether an item may have several classes."""
        return self.target_V.ndim == 2

    @property
    def rows(self) -> np.ndarray:
        """The rows that have a class, ascending."""
        return np.flatnonzero(self.item_N >= 0)

    def pool(
        self, rows: np.ndarray, features_nD: np.ndarray, weights_n: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """The mean feature of each item, (V, D) float64, by weight; and which have one, (V,)."""
        item_n = self.item_N[rows]
        known = item_n >= 0
        sums = np.zeros((len(self.items), features_nD.shape[1]))
        weights_n = np.ones(len(rows)) if weights_n is None else weights_n
        np.add.at(sums, item_n[known], features_nD[known] * weights_n[known, None])
        counts = np.bincount(item_n[known], weights_n[known], minlength=len(self.items))
        return sums / np.maximum(counts, 1)[:, None], counts > 0

    @property
    def recording_V(self) -> np.ndarray:
        """Which recording each item is of, (V,) int64, by its first row, or one of its own."""
        item_n, first_n = np.unique(self.item_N[self.rows], return_index=True)
        recording_V = np.arange(len(self.items)) + int(self.index.recording.max(initial=-1)) + 1
        recording_V[item_n] = self.index.recording[self.rows[first_n]]
        return recording_V

    def class_N(self) -> np.ndarray:
        """The class of each row, (N,) int64, -1 without; single-label sets only."""
        return np.where(self.item_N >= 0, self.target_V[self.item_N], -1)


def open_set(
    data: Path,
    *,
    classes: Path | None = None,
    layout: str = "auto",
    wanted: Sequence[str] = (),
    seed: int = 0,
    divided: bool = True,
    needs_classes: bool = True,
    console: Console | None = None,
) -> LabelledSet:
    """Open an index with a list of classes, or a benchmark in its makers' layout.

    Args:
        data: the folder of an index, or of a benchmark.
        classes: `classes.csv` for an index.
        layout: of a benchmark, a name of `seehear.evaluation.datasets.LAYOUTS` or "auto".
        wanted: what shall be measured; by default all that the set's files have.
        seed: draws the split where there is none.
        divided: whether parts to train and to test on are needed; otherwise a split that cannot be
            used is dropped.
        needs_classes: if not, an index is enough, and so is a folder of files.
        console: where progress is shown.
    Raises:
        SettingsError: nothing that is known lies there, a malformed list, or a split that cannot be
            measured on.
    """
    if (data / "index.json").exists() or classes is not None:
        if classes is None and needs_classes:
            raise SettingsError(
                f"{data} is an index, which holds no classes. Give them: --classes classes.csv"
            )
        if layout not in ("auto", "index"):
            raise SettingsError(
                f"{data} is an index, so --dataset {layout} does not apply. Give the benchmark's "
                f"folder."
            )
        index = Index.open(data)
        if classes is None:
            return of_rows(index)
        return of_index(index, read_classes(classes, index.info["root"]), seed, divided)
    found = read_benchmark(data, layout, seed=seed, needs_classes=needs_classes)
    return of_benchmark(found, wanted, console, divided)


def of_index(index: Index, classes: Classes, seed: int, divided: bool = True) -> LabelledSet:
    """The videos of an index that have a class.

    Raises:
        SettingsError: no video of the index has a class, or train or test has fewer than two.
    """
    path_N = classes.names_of(index)
    paths = sorted({path for path in path_N if path in classes.of})
    if not paths:
        raise SettingsError(
            f"No {'segment' if classes.recordings else 'video'} of {index.folder} is in "
            f"{classes.file}, whose paths are relative to its own folder (such as "
            f"{next(iter(classes.of))}). Index that folder, or correct the paths."
        )
    number = {path: i for i, path in enumerate(paths)}
    test_V = classes.is_test(paths, seed)
    target_V = np.array([classes.of[path] for path in paths], dtype=np.int64)
    is_usable = True
    for name, part in (("train", ~test_V), ("test", test_V)):
        is_usable &= len(np.unique(target_V[part])) >= 2
        if divided and not is_usable:
            raise SettingsError(
                f"The {name} videos of {index.folder} have fewer than two classes "
                f"({int(part.sum())} videos). Index more of {classes.file}, or change its split "
                "column."
            )
    name, of = ("official", "its column split") if classes.split else ("drawn", "")
    split = Split(name, np.flatnonzero(~test_V), np.flatnonzero(test_V), np.empty(0, np.int64))
    whole = "recordings" if classes.recordings else "each class"
    of = of or f"a quarter of {whole} for testing, drawn from seed {seed}"
    return LabelledSet(
        name=index.folder.resolve().name,
        source=f"an index and {classes.file.name}; {of}",
        index=index,
        item_N=np.array([number.get(path, -1) for path in path_N], dtype=np.int64),
        target_V=target_V,
        items=tuple(paths),
        classes=classes.names,
        splits=(split,) if is_usable else (),
        modalities=MODALITIES,
        missing=tuple(sorted(set(classes.of) - set(paths))),
        num_official=len(classes.of),
        digest=index.digest,
        left_out=why_not_indexed(index, sorted(set(classes.of) - set(paths))),
        kind="index",
    )


def of_rows(index: Index) -> LabelledSet:
    """The videos of an index, without classes."""
    paths, item_N = np.unique(
        [index.original_path(row) for row in range(len(index))], return_inverse=True
    )
    return LabelledSet(
        name=index.folder.resolve().name,
        source="an index, without classes",
        index=index,
        item_N=item_N.astype(np.int64),
        target_V=np.full(len(paths), -1),
        items=tuple(paths.tolist()),
        classes=(),
        splits=(),
        modalities=MODALITIES,
        num_official=len(paths),
        digest=index.digest,
        kind="index",
    )


def why_not_indexed(index: Index, paths: Sequence[str]) -> dict[str, str]:
    """Why some videos with a class are not in an index: its reason, no file, not indexed."""
    rejected: dict[str, list[Rejected]] = {}
    for left_out in index.rejected_files() if paths else ():
        rejected.setdefault(real(left_out.path), []).append(left_out)
    found = {}
    for path in paths:
        file, _, stretch = path.partition("#t=")  # of a segment
        said = times(*map(float, stretch.split(","))) if stretch else ""
        reasons = [
            left_out.reason
            for left_out in rejected.get(file, ())
            if left_out.reason != UNUSABLE or (said and f": {said}" in left_out.detail)
        ]
        found[path] = next(iter(reasons), "not indexed" if is_there(file) else "no file")
    return found


def is_there(path: str) -> bool:
    """Whether there is such a file; an address is not looked up."""
    return is_remote(path) or Path(path).exists()


def of_benchmark(
    benchmark: Benchmark,
    wanted: Sequence[str] = (),
    console: Console | None = None,
    divided: bool = True,
) -> LabelledSet:
    """A benchmark with its files opened once.

    Raises:
        SettingsError: its files do not serve what is wanted, or a part of a split has fewer than
            two classes left.
    """
    modalities = tuple(wanted) or streams_of(benchmark)
    unserved = [m for m in modalities if m not in benchmark.modalities]
    if unserved or not modalities:
        raise SettingsError(
            f"{benchmark.name} serves {' and '.join(benchmark.modalities)}, not "
            f"{' and '.join(unserved) or 'these'}."
        )
    found = look_up(benchmark.items, modalities, console=console)
    reasons = Counter(rejection.reason for rejection in found.rejected.values())
    whole = LabelledSet(
        name=benchmark.name,
        source=benchmark.source,
        index=found.index,
        item_N=found.stretch_N,
        target_V=targets(benchmark),
        items=tuple(item.name for item in benchmark.items),
        classes=benchmark.classes,
        splits=benchmark.splits,
        modalities=modalities,
        missing=benchmark.missing,
        unreadable=dict(reasons.most_common()),
        num_official=benchmark.num_official,
        digest=digest_of(benchmark),
        left_out=dict.fromkeys(benchmark.missing, "no file")
        | {
            benchmark.items[number].name: rejection.reason
            for number, rejection in sorted(found.rejected.items())
        },
    )
    if not len(found.index):
        raise SettingsError(
            f"{benchmark.root}: none of {len(benchmark.items)} files can be read: "
            f"{whole.unreadable}."
        )
    if divided:
        check_parts(whole, benchmark.root)
    return whole


def check_parts(data: LabelledSet, root: Path) -> None:
    """Raise SettingsError where a part of a split has too little left to be measured on."""
    there = set(data.item_N.tolist())
    for split in data.splits:
        for part in ("train", "test"):
            items = [item for item in getattr(split, part) if int(item) in there]
            labels = data.target_V[items]
            many = int(labels.any(axis=0).sum()) if data.multilabel else len(np.unique(labels))
            if many < 2:
                raise SettingsError(
                    f"{root}, split {split.name}: of {len(getattr(split, part))} items to {part} "
                    f"on, {len(items)} can be read, of {many} class(es); at least 2 are needed. "
                    f"{len(data.missing)} files are missing; of the others cannot be read: "
                    f"{data.unreadable or 'none'}."
                )


def targets(benchmark: Benchmark) -> np.ndarray:
    """(V,) int64 classes, or (V, C) bool where items may have several."""
    if not benchmark.multilabel:
        return np.array([item.classes[0] for item in benchmark.items], dtype=np.int64)
    target_VC = np.zeros((len(benchmark.items), len(benchmark.classes)), dtype=bool)
    for row, item in enumerate(benchmark.items):
        target_VC[row, list(item.classes)] = True
    return target_VC


def streams_of(benchmark: Benchmark) -> tuple[str, ...]:
    """The modalities that a benchmark's files have, by its first ones."""
    for item in benchmark.items[:FIRST_FILES]:
        try:
            with Reader(item.path) as reader:
                has = {"video": reader.has_video, "audio": reader.has_audio}
        except MediaError:
            continue
        return tuple(m for m in benchmark.modalities if has[m])
    return benchmark.modalities


def digest_of(benchmark: Benchmark) -> str:
    """SHA-256 over names, stretches, classes and splits."""
    digest = hashlib.sha256(f"{benchmark.name}\n{benchmark.classes}\n".encode())
    for item in benchmark.items:
        digest.update(f"{item.name}\0{item.classes}\0{item.start_s}\0{item.seconds}\n".encode())
    for split in benchmark.splits:
        for part in (split.train, split.validation, split.test):
            digest.update(part.tobytes() + b"\n")
    return f"sha256:{digest.hexdigest()}"


def only(data: LabelledSet, modalities: Sequence[str]) -> LabelledSet:
    """The same set, of which only some modalities are measured."""
    return replace(data, modalities=tuple(m for m in data.modalities if m in modalities))
