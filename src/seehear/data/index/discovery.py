"""Which files may be videos? A walk over folders of any depth, in the same order everywhere.

Names that begin with a dot are passed over. Links are followed; a folder or a file that is reached
in several ways is taken once, and a real file is preferred to a link to it. What cannot be looked
at costs its own line and nothing else. Folders that seehear made (`ours`) are passed over unless
they were named.

Of folders on other machines (`remote`) only names that promise a video are taken, since looking at
the others would mean fetching them. A text file that is named may list addresses, or
local files, one a line; which of both, its first line says.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from stat import S_ISDIR, S_ISREG

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from seehear.data.index.files import VIDEO_ENDINGS, Candidate, Files
from seehear.data.index.ours import PREVIEWS, folder_of, is_ours, ours_among
from seehear.data.media.members import modified_ns, within_int64
from seehear.data.remote.addresses import (
    LIST_ENDINGS,
    SCHEMES,
    absolute,
    checked,
    common_folder,
    file_name,
    is_remote,
)
from seehear.data.remote.storage import Facts, all_facts, files_below, is_folder, read_text
from seehear.errors import MediaError, UsageError

MAX_LIST_BYTES = 2**28
"""Of a list of addresses."""

_SPECIAL = "not a regular file"


def absolute_paths(paths: Sequence[str | os.PathLike[str]]) -> list[str]:
    """The files and folders that a user named, absolute; addresses as they are.

    Raises:
        UsageError: one of them does not exist, is no address, or there is none.
    """
    if not paths:
        raise UsageError("No video or folder was named. Type: seehear index VIDEOS --out INDEX")
    for path in paths:
        if is_remote(path):
            continue
        if "://" in os.fspath(path) and not os.path.lexists(path):
            schemes = ", ".join(f"{scheme}://" for scheme in SCHEMES)
            raise UsageError(
                f"{os.fspath(path)} cannot be read. Addresses may begin with {schemes}."
            )
        name = os.fspath(path)
        try:
            os.stat(path)  # noqa: PTH116
        except FileNotFoundError:
            raise UsageError(
                f"{name} does not exist. Name video files, or folders that hold them."
            ) from None
        except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
            why = getattr(error, "strerror", None) or error
            raise UsageError(f"{name} cannot be looked at: {why}. Name another.") from None
    return sorted(
        {checked(os.fspath(path)) if is_remote(path) else absolute(path) for path in paths}
    )


def is_within(path: str, folder: str) -> bool:
    """Is a path a folder, or below it?"""
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)


def common_root(paths: Sequence[str]) -> str:
    """The folder below which all named paths are."""
    here = [path for path in _without_lists(paths) if not is_remote(path)]
    if not here:
        ends = (*VIDEO_ENDINGS, *LIST_ENDINGS)
        return common_folder(
            [
                path.rsplit("/", 1)[0] if file_name(path).lower().endswith(ends) else path
                for path in paths
            ]
        )
    folders = [path if os.path.isdir(path) else os.path.dirname(path) for path in here]  # noqa: PTH112, PTH120
    return os.path.commonpath(folders)


def find_candidates(paths: Sequence[str]) -> tuple[Files, list[str]]:
    """All files at or below some absolute paths or addresses, each file once, sorted by path.

    Also the folders that were passed over, since seehear made them. Raises UsageError where a
    remote folder or a list cannot be read.
    """
    paths = _without_lists(paths)
    remote = [path for path in paths if is_remote(path) or _is_list(path)]
    walk = _Walk([path for path in paths if not is_remote(path)])
    elsewhere, passed_over = _find_remote(remote)
    found, others = _found_here(walk), Files.of([*walk.failures, *elsewhere])
    if others:
        table = pa.concat_tables([found.table, others.table])
        found = Files(table.take(pc.sort_indices(table["path"])))
    return found, sorted([*walk.passed_over, *passed_over])


def but_for(passed_over: Sequence[str]) -> str:
    """What to add to a sentence about files where folders of our own were passed over."""
    if not passed_over:
        return ""
    folders = f"{len(passed_over)} {'folder' if len(passed_over) == 1 else 'folders'}"
    return (
        f", but for {folders} that seehear made "
        f"({', '.join(passed_over[:3])}{', ...' * (len(passed_over) > 3)})"
    )


def stamps(paths: Sequence[str], named: Sequence[str] | None) -> Iterator[tuple[int, int] | str]:
    """Size and time of change of each file, in their order, or what is wrong: "has vanished".

    Remote folders and lists among `named`, by which the files were found, are listed anew, which is
    quicker than a question for each file; None asks for each.
    """
    asked = [path for path in paths if is_remote(path)]
    lists = [path for path in named or () if is_listed(path)]
    if not lists:
        answers = dict(zip(asked, all_facts(asked), strict=True))
        remote = {path: _candidate(path, answer) for path, answer in answers.items()}
    else:
        remote = {found.path: found for found in (_find_remote(lists)[0] if asked else [])}
    for path in paths:
        found = remote.get(path)
        if found is not None and found.failure not in ("", "not found"):
            yield f"cannot be asked about: {found.failure} ({found.detail})"
        elif is_remote(path):
            yield (
                "has vanished"
                if found is None or found.failure
                else (found.file_bytes, found.modified_ns)
            )
        else:
            yield _stamp_here(path)


def is_listed(path: str) -> bool:
    """Are the files of what a user named found by asking another machine?"""
    return is_remote(path) or _is_list(path)


def _stamp_here(path: str) -> tuple[int, int] | str:
    try:
        status = os.stat(path)  # noqa: PTH116
    except OSError:
        return "has vanished"
    return status.st_size, modified_ns(status)


def _found_here(walk: _Walk) -> Files:
    """What the walk finds, each file once, by path; what it fails at is in the walk."""
    seen = array("Q")  # of each file device, number on it, whether a link leads there

    def found() -> Iterator[Candidate]:
        for path, is_linked in walk.files():
            try:
                status = os.stat(path)  # noqa: PTH116 (a Path for each of 100,000 files is slow)
            except OSError as error:
                walk.failures.append(_failed(path, error))
                continue
            seen.extend((status.st_dev, status.st_ino, is_linked))
            failure = "" if S_ISREG(status.st_mode) else _SPECIAL
            yield Candidate(path, status.st_size, modified_ns(status), failure)

    table = Files.of(found()).table
    by_path_N = pc.sort_indices(table["path"]).to_numpy()
    seen_N3 = np.frombuffer(seen, np.uint64).reshape(-1, 3)[by_path_N]
    order_N = np.lexsort(seen_N3.T[::-1])  # the ways to a file, real ones first, then by path
    is_other_N = np.ones(len(order_N), np.bool_)
    is_other_N[1:] = np.diff(seen_N3[order_N, :2], axis=0).any(axis=1)
    return Files(table.take(pa.array(by_path_N[np.sort(order_N[is_other_N])])))


def _failed(path: str, error: OSError) -> Candidate:
    reason = "no permission" if isinstance(error, PermissionError) else "not found"
    return Candidate(path, 0, 0, reason, error.strerror or "")


class _Walk:
    """A walk over local files and folders.

    Attributes:
        failures: what could not be looked at.
        passed_over: folders that seehear made.
    """

    def __init__(self, paths: Sequence[str]) -> None:
        self.named = frozenset(paths)
        self.failures: list[Candidate] = []
        self.passed_over: list[str] = []
        self._folders = [(path, False) for path in reversed(paths)]
        self._links: list[str] = []

    def files(self) -> Iterator[tuple[str, bool]]:
        """Whatever is no folder, with whether a link leads there.

        Folders come before links to folders, so that a link to what is seen anyway adds nothing.
        """
        seen: set[tuple[int, int]] = set()
        while self._folders or self._links:
            path, is_linked = self._folders.pop() if self._folders else (self._links.pop(), True)
            try:
                status = os.stat(path)  # noqa: PTH116
                if not S_ISDIR(status.st_mode):
                    yield path, is_linked
                elif (status.st_dev, status.st_ino) not in seen:
                    seen.add((status.st_dev, status.st_ino))
                    yield from self._entries(path, is_linked)
            except OSError as error:
                self.failures.append(_failed(path, error))

    def _entries(self, folder: str, is_linked: bool) -> Iterator[tuple[str, bool]]:
        """The files in a folder; the folders in it are kept for later."""
        with os.scandir(folder) as found:
            entries = sorted((e for e in found if e.name[0] != "."), key=lambda e: e.name)
        if is_ours(folder, {entry.name for entry in entries}):
            if folder not in self.named:
                self.passed_over.append(folder)
                return
            self.passed_over += [entry.path for entry in entries if entry.name == PREVIEWS]
            entries = [entry for entry in entries if entry.name != PREVIEWS]
        deeper = []
        for entry in entries:
            if leads_to_folder(entry):
                deeper.append(entry)
            else:
                yield entry.path, is_linked or entry.is_symlink()
        for entry in reversed(deeper):  # the last in is the first out
            if entry.is_symlink():
                self._links.append(entry.path)
            else:
                self._folders.append((entry.path, is_linked))


def leads_to_folder(entry: os.DirEntry[str]) -> bool:
    """Is it a folder, or a link to one? Not a link that leads nowhere or in a circle."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def _find_remote(paths: Sequence[str]) -> tuple[list[Candidate], list[str]]:
    """The files of remote folders, lists and addresses; and folders that were passed over."""
    found: dict[str, Facts | MediaError | None] = {}
    passed_over: set[str] = set()
    for path in paths:
        try:
            if _is_list(path):
                found |= {address: None for address in _listed(path) if address not in found}
            elif is_folder(path):
                below = dict(files_below(path))
                ours = ours_among(below, path)
                wanted = {
                    address: folder_of(address, ours)
                    for address in below
                    if _is_wanted(address, path)
                }
                found |= {
                    address: below[address] for address, folder in wanted.items() if folder is None
                }
                passed_over |= {folder for folder in wanted.values() if folder is not None}
            else:
                found.setdefault(path)
        except MediaError as error:
            if _is_list(path) or not file_name(path).lower().endswith(VIDEO_ENDINGS):
                raise UsageError(
                    f"{error}. Check the address, and whether it may be read from here."
                ) from None
            found[path] = error
    unknown = [address for address, facts in found.items() if facts is None]
    found |= dict(zip(unknown, all_facts(unknown), strict=True))
    candidates = [
        _candidate(address, facts) for address, facts in found.items() if facts is not None
    ]
    return candidates, sorted(passed_over)


