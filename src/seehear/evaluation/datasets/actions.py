"""UCF101 and HMDB51: human actions in short videos, three official splits each."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

from seehear.errors import SettingsError
from seehear.evaluation.datasets.benchmark import Benchmark, Draft
from seehear.evaluation.datasets.tree import Tree, key_of
from seehear.machine.lists import Line, read_lines

_HMDB51_LIST = re.compile(r"(.+)_test_split([123])\.txt")
_HMDB51_PARTS = (None, "train", "test")  # by the number in a line


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
    lists = {
        (split, part): str(folder / f"{part}list0{split}.txt")
        for split in "123"
        for part in ("train", "test")
    }
    splits = sorted({split for (split, _), file in lists.items() if file in tree.lists})
    if not splits:
        what = f"There is no trainlist01.txt beside {index_file}"
        raise SettingsError(f"{what}. Put the official lists in one folder.")
    named = ", ".join(f"0{split}" for split in splits)
    source = f"classInd.txt with trainlist and testlist {named} of UCF101 (Soomro et al. 2012)"
    draft = Draft("ucf101", tree, index_file, _ucf101_classes(index_file), source)
    official = {label.casefold(): label for label in draft.classes}
    files = tree.index(audio=False, fold=True)
    for (split, part), file in lists.items():
        for line in read_lines(file) if split in splits else ():
            label, name, number = _ucf101_video(line)
            label = official.get(label.casefold(), label)
            path = files.get(key_of(name, fold=True))
            draft.add(line, key_of(name), label, {split: part}, path)
            if number:
                count, right = len(draft.classes), draft.classes.index(label) + 1
                if line.whole_number(number, "the class", 1, count) != right:
                    what = f"{label}/{name} has the class {number}"
                    raise line.wrong(f"{what}, but {label} is {right} in classInd.txt.")
    return draft.finish(("video",))


def read_hmdb51(tree: Tree) -> Benchmark:
    """HMDB51, of Kuehne, Jhuang, Garrote, Poggio and Serre (2011), Brown and MIT, ICCV 2011.

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
        what = f"There is no <class>_test_split1.txt in {tree.root} or below"
        raise SettingsError(f"{what}. Put HMDB51's lists there.")
    folder = Path(nearest).parent
    lists = {(m[2], m[1]): path for path, m in matches if m and Path(path).parent == folder}
    splits = sorted({split for split, _ in lists})
    source = (
        f"<class>_test_split files {', '.join(splits)} of HMDB51 (Kuehne et al. 2011), 70 train "
        "and 30 test a class"
    )
    draft = Draft("hmdb51", tree, nearest, sorted({label for _, label in lists}), source)
    for split in splits:
        for label in draft.classes:
            if (split, label) not in lists:
                what = f"{folder} has no {label}_test_split{split}.txt"
                raise SettingsError(f"{what}. Split {split} needs all classes.")
    files = tree.index(2, audio=False)
    for (split, label), file in sorted(lists.items()):
        for line in read_lines(file):
            name, *code = line.fields[0].rsplit(None, 1)
            if not code or "/" in line.inside(name):
                expected = "<name>.avi 1 (or 2, or 0)"
                raise line.wrong(f"{line.text!r} is no video. Expected: {expected}")
            part = _HMDB51_PARTS[line.whole_number(code[0], "the last field", 0, 2)]
            name = f"{label}/{key_of(name)}"
            draft.add(line, name, label, {split: part} if part else {}, files.get(key_of(name)))
    return draft.finish(("video",))


def _ucf101_classes(file: str) -> list[str]:
    """The classes of `classInd.txt`; numbers count up from 1."""
    labels: list[str] = []
    for line in read_lines(file):
        number, label = [*line.fields[0].split(None, 1), ""][:2]
        expected = len(labels) + 1
        if not label or "/" in label:
            raise line.wrong(f"{line.text!r} is no class. Expected: {expected} ClassName")
        what = "the number of the class"
        if line.whole_number(number, what, 1, 1_000_000) != expected:
            raise line.wrong(f"{what} is {number}. Numbers must count up: {expected} here.")
        if label.casefold() in {known.casefold() for known in labels}:
            raise line.wrong(f"the class {label} is there twice.")
        labels.append(label)
    return labels


def _ucf101_video(line: Line) -> tuple[str, str, str]:
    """A line of a list of UCF101: class, name, and the number of the class if it is there."""
    path, *number = line.fields[0].split(None, 1)
    path = str(PurePosixPath(line.inside(path).replace("\\", "/")))
    label, _, name = path.partition("/")
    if not name or "/" in name:
        raise line.wrong(f"{line.text!r} is no video. Expected: Class/v_Class_g01_c01.avi 1")
    return label, name, "".join(number)
