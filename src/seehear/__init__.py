"""seehear learns to see by hearing and to hear by seeing, from unlabelled videos.

    seehear.index("videos", "index")             # which files can be used, and why not the others
    seehear.pretrain("index", "runs/mine", preset="small")
    model = seehear.load("runs/mine")            # model.video(frames), model.audio(waveform)
    seehear.assign("runs/mine", "new videos")    # their clusters, as an Arrow table

Names are imported when they are first used, so that `import seehear` is instant and needs no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from seehear.machine.lazy import lazily

if TYPE_CHECKING:
    from seehear.data import media as media
    from seehear.data.index import Index, index
    from seehear.data.packing import pack
    from seehear.data.synthetic import synth
    from seehear.errors import SeehearError
    from seehear.evaluation import evaluate
    from seehear.library import assign, duplicates, embed, embed_file, export_labels, search, subset
    from seehear.library.merging import merge
    from seehear.models.export import export
    from seehear.models.model import Model, load
    from seehear.reporting import report
    from seehear.reporting.demo import demo
    from seehear.reporting.exploring import explore
    from seehear.runs.clustering import cluster
    from seehear.runs.pretrain import pretrain

__version__ = "0.1.0"
__all__ = [
    "Index",
    "Model",
    "SeehearError",
    "__version__",
    "assign",
    "cluster",
    "demo",
    "duplicates",
    "embed",
    "embed_file",
    "evaluate",
    "explore",
    "export",
    "export_labels",
    "index",
    "load",
    "media",
    "merge",
    "pack",
    "pretrain",
    "report",
    "search",
    "subset",
    "synth",
]

_HOMES = {
    "Index": "data.index",
    "Model": "models.model",
    "SeehearError": "errors",
    "assign": "library",
    "cluster": "runs.clustering",
    "demo": "reporting.demo",
    "duplicates": "library",
    "embed": "library",
    "embed_file": "library",
    "evaluate": "evaluation",
    "explore": "reporting.exploring",
    "export": "models.export",
    "export_labels": "library",
    "index": "data.index",
    "load": "models.model",
    "media": "data",
    "merge": "library.merging",
    "pack": "data.packing",
    "pretrain": "runs.pretrain",
    "report": "reporting",
    "search": "library",
    "subset": "library",
    "synth": "data.synthetic",
}


__getattr__ = lazily(__name__, _HOMES)


def __dir__() -> list[str]:
    return sorted(__all__)
