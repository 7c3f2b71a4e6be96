"""Which videos can be used, and why not the others?

`index` (`making`) finds files at any depth (`discovery`), looks at each (`looking`) in a worker
process (`decoding.pool`, `examination`), cuts the usable ones into segments (`data.stretches`, or
by a list of the user's, `chosen`), and writes a folder, which `table` opens. Whoever knows which
parts of which files are wanted has an index of them in memory (`lookup`).

Names are imported when they are first used: processes that decode come by here and need none of
them, and nothing of pyarrow, which nearly halves the time that they take to start.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from seehear.machine.lazy import lazily

if TYPE_CHECKING:
    from seehear.data.index.making import index
    from seehear.data.index.summary import IndexSummary
    from seehear.data.index.table import Index

__all__ = ["Index", "IndexSummary", "index"]

_HOMES = {"Index": "table", "IndexSummary": "summary", "index": "making"}

__getattr__ = lazily(__name__, _HOMES)
