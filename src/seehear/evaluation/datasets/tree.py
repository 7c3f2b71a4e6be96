"""Which files lie below a folder? One walk, then every question is answered from memory.

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

from seehear.data.index.discovery import VIDEO_ENDINGS, leads_to_folder
from seehear.data.index.ours import is_ours
from seehear.errors import SettingsError

AUDIO_ENDINGS = (
    *(
        ".aac",
        ".ac3",
        ".aif",
        ".aiff",
        ".amr",
        ".ape",
        ".au",
        ".caf",
        ".flac",
        ".m4a",
        ".mka",
        ".mp2",
        ".mp3",
    ),
    *(".oga", ".ogg", ".opus", ".snd", ".w64", ".wav", ".wma", ".wv"),
)
LIST_ENDINGS = (".txt", ".csv")
_VIDEO, _AUDIO = frozenset(VIDEO_ENDINGS), frozenset(AUDIO_ENDINGS)


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
                f"files."
            )
        self.media: list[str] = []
        self.lists: list[str] = []
        for path in _files(self.root):
            ending = ending_of(path)
            if ending in _VIDEO or ending in _AUDIO:
                self.media.append(path)
            elif ending in LIST_ENDINGS:
                self.lists.append(path)
        self.lists.sort(key=lambda path: (path.count(os.sep), path))

    def relative(self, path: str) -> str:
        """A path below the root, with forward slashes."""
        return path[len(self.root.rstrip(os.sep)) + 1 :].replace(os.sep, "/")

    def index(
        self, parts: int = 1, *, audio: bool = True, video: bool = True, fold: bool = False
    ) -> dict[str, str]:
        """Absolute path of each media file by the last `parts` of its path, without the ending.

        Where several files have the same key, a video comes before a sound, then the one nearest to
        the root.

        Args:
            parts: 1 is "name", 2 is "folder/name".
            audio, video: whether such files are wanted.
            fold: keys without upper case.
        """
        found: dict[str, str] = {}
        for path in self.media:
            if not (video if is_video(path) else audio):
                continue
            key = key_of("/".join(path.rsplit(os.sep, parts)[-parts:]), fold)
            if key not in found or _rank(path) < _rank(found[key]):
                found[key] = path
        return found

    def named(self, name: str) -> str | None:
        """The list of this name that is nearest to the root, whatever the case of its letters; None
        without one.

        Raises:
            SettingsError: two are equally near.
        """
        same = [path for path in self.lists if os.path.basename(path).lower() == name.lower()]  # noqa: PTH119
        return self.nearest(same)

    def nearest(self, paths: list[str]) -> str | None:
        """The one of some paths that is nearest to the root.

        Raises:
            SettingsError: two are equally near.
        """
        paths = sorted(paths, key=lambda path: (path.count(os.sep), path))
        if len(paths) > 1 and paths[0].count(os.sep) == paths[1].count(os.sep):
            raise SettingsError(
                f"{paths[0]} and {paths[1]} are both there. Name the folder of the one that is "
                f"meant."
            )
        return paths[0] if paths else None

    def needed(self, name: str) -> str:
        """The list of this name.

        Raises:
            SettingsError: there is none.
        """
        path = self.named(name)
        if path is None:
            raise SettingsError(
                f"There is no {name} in {self.root} or below. Put the benchmark's own list there."
            )
        return path


def ending_of(name: str) -> str:
    """The ending of a file's name, in lower case, with its dot."""
    return os.path.splitext(name)[1].lower()  # noqa: PTH122


def is_video(path: str) -> bool:
    """Does the name say that it is a video?"""
    return ending_of(path) in _VIDEO


def key_of(name: str, fold: bool = False) -> str:
    """By what a name is looked up: without a media ending, and in one form of Unicode."""
    stem, dot, ending = name.rpartition(".")
    if dot and ("." + ending.lower() in _VIDEO or "." + ending.lower() in _AUDIO):
        name = stem
    if not name.isascii():
        name = unicodedata.normalize("NFC", name)
    return name.casefold() if fold else name


def _rank(path: str) -> tuple[bool, int, str]:
    return not is_video(path), path.count(os.sep), path


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
