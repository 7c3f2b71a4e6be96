"""Which files lie below a folder, and which of them is meant? One walk, then every question is
answered from memory.

A list of two million names must not cost two million looks at the disk: folders are scanned once
with `os.scandir`, and media files are found by the last parts of their path without the ending,
since people re-encode what they download. Links are followed, and a folder that is reached twice is
walked once. Names that begin with a dot, and folders that seehear made, are passed over.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterator
from pathlib import Path

from seehear.data.index.discovery import leads_to_folder
from seehear.data.index.files import VIDEO_ENDINGS
from seehear.data.index.ours import is_ours
from seehear.errors import SettingsError

_AUDIO_NAMES = (
    *("aac", "ac3", "aif", "aiff", "amr", "ape", "au", "caf", "flac", "m4a", "mka", "mp2", "mp3"),
    *("oga", "ogg", "opus", "snd", "w64", "wav", "wma", "wv"),
)
AUDIO_ENDINGS = frozenset(f".{name}" for name in _AUDIO_NAMES)
LIST_ENDINGS = (".txt", ".csv")
YOUTUBE_ID_LENGTH = 11
_VIDEO = frozenset(VIDEO_ENDINGS)


class Tree:
    """All media files and all lists below a folder.

    Args:
        root: the folder.
    Raises:
        SettingsError: it is no folder, or it cannot be read.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = os.path.abspath(root)  # noqa: PTH100 (links are kept)
        if not os.path.isdir(self.root):  # noqa: PTH112
            raise SettingsError(
                f"{root} is not a folder. Name the folder that holds the benchmark's lists and "
                "files."
            )
        self.media: list[str] = []
        self.lists: list[str] = []
        for path in _files(self.root):
            ending = ending_of(path)
            if ending in _VIDEO or ending in AUDIO_ENDINGS:
                self.media.append(path)
            elif ending in LIST_ENDINGS:
                self.lists.append(path)
        self.lists.sort(key=_depth)

    def relative(self, path: str) -> str:
        """A path below the root, with forward slashes."""
        return path[len(self.root.rstrip(os.sep)) + 1 :].replace(os.sep, "/")

    def path(self, name: str) -> str:
        """The path of a name below the root."""
        return os.path.join(self.root, *name.split("/"))  # noqa: PTH118

    def index(
        self, parts: int = 1, *, audio: bool = True, video: bool = True, fold: bool = False
    ) -> dict[str, str]:
        """Absolute path of each media file by the last `parts` of its path, without the ending.

        Of several files with the same key, a video comes first, then what is nearest to the root.

        Args:
            parts: 1 is "name", 2 is "folder/name".
            audio, video: whether such files are wanted.
            fold: keys without upper case.
        """

        def rank(path: str) -> tuple[bool, int, str]:
            return not is_video(path), *_depth(path)

        found: dict[str, str] = {}
        for path in self.media:
            if not (video if is_video(path) else audio):
                continue
            key = key_of("/".join(path.rsplit(os.sep, parts)[-parts:]), fold)
            if key not in found or rank(path) < rank(found[key]):
                found[key] = path
        return found

    def named(self, name: str) -> str | None:
        """The list of this name nearest to the root, whatever its letters' case; or None."""
        same = [path for path in self.lists if os.path.basename(path).lower() == name.lower()]  # noqa: PTH119
        return self.nearest(same)

    def nearest(self, paths: list[str]) -> str | None:
        """The one of some paths that is nearest to the root.

        Raises:
            SettingsError: two are equally near.
        """
        paths = sorted(paths, key=_depth)
        if len(paths) > 1 and _depth(paths[0])[0] == _depth(paths[1])[0]:
            both = f"{paths[0]} and {paths[1]} are both there"
            raise SettingsError(f"{both}. Name the folder of the one that is meant.")
        return paths[0] if paths else None

    def needed(self, name: str) -> str:
        """The list of this name; SettingsError without one."""
        path = self.named(name)
        if path is None:
            what = f"There is no {name} in {self.root} or below"
            raise SettingsError(f"{what}. Put the benchmark's own list there.")
        return path


