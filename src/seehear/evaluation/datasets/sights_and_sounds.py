"""VGG-Sound, AudioSet and AVE: what happens, seen and heard, in ten seconds of a YouTube video."""

from __future__ import annotations

from pathlib import Path

from seehear.evaluation.datasets.benchmark import Benchmark
from seehear.evaluation.datasets.draft import Draft
from seehear.evaluation.datasets.tree import Tree
from seehear.evaluation.datasets.youtube import Clips
from seehear.evaluation.lists import (
    inside,
    read_columns,
    read_lines,
    read_rows,
    time_s,
    whole_number,
    wrong,
)

VGGSOUND_SECONDS = 10.0
AVE_SECONDS = 10.0


def read_vggsound(tree: Tree) -> Benchmark:
    """VGG-Sound, of Chen, Xie, Vedaldi and Zisserman (2020), University of Oxford, ICASSP 2020,
    arXiv:2004.14368.

    About 200,000 clips of 309 classes. `vggsound.csv` has no header and the columns YouTube id,
    start in whole seconds, label, train or test; labels with a comma are quoted. Every clip is ten
    seconds. Clips are usually stored as `<id>_<start:06d>.mp4`, or as sound with the same name;
    `<id>.mp4` is taken as the whole video.
    """
    file = tree.needed("vggsound.csv")
    rows = [
        (line, row) for line, row in read_rows(file, comment="#") if line > 1 or not _is_header(row)
    ]
    for line, row in rows:
        if len(row) != 4 or not row[0] or not row[2]:
            raise wrong(
                file,
                line,
                f"{','.join(row)[:80]!r} is no clip. Expected: youtube_id,start,label,train or "
                f"test",
            )
    source = f"{Path(file).name} of VGG-Sound (Chen et al. 2020)"
    draft = Draft("vggsound", tree, file, sorted({row[2] for _, row in rows}), source)
    clips = Clips(tree)
    for line, (video, start, label, part) in rows:
        start_s = time_s(file, line, start, "the start")
        if part not in ("train", "test"):
            raise wrong(file, line, f"the split is {part[:40]!r}. It must be train or test.")
        found = clips.find(inside(file, line, video), start_s, start_s + VGGSOUND_SECONDS)
        kind = (draft.class_of(file, line, label),)
        number = draft.add(file, line, f"{video}_{int(start_s):06d}", kind, *found)
        draft.put(file, line, "official", part, number)
    return draft.finish()


def read_audioset(tree: Tree, *, balanced: bool = False) -> Benchmark:
    """AudioSet, of Gemmeke et al. (2017), Google, ICASSP 2017.

    Two million clips of ten seconds with one or more of 527 classes. `class_labels_indices.csv` has
    the header index,mid,display_name. `balanced_train_segments.csv`,
    `unbalanced_train_segments.csv` and `eval_segments.csv` begin with three lines of comment and
    have lines `<id>, 30.000, 40.000, "/m/09x0r,/t/dd00088"`. Files are found as `<id>`, `Y<id>`, or
    the id with its times in seconds or milliseconds, in any folders; a bare id is a cut clip here,
    as in the copies that go round. The measure is mean average precision.

    Args:
        tree: the folder.
        balanced: train on the balanced list alone (the smaller task), not on all train lists that
            are there.
    """
    lists = {"balanced_train": "train", "unbalanced_train": "train", "eval": "test"}
    wanted = ("balanced_train", "eval") if balanced else tuple(lists)
    found = {name: tree.named(f"{name}_segments.csv") for name in wanted}
    files = [(name, path) for name, path in found.items() if path is not None]
    tree.needed("eval_segments.csv")
    if balanced or len(files) == 1:
        tree.needed("balanced_train_segments.csv")
    labels_file = tree.needed("class_labels_indices.csv")
    number_of, classes = _audioset_classes(labels_file)
    names = ", ".join(f"{name}_segments.csv" for name, _ in files)
    source = f"{names} of AudioSet (Gemmeke et al. 2017)"
    name = "audioset-balanced" if balanced else "audioset"
    draft = Draft(name, tree, labels_file, classes, source)
    clips = Clips(tree, bare_is_cut=True)
    kinds_of: dict[
        str, tuple[int, ...]
    ] = {}  # the same labels come again and again in two million lines
    for part, file in files:
        for line, row in read_rows(file, comment="#"):
            if len(row) != 4 or not row[0]:
                raise wrong(
                    file,
                    line,
                    f'{len(row)} fields. Expected: youtube_id, start, end, "machine ids"',
                )
            start_s, end_s = (
                time_s(file, line, row[1], "the start"),
                time_s(file, line, row[2], "the end"),
            )
            if end_s <= start_s:
                raise wrong(
                    file,
                    line,
                    f"the clip is from {start_s:g} to {end_s:g} s. It must end after its start.",
                )
            kinds = kinds_of.get(row[3])
            if kinds is None:
                numbers = {number_of.get(mid.strip(), -1) for mid in row[3].split(",")}
                if -1 in numbers:
                    raise wrong(
                        file,
                        line,
                        f"{row[3][:80]!r} has an unknown class. Those known are in {labels_file}.",
                    )
                kinds = kinds_of[row[3]] = tuple(sorted(numbers))
            place = clips.find(inside(file, line, row[0]), start_s, end_s)
            draft.put(
                file, line, "official", lists[part], draft.add(file, line, row[0], kinds, *place)
            )
    return draft.finish(multilabel=True)


