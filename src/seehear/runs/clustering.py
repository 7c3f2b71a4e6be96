"""The clusters of an index by encoders as they are: a run's folder without training.

Features of every row, clusters of every space and the encoders themselves are written as
`pretrain` ends, so that whatever reads a run reads this. `run.json` names the encoders as
"encoder", and there are no rounds.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from seehear.config import Cluster, Compute, Data, Encoders, Settings
from seehear.data.advice import divide_cores
from seehear.data.clips import Clips
from seehear.data.index import Index
from seehear.machine import distributed, outputs
from seehear.machine.console import Console
from seehear.machine.devices import find_device, kernels
from seehear.machine.files import whole_folder
from seehear.machine.locks import one_writer
from seehear.method.state import State
from seehear.models.model import Model, joined, load, name_of
from seehear.runs.extraction import extracted, work_of
from seehear.runs.fingerprint import fingerprint, place_of
from seehear.runs.finishing import finish
from seehear.runs.folder import Run
from seehear.runs.pretrain import check_size

MOST_CLUSTERS, ROWS_A_CLUSTER = 256, 20  # where no number is given


def cluster(
    index: str | Path | Index,
    out: str | Path,
    encoder: str | Path | Model | Sequence[str | Path | Model],
    *,
    num_clusters: Sequence[int] | None = None,
    workers: int = -1,
    device: str = "auto",
    overwrite: bool = False,
    console: Console | None = None,
) -> Run:
    """Cluster the segments of an index by the features of trained encoders, without training.

    The same call after a kill goes on with the features that were extracted. Under torchrun all
    processes call it alike, and each extracts features of its share.

    Args:
        index: the folder that `seehear.index` wrote.
        out: the folder, which `assign`, `search`, `report`, `export_labels` and `evaluate` read as
            a run; it appears whole or not at all.
        encoder: what `seehear.load` opens, or several: each sense is taken from the first that has
            it. With one sense alone there are its clusters alone.
        num_clusters: K; several numbers make one clustering each. By default one for 20 segments,
            at most 256.
        workers: decoding processes; -1: one a core.
        device: where the encoders run.
        overwrite: replace the run that is there.
        console: where progress is shown; stderr by default.
    Raises:
        UsageError: an index or encoders that do not fit, or an existing run.
    """
    out, index = Path(out), index if isinstance(index, Index) else Index.open(index)
    device = str(distributed.start(find_device(device)))
    given = [encoder] if isinstance(encoder, str | Path | Model) else list(encoder)
    model = joined([x if isinstance(x, Model) else load(x, device=device) for x in given])
    cfg = Settings(  # as of a run that was trained
        clip=model.clip,
        encoders=Encoders(**model.info["encoders"]),
        cluster=Cluster(num_clusters=tuple(num_clusters or [usual_clusters(len(index))])),
        data=Data(workers=workers),
        compute=Compute(device=model.numerics.device, precision="fp32"),
    )
    check_size(cfg, index)
    console = console if distributed.rank() == 0 else Console(quiet=True)
    with console or Console() as shown, ExitStack() as held:
        places = [index.folder, *(Path(x) for x in given if not isinstance(x, Model))]
        prepare = partial(begin, held, out, index, overwrite, places)
        folder = Path(distributed.on_rank_zero(prepare))
        record = {
            "settings": cfg.to_dict(),
            "index": place_of(index, out) | fingerprint(index),
            "numerics": model.numerics.describe(),
            "encoder": " and ".join(name_of(x) if isinstance(x, Model) else str(x) for x in given),
        }
        run = Run.create(folder, record) if distributed.rank() == 0 else Run(folder, record)
        clips = Clips(index, cfg.clip, cfg.data, cfg.seed, model.modalities)
        divide_cores(clips, cfg.compute, device)
        origin = {str(k): v for k, v in model.info.items() if k in ("source", "networks")}
        work = work_of(model, clips, out)
        with kernels(cfg.compute):
            found = extracted(work, clips, shown)
            finish(run, cfg, State(model.pair, model.numerics), clips, shown, origin, found)
    distributed.on_rank_zero(work.remove)
    return Run(out, run.record)


def usual_clusters(rows: int) -> int:
    """K where no number is given."""
    return min(MOST_CLUSTERS, max(2, rows // ROWS_A_CLUSTER))


def begin(held: ExitStack, out: Path, index: Index, overwrite: bool, inputs: Sequence[Path]) -> str:
    """The temporary folder that becomes `out`, locked until `held` is closed."""
    index.check()
    kind = outputs.CLUSTERED
    outputs.check_folder(out, kind, overwrite=overwrite, inputs=inputs)
    held.enter_context(one_writer(out))
    return str(held.enter_context(whole_folder(out, replaces=kind)))
