"""ESC-50, UrbanSound8K and Speech Commands: short sounds, each in its own file."""

from __future__ import annotations

from pathlib import Path

from seehear.errors import SettingsError
from seehear.evaluation.datasets.benchmark import Benchmark
from seehear.evaluation.datasets.draft import Draft
from seehear.evaluation.datasets.tree import Tree, key_of
from seehear.evaluation.lists import inside, read_columns, read_lines, whole_number, wrong

_Row = tuple[int, str, int, int, str]  # line, file name, fold, number of the class, class


def read_esc50(tree: Tree) -> Benchmark:
    """ESC-50, of Piczak (2015), Warsaw University of Technology, ACM Multimedia 2015.

    2,000 sounds of five seconds, 50 classes, 5 folds by source. `meta/esc50.csv` has the header
    filename,fold,target,category,esc10,src_file,take; files are `audio/<filename>`. Each fold is
    tested once, with the others as train; the result is the mean. Classes are in the order of
    `target`.
    """
    file = tree.needed("esc50.csv")
    rows = _rows(file, ("filename", "fold", "target", "category"), folds=5)
    source = f"{Path(file).name} of ESC-50 (Piczak 2015), one split a fold"
    draft = Draft("esc50", tree, file, _in_order(file, rows), source)
    files = tree.index(video=False)
    return _by_fold(draft, file, rows, {row: files.get(key_of(row[1])) for row in rows})


def read_urbansound8k(tree: Tree) -> Benchmark:
    """UrbanSound8K, of Salamon, Jacoby and Bello (2014), New York University, ACM Multimedia 2014.

    8,732 sounds of up to four seconds, 10 classes, 10 folds that must be kept: slices of one
    recording share a fold. `metadata/UrbanSound8K.csv` has the header
    slice_file_name,fsID,start,end,salience,fold,classID,class; files are
    `audio/fold<fold>/<slice_file_name>`. `start` and `end` are of the recording that a slice was
    cut from.
    """
    file = tree.needed("UrbanSound8K.csv")
    rows = _rows(file, ("slice_file_name", "fold", "classID", "class"), folds=10)
    source = f"{Path(file).name} of UrbanSound8K (Salamon et al. 2014), one split a fold"
    draft = Draft("urbansound8k", tree, file, _in_order(file, rows), source)
    files = tree.index(2, video=False)
    return _by_fold(
        draft, file, rows, {row: files.get(key_of(f"fold{row[2]}/{row[1]}")) for row in rows}
    )


def read_speechcommands(tree: Tree) -> Benchmark:
    """Speech Commands, of Warden (2018), Google, arXiv:1804.03209; 35 words in version 2, 30 in
    version 1.

    One folder a word, with one-second recordings. `validation_list.txt` and `testing_list.txt`
    beside them have lines "bed/026290a7_nohash_0.wav"; what is in neither is train, so what train
    lacks cannot be known. Every word is a class; `_background_noise_`, and any folder whose name
    begins with "_", is none.
    """
    lists = {
        "test": tree.needed("testing_list.txt"),
        "validation": tree.needed("validation_list.txt"),
    }
    folder = Path(lists["test"]).parent
    if Path(lists["validation"]).parent != folder:
        raise SettingsError(
            f"{lists['test']} and {lists['validation']} are in two folders. They belong into one."
        )
    base = Tree(folder) if str(folder) != tree.root else tree
    files = {
        key: path
        for key, path in base.index(2, video=False).items()
        if _is_word(base.relative(path))
    }
    listed = [
        (part, file, line, text) for part, file in lists.items() for line, text in read_lines(file)
    ]
    for _, file, line, text in listed:
        if not _is_word(inside(file, line, text)):
            raise wrong(
                file, line, f"{text[:80]!r} is no recording of a word. Expected: word/name.wav"
            )
    words = sorted(
        {key.split("/")[0] for key in files} | {text.split("/")[0] for *_, text in listed}
    )
    source = (
        "validation_list.txt and testing_list.txt of Speech Commands (Warden 2018), the rest "
        "is train"
    )
    draft = Draft(
        "speechcommands",
        tree,
        lists["test"],
        words,
        f"{source}; all {len(words)} words are classes",
    )
    for part, file, line, text in listed:
        kind = (draft.class_of(file, line, text.split("/")[0]),)
        number = draft.add(file, line, text, kind, files.pop(key_of(text), None))
        draft.put(file, line, "official", part, number)
    taken = {key_of(text) for *_, text in listed}
    for key, path in sorted(files.items()):
        if key not in taken:
            number = draft.add(
                path, 1, base.relative(path), (draft.class_of(path, 1, key.split("/")[0]),), path
            )
            draft.put(path, 1, "official", "train", number)
    return draft.finish(("audio",))


def _is_word(name: str) -> bool:
    """Is it "word/file"?"""
    word, _, file = name.partition("/")
    return bool(word and file) and "/" not in file and not word.startswith("_")


def _rows(file: str, columns: tuple[str, str, str, str], folds: int) -> list[_Row]:
    """The lines of a list with folds; the columns are the name, the fold, the number of the class,
    and the class.
    """
    rows = []
    for line, (name, fold, target, label) in read_columns(file, columns):
        if "/" in inside(file, line, name) or "\\" in name:
            raise wrong(
                file, line, f"{name[:80]} is a path. {columns[0]} must be the name of a file."
            )
        number = whole_number(file, line, target, columns[2], 0, 9999)
        rows.append(
            (line, name, whole_number(file, line, fold, columns[1], 1, folds), number, label)
        )
    return rows


def _in_order(file: str, rows: list[_Row]) -> list[str]:
    """The classes in the order of their numbers, each with one number."""
    label_of: dict[int, str] = {}
    number_of: dict[str, int] = {}
    for line, _, _, number, label in rows:
        if (
            label_of.setdefault(number, label) != label
            or number_of.setdefault(label, number) != number
        ):
            raise wrong(
                file, line, f"class {number} is {label!r} here, and another line says otherwise."
            )
    return [label_of[number] for number in sorted(label_of)]


def _by_fold(draft: Draft, file: str, rows: list[_Row], paths: dict[_Row, str | None]) -> Benchmark:
    """A benchmark in which each fold is tested once."""
    folds = sorted({row[2] for row in rows})
    for row in rows:
        line, name, fold, _, label = row
        number = draft.add(file, line, name, (draft.class_of(file, line, label),), paths[row])
        for tested in folds:
            draft.put(file, line, f"fold {tested}", "test" if fold == tested else "train", number)
    return draft.finish(("audio",))
