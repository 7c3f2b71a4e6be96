"""Sounds: ESC-50, ESC-10, UrbanSound8K, Speech Commands; places: DCASE 2014, TUT Scenes."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from seehear.errors import SettingsError
from seehear.evaluation.datasets.benchmark import Benchmark, Draft
from seehear.evaluation.datasets.tree import Tree, key_of
from seehear.machine.lists import Line, read_columns, read_lines

DCASE2014_SCENES = (
    *("bus", "busystreet", "office", "openairmarket", "park"),
    *("quietstreet", "restaurant", "supermarket", "tube", "tubestation"),
)
DCASE2014_ITEMS = 200
ESC10_ITEMS, ESC10_CLASSES = 400, 10
_ESC10_FILE = re.compile(r"(?:.*/)?(\d{3}) - ([^/]+)/([1-5])-\w+-[A-Z]\.\w+", re.ASCII)
_TUT_LIST = re.compile(r"fold([1-9]\d?)_(?:train|test|evaluate)\.txt", re.ASCII)


class _Sound(NamedTuple):
    line: Line
    name: str
    fold: int
    number: int  # of the class
    label: str


def read_esc50(tree: Tree) -> Benchmark:
    """ESC-50, of Piczak (2015), Warsaw University of Technology, ACM Multimedia 2015.

    2,000 sounds of five seconds, 50 classes, 5 folds by source. `meta/esc50.csv` has the header
    filename,fold,target,category,esc10,src_file,take; files are `audio/<filename>`. Each fold is
    tested once, with the others as train; the result is the mean. Classes are in `target`'s order.
    """
    file = tree.needed("esc50.csv")
    sounds = _sounds(file, ("filename", "fold", "target", "category"), folds=5)
    source = f"{Path(file).name} of ESC-50 (Piczak 2015), one split a fold"
    draft = Draft("esc50", tree, file, _in_order(sounds), source)
    files = tree.index(video=False)
    return _by_fold(draft, sounds, lambda sound: files.get(key_of(sound.name)))


def read_esc10(tree: Tree) -> Benchmark:
    """ESC-10, of Piczak (2015), published apart from ESC-50 and before it.

    400 sounds of five seconds, 10 classes, 5 folds by source, no list: a folder a class, such as
    `001 - Dog bark`, with files `<fold>-<clip>-<take>.ogg`. Takes of one clip are in one fold. Each
    fold is tested once. Names of missing files cannot be known.
    """
    sounds = esc10_sounds(tree)
    labels = _in_order(sounds)
    if len(labels) > ESC10_CLASSES:
        what = f"{tree.root} has {len(labels)} folders such as {sounds[0].number:03d} - "
        raise SettingsError(f"{what}{sounds[0].label}. ESC-10 has {ESC10_CLASSES}.")
    source = "folders and files of ESC-10 (Piczak 2015), one split a fold"
    draft = Draft("esc10", tree, tree.root, labels, source)
    return _by_fold(draft, sounds, lambda sound: sound.line.file, num_official=ESC10_ITEMS)


def esc10_sounds(tree: Tree) -> list[_Sound]:
    """The files that are named as those of ESC-10 are."""
    sounds = []
    for path in sorted(tree.media):
        if found := _ESC10_FILE.fullmatch(tree.relative(path)):
            number, label, fold = found.groups()
            sounds.append(_Sound(Line(path, 1), Path(path).name, int(fold), int(number), label))
    return sounds


def read_urbansound8k(tree: Tree) -> Benchmark:
    """UrbanSound8K, of Salamon, Jacoby and Bello (2014), New York University, ACM Multimedia 2014.

    8,732 sounds of up to four seconds, 10 classes, 10 folds that must be kept: slices of one
    recording share a fold. `metadata/UrbanSound8K.csv` has the header
    slice_file_name,fsID,start,end,salience,fold,classID,class; files are
    `audio/fold<fold>/<slice_file_name>`. `start` and `end` are of the recording it was cut from.
    """
    file = tree.needed("UrbanSound8K.csv")
    sounds = _sounds(file, ("slice_file_name", "fold", "classID", "class"), folds=10)
    source = f"{Path(file).name} of UrbanSound8K (Salamon et al. 2014), one split a fold"
    draft = Draft("urbansound8k", tree, file, _in_order(sounds), source)
    files = tree.index(2, video=False)
    return _by_fold(draft, sounds, lambda s: files.get(key_of(f"fold{s.fold}/{s.name}")))


def read_speechcommands(tree: Tree) -> Benchmark:
    """Speech Commands, of Warden (2018), Google, arXiv:1804.03209; 35 words in v2, 30 in v1.

    One folder a word, with one-second recordings. `validation_list.txt` and `testing_list.txt`
    beside them have lines "bed/026290a7_nohash_0.wav"; what is in neither is train, so what train
    lacks cannot be known. Every word is a class; `_background_noise_`, and any folder whose name
    begins with "_", is none.
    """
    lists = {
        "test": tree.needed("testing_list.txt"),
        "validation": tree.needed("validation_list.txt"),
    }
    folders = {Path(file).parent for file in lists.values()}
    if len(folders) > 1:
        what = f"{lists['test']} and {lists['validation']} are in two folders"
        raise SettingsError(f"{what}. They belong into one.")
    base = Tree(folders.pop())
    found = base.index(2, video=False)
    files = {key: path for key, path in found.items() if _is_word(base.relative(path))}
    listed = {}
    for part, file in lists.items():
        for line in read_lines(file):
            name = line.inside(line.fields[0])
            if not _is_word(name):
                expected = "word/name.wav"
                raise line.wrong(f"{line.text!r} is no recording of a word. Expected: {expected}")
            listed[part, name] = line, files.get(key_of(name))
    unlisted = sorted(files.keys() - {key_of(name) for _, name in listed})
    for key in unlisted:
        listed["train", base.relative(files[key])] = Line(files[key], 1), files[key]
    words = sorted({name.split("/")[0] for _, name in listed})
    source = (
        "validation_list.txt and testing_list.txt of Speech Commands (Warden 2018), the rest is "
        f"train; all {len(words)} words are classes"
    )
    draft = Draft("speechcommands", tree, lists["test"], words, source)
    for (part, name), (line, path) in listed.items():
        draft.add(line, name, name.split("/")[0], {"official": part}, path)
    return draft.finish(("audio",))


def read_dcase2014(tree: Tree) -> Benchmark:
    """DCASE 2014, of Stowell, Giannoulis, Benetos, Lagrange and Plumbley (2015), Queen Mary, IEEE
    Trans. Multimedia 17.

    The scenes of the challenge that ran in 2013, which papers of representation learning call DCASE
    or DCASE 2014: 10 scenes of London, 30 seconds each. There are no lists: `scenes_stereo/` was
    published for development (train, 100 files) and `scenes_stereo_testset/` was kept for the
    challenge (test, 100 files); the scene is the name of the file without its two digits, as in
    "busystreet07.wav". Both folders use the same names, so an item's name here is its path; the
    digits are not consecutive, so names of missing files cannot be known. Some tools store the two
    folders as "...development" and "...evaluation", or put "test_" before the names of test.
    """
    source = (
        "folders scenes_stereo (train) and scenes_stereo_testset (test) of DCASE 2014 scenes "
        "(Stowell et al. 2015)"
    )
    draft = Draft("dcase2014", tree, tree.root, DCASE2014_SCENES, source)
    for path in sorted(tree.media):
        name = tree.relative(path)
        part = dcase2014_part(name)
        if part is None:
            continue
        scene = re.fullmatch(r"(?:test_)?([a-z]+)\d\d", key_of(name.rsplit("/", 1)[-1]))
        if not scene or scene[1] not in DCASE2014_SCENES:
            expected = "a name like busystreet07.wav, of one of the ten scenes"
            raise SettingsError(f"{path} names no scene. Expected {expected}.")
        draft.add(Line(path, 1), name, scene[1], {"official": part}, path)
    return draft.finish(("audio",), num_official=DCASE2014_ITEMS)


def dcase2014_part(name: str) -> str | None:
    """Is a file of train or test, by the folders of its path? None: of neither."""
    for folder in reversed(name.lower().split("/")[:-1]):
        if folder in ("scenes_stereo_testset", "test") or folder.endswith("evaluation"):
            return "test"
        if folder in ("scenes_stereo", "train") or folder.endswith("development"):
            return "train"
    return None


def read_tut(tree: Tree) -> Benchmark:
    """TUT Acoustic Scenes 2016 and 2017, of Mesaros, Heittola and Virtanen (2016), Tampere, EUSIPCO
    2016.

    15 scenes, the tasks of DCASE 2016 (1,170 sounds of 30 seconds) and DCASE 2017 (4,680 of 10
    seconds), with 4 folds by place. In the development set, `meta.txt` has lines
    "audio/b020_90_100.wav<tab>beach", in 2017 with the place as a third field;
    `evaluation_setup/fold<n>_train.txt` has the same two fields, `fold<n>_test.txt` the path alone,
    and `fold<n>_evaluate.txt` path and class of the same files. No headers. A fold's test is read
    from the list with classes where it is there. Each fold is a split; the separate evaluation set
    is not read.
    """
    setups = {Path(p).parent: p for p in tree.lists if _TUT_LIST.fullmatch(Path(p).name)}
    nearest = tree.nearest(list(setups.values()))
    if nearest is None:
        what = f"There is no evaluation_setup/fold1_train.txt in {tree.root} or below"
        raise SettingsError(f"{what}. Put TUT's lists there.")
    setup = Path(nearest).parent
    places = [str(folder / "meta.txt") for folder in (setup.parent, setup)]
    meta = next((path for path in places if path in tree.lists), places[0])
    scene_of, lines = {}, _tut_lines(meta)
    for line, name, label in lines:
        if not label:
            raise line.wrong(f"{name[:80]!r} has no scene. Expected: audio/name.wav<tab>scene")
        scene_of[name] = label
    source = (
        "meta.txt and evaluation_setup of TUT Acoustic Scenes (Mesaros et al. 2016), one split a "
        "fold"
    )
    draft = Draft("tut", tree, meta, sorted(set(scene_of.values())), source)
    files = tree.index(2, video=False)
    for line, name, label in lines:
        draft.add(line, name, label, {}, files.get(key_of(name)))
    beside = [Path(path).name for path in tree.lists if Path(path).parent == setup]
    folds = {int(match[1]) for name in beside if (match := _TUT_LIST.fullmatch(name))}
    for fold in sorted(folds):
        stem = str(setup / f"fold{fold}_")
        test = f"{stem}evaluate.txt" if f"{stem}evaluate.txt" in tree.lists else f"{stem}test.txt"
        for part, file in (("train", f"{stem}train.txt"), ("test", test)):
            for line, name, label in _tut_lines(file):
                if name not in scene_of:
                    what = f"{name[:80]} is not in {meta}"
                    raise line.wrong(f"{what}. Every file must have a line there.")
                draft.add(line, name, label or scene_of[name], {f"fold {fold}": part})
    return draft.finish(("audio",))


def _is_word(name: str) -> bool:
    """Is it "word/file"?"""
    word, _, file = name.partition("/")
    return bool(word and file) and "/" not in file and not word.startswith("_")


def _sounds(file: str, columns: tuple[str, str, str, str], folds: int) -> list[_Sound]:
    """The lines of a list with folds: name, fold, number of the class, class."""
    sounds = []
    for line in read_columns(file, columns):
        name, fold, target, label = line.fields
        if "/" in line.inside(name) or "\\" in name:
            raise line.wrong(f"{name[:80]} is a path. {columns[0]} must be the name of a file.")
        number = line.whole_number(target, columns[2], 0, 9999)
        sounds.append(
            _Sound(line, name, line.whole_number(fold, columns[1], 1, folds), number, label)
        )
    return sounds


def _in_order(sounds: list[_Sound]) -> list[str]:
    """The classes in the order of their numbers, each with one number."""
    label_of: dict[int, str] = {}
    number_of: dict[str, int] = {}
    for line, _, _, number, label in sounds:
        known = label_of.setdefault(number, label), number_of.setdefault(label, number)
        if known != (label, number):
            what = f"class {number} is {label!r} here"
            raise line.wrong(f"{what}, and another line says otherwise.")
    return [label_of[number] for number in sorted(label_of)]


def _by_fold(
    draft: Draft,
    sounds: list[_Sound],
    path_of: Callable[[_Sound], str | None],
    num_official: int = 0,
) -> Benchmark:
    """A benchmark in which each fold is tested once."""
    folds = sorted({sound.fold for sound in sounds})
    for sound in sounds:
        parts = {f"fold {n}": "test" if n == sound.fold else "train" for n in folds}
        draft.add(sound.line, sound.name, sound.label, parts, path_of(sound))
    return draft.finish(("audio",), num_official=num_official)


def _tut_lines(file: str) -> list[tuple[Line, str, str]]:
    """The lines of a list of TUT: (line, path, scene or nothing)."""
    found = []
    for line in read_lines(file):
        text = line.fields[0]
        fields = [field.strip() for field in (text.split("\t") if "\t" in text else text.split())]
        found.append((line, line.inside(fields[0]), "".join(fields[1:2])))
    return found
