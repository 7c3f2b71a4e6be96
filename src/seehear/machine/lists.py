"""How are lists of files and classes read, so that whatever is wrong in one is told with its file
and line?

UTF-8 with or without a byte order mark, any line ends, blank lines anywhere, blanks around fields
and around quotes.
"""

from __future__ import annotations

import csv
import errno
import json
import math
import re
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from seehear.errors import SettingsError

# The strict reader allows no blanks behind the quote that ends a field; those behind one that
# begins a field are stripped later.
_BLANKS_BEHIND_QUOTES = re.compile(r'((?<!")"|(?:^|(?<=[,;\t ]))"")[^\S\r\n]+(?=[,;\t\r\n]|$)')


ALIASES = {"file_name": "path", "label": "class"}


class Line(NamedTuple):
    """A line of a list, or a row of a table: its file, the number it begins on, and its fields."""

    file: str
    number: int
    fields: Sequence[str] = ()

    @property
    def text(self) -> str:
        """The line, for a message."""
        return ",".join(self.fields)[:80]

    def wrong(self, what: str) -> SettingsError:
        """The error for this line."""
        return SettingsError(f"{self.file}, line {self.number}: {what}")

    def inside(self, name: str) -> str:
        """A name, once it is sure that it leads nowhere but below the benchmark's folder.

        Raises:
            SettingsError: it is absolute, or goes up.
        """
        if "/" in name or "\\" in name or name == "..":
            parts = name.replace("\\", "/").split("/")
            if ".." in parts or parts[0] == "" or parts[0][1:2] == ":":
                raise self.wrong(
                    f"{name} leads out of the benchmark's folder. Paths must be relative, without "
                    "'..'."
                )
        return name

    def whole_number(self, text: str, what: str, low: int, high: int) -> int:
        """A whole number in a range, both ends included; SettingsError for anything else."""
        try:
            value = int(text)
        except ValueError:
            value = low - 1
        if not low <= value <= high:
            it = f"{what} is {text[:40]!r}"
            raise self.wrong(f"{it}. It must be a whole number from {low} to {high}.")
        return value

    def time_s(self, text: str, what: str) -> float:
        """Seconds, 0 to a million, to the microsecond; SettingsError for anything else."""
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not 0 <= value <= 1e6:
            it = f"{what} is {text[:40]!r}"
            raise self.wrong(f"{it}. It must be a time in seconds, 0 or more.")
        return round(value, 6)


def unreadable(path: str, error: OSError | UnicodeDecodeError) -> SettingsError:
    """The error for a list that is absent, or not text."""
    if isinstance(error, UnicodeDecodeError):
        reason = f"no UTF-8 text at byte {error.start}"
    else:
        reason = str(error.strerror)
    if isinstance(error, FileNotFoundError):
        return SettingsError(f"{path} does not exist. Put the list there, as UTF-8 text.")
    return SettingsError(f"{path} cannot be read ({reason}). Put the list there, as UTF-8 text.")


def opened(path: str, newline: str | None = None) -> TextIO:
    """Open a list of text; OSError for a device or a pipe too, since reading it may never end."""
    mode = Path(path).stat().st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):  # a folder is refused by `open`
        raise OSError(errno.EINVAL, "it is a device or a pipe")
    return Path(path).open(newline=newline, encoding="utf-8-sig")


def read_lines(path: str) -> Iterator[Line]:
    """The lines of a text file that are not blank, stripped, each as a single field.

    Raises:
        SettingsError: it cannot be read as UTF-8 text.
    """
    try:
        with opened(path) as file:  # any line end becomes \n
            for number, line in enumerate(file, 1):
                if text := line.strip():
                    yield Line(path, number, [text])
    except (OSError, UnicodeDecodeError) as error:
        raise unreadable(path, error) from None


def read_rows(path: str, *, comment: str | None = None) -> Iterator[Line]:
    """The rows of a CSV file that are not blank, fields stripped.

    Raises:
        SettingsError: it cannot be read as CSV in UTF-8.
    """
    number = 0
    try:
        with opened(path, newline="") as file:
            lines = (_BLANKS_BEHIND_QUOTES.sub(r"\1", line) for line in file)
            reader = csv.reader(lines, skipinitialspace=True, strict=True)
            for row in reader:
                begins, number = number + 1, reader.line_num
                fields = list(map(str.strip, row))
                if any(fields) and (comment is None or not fields[0].startswith(comment)):
                    yield Line(path, begins, fields)
    except csv.Error as error:
        raise Line(path, number + 1).wrong(f"this is not CSV ({error}).") from None
    except (OSError, UnicodeDecodeError) as error:
        raise unreadable(path, error) from None


def read_table(path: str) -> Iterator[Line]:
    """The rows of a list, the names of its columns first; of CSV, or by its ending JSON lines or
    Parquet.

    What Hugging Face's datasets call file_name and label is path and class here.

    Raises:
        SettingsError: it cannot be read.
    """
    if path.endswith((".jsonl", ".parquet")):
        try:
            rows = _rows_of_objects(path, _objects(path))
        except (OSError, ValueError, RecursionError) as error:
            text = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise SettingsError(f"{path} cannot be read ({text}).") from None
    else:
        rows = read_rows(path)
    header = next(rows, Line(path, 1))
    named = [ALIASES.get(name, name) for name in header.fields]
    yield header._replace(fields=named if len({*named}) == len(named) else header.fields)
    yield from rows


def _objects(path: str) -> list[dict[str, Any]]:
    """The rows of a list of JSON lines or of Parquet, without what is no text or number."""
    if path.endswith(".jsonl"):
        with opened(path) as file:
            found = [json.loads(line) for line in file if line.strip()]
        if not all(isinstance(row, dict) for row in found):
            raise ValueError("a line is no JSON object")
        nested = (list, dict)
        return [{k: v for k, v in row.items() if not isinstance(v, nested)} for row in found]
    import pyarrow as pa
    import pyarrow.parquet as pq

    kinds = pa.types.is_nested, pa.types.is_binary, pa.types.is_large_binary
    columns = [f.name for f in pq.read_schema(path) if not any(is_of(f.type) for is_of in kinds)]
    rows: list[dict[str, Any]] = pq.read_table(path, columns=columns).to_pylist()
    return rows


def _rows_of_objects(path: str, objects: list[dict[str, Any]]) -> Iterator[Line]:
    names = list(dict.fromkeys(name for row in objects for name in row))
    texts = (
        ["" if row.get(name) is None else str(row[name]).strip() for name in names]
        for row in objects
    )
    return (Line(path, number, fields) for number, fields in enumerate([names, *texts]))


def read_columns(path: str, columns: Sequence[str]) -> Iterator[Line]:
    """Some columns of a CSV file, which are found by the names in its first line.

    Raises:
        SettingsError: a column is missing, a field is empty, or a row is shorter or longer.
    """
    rows = read_rows(path)
    header = next(rows, Line(path, 1))
    for name in columns:
        if name not in header.fields:
            needed = ",".join(columns)
            raise header.wrong(f"there is no column {name!r}. Columns needed: {needed}.")
    places = [header.fields.index(name) for name in columns]
    for row in rows:
        check_length(row, header)
        line = row._replace(fields=[row.fields[place] for place in places])
        if "" in line.fields:
            empty = columns[line.fields.index("")]
            raise line.wrong(f"{empty} is empty. Every line must have it.")
        yield line


def check_length(row: Line, header: Line) -> None:
    """Raise SettingsError where a row has not as many fields as the first line."""
    if len(row.fields) != len(header.fields):
        names = ",".join(header.fields)
        raise row.wrong(
            f"{len(row.fields)} fields. The first line has {len(header.fields)}: {names}."
        )
