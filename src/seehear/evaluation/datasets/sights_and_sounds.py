"""VGG-Sound, AudioSet and AVE: what happens, seen and heard, in ten seconds of a YouTube video."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from seehear.evaluation.datasets.benchmark import Benchmark, Draft
from seehear.evaluation.datasets.tree import Tree, YouTubeFiles
from seehear.machine.lists import Line, read_columns, read_lines, read_rows

VGGSOUND_SECONDS = 10.0
AVE_SECONDS = 10.0


class _Event(NamedTuple):
    line: Line
    label: str
    video: str  # YouTube id
    start_s: float
    end_s: float


def read_vggsound(tree: Tree) -> Benchmark:
    """VGG-Sound, of Chen, Xie, Vedaldi and Zisserman (2020), Oxford, arXiv:2004.14368.

    About 200,000 clips of 309 classes. `vggsound.csv` has no header and the columns YouTube id,
    start in whole seconds, label, train or test; labels with a comma are quoted. Every clip is ten
    seconds. Clips are usually stored as `<id>_<start:06d>.mp4`, or as sound with the same name;
    `<id>.mp4` is taken as the whole video.
    """
    file = tree.needed("vggsound.csv")
    lines = [line for line in read_rows(file, comment="#") if not _is_header(line)]
    for line in lines:
        if len(line.fields) != 4 or not line.fields[0] or not line.fields[2]:
            expected = "youtube_id,start,label,train or test"
            raise line.wrong(f"{line.text!r} is no clip. Expected: {expected}")
    source = f"{Path(file).name} of VGG-Sound (Chen et al. 2020)"
    draft = Draft("vggsound", tree, file, sorted({line.fields[2] for line in lines}), source)
    files = YouTubeFiles(tree)
    for line in lines:
        video, start, label, part = line.fields
        start_s = line.time_s(start, "the start")
        if part not in ("train", "test"):
            raise line.wrong(f"the split is {part[:40]!r}. It must be train or test.")
        found = files.find(line.inside(video), start_s, start_s + VGGSOUND_SECONDS)
        draft.add(line, f"{video}_{int(start_s):06d}", label, {"official": part}, *found)
    return draft.finish()


def read_audioset(tree: Tree, *, balanced: bool = False) -> Benchmark:
    """AudioSet, of Gemmeke et al. (2017), Google, ICASSP 2017.

    Two million clips of ten seconds with one or more of 527 classes. `class_labels_indices.csv` has
    the header index,mid,display_name. `balanced_train_segments.csv`,
    `unbalanced_train_segments.csv` and `eval_segments.csv` begin with three lines of comment and
    have lines `<id>, 30.000, 40.000, "/m/09x0r,/t/dd00088"`. Files are found as `<id>`, `Y<id>`, or
    the id with its times in seconds or milliseconds, in any folders; a bare id is a cut clip here,
    as in the copies that go round. The measure is mean average precision. The smaller task, if
    asked for, trains on the balanced list alone, not on all train lists that are there.
    """
    parts = {"balanced_train": "train", "unbalanced_train": "train", "eval": "test"}
    if balanced:
        del parts["unbalanced_train"]
    lists = {name: path for name in parts if (path := tree.named(f"{name}_segments.csv"))}
    tree.needed("eval_segments.csv")
    if balanced or len(lists) == 1:
        tree.needed("balanced_train_segments.csv")
    labels_file = tree.needed("class_labels_indices.csv")
    name_of = _audioset_names(labels_file)
    names = ", ".join(f"{name}_segments.csv" for name in lists)
    source = f"{names} of AudioSet (Gemmeke et al. 2017)"
    name = "audioset-balanced" if balanced else "audioset"
    draft = Draft(name, tree, labels_file, name_of.values(), source)
    files = YouTubeFiles(tree, bare_is_cut=True)
    for part, file in lists.items():
        for line in read_rows(file, comment="#"):
            if len(line.fields) != 4 or not line.fields[0]:
                expected = 'youtube_id, start, end, "machine ids"'
                raise line.wrong(f"{len(line.fields)} fields. Expected: {expected}")
            video, start, end, ids = line.fields
            start_s, end_s = line.time_s(start, "the start"), line.time_s(end, "the end")
            if end_s <= start_s:
                what = f"the clip is from {start_s:g} to {end_s:g} s"
                raise line.wrong(f"{what}. It must end after its start.")
            labels = tuple(name_of.get(mid.strip(), "") for mid in ids.split(","))
            if "" in labels:
                what = f"{ids[:80]!r} has an unknown class"
                raise line.wrong(f"{what}. Those known are in {labels_file}.")
            found = files.find(line.inside(video), start_s, end_s)
            draft.add(line, video, labels, {"official": parts[part]}, *found)
    return draft.finish(multilabel=True)


def read_ave(tree: Tree) -> Benchmark:
    """AVE, of Tian, Shi, Li, Duan and Xu (2018), Rochester, ECCV 2018, arXiv:1803.08842.

    4,143 events of 28 classes in clips of ten seconds from AudioSet. `Annotations.txt` and the
    lists `trainSet.txt`, `valSet.txt` and `testSet.txt` have lines "Church
    bell&RUhOCu3LNXM&good&0&10": category, YouTube id, quality, start and end in seconds since the
    start of the clip; some copies begin with the header Category&VideoID&Quality&StartTime&EndTime.
    Clips are `AVE/<id>.mp4`. A video may have several events, so an item is an event and its name
    is the line. The stretch of the event counts; an event of no length counts its whole clip.
    """
    folder = Path(tree.needed("trainSet.txt")).parent
    parts = {"train": "trainSet.txt", "validation": "valSet.txt", "test": "testSet.txt"}
    lists = {part: str(folder / name) for part, name in parts.items()}
    if lists["validation"] not in tree.lists:
        del lists["validation"]
    events = [(part, event) for part, file in lists.items() for event in _events(file)]
    annotations = tree.named("Annotations.txt")
    known = _events(annotations) if annotations else [event for _, event in events]
    source = f"{', '.join(Path(file).name for file in lists.values())} of AVE (Tian et al. 2018)"
    draft = Draft("ave", tree, lists["train"], sorted({event.label for event in known}), source)
    files = tree.index()
    for part, (line, label, video, start_s, end_s) in events:
        name = line.fields[0]
        path = files.get(line.inside(video)) or files.get(name)
        stretch = (start_s, end_s - start_s) if end_s > start_s else (0.0, None)
        draft.add(line, name, label, {"official": part}, path, *stretch)
    return draft.finish()


def _is_header(line: Line) -> bool:
    """Is it a first line that names columns?"""
    second = "".join(line.fields[1:2])
    return line.number == 1 and not second.isdigit() and "start" in second.lower()


def _audioset_names(file: str) -> dict[str, str]:
    """Machine ids -> the names to show, in the order of the classes' numbers."""
    name_of: dict[str, str] = {}
    for line in read_columns(file, ("index", "mid", "display_name")):
        index, mid, name = line.fields
        number = line.whole_number(index, "index", 0, 1_000_000)
        if number != len(name_of) or mid in name_of or name in name_of.values():
            what = f"{line.text} is out of order, or there twice"
            raise line.wrong(f"{what}. Expected index {len(name_of)}.")
        name_of[mid] = name
    return name_of


def _events(file: str) -> list[_Event]:
    """The lines of a list of AVE."""
    events = []
    for line in read_lines(file):
        fields = [field.strip() for field in line.fields[0].split("&")]
        if fields[0] == "Category" and line.number == 1:
            continue
        if len(fields) != 5 or not fields[0] or not fields[1]:
            expected = "Category&VideoID&Quality&StartTime&EndTime"
            raise line.wrong(f"{line.text!r} is no event. Expected: {expected}")
        start_s, end_s = line.time_s(fields[3], "StartTime"), line.time_s(fields[4], "EndTime")
        if end_s < start_s or end_s > AVE_SECONDS:
            what = f"the event is from {start_s:g} to {end_s:g} s"
            raise line.wrong(f"{what}. Clips are {AVE_SECONDS:g} s long.")
        events.append(_Event(line, fields[0], fields[1], start_s, end_s))
    return events