def read_ave(tree: Tree) -> Benchmark:
    """AVE, of Tian, Shi, Li, Duan and Xu (2018), University of Rochester, ECCV 2018,
    arXiv:1803.08842.

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
    events = [(part, file, event) for part, file in lists.items() for event in _events(file)]
    annotations = tree.named("Annotations.txt")
    known = _events(annotations) if annotations else [event for _, _, event in events]
    source = f"{', '.join(Path(file).name for file in lists.values())} of AVE (Tian et al. 2018)"
    draft = Draft("ave", tree, lists["train"], sorted({label for _, label, *_ in known}), source)
    files = tree.index()
    for part, file, (line, label, video, start_s, end_s, text) in events:
        kind = (draft.class_of(file, line, label),)
        path = files.get(inside(file, line, video)) or files.get(text)
        stretch = (start_s, end_s - start_s) if end_s > start_s else (0.0, None)
        draft.put(file, line, "official", part, draft.add(file, line, text, kind, path, *stretch))
    return draft.finish()


def _is_header(row: list[str]) -> bool:
    return len(row) > 1 and not row[1].isdigit() and "start" in row[1].lower()


def _audioset_classes(file: str) -> tuple[dict[str, int], list[str]]:
    """Machine ids -> numbers of classes, and the names to show."""
    number_of: dict[str, int] = {}
    names: list[str] = []
    for line, (index, mid, name) in read_columns(file, ("index", "mid", "display_name")):
        if (
            whole_number(file, line, index, "index", 0, 1_000_000) != len(names)
            or mid in number_of
            or name in names
        ):
            raise wrong(
                file,
                line,
                f"{index},{mid},{name} is out of order, or there twice. Expected index "
                f"{len(names)}.",
            )
        number_of[mid] = len(names)
        names.append(name)
    return number_of, names


def _events(file: str) -> list[tuple[int, str, str, float, float, str]]:
    """The lines of a list of AVE: (line, category, id, start_s, end_s, text)."""
    events = []
    for line, text in read_lines(file):
        fields = [field.strip() for field in text.split("&")]
        if fields[0] == "Category" and line == 1:
            continue
        if len(fields) != 5 or not fields[0] or not fields[1]:
            raise wrong(
                file,
                line,
                f"{text[:80]!r} is no event. Expected: Category&VideoID&Quality&StartTime&EndTime",
            )
        start_s, end_s = (
            time_s(file, line, fields[3], "StartTime"),
            time_s(file, line, fields[4], "EndTime"),
        )
        if end_s < start_s or end_s > AVE_SECONDS:
            raise wrong(
                file,
                line,
                f"the event is from {start_s:g} to {end_s:g} s. Clips are {AVE_SECONDS:g} s long.",
            )
        events.append((line, fields[0], fields[1], start_s, end_s, text))
    return events
