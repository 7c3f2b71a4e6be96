"""Where is a media file that lies inside a shard, and is it still the one that was packed there?

A shard is a plain tar file. A place in it is written as one path, so that whatever takes the path
of a file takes it:

    /data/packed/shard-00000.tar!000000017.mp4@1536+84211     shard, member, first byte, bytes

A file that really has such a name is that file. Before a member is opened, its header, the 512
bytes in front of it, is compared with the path: a shard that was replaced or shifted is found
before anything of it is decoded.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from seehear.errors import MediaError

HEADER_BYTES = 512
"""Of a tar member; its name comes first, its size is in octal digits at byte 124."""

_PLACE = re.compile(
    r"(?P<shard>.+\.tar)!(?P<name>[^/!@]+)@(?P<offset>\d{1,18})\+(?P<size>\d{1,18})", re.DOTALL
)


@dataclass(frozen=True)
class Member:
    """A stretch of a shard that is a file of its own."""

    shard: str  # path of the tar file
    name: str  # in the tar file
    offset: int  # of the first byte
    size: int  # bytes

    @property
    def path(self) -> str:
        """As one path, the inverse of `member_of`."""
        return f"{self.shard}!{self.name}@{self.offset}+{self.size}"

    def check(self) -> None:
        """See that the shard still has this member here.

        Raises:
            MediaError: it has not, or cannot be read.
        """
        try:
            if not stat.S_ISREG(os.stat(self.shard).st_mode):  # noqa: PTH116 (opening a pipe would wait)
                raise MediaError(self.path, "not a regular file")
            with open(self.shard, "rb", buffering=0) as file:  # noqa: PTH123
                end = os.fstat(file.fileno()).st_size
                file.seek(max(0, min(self.offset, end) - HEADER_BYTES))
                header = file.read(HEADER_BYTES)
        except PermissionError as error:
            raise MediaError(self.path, "no permission", error.strerror or "") from None
        except OSError as error:
            raise MediaError(self.path, "not found", error.strerror or "") from None
        if end < self.offset + self.size:
            raise MediaError(self.path, "truncated", f"the shard has {end} bytes")
        self.check_header(header)

    def check_header(self, header: bytes) -> None:
        """See that what stands in front of the member is its header.

        Raises:
            MediaError: it is not.
        """
        found = header[:100].rstrip(b"\0"), header[124:136].strip(b"\0 ")
        if found != (self.name.encode(), f"{self.size:o}".zfill(11).encode()):
            raise MediaError(
                self.path, "unreadable", "the shard has something else there: it was replaced"
            )


def member_of(path: str) -> Member | None:
    """The member that a path names; None for the path of an ordinary file."""
    member = parse(path)
    if member is None or os.path.lexists(path):
        return None
    return replace(member, shard=os.path.abspath(member.shard))  # noqa: PTH100


@contextlib.contextmanager
def open_bytes(path: str) -> Iterator[tuple[BinaryIO, int, int]]:
    """The file that holds a media file, at its first byte; where that is, and how many they are."""
    member = member_of(path)
    with Path(member.shard if member else path).open("rb") as file:
        offset = member.offset if member else 0
        file.seek(offset)
        yield file, offset, member.size if member else os.fstat(file.fileno()).st_size


def parse(path: str) -> Member | None:
    """The member that a path has the form of, whether it is there or not; else None."""
    found = _PLACE.fullmatch(path)
    if found is None:
        return None
    return Member(found["shard"], found["name"], int(found["offset"]), int(found["size"]))


def stamp(path: str | os.PathLike[str]) -> tuple[int, int]:
    """Size in bytes and last change in ns, by which a change is noticed; 0 ns in a shard.

    Raises:
        OSError: there is no such file.
        MediaError: a member is not where its path says.
    """
    member = member_of(os.fspath(path))
    if member is not None:
        member.check()
        return member.size, 0
    status = os.stat(path)  # noqa: PTH116
    return status.st_size, modified_ns(status)


def modified_ns(status: os.stat_result) -> int:
    """The time of a file's last change, in ns since 1970."""
    return within_int64(status.st_mtime_ns)


def within_int64(moment_ns: int) -> int:
    """A time in ns as near as 64 bits come to it: they end in 2262, and file systems do not."""
    return min(max(moment_ns, -(2**63)), 2**63 - 1)
