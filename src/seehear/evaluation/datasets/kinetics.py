"""Kinetics-400, 600 and 700, and Kinetics-Sounds: actions in ten seconds of a YouTube video."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from seehear.errors import SettingsError
from seehear.evaluation.datasets.benchmark import Benchmark, Draft
from seehear.evaluation.datasets.tree import Tree, YouTubeFiles
from seehear.machine.lists import Line, check_length, read_rows

COLUMNS = ("label", "youtube_id", "time_start", "time_end")
SIZES = (400, 600, 700)
_PARTS = {"train": "train", "training": "train", "test": "test", "testing": "test"}
_PARTS |= dict.fromkeys(("val", "validate", "validation"), "validation")

SOUNDS_31 = tuple(
    """blowing nose,blowing out candles,bowling,chopping wood,dribbling basketball,laughing
mowing lawn,playing accordion,playing bagpipes,playing bass guitar,playing clarinet,playing drums
playing guitar,playing harmonica,playing keyboard,playing organ,playing piano,playing saxophone
playing trombone,playing trumpet,playing violin,playing xylophone,ripping paper,shoveling snow
shuffling cards,singing,stomping grapes,tap dancing,tapping guitar,tapping pen,tickling""".replace(
        "\n", ","
    ).split(",")
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


class _Clip(NamedTuple):
    line: Line
    label: str
    video: str  # YouTube id
    start_s: float
    end_s: float
    part: str


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
    clips = _clips(tree, size)
    labels = sorted({clip.label for clip in clips})
    if len(labels) > size:
        bigger = next((n for n in SIZES if n >= len(labels)), SIZES[-1])
        raise SettingsError(
            f"{clips[0].line.file} and the lists beside it have {len(labels)} classes, more than "
            f"{size}. Name the layout kinetics{bigger}."
        )
    file, source = _lists(tree, size)[0], _source(f"Kinetics-{size}", clips)
    return _filled(Draft(f"kinetics{size}", tree, file, labels, source), clips)


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
    clips = [clip._replace(label=clip.label.replace("_", " ")) for clip in _clips(tree, 400)]
    clips = [clip for clip in clips if clip.label in classes]
    if absent := sorted(set(classes) - {clip.label for clip in clips}):
        known = ", ".join(f"kinetics-sounds-{n}" for n in SOUNDS if n != size)
        raise SettingsError(
            f"The lists of Kinetics-400 in {tree.root} have no {', '.join(absent)}, of the {size} "
            f"classes of this definition. Put all lists there, or name another definition: {known}."
        )
    source = f"{_source('Kinetics-400', clips)}; Kinetics-Sounds is {definition}"
    name, file = f"kinetics-sounds-{size}", clips[0].line.file
    return _filled(Draft(name, tree, file, classes, source), clips)


def kinetics_size(tree: Tree) -> int | None:
    """Which Kinetics a folder has lists of, by their number of classes; None without lists."""
    labels = set()
    for file in _lists(tree, None):
        rows = read_rows(file)
        place = next(rows).fields.index("label")
        labels |= {row.fields[place] for row in rows if len(row.fields) > place}
    if not labels:
        return None
    return next((size for size in SIZES if len(labels) <= size), SIZES[-1])


def _filled(draft: Draft, clips: list[_Clip]) -> Benchmark:
    """A benchmark of some clips of the lists."""
    part_of = {"train": "train", _tested(clips): "test"}
    files = YouTubeFiles(draft.tree)
    for line, label, video, start_s, end_s, part in clips:
        if part in part_of:
            name = f"{video}_{int(start_s):06d}_{int(end_s):06d}"
            found = files.find(video, start_s, end_s)
            draft.add(line, name, label, {"official": part_of[part]}, *found)
    return draft.finish()


def _tested(clips: list[_Clip]) -> str:
    return "validation" if any(clip.part == "validation" for clip in clips) else "test"


def _source(name: str, clips: list[_Clip]) -> str:
    files = ", ".join(sorted({Path(clip.line.file).name for clip in clips}))
    return (
        f"lists {files} of {name} (Kay et al. 2017), trained on train and tested on "
        f"{_tested(clips)}"
    )


def _lists(tree: Tree, size: int | None) -> list[str]:
    """The CSV files whose first line is that of Kinetics, but for those of another size."""
    others = "|".join(str(n) for n in SIZES if n != size)
    found = []
    for path in tree.lists:
        name = tree.relative(path).lower().replace("_", "-")
        other = size and re.search(rf"(?:k|kinetics)[-_]?(?:{others})\b", name)
        if name.endswith(".csv") and not other and set(COLUMNS) <= set(_header(path)):
            found.append(path)
    return found


def _header(path: str) -> list[str]:
    """The first line of a CSV file; nothing where it is none."""
    try:
        return list(next(read_rows(path), Line(path, 1)).fields)
    except SettingsError:
        return []


def _clips(tree: Tree, size: int) -> list[_Clip]:
    """All lines of all lists."""
    files = _lists(tree, size)
    if not files:
        what = f"No CSV file in {tree.root} or below begins with {','.join(COLUMNS)}"
        raise SettingsError(f"{what}. Put the lists there.")
    return [clip for file in files for clip in _clips_of(file)]


def _clips_of(file: str) -> Iterator[_Clip]:
    rows = read_rows(file)
    header = next(rows)
    words = re.findall("[a-z]+", Path(file).name.lower())
    by_name = next((_PARTS[word] for word in words if word in _PARTS), "")
    for line in rows:
        check_length(line, header)
        field = dict(zip(header.fields, line.fields, strict=True))
        part = _PARTS.get(field["split"].lower(), "") if "split" in field else by_name
        if not part:
            raise line.wrong(
                "the split is neither train, val nor test, in the line or in the file's name."
            )
        label, video = field["label"], line.inside(field["youtube_id"])
        start_s, end_s = (line.time_s(field[name], name) for name in COLUMNS[2:])
        if end_s <= start_s or not label or not video:
            raise line.wrong(f"{line.text!r} is no clip. Expected: {','.join(COLUMNS)}")
        yield _Clip(line, label, video, start_s, end_s, part)
