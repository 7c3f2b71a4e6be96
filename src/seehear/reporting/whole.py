"""How does a served page search the whole run? With its features, and previews cut on demand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from seehear.library.examples import search_like
from seehear.library.trained import open_run
from seehear.machine.console import Console
from seehear.reporting.previews import link, make
from seehear.reporting.segments import Rows

TOP = 48
MOST_EXAMPLES = 1000


class Whole:
    """A finished run, opened for searches; the report's folder gets previews of what is found."""

    def __init__(self, run: Path, report: Path, index: str | Path | None) -> None:
        self.trained, self.report = open_run(run, device="cpu"), report
        self.index = self.trained.index(index)

    def found(self, data: Any) -> dict[str, Any]:
        """The rows that are most like some and unlike others, as columns.

        Raises:
            ValueError: it is not {"like": [rows], "unlike": [rows], "by": ...}.
        """
        if not isinstance(data, dict):
            raise ValueError("the question is no object")
        like, unlike = (data.get(key, []) for key in ("like", "unlike"))
        for rows in (like, unlike):
            is_list = isinstance(rows, list) and len(rows) <= MOST_EXAMPLES
            if not is_list or not all(type(row) is int for row in rows):
                raise ValueError("examples are lists of the numbers of rows")
        hits = search_like(self.trained, like, unlike, by=str(data.get("by", "auto")), top=TOP)
        rows = hits["row"].to_numpy()
        cut = make(self.index, rows, self.trained.path / "previews", 1, Console(quiet=True))
        link(list(cut.keys.values()), self.trained.path / "previews", self.report / "previews")
        labels = {name: of[rows].tolist() for name, of in self.trained.labels.items()}
        return Rows(self.index, (), None, cut).columns(rows) | {"labels": labels}
