"""How does a table get into a CSV file that a spreadsheet may open?

A cell that begins with =, +, -, @, a tab or a carriage return is taken for a formula, which may run
programs or send the sheet elsewhere; and names of files, clusters and classes are whatever somebody
called them. Such a text gets an apostrophe in front, as does one that begins with apostrophes
before one of these, so that `plain` gives back what was written. Numbers stay as they are.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

_FORMULA = re.compile(r"'*[=+\-@\t\r]")


def write_csv(path: Path, columns: Mapping[str, Iterable[Any]]) -> None:
    """Write columns of one length; None is an empty cell."""
    with path.open("w", newline="", encoding="utf-8") as file:
        # RFC 4180; cells with one of both are quoted
        writer = csv.writer(file, lineterminator="\r\n")
        writer.writerow([harmless(name) for name in columns])
        writer.writerows(
            [harmless(cell) for cell in line] for line in zip(*columns.values(), strict=True)
        )


def harmless(cell: Any) -> Any:
    """A cell that no spreadsheet takes for a formula."""
    return f"'{cell}" if isinstance(cell, str) and _FORMULA.match(cell) else cell


def plain(cell: str) -> str:
    """The text that `harmless` was given."""
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell
