"""What did a run find? One page to look at, listen to, and name clusters on, of real files, that
opens from disk.

`build.py` puts it together, `exploring.py` makes all from a folder of videos · `health.py` the
verdict · `cards.py` clusters · `matrix.py` video against audio · `projection.py` the map ·
`previews.py` moving pictures with sound · `segments.py` rows · `vectors.py` what the page finds by
itself · `scripts.py` data for the page · `server.py` serves it to this machine alone, so that names
can be saved, and the whole run searched (`whole.py`) · `single.py` one file · `page/` the page.
"""

from __future__ import annotations

from seehear.reporting.build import Report, report
from seehear.reporting.server import serve

__all__ = ["Report", "report", "serve"]
