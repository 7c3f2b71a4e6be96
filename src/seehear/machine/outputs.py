"""What may a command replace? What seehear wrote, known by a file that only it writes and by names;
nothing else.

A kind of folder (`Kind`) has a marker and a list of names. Something in it that has none of these
names belongs to someone else: `check_folder` refuses before any work begins, and `foreign` finds it
again before anything is removed. A file is replaced where its content says that it came from here.
Where a path is a link, what it points to is meant.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from seehear.errors import RunError, SettingsError, UsageError

TEMPORARY = ".unfinished-"  # what stands under such a name is nothing yet
LOCK = ".lock"  # of one who writes, in a folder: `locks`
# What systems leave in any folder, and what is being written: nobody misses it.
LITTER = rf"\.DS_Store|Thumbs\.db|desktop\.ini|\.nfs\w+|(\..*)?\{LOCK}|{re.escape(TEMPORARY)}.*"

_WEIGHTS = r"(video|audio|heads|matching|model)\.safetensors"
_CLUSTERS = (r"labels\.parquet", r"(centroids|radii)\.safetensors")
_ROUND = (r"checkpoint\.(pt|sha256)", r"round\.json", *_CLUSTERS)
_ENCODERS = (r"encoders\.json", _WEIGHTS)
_FEATURES = (r"(video|audio|recording)\.npy",)
_TUNED = (
    r"finetune\.json",
    r"splits/\d{2,}/steps/\d{6,}/(checkpoint\.pt|checkpoint\.sha256)",
    rf"splits/\d{{2,}}/finished/(encoders\.json|scores\.npz|result\.json|{_WEIGHTS})",
)
_PREVIEW = r"[0-9a-f]{16}(\.spectrogram)?\.(webp|mp4)"
_REPORT = (
    r"index\.html",
    r"\w+\.(css|js)",
    r"data/[\w-]+\.js",
    r"data/\w+/[\w-]+\.js",
    rf"previews/{_PREVIEW}",
)
TASKS = "probe|finetune|retrieval|clusters|features"


def _below(folder: str, names: Sequence[str]) -> tuple[str, ...]:
    return tuple(f"{folder}/{name}" for name in names)


_RUN = (
    r"(run|names)\.json",
    r"log\.jsonl",
    r"report\.html",
    r"midway/\d{3,}-\d{9,}-[0-9a-f]{16}\.pt",
    *_below(r"rounds/\d{3,}", _ROUND),
    *_below("clusters", _CLUSTERS),
    *_below("encoders", _ENCODERS),
    *_below("features", _FEATURES),
    rf"results/({TASKS})-.*\.json",
    *_below(r"results/finetune-.*", _TUNED),
    r"library/.+\.(parquet|faiss)",
    r"library/\..+\.parts/(plan\.json|\d{6,}\.parquet)",
    *_below("report", _REPORT),
    rf"previews/{_PREVIEW}",
    r"tensorboard/events\.out\.tfevents\..*",
)


@dataclass(frozen=True)
class Kind:
    """A kind of folder that seehear writes."""

    what: str  # in words, for messages
    marker: str  # a file that every such folder has
    keys: frozenset[str] = frozenset()  # what the marker, a JSON object, has at least
    # regular expressions of the paths in it, part by part; empty where the marker lists them as
    # "files"
    names: tuple[str, ...] = ()
    error: type[UsageError] = UsageError  # what is raised
    # what to do where one is there already
    advice: str = "Choose another --out, or replace it with --overwrite."
    begins: bytes = b""  # how the marker begins that is no JSON object

    def is_at(self, folder: Path) -> bool:
        """Whether a folder is one of these."""
        if self.begins:
            return begins_with(folder / self.marker, self.begins)
        return bool(self.keys) and self.keys <= read_marker(folder / self.marker).keys()

    def known(self, folder: Path) -> tuple[str, ...]:
        """The names that things in this folder may have."""
        if self.names:
            return self.names
        listed = read_marker(folder / self.marker).get("files")
        files = listed if isinstance(listed, list) else []
        return tuple(re.escape(name) for name in (self.marker, *files) if isinstance(name, str))


RUN = Kind(
    "run of seehear",
    "run.json",
    frozenset({"format", "created"}),
    _RUN,
    RunError,
    "Go on with --resume, or start anew with --overwrite.",
)
CLUSTERED = replace(RUN, advice=Kind.advice)  # without training: there is nothing to resume
FINETUNE = Kind(
    "fine-tune of seehear",
    "finetune.json",
    frozenset({"format", "created"}),
    _TUNED,
    RunError,
    RUN.advice,
)
ENCODERS = Kind(
    "converted encoders",
    "encoders.json",
    frozenset({"format", "encoders", "source"}),
    _ENCODERS,
    RunError,
)
EXPORT = Kind(
    "export of encoders",
    "export.json",
    frozenset({"to", "model", "digest", "files"}),
    error=RunError,
)
LABELS = Kind("export of labels", "export.json", frozenset({"to", "labels", "files"}))
FEATURES = Kind(
    "folder of features", "features.json", frozenset({"form", "files"}), error=SettingsError
)
INDEX = Kind(
    "index",
    "index.json",
    frozenset({"format", "rows", "digest"}),
    (r"index\.(json|arrow)", r"rejected\.parquet"),
)
REPORT = Kind("report", "data/report.js", names=_REPORT, begins=b'SEEHEAR.put("report"')
# these four are parts of a run, and have no marker of their own
ROUND = Kind("round", "round.json", names=_ROUND)
CLUSTERS = Kind("clusters", "labels.parquet", names=_CLUSTERS)
RUN_ENCODERS = Kind("encoders of a run", "encoders.json", names=_ENCODERS)
RUN_FEATURES = Kind("features of a run", "video.npy", names=_FEATURES)
STEP = Kind(
    "checkpoint", "checkpoint.sha256", names=tuple(name.rsplit("/", 1)[-1] for name in _TUNED[1:2])
)
FINISHED = Kind("split", "result.json", names=(_TUNED[2].removeprefix(r"splits/\d{2,}/finished/"),))
PARTS = Kind(
    "parts", "plan.json", names=(r"plan\.json|\d{6,}\.parquet", r"parts/\d{9,}\.(json|mp4)")
)
MIDWAY = Kind("checkpoints", "", names=(r"\d{3,}-\d{9,}-[0-9a-f]{16}\.pt",))


def check_folder(
    out: Path, kind: Kind, *, overwrite: bool, inputs: Sequence[Path] = (), in_place: bool = False
) -> None:
    """Raise where a folder cannot be written, or what must not be replaced would be lost.

    With `overwrite` one of the same kind may be replaced; `inputs` are read and must stay; with
    `in_place` the folder stays, and only what is in it is replaced.
    """
    place = real(out)
    refuse = "Choose another --out; nothing was touched."
    if place.exists() and not place.is_dir():
        raise kind.error(f"{out} exists and is no {kind.what}: it is no folder. {refuse}")
    check_place(out, refuse)
    if not in_place and place.is_dir() and place in (Path.cwd(), *Path.cwd().parents):
        raise kind.error(
            f"{out} is the folder that this command runs in, or one above it. {refuse}"
        )
    for given in inputs:
        if place == real(given) or place in real(given).parents:
            raise kind.error(f"{out} holds {given}, which is to be read. {refuse}")
    if not place.exists() or is_empty_folder(place):
        return
    other = next(foreign(place, kind), None)
    if not kind.is_at(place):
        holds = f" It holds {other}." if other is not None else ""
        raise kind.error(f"{out} exists and is no {kind.what}.{holds} {refuse}")
    if not overwrite:
        raise kind.error(f"{out} exists. {kind.advice}")
    if other is not None:
        move = f"Move it away, or {refuse[0].lower()}{refuse[1:]}"
        raise kind.error(f"{out} holds {other}, which is not seehear's. {move}")


def check_file(
    out: Path,
    is_from_here: Callable[[Path], bool],
    what: str,
    *,
    overwrite: bool,
    inputs: Sequence[Path] = (),
    endings: Sequence[str] = (),
) -> None:
    """Raise UsageError where a file cannot be written, or another one would be lost.

    `what` is what the command writes, in words; one of its own may be replaced with `overwrite`.
    `inputs` are read and must stay. Its name may have one of the `endings`, where others would take
    it for something else by its name.
    """
    place = real(out)
    refuse = "Choose another --out; nothing was touched."
    if place.is_dir():
        raise UsageError(f"{out} is a folder. Choose a file for --out; nothing was touched.")
    check_place(out, refuse)
    check_ending(out, endings, what)
    if not place.exists():
        return
    if not place.is_file():
        raise UsageError(f"{out} is a device or a pipe, and a file is written in steps. {refuse}")
    if any(place == real(given) for given in inputs):
        raise UsageError(f"{out} is what is to be read. {refuse}")
    if not overwrite:
        raise UsageError(f"{out} exists. Choose another --out, or replace it with --overwrite.")
    if place.stat().st_size and not is_from_here(place):
        raise UsageError(f"{out} exists and holds no {what} of seehear. {refuse}")


def check_ending(out: Path, endings: Sequence[str], what: str) -> None:
    """Raise UsageError where a new file, or folder, has a name that promises something else."""
    if not real(out).exists() and endings and out.suffix not in ("", *endings):
        raise UsageError(
            f"{out} does not end in {' or '.join(endings)}, as {what} are written. "
            "Choose another --out; nothing was touched."
        )


def check_place(out: Path, refuse: str) -> None:
    """Raise UsageError where nothing can be made, or where a run keeps something of its own."""
    place = real(out)
    if place.is_symlink():
        raise UsageError(f"{out} is a link that leads to itself. {refuse}")
    if place == Path(place.anchor) or place == real(os.path.expanduser("~")):  # noqa: PTH111 (a home may be unknown)
        raise UsageError(
            f"{out} is the {'root' if place == Path(place.anchor) else 'home'} folder. {refuse}"
        )
    above = next((parent for parent in place.parents if parent.exists()), place)
    if not above.is_dir():
        raise UsageError(f"{out} cannot be made: {above} is no folder. {refuse}")
    own = {name.split("/", 1)[0] for name in _RUN if "/" in name}
    own -= {"report", "results", "tensorboard"}
    if place.name in own and RUN.is_at(place.parent):
        raise UsageError(
            f"{out} is where the run {place.parent} keeps its own {place.name}. {refuse}"
        )


def begins_with(path: Path, beginning: bytes) -> bool:
    """Whether a file is there and begins so."""
    try:
        with path.open("rb") as file:
            return file.read(len(beginning)) == beginning
    except OSError:
        return False


def is_like_index(folder: Path) -> bool:
    """Whether a folder holds all that an index has, whatever is in its index.json."""
    tables = {"index.arrow": b"ARROW1", "rejected.parquet": b"PAR1"}
    return (folder / "index.json").is_file() and all(
        begins_with(folder / name, b) for name, b in tables.items()
    )


def foreign(folder: Path, kind: Kind) -> Iterator[Path]:
    """What is in a folder of seehear's and is not seehear's, relative to it, sorted.

    A folder that holds nothing of seehear's stands for all that is in it. Links are not followed.
    """
    patterns = [name.split("/") for name in kind.known(folder)]
    yield from _foreign(folder, (), patterns)


def _foreign(folder: Path, above: tuple[str, ...], patterns: list[list[str]]) -> Iterator[Path]:
    with os.scandir(folder) as found:
        entries = sorted(found, key=lambda entry: entry.name)
    for entry in entries:
        parts = (*above, entry.name)
        if _matches(LITTER, entry.name) and not (
            entry.is_dir(follow_symlinks=False) and entry.name == LOCK
        ):
            continue
        fits = [p for p in patterns if len(p) >= len(parts) and all(map(_matches, p, parts))]
        may_be_folder = any(len(p) > len(parts) for p in fits)
        if entry.is_dir(follow_symlinks=False) and may_be_folder:
            yield from _foreign(Path(entry.path), parts, patterns)
        elif entry.is_symlink() and fits:
            continue
        elif not (entry.is_file(follow_symlinks=False) and any(len(p) == len(parts) for p in fits)):
            yield Path(*parts)


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern)


def _matches(pattern: str, name: str) -> bool:
    return _compiled(pattern).fullmatch(name) is not None


def carry_over(old: Path, new: Path, kind: Kind) -> None:
    """Copy what others have put into a folder to the one that replaces it."""
    for path in foreign(old, kind):
        target = new / path
        if target.exists():
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        if (old / path).is_dir() and not (old / path).is_symlink():
            shutil.copytree(old / path, target, symlinks=True)
        elif (old / path).is_file() or (old / path).is_symlink():
            shutil.copy2(old / path, target, follow_symlinks=False)


def remove(folder: Path, kind: Kind) -> None:
    """Remove a folder of seehear's; what others have put into it stays where it is."""
    others = {folder / path for path in foreign(folder, kind)} if folder.is_dir() else set()
    if not others:
        shutil.rmtree(folder, ignore_errors=True)
        return
    kept = others | {parent for path in others for parent in path.parents}
    for path in sorted(folder.rglob("*"), reverse=True):  # what is in a folder comes before it
        if path in kept or any(parent in others for parent in path.parents):
            continue
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)


def read_marker(path: Path) -> dict[str, Any]:
    """A JSON object from a file; an empty one where there is none, or something else."""
    try:
        found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
    except (OSError, ValueError, RecursionError):
        found = None
    return found if isinstance(found, dict) else {}


def real(path: str | os.PathLike[str]) -> Path:
    """Where a path leads to, links followed; it need not be there."""
    return Path(os.path.realpath(path))


def is_empty_folder(folder: Path) -> bool:
    """Whether `folder` is one with nothing in it but what nobody misses."""
    return folder.is_dir() and all(_matches(LITTER, entry.name) for entry in folder.iterdir())
