"""Which videos can be used, and why not the others?

`index` (`making`) finds files at any depth (`discovery`), looks at each in a worker process
(`decoding.pool`, `examination`), cuts the usable ones into segments, and writes a folder
(`table`).

Names are imported when they are first used: processes that decode come by here and need none of
them, and nothing of pyarrow, which nearly halves the time that they take to start.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from seehear.machine.lazy import lazily

if TYPE_CHECKING:
    from seehear.data.index.making import cut, index
    from seehear.data.index.summary import IndexSummary
    from seehear.data.index.table import Index

__all__ = ["Index", "IndexSummary", "cut", "index"]

_HOMES = {"Index": "table", "IndexSummary": "summary", "cut": "making", "index": "making"}

__getattr__ = lazily(__name__, _HOMES)
