"""UCF101 and HMDB51: human actions in short videos, three official splits each."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

from seehear.errors import SettingsError
from seehear.evaluation.datasets.benchmark import Benchmark
from seehear.evaluation.datasets.draft import Draft
from seehear.evaluation.datasets.tree import Tree, key_of
from seehear.evaluation.lists import inside, read_lines, whole_number, wrong

_HMDB51_LIST = re.compile(r"(.+)_test_split([123])\.txt")
_HMDB51_PARTS = {0: None, 1: "train", 2: "test"}


def read_ucf101(tree: Tree) -> Benchmark:
    """UCF101, of Soomro, Zamir and Shah (2012), University of Central Florida, arXiv:1212.0402.

    13,320 videos of 101 actions. `classInd.txt` has lines "1 ApplyEyeMakeup"; `trainlist01.txt` to
    `trainlist03.txt` have lines "ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi 1", and
    `testlist01.txt` to `testlist03.txt` the same without the number (some copies have it), none
    with a header. The archive of videos is `UCF-101/Class/v_*.avi`. One action is HandstandPushups
    here and HandStandPushups there, so letters match whatever their case. Splits keep the 25 groups
    of a class together. About half of the classes have sound, so the set serves video alone.
    """
    index_file = tree.needed("classInd.txt")
    folder = Path(index_file).parent
    beside = {
        str(folder / f"{part}list0{n}.txt"): n for n in (1, 2, 3) for part in ("train", "test")
    }
    splits = sorted({beside[path] for path in tree.lists if path in beside})
    if not splits:
        raise SettingsError(
            f"There is no trainlist01.txt beside {index_file}. Put the official lists in one "
            f"folder."
        )
    named = ", ".join(f"0{n}" for n in splits)
    source = f"classInd.txt with trainlist and testlist {named} of UCF101 (Soomro et al. 2012)"
    draft = Draft("ucf101", tree, index_file, _ucf101_classes(index_file), source)
    number_of = {label.casefold(): number for number, label in enumerate(draft.classes)}
    files = tree.index(audio=False, fold=True)
    for split in splits:
        for part in ("train", "test"):
            file = str(folder / f"{part}list0{split}.txt")
            for line, text in read_lines(file):
                path, number = _path_and_number(file, line, text)
                label, _, name = path.partition("/")
                if not name or "/" in name:
                    raise wrong(
                        file,
                        line,
                        f"{text[:80]!r} is no video. Expected: Class/v_Class_g01_c01.avi 1",
                    )
                known = number_of.get(label.casefold())
                kind = draft.class_of(file, line, label) if known is None else known
                if (
                    number
                    and whole_number(file, line, number, "the class", 1, len(draft.classes))
                    != kind + 1
                ):
                    raise wrong(
                        file,
                        line,
                        f"{path} has the class {number}, but {label} is {kind + 1} in "
                        f"classInd.txt.",
                    )
                item = draft.add(
                    file, line, key_of(name), (kind,), files.get(key_of(name, fold=True))
                )
                draft.put(file, line, str(split), part, item)
    return draft.finish(("video",))


def read_hmdb51(tree: Tree) -> Benchmark:
    """HMDB51, of Kuehne, Jhuang, Garrote, Poggio and Serre (2011), Brown University and MIT, ICCV
    2011.

    6,766 videos of 51 actions. For each class and split there is a list
    `<class>_test_split<1..3>.txt`, in the folder `testTrainMulti_7030_splits/`, with lines
    "<name>.avi 1": 1 is train (70 a class), 2 is test (30 a class), 0 is neither. No header, no
    list of classes. Videos are `<class>/<name>.avi`, without sound. Names may hold spaces, brackets
    and "#". An item's name here is "<class>/<name>".
    """
    matches = [(path, _HMDB51_LIST.fullmatch(Path(path).name)) for path in tree.lists]
    first = {Path(path).parent: path for path, match in reversed(matches) if match}
    nearest = tree.nearest(list(first.values()))
    if nearest is None:
        raise SettingsError(
            f"There is no <class>_test_split1.txt in {tree.root} or below. Put HMDB51's lists "
            f"there."
        )
    folder = Path(nearest).parent
    lists = sorted((m[2], m[1], path) for path, m in matches if m and Path(path).parent == folder)
    splits = sorted({split for split, _, _ in lists})
    source = (
        f"<class>_test_split files {', '.join(splits)} of HMDB51 (Kuehne et al. 2011), 70 "
        f"train and 30 test a class"
    )
    draft = Draft("hmdb51", tree, nearest, sorted({label for _, label, _ in lists}), source)
    for split in splits:
        for label in draft.classes:
            if (split, label) not in {(s, c) for s, c, _ in lists}:
                raise SettingsError(
                    f"{folder} has no {label}_test_split{split}.txt. Split {split} needs all "
                    f"classes."
                )
    files = tree.index(2, audio=False)
    for split, label, file in lists:
        kind = draft.class_of(file, 1, label)
        for line, text in read_lines(file):
            name, *code = text.rsplit(None, 1)
            if not code or "/" in inside(file, line, name):
                raise wrong(
                    file, line, f"{text[:80]!r} is no video. Expected: <name>.avi 1 (or 2, or 0)"
                )
            use = whole_number(file, line, code[0], "the last field", 0, 2)
            name = f"{label}/{key_of(name)}"
            item = draft.add(file, line, name, (kind,), files.get(key_of(name)))
            if part := _HMDB51_PARTS[use]:
                draft.put(file, line, split, part, item)
    return draft.finish(("video",))


def _ucf101_classes(file: str) -> list[str]:
    """The classes of `classInd.txt`; numbers count up from 1."""
    labels: list[str] = []
    for line, text in read_lines(file):
        number, label = [*text.split(None, 1), ""][:2]
        if not label or "/" in label:
            raise wrong(
                file, line, f"{text[:80]!r} is no class. Expected: {len(labels) + 1} ClassName"
            )
        if (
            whole_number(file, line, number, "the number of the class", 1, 1_000_000)
            != len(labels) + 1
        ):
            raise wrong(
                file,
                line,
                f"the number of the class is {number}. Numbers must count up: {len(labels) + 1} "
                f"here.",
            )
        if label.casefold() in {known.casefold() for known in labels}:
            raise wrong(file, line, f"the class {label} is there twice.")
        labels.append(label)
    return labels


def _path_and_number(file: str, line: int, text: str) -> tuple[str, str]:
    """A line of a list of UCF101: the path, and the number of the class if it is there."""
    path, *number = text.split(None, 1)
    path = inside(file, line, path).replace("\\", "/")
    return str(PurePosixPath(path)), "".join(number)
