"""What is a trained run good for? Features, clusters and search for videos that it has never seen.

    from seehear.library import assign, embed, embed_file, export_labels, search

    features = embed("runs/mine", "new-videos")  # a row a segment, features of both encoders
    feature = embed_file(seehear.load("runs/mine"), "a.mp4")  # {"video": (D,), "audio": (D,)}
    labels = assign("runs/mine", features)  # cluster, distance, margin, name, in each space
    hits = search("runs/mine", "query.wav", top=20)  # nearest segments of the training videos
    duplicates("index", "copies.parquet")  # groups of copies, and which to keep
    subset("runs/mine", 1000, "part")  # an index of as many rows of each cluster as can be
    export_labels("runs/mine", "csv", "labels.csv")

Open `trained.py` first: a finished run, opened. `sources` finds segments, `embedding` runs the
encoders over them, `assigning` finds clusters; `merging` makes one result of what several
processes did. `gallery`, `querying`, `searching`, `examples` and `approximate` find neighbours;
`copies` finds copies; `balancing` balances; `exporting` writes labels for other programs. All
tables are Arrow tables.
"""

from __future__ import annotations

from seehear.library.assigning import assign, assign_to_file
from seehear.library.balancing import subset
from seehear.library.copies import duplicates
from seehear.library.embedding import embed, embed_file, embed_to_file
from seehear.library.examples import search_like
from seehear.library.exporting import FORMATS, export_labels
from seehear.library.searching import search
from seehear.library.trained import Trained, open_run

__all__ = [
    "FORMATS",
    "Trained",
    "assign",
    "assign_to_file",
    "duplicates",
    "embed",
    "embed_file",
    "embed_to_file",
    "export_labels",
    "open_run",
    "search",
    "search_like",
    "subset",
]