class YouTubeFiles:
    """The media files of a tree by YouTube id and times; such sets are stored under many names.

    A name with times is a clip that was cut to them: all of it counts. A name that is the bare id
    is the whole video as it was downloaded, of which the listed stretch counts, except where cut
    clips are commonly passed on under the bare id.

    Args:
        tree: the folder.
        bare_is_cut: files named by the bare id are cut clips, not whole videos.
    """

    def __init__(self, tree: Tree, *, bare_is_cut: bool = False) -> None:
        self._files = tree.index()
        self._bare_is_cut = bare_is_cut
        # Most ids of a big list have no file with times: one look at this set settles it.
        id_length, stems = YOUTUBE_ID_LENGTH, self._files
        self._timed = {stem[:id_length] for stem in stems if len(stem) > id_length}
        self._timed |= {
            stem[1 : id_length + 1]
            for stem in stems
            if len(stem) > id_length + 1 and stem[0] == "Y"
        }

    def find(
        self, video: str, start_s: float, end_s: float
    ) -> tuple[str | None, float, float | None]:
        """The file of a clip and what of it counts: (path or None, start_s, seconds or None)."""
        video = key_of(video)
        if len(video) != YOUTUBE_ID_LENGTH or video in self._timed:
            for stem in _names(video, start_s, end_s):
                if stem in self._files:
                    return self._files[stem], 0.0, None
        for stem in (video, f"Y{video}"):
            if stem in self._files:
                stretch = (0.0, None) if self._bare_is_cut else (start_s, end_s - start_s)
                return self._files[stem], *stretch
        return None, 0.0, None


def _names(video: str, start_s: float, end_s: float) -> Iterator[str]:
    """Names without ending of a cut clip: seconds with and without zeros, milliseconds."""
    start, end = int(start_s), int(end_s)
    for name in (video, f"Y{video}"):
        yield f"{name}_{start:06d}_{end:06d}"
        yield f"{name}_{start:06d}"
        yield f"{name}_{start}_{end}"
        yield f"{name}_{start}"
        yield f"{name}_{round(start_s * 1000)}_{round(end_s * 1000)}"
        for digits in (1, 3):
            yield f"{name}_{start_s:.{digits}f}_{end_s:.{digits}f}"
            yield f"{name}_{start_s:.{digits}f}"
            yield f"{name}-{start_s:.{digits}f}-{end_s:.{digits}f}"


def ending_of(name: str) -> str:
    """The ending of a file's name, in lower case, with its dot."""
    return os.path.splitext(name)[1].lower()  # noqa: PTH122


def is_video(path: str) -> bool:
    """Does the name say that it is a video?"""
    return ending_of(path) in _VIDEO


def key_of(name: str, fold: bool = False) -> str:
    """By what a name is looked up: without a media ending, and in one form of Unicode."""
    stem, dot, ending = name.rpartition(".")
    if dot and ("." + ending.lower() in _VIDEO or "." + ending.lower() in AUDIO_ENDINGS):
        name = stem
    if not name.isascii():
        name = unicodedata.normalize("NFC", name)
    return name.casefold() if fold else name


def _depth(path: str) -> tuple[int, str]:
    """What paths are ordered by: the nearest to the root first, then by name."""
    return path.count(os.sep), path


def _is_regular(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file()
    except OSError:  # a link to itself, or into a closed folder
        return False


def _files(root: str) -> Iterator[str]:
    """Every regular file at or below a folder."""
    folders, seen = [root], set()
    while folders:
        folder = folders.pop()
        try:
            status = os.stat(folder)  # noqa: PTH116
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(folder) as found:
                entries = [entry for entry in found if entry.name[0] != "."]
            if folder != root and is_ours(folder, {entry.name for entry in entries}):
                continue
            for entry in entries:
                if leads_to_folder(entry):
                    folders.append(entry.path)
                elif _is_regular(entry):
                    yield entry.path
        except OSError as error:
            if folder == root:
                raise SettingsError(
                    f"{root} cannot be read ({error.strerror}). Allow reading it."
                ) from None
