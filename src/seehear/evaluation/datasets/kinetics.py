"""Kinetics-400, 600 and 700, and Kinetics-Sounds: actions in ten seconds of a YouTube video."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from seehear.errors import SettingsError
from seehear.evaluation.datasets.benchmark import Benchmark
from seehear.evaluation.datasets.draft import Draft
from seehear.evaluation.datasets.tree import Tree
from seehear.evaluation.datasets.youtube import Clips
from seehear.evaluation.lists import inside, read_rows, time_s, wrong

COLUMNS = ("label", "youtube_id", "time_start", "time_end")
SIZES = (400, 600, 700)
_PARTS = {"train": "train", "training": "train", "test": "test", "testing": "test"}
_PARTS |= {"val": "validation", "validate": "validation", "validation": "validation"}
_Row = tuple[str, int, str, str, float, float, str]  # file, line, label, id, start, end, part

SOUNDS_31 = (
    *(
        "blowing nose",
        "blowing out candles",
        "bowling",
        "chopping wood",
        "dribbling basketball",
        "laughing",
    ),
    *(
        "mowing lawn",
        "playing accordion",
        "playing bagpipes",
        "playing bass guitar",
        "playing clarinet",
    ),
    *(
        "playing drums",
        "playing guitar",
        "playing harmonica",
        "playing keyboard",
        "playing organ",
        "playing piano",
    ),
    *(
        "playing saxophone",
        "playing trombone",
        "playing trumpet",
        "playing violin",
        "playing xylophone",
    ),
    *(
        "ripping paper",
        "shoveling snow",
        "shuffling cards",
        "singing",
        "stomping grapes",
        "tap dancing",
    ),
    *("tapping guitar", "tapping pen", "tickling"),
)
"""The classes of Kinetics-Sounds that the published Kinetics-400 has, under its names."""

SOUNDS = {
    31: (
        SOUNDS_31,
        "the 31 of the 34 classes that the published Kinetics-400 has, as in AdaMML (Panda et al. "
        "2021)",
    ),
    32: (
        tuple(sorted([*SOUNDS_31, "strumming guitar"])),
        "those 31 and strumming guitar in the place of fingerpicking, as in CrissCross (Sarkar "
        "and Etemad 2023)",
    ),
    34: (
        tuple(sorted([*SOUNDS_31, "fingerpicking", "patting", "typing"])),
        "all 34 classes of Arandjelovic and Zisserman (2017), which need lists from before "
        "Kinetics-400 was published",
    ),
}
"""Definitions of Kinetics-Sounds by their number of classes: (classes, where they come from)."""


def read_kinetics(tree: Tree, size: int) -> Benchmark:
    """Kinetics, of Kay et al. (2017), DeepMind, arXiv:1705.06950; 600: Carreira et al. 2018; 700:
    2019 and 2020.

    One CSV file a part, or one for all, with a header: label,youtube_id,time_start,time_end,split
    and, in some copies, is_cc. Labels with a comma or a space may be quoted. `split` is train, val
    or validate, or test; without the column the name of the file says it. Lists without `label`
    (the test part, at first without classes) are passed over. Clips are
    `<id>_<start:06d>_<end:06d>.mp4`, or `<id>.mp4` for a whole video, in any folders. As in the
    field, the classifier is trained on train and tested on the validation list; only lists without
    one are tested on test.
    """
    rows = _rows(tree, size)
    draft = Draft(
        f"kinetics{size}",
        tree,
        _lists(tree, size)[0],
        sorted({row[2] for row in rows}),
        _source(f"Kinetics-{size}", rows),
    )
    if len(draft.classes) > size:
        bigger = next((n for n in SIZES if n >= len(draft.classes)), SIZES[-1])
        raise SettingsError(
            f"{rows[0][0]} and the lists beside it have {len(draft.classes)} classes, more than "
            f"{size}. "
            f"Name the layout kinetics{bigger}."
        )
    return _fill(draft, tree, rows)


def read_kinetics_sounds(tree: Tree, size: int) -> Benchmark:
    """Kinetics-Sounds, of Arandjelovic and Zisserman (2017), "Look, Listen and Learn",
    arXiv:1705.08168, appendix.

    A part of Kinetics-400 chosen for actions that can be heard: 34 classes, named before
    Kinetics-400 was published. No list of videos was ever published; the set is the videos of those
    classes in the lists of Kinetics-400. Of the 34, fingerpicking, patting and typing are in no
    published list, and four have other names there: blowing out is blowing out candles, dribbling
    ball is dribbling basketball, mowing the lawn is mowing lawn, stomping is stomping grapes. So
    papers use 31, 32 or other classes, and their numbers are not comparable: `SOUNDS` has the
    definitions.
    """
    classes, definition = SOUNDS[size]
    rows = [(*row[:2], row[2].replace("_", " "), *row[3:]) for row in _rows(tree, 400)]
    rows = [row for row in rows if row[2] in classes]
    if absent := sorted(set(classes) - {row[2] for row in rows}):
        known = ", ".join(f"kinetics-sounds-{n}" for n in SOUNDS if n != size)
        raise SettingsError(
            f"The lists of Kinetics-400 in {tree.root} have no {', '.join(absent)}, of the {size} "
            f"classes of this "
            f"definition. Put all lists there, or name another definition: {known}."
        )
    source = f"{_source('Kinetics-400', rows)}; Kinetics-Sounds is {definition}"
    return _fill(Draft(f"kinetics-sounds-{size}", tree, rows[0][0], classes, source), tree, rows)


def kinetics_size(tree: Tree) -> int | None:
    """Which Kinetics a folder has lists of, by their number of classes; None without lists."""
    labels = set()
    for file in _lists(tree, None):
        rows = read_rows(file)
        place = next(rows)[1].index("label")
        labels |= {row[place] for _, row in rows if len(row) > place}
    if not labels:
        return None
    return next((size for size in SIZES if len(labels) <= size), SIZES[-1])


def _fill(draft: Draft, tree: Tree, rows: list[_Row]) -> Benchmark:
    """A benchmark of some rows of the lists."""
    tested = _tested(rows)
    clips = Clips(tree)
    for file, line, label, video, start_s, end_s, part in rows:
        if part not in ("train", tested):
            continue
        name = f"{video}_{int(start_s):06d}_{int(end_s):06d}"
        kind = (draft.class_of(file, line, label),)
        number = draft.add(file, line, name, kind, *clips.find(video, start_s, end_s))
        draft.put(file, line, "official", "train" if part == "train" else "test", number)
    return draft.finish()


def _tested(rows: Iterable[_Row]) -> str:
    return "validation" if any(row[6] == "validation" for row in rows) else "test"


def _source(name: str, rows: list[_Row]) -> str:
    files = sorted({Path(row[0]).name for row in rows})
    return (
        f"lists {', '.join(files)} of {name} (Kay et al. 2017), trained on train and tested on "
        f"{_tested(rows)}"
    )


def _lists(tree: Tree, size: int | None) -> list[str]:
    """The CSV files whose first line is that of Kinetics; not those that another size's name leads
    to.
    """
    others = "|".join(str(n) for n in SIZES if n != size)
    found = []
    for path in tree.lists:
        other = size and re.search(
            rf"(?:k|kinetics)[-_]?(?:{others})\b", tree.relative(path).lower().replace("_", "-")
        )
        if path.lower().endswith(".csv") and not other and set(COLUMNS) <= set(_header(path)):
            found.append(path)
    return found


def _header(path: str) -> list[str]:
    """The first line of a CSV file; nothing where it is none."""
    try:
        return next(read_rows(path), (1, []))[1]
    except SettingsError:
        return []


def _rows(tree: Tree, size: int | None) -> list[_Row]:
    """All lines of all lists."""
    files = _lists(tree, size)
    if not files:
        raise SettingsError(
            f"No CSV file in {tree.root} or below begins with {','.join(COLUMNS)}. Put the lists "
            f"there."
        )
    return [row for file in files for row in _rows_of(file)]


def _rows_of(file: str) -> Iterable[_Row]:
    rows = read_rows(file)
    _, header = next(rows)
    label, video, start, end = (header.index(name) for name in COLUMNS)
    split = header.index("split") if "split" in header else -1
    by_name = next(
        (_PARTS[word] for word in re.findall("[a-z]+", Path(file).name.lower()) if word in _PARTS),
        "",
    )
    for line, row in rows:
        if len(row) != len(header):
            raise wrong(
                file,
                line,
                f"{len(row)} fields. The first line has {len(header)}: {','.join(header)}.",
            )
        part = _PARTS.get(row[split].lower(), "") if split >= 0 else by_name
        if not part:
            raise wrong(
                file,
                line,
                "the split is neither train, val nor test, in the line or in the file's name.",
            )
        start_s, end_s = (
            time_s(file, line, row[start], "time_start"),
            time_s(file, line, row[end], "time_end"),
        )
        if end_s <= start_s or not row[label] or not row[video]:
            raise wrong(
                file,
                line,
                f"{','.join(row)[:80]!r} is no clip. Expected: "
                f"label,youtube_id,time_start,time_end",
            )
        yield file, line, row[label], inside(file, line, row[video]), start_s, end_s, part
