"""From a folder of videos to clusters that play, in one call.

OUT/index   which segments can be used
OUT/run     their clusters: of the encoders that were asked for, else of downloaded ones that give
            both senses, else of encoders that are trained on these videos by the preset "demo"
OUT/run/report   the page

Each stage that is whole already is kept, and one that was stopped goes on or begins again, so that
the same call after an interruption ends at the page.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from seehear.data.index import Index, index
from seehear.errors import Interrupted, RunError
from seehear.machine.console import Console
from seehear.models.at_hand import downloaded
from seehear.presets import preset_settings
from seehear.reporting.build import Report, report
from seehear.runs.clustering import cluster, usual_clusters
from seehear.runs.fingerprint import what_changed
from seehear.runs.folder import Run
from seehear.runs.pretrain import pretrain

PRESET = "demo"
FEW = 1000  # segments: XDC from random weights learned 400 by heart, and events from 1,200


def explore(
    videos: str | Path | Sequence[str | Path],
    out: str | Path = "explored",
    *,
    encoder: Sequence[str] = (),
    workers: int | None = None,
    device: str = "auto",
    overwrite: bool = False,
    console: Console | None = None,
) -> Report:
    """Index videos, cluster their segments by what is seen and heard, and build the page.

    Args:
        videos: as for `seehear.index`.
        out: the folder of all that is made; what an earlier call finished there is kept.
        encoder: as for `seehear.cluster`; by default downloaded ones that give both senses, else
            encoders are trained on these videos, and how long that takes is told before it starts.
        workers: processes; by default one a core.
        device: where the encoders run.
        overwrite: cluster anew, where the videos have changed or other encoders are wanted.
        console: where progress is shown; stderr by default.
    Returns:
        The report, whose `path` is the page to open.
    Raises:
        UsageError: no usable videos, or clusters of other videos or encoders in `out`.
    """
    out = Path(out)
    with console or Console() as shown:
        summary = index(videos, out / "index", workers=workers, progress=not shown.quiet)
        for line in summary.describe().splitlines():
            shown.say(line)
        opened, run = Index.open(out / "index"), out / "run"
        is_begun = (run / "run.json").exists() and not overwrite
        if is_begun:
            check_same(run, opened, encoder)
        chosen = [] if is_begun else list(encoder) or downloaded()
        if is_begun and (run / "clusters").is_dir():
            shown.say(f"{run} is there already; --overwrite makes it anew.")
        elif chosen:
            shown.say(f"Clusters by {' and '.join(chosen)}, without training -> {run}")
            how: dict[str, Any] = {"device": device, "overwrite": overwrite, "console": shown}
            cluster(opened, run, chosen, workers=-1 if workers is None else workers, **how)
        else:
            train_here(opened, run, workers, device, is_begun, shown)
        return report(run, workers=workers, console=shown)


def check_same(run: Path, index: Index, wanted: Sequence[str]) -> None:
    """Raise RunError where a run is of other videos or encoders than are wanted."""
    anew = "Make it anew with --overwrite, or choose another --out."
    record = Run.open(run).record
    if record["index"]["digest"] != index.digest:
        changed = what_changed(record["index"], index)
        raise RunError(f"The videos have changed since {run} was made ({changed}). {anew}")
    used = record.get("encoder")
    if wanted and used != " and ".join(wanted):
        raise RunError(f"{run} is by {used or 'encoders that were trained here'}. {anew}")


def train_here(
    index: Index, run: Path, workers: int | None, device: str, resume: bool, console: Console
) -> None:
    """Train small encoders on these videos, or go on with that."""
    console.say(
        "No encoders for both senses were named or are downloaded, so small ones are trained on "
        f"these videos (preset {PRESET}). Others: --encoder"
    )
    if len(index) < FEW:
        console.say(
            f"{len(index)} segments are few to learn from nothing (400 synthetic ones were learned "
            "by heart, 1,200 were not). Released encoders need no training: seehear explore --help"
        )
    most = usual_clusters(len(index))
    counts = [k for k in preset_settings(PRESET).cluster.num_clusters if k <= most]
    settings = {
        "cluster.num_clusters": tuple(counts or [most]),
        "data.workers": -1 if workers is None else workers,
        "compute.device": device,
    }
    how: dict[str, Any] = {"preset": PRESET, "settings": settings, "console": console}
    try:
        pretrain(index, run, resume=resume, overwrite=not resume, **how)
    except Interrupted as stopped:
        raise Interrupted(f"{stopped}\nor with the same seehear explore, to the page.") from None