def _is_list(path: str) -> bool:
    return file_name(path).lower().endswith(LIST_ENDINGS) and (
        is_remote(path) or os.path.isfile(path)  # noqa: PTH113
    )


def _is_wanted(address: str, folder: str) -> bool:
    is_hidden = any(part.startswith(".") for part in address.removeprefix(folder).split("/"))
    return not is_hidden and file_name(address).lower().endswith(VIDEO_ENDINGS)


def _without_lists(paths: Sequence[str]) -> list[str]:
    """What was named, with local files in place of the lists of them."""
    return [
        file
        for path in paths
        for file in (not is_remote(path) and _is_list(path) and _listed_here(path)) or [path]
    ]


def _listed_here(path: str) -> list[str]:
    """The local files in a list; none where its first line names no file."""
    lines = [line for line in map(str.strip, _read_here(path).splitlines()) if line[:1] not in "#"]
    files = [absolute(os.path.join(os.path.dirname(path), line)) for line in lines]  # noqa: PTH118, PTH120
    return files if files and not is_remote(lines[0]) and os.path.lexists(files[0]) else []


def _listed(path: str) -> list[str]:
    """The addresses in a list; names in a remote list are below its own folder.

    Raises:
        UsageError: a line is none.
    """
    text = read_text(path, MAX_LIST_BYTES) if is_remote(path) else _read_here(path)
    lines = [line.strip() for line in text.splitlines()]
    addresses: list[str] = []
    for number, line in enumerate(lines, 1):
        if not line or line.startswith("#"):
            continue
        address = (
            line if is_remote(line) or not is_remote(path) else f"{path.rsplit('/', 1)[0]}/{line}"
        )
        if (
            not is_remote(address)
            or "://" in address.split("://", 1)[1].split("?", 1)[0]
            or line.startswith("/")
        ):
            if not is_remote(path) and not addresses:
                return []  # a text that is no list: notes beside the videos
            raise UsageError(
                f"{path}, line {number}: {line[:80]!r} is no address. Write one a line."
            )
        addresses.append(checked(address))
    return addresses


def _read_here(path: str) -> str:
    try:
        if os.path.getsize(path) <= MAX_LIST_BYTES:  # noqa: PTH202
            return Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError):
        pass
    return ""  # no list: whatever it is, it is looked at like any other file


def _candidate(address: str, facts: Facts | MediaError) -> Candidate:
    if isinstance(facts, MediaError):
        return Candidate(address, 0, 0, facts.reason, facts.detail)
    return Candidate(address, facts.size or 0, within_int64(facts.modified_ns))
