"""How are lists of files and classes read, so that whatever is wrong in one is told with its file
and line?

UTF-8 with or without a byte order mark, any line ends, blank lines anywhere, blanks around fields
and around quotes.
"""

from __future__ import annotations

import csv
import errno
import math
import re
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TextIO

from seehear.errors import SettingsError

# The strict reader allows no blanks behind the quote that ends a field. Behind one that begins it
# they are stripped
# later.
_BLANKS_BEHIND_QUOTES = re.compile(r'((?<!")"|(?:^|(?<=[,;\t ]))"")[^\S\r\n]+(?=[,;\t\r\n]|$)')


def wrong(path: str, line: int, what: str) -> SettingsError:
    """The error for a line of a list."""
    return SettingsError(f"{path}, line {line}: {what}")


def unreadable(path: str, error: OSError | UnicodeDecodeError) -> SettingsError:
    """The error for a list that is absent, or not text."""
    reason = (
        error.strerror if isinstance(error, OSError) else f"no UTF-8 text at byte {error.start}"
    )
    return SettingsError(f"{path} cannot be read ({reason}). Put the list there, as UTF-8 text.")


def opened(path: str, newline: str | None = None) -> TextIO:
    """Open a list of text; OSError for a device or a pipe too, since reading it may never end."""
    mode = Path(path).stat().st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):  # a folder is refused by `open`
        raise OSError(errno.EINVAL, "it is a device or a pipe")
    return Path(path).open(newline=newline, encoding="utf-8-sig")


def read_lines(path: str) -> Iterator[tuple[int, str]]:
    """The lines of a text file that are not blank, stripped, with their numbers from 1.

    Raises:
        SettingsError: it cannot be read as UTF-8 text.
    """
    try:
        with opened(path) as file:  # any line end becomes \n
            for number, line in enumerate(file, 1):
                if text := line.strip():
                    yield number, text
    except (OSError, UnicodeDecodeError) as error:
        raise unreadable(path, error) from None


def read_rows(
    path: str, *, delimiter: str = ",", comment: str | None = None
) -> Iterator[tuple[int, list[str]]]:
    """The rows of a CSV file that are not blank, fields stripped, with the number of the line each
    begins on.

    Raises:
        SettingsError: it cannot be read as CSV in UTF-8.
    """
    number = 0
    try:
        with opened(path, newline="") as file:
            lines = (_BLANKS_BEHIND_QUOTES.sub(r"\1", line) for line in file)
            reader = csv.reader(lines, delimiter=delimiter, skipinitialspace=True, strict=True)
            for row in reader:
                begins, number = number + 1, reader.line_num
                fields = list(map(str.strip, row))
                if any(fields) and (comment is None or not fields[0].startswith(comment)):
                    yield begins, fields
    except csv.Error as error:
        raise wrong(path, number + 1, f"this is not CSV ({error}).") from None
    except (OSError, UnicodeDecodeError) as error:
        raise unreadable(path, error) from None


def read_columns(path: str, columns: Sequence[str]) -> Iterator[tuple[int, list[str]]]:
    """Some columns of a CSV file, which are found by the names in its first line.

    Raises:
        SettingsError: a column is missing, a field is empty, or a row is shorter or longer than the
            first line.
    """
    rows = read_rows(path)
    first, header = next(rows, (1, []))
    for name in columns:
        if name not in header:
            raise wrong(
                path, first, f"there is no column {name!r}. Columns needed: {','.join(columns)}."
            )
    places = [header.index(name) for name in columns]
    for number, row in rows:
        if len(row) != len(header):
            raise wrong(
                path,
                number,
                f"{len(row)} fields. The first line has {len(header)}: {','.join(header)}.",
            )
        values = [row[place] for place in places]
        if "" in values:
            raise wrong(
                path, number, f"{columns[values.index('')]} is empty. Every line must have it."
            )
        yield number, values


def inside(path: str, line: int, name: str) -> str:
    """A name from a list, once it is sure that it leads nowhere but below the benchmark's folder.

    Raises:
        SettingsError: it is absolute, or goes up.
    """
    if "/" in name or "\\" in name or name == "..":
        parts = name.replace("\\", "/").split("/")
        if ".." in parts or parts[0] == "" or parts[0][1:2] == ":":
            raise wrong(
                path,
                line,
                f"{name} leads out of the benchmark's folder. Paths must be relative, without "
                f"'..'.",
            )
    return name


def whole_number(path: str, line: int, text: str, what: str, low: int, high: int) -> int:
    """A whole number in a range, both ends included.

    Raises:
        SettingsError: it is none, or it is out of the range.
    """
    try:
        value = int(text)
    except ValueError:
        value = low - 1
    if not low <= value <= high:
        raise wrong(
            path, line, f"{what} is {text[:40]!r}. It must be a whole number from {low} to {high}."
        )
    return value


def time_s(path: str, line: int, text: str, what: str) -> float:
    """A time in seconds since the start of a video, up to a million.

    Raises:
        SettingsError: it is none.
    """
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1e6:
        raise wrong(
            path, line, f"{what} is {text[:40]!r}. It must be a time in seconds, 0 or more."
        )
    return value
