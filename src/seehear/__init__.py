"""seehear learns to see by hearing and to hear by seeing, from unlabelled videos.

    seehear.index("videos", "index")                      # which files can be used, and why not the others
    seehear.pretrain("index", "runs/mine", preset="small")
    model = seehear.load("runs/mine")                     # model.video(frames), model.audio(waveform)
    seehear.assign("runs/mine", "new videos")             # their clusters, as an Arrow table

Names are imported when they are first used, so that `import seehear` is instant and needs no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from seehear.lazy import lazily

if TYPE_CHECKING:
    from seehear.errors import SeehearError
    from seehear.evaluation import evaluate
    from seehear.exporting import export
    from seehear.indexing import Index, index
    from seehear.library import assign, embed, embed_file, export_labels, search
    from seehear.model import Model, load
    from seehear.packing import pack
    from seehear.pretraining import pretrain
    from seehear.reporting import report
    from seehear.showcase import demo
    from seehear.synthetic import synth

__version__ = "0.1.0"
__all__ = [
    "Index",
    "Model",
    "SeehearError",
    "__version__",
    "assign",
    "demo",
    "embed",
    "embed_file",
    "evaluate",
    "export",
    "export_labels",
    "index",
    "load",
    "pack",
    "pretrain",
    "report",
    "search",
    "synth",
]

_HOMES = {
    "Index": "indexing",
    "Model": "model",
    "SeehearError": "errors",
    "assign": "library",
    "demo": "showcase",
    "embed": "library",
    "embed_file": "library",
    "evaluate": "evaluation",
    "export": "exporting",
    "export_labels": "library",
    "index": "indexing",
    "load": "model",
    "pack": "packing",
    "pretrain": "pretraining",
    "report": "reporting",
    "search": "library",
    "synth": "synthetic",
}


__getattr__ = lazily(__name__, _HOMES)


def __dir__() -> list[str]:
    return sorted(__all__)
