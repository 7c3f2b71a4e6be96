"""A small finished run whose files and classes have names that try to be more than text, and
readers of its report.
"""

from __future__ import annotations

import contextlib
import csv
import json
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

VIDEOS = 24
CLUSTERS = 5
FIXED = {
    "compute.precision": "fp32",
    "compute.memory_format": "contiguous",
    "data.workers": 0,
    "compute.threads": 1,
}
NAMES = (
    "<img src=x onerror=hacked=1>.mp4",
    "<script>window.hacked=1<!--.mp4",
    '" onfocus="hacked=1" \' ` & &lt;b&gt; ${hacked} \\u003c.mp4',
    "seal \U0001f9ad\U0001f3fd drum\U0001f941.mp4",
    "\u202egpj.elif\u202c.mp4",
    "\u05e9\u05dc\u05d5\u05dd \u0645\u0631\u062d\u0628\u0627.mp4",
    "line\u2028separated\u2029 name.mp4",
)
CLASSES = (
    "</script><script>hacked=1</script>",
    "\u202edrow",
    "quote \" ' & class",
    "\U0001f327 rain",
)


def make_run(here: Path) -> Path:
    """Videos, index, run and report in a folder."""
    import seehear

    seehear.synth(here / "made", videos=VIDEOS, classes=4, seed=5, progress=False)
    with (here / "made" / "classes.csv").open(newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    kinds = sorted({line["class"] for line in lines})
    (here / "videos").mkdir()
    with (here / "classes.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "class"])
        for i, line in enumerate(lines):
            name = NAMES[i] if i < len(NAMES) else f"{i:03d}.mp4"
            shutil.copy(here / "made" / line["path"], here / "videos" / name)
            writer.writerow([f"videos/{name}", CLASSES[kinds.index(line["class"])]])
    seehear.index([here / "videos"], here / "index", workers=1, progress=False)
    settings = {**FIXED, "rounds": 3, "cluster.num_clusters": CLUSTERS}
    seehear.pretrain(here / "index", here / "run", preset="debug", settings=settings)
    seehear.report(here / "run", classes=here / "classes.csv", workers=1)
    return here


def data(report: Path, name: str) -> Any:
    """What a data file of a report holds."""
    text = (report / "data" / f"{name}.js").read_text(encoding="ascii")
    head = f'SEEHEAR.put("{name}", '
    assert text.startswith(head), text[:80]
    assert text.endswith(");\n")
    return json.loads(text[len(head) : -3])


@contextlib.contextmanager
def served(report: Path, run: Path) -> Iterator[Any]:
    """A server of a run's report, which answers in a thread while the block lasts."""
    from seehear.reporting import serve

    server = serve(report, run)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
