"""DCASE 2014 and TUT Acoustic Scenes: in which kind of place was a sound recorded?"""

from __future__ import annotations

import re
from pathlib import Path

from seehear.errors import SettingsError
from seehear.evaluation.datasets.benchmark import Benchmark
from seehear.evaluation.datasets.draft import Draft
from seehear.evaluation.datasets.tree import Tree, key_of
from seehear.evaluation.lists import inside, read_lines, wrong

DCASE2014_SCENES = (
    *("bus", "busystreet", "office", "openairmarket", "park"),
    *("quietstreet", "restaurant", "supermarket", "tube", "tubestation"),
)
DCASE2014_ITEMS = 200
_FOLD = re.compile(r"fold([1-9]\d?)_(?:train|test|evaluate)\.txt", re.ASCII)


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
            raise SettingsError(
                f"{path} names no scene. Expected a name like busystreet07.wav, of one of the ten "
                f"scenes."
            )
        number = draft.add(path, 1, name, (draft.class_of(path, 1, scene[1]),), path)
        draft.put(path, 1, "official", part, number)
    return draft.finish(("audio",), num_official=DCASE2014_ITEMS)


def dcase2014_part(name: str) -> str | None:
    """Is a file of train or of test, by the folders of its path below the root? None: of
    neither.
    """
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
    setups = {Path(p).parent: p for p in tree.lists if _FOLD.fullmatch(Path(p).name)}
    nearest = tree.nearest(list(setups.values()))
    if nearest is None:
        raise SettingsError(
            f"There is no evaluation_setup/fold1_train.txt in {tree.root} or below. Put TUT's "
            f"lists there."
        )
    setup = Path(nearest).parent
    places = [str(folder / "meta.txt") for folder in (setup.parent, setup)]
    meta = next((path for path in places if path in tree.lists), places[0])
    scenes = [(line, name, label) for line, name, label in _lines(meta)]
    for line, name, label in scenes:
        if not label:
            raise wrong(
                meta, line, f"{name[:80]!r} has no scene. Expected: audio/name.wav<tab>scene"
            )
    source = (
        "meta.txt and evaluation_setup of TUT Acoustic Scenes (Mesaros et al. 2016), one "
        "split a fold"
    )
    draft = Draft("tut", tree, meta, sorted({label for *_, label in scenes}), source)
    files = tree.index(2, video=False)
    for line, name, label in scenes:
        draft.add(meta, line, name, (draft.class_of(meta, line, label),), files.get(key_of(name)))
    label_of = {name: label for _, name, label in scenes}
    beside = [Path(path).name for path in tree.lists if Path(path).parent == setup]
    folds = {int(match[1]) for name in beside if (match := _FOLD.fullmatch(name))}
    for fold in sorted(folds):
        stem = str(setup / f"fold{fold}_")
        test = f"{stem}evaluate.txt" if f"{stem}evaluate.txt" in tree.lists else f"{stem}test.txt"
        for part, file in (("train", f"{stem}train.txt"), ("test", test)):
            for line, name, label in _lines(file):
                if name not in label_of:
                    raise wrong(
                        file,
                        line,
                        f"{name[:80]} is not in {meta}. Every file must have a line there.",
                    )
                kind = (draft.class_of(file, line, label or label_of[name]),)
                draft.put(file, line, f"fold {fold}", part, draft.add(file, line, name, kind, None))
    return draft.finish(("audio",))


def _lines(file: str) -> list[tuple[int, str, str]]:
    """The lines of a list of TUT: (line, path, scene or nothing)."""
    found = []
    for line, text in read_lines(file):
        fields = text.split("\t") if "\t" in text else text.split()
        found.append(
            (
                line,
                inside(file, line, fields[0].strip()),
                fields[1].strip() if len(fields) > 1 else "",
            )
        )
    return found
