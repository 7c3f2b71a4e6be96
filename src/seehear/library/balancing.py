"""Which n segments stand for all, when a few kinds are frequent and most are rare?

Every cluster gives as many as any other, or all that it has: the cap is as high as `size` allows.
Within a cluster, "spread" clusters once more, into as many parts as are wanted, and takes the
middle of each; "nearest" takes the rows nearest to the centroid. Spreading first over clusters and
then within them is what hierarchical k-means does to curate data, in two levels (H. V. Vo et al.,
"Automatic Data Curation for Self-Supervised Learning", 2024).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from pyarrow import csv

from seehear.data.index import Index
from seehear.data.index.writing import write_part
from seehear.errors import SettingsError, UsageError
from seehear.library.assigning import columns_in, save_labels
from seehear.library.copies import is_copies
from seehear.library.trained import Centroids, Trained, open_run
from seehear.machine.locks import one_writer
from seehear.machine.outputs import INDEX, check_ending, check_file, check_folder
from seehear.method.agreement import most_agreed
from seehear.method.kmeans import kmeans
from seehear.models.model import Model

WITHIN = ("spread", "nearest")
AS_FILE = (".csv", ".parquet")
COLUMNS = ("path", "start_s", "end_s", "row", "cluster")


def subset(
    run: str | Path | Model | Trained,
    size: int,
    out: str | Path,
    *,
    by: str | None = None,
    within: str = "spread",
    without: str | Path | None = None,
    seed: int = 0,
    index: str | Path | None = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Write a balanced part of the segments that a run was trained on.

    Args:
        run: the folder of a finished run, or its loaded model.
        size: how many segments.
        out: a file that ends in .csv (a list for `seehear index --segments`) or .parquet; another
            name is the folder of a new index.
        by: the clustering, such as "joint", "video_64" or "audio"; by default that which a report
            opens with.
        within: how a cluster's rows are chosen: "spread" or "nearest".
        without: a file of `duplicates`, whose copies are left out.
        seed: with it, the same run gives the same rows.
        index: that the run was trained on; by default where the run found it.
        overwrite: replace what an earlier call wrote.
    Returns:
        "path", "segments", "videos", "by", "clusters" (that have one), "of" (that are not empty),
        "even" (to how many even clusters their sizes are worth: e to their entropy); and "random",
        with the same two of as many segments drawn at random.
    Raises:
        UsageError: no such clustering, or `out` exists.
    """
    trained, out = open_run(run), Path(out)
    by = checked(trained, size, by, within)
    rows = trained.index(index)
    check_free(out, rows, overwrite, [trained.path, rows.folder])
    label_N = trained.labels[by].astype(np.int64)
    if without is not None:
        label_N[left_out(rows, Path(without))] = -1
    chosen = choose(trained, trained.clusterings[by], label_N, size, within, seed)
    with one_writer(out):
        if out.suffix in AS_FILE:
            save_labels(table_of(rows, chosen, label_N), out, as_csv=out.suffix == ".csv")
        else:
            write_part(out, rows, chosen)
    there = np.flatnonzero(label_N >= 0)
    drawn = np.random.default_rng((seed, 1)).choice(there, len(chosen), replace=False)
    return {
        "path": str(out),
        "segments": len(chosen),
        "videos": len(np.unique(rows.video[chosen])),
        "by": by,
        "of": len(np.unique(label_N[there])),
        **evenness(label_N[chosen]),
        "random": evenness(label_N[drawn]),
    }


def checked(trained: Trained, size: int, by: str | None, within: str) -> str:
    """The clustering that is meant; SettingsError for what cannot be."""
    if size < 1:
        raise SettingsError(f"size is {size}. It must be at least 1.")
    if within not in WITHIN:
        raise SettingsError(f"within is {within!r}. It must be {' or '.join(WITHIN)}.")
    names = list(trained.clusterings)
    by = by or most_agreed(trained.labels)
    if by not in names:
        raise SettingsError(f"by is {by!r}. The run has {', '.join(names)}.")
    return by


def check_free(out: Path, index: Index, overwrite: bool, inputs: list[Path]) -> None:
    """Raise UsageError where the part cannot be written, or something else would be lost."""
    if out.suffix in AS_FILE:
        check_file(out, is_subset, "segments", overwrite=overwrite, inputs=inputs)
        return
    check_folder(out, INDEX, overwrite=overwrite, inputs=inputs)
    if out.suffix[1:].isalpha():  # "part-1.5" is a folder's name
        check_ending(out, AS_FILE, "segments")
    if index.is_packed:
        raise UsageError(f"{index.folder} is packed. Write a list: --out {out}.csv")


def evenness(label_n: NDArray[np.int64]) -> dict[str, float]:
    """How many clusters some rows are in, and how many even ones these are worth."""
    _, counts = np.unique(label_n, return_counts=True)
    share = counts / counts.sum()
    return {
        "clusters": len(counts),
        "even": round(float(np.exp(-(share * np.log(share)).sum())), 2),
    }


def choose(
    trained: Trained,
    clustering: Centroids,
    label_N: NDArray[np.int64],
    size: int,
    within: str,
    seed: int,
) -> NDArray[np.int64]:
    """The rows of a balanced part, ascending; rows of label -1 are none of them."""
    counts_K = np.bincount(label_N[label_N >= 0], minlength=len(clustering.centroids_KD))
    chosen = []
    for cluster, count in enumerate(shares(counts_K, size, seed).tolist()):
        rows = np.flatnonzero(label_N == cluster)
        if 0 < count < len(rows):
            prepared_nD = clustering.prepared(trained.features_of(rows, clustering.modalities))
            centre_D = clustering.centroids_KD[cluster]
            distance_n = (prepared_nD - centre_D).norm(dim=1).numpy()
            order = np.argsort(distance_n, kind="stable")[:count]
            rows = rows[middles(prepared_nD, count, seed) if within == "spread" else order]
        if count:
            chosen.append(rows)
    return np.sort(np.concatenate(chosen)) if chosen else np.zeros(0, np.int64)


def shares(counts_K: NDArray[np.int64], size: int, seed: int) -> NDArray[np.int64]:
    """How many of each cluster: as evenly as what is there allows, `size` in all.

    One more than the others is given to clusters drawn from the seed.
    """
    lowest, highest = 0, int(counts_K.max(initial=0))
    while lowest < highest:  # the highest cap that does not give too many
        cap = (lowest + highest + 1) // 2
        if np.minimum(counts_K, cap).sum() <= size:
            lowest = cap
        else:
            highest = cap - 1
    share_K = np.minimum(counts_K, lowest)
    more = np.random.default_rng((seed, 0)).permutation(np.flatnonzero(counts_K > lowest))
    share_K[more[: size - int(share_K.sum())]] += 1
    return share_K


def middles(prepared_nD: torch.Tensor, count: int, seed: int) -> NDArray[np.int64]:
    """Of each of `count` parts of a cluster, the row nearest to its centre."""
    parts = kmeans(prepared_nD, count, seed=seed)
    distance_n = (prepared_nD - parts.centroids[parts.labels.long()]).norm(dim=1).numpy()
    order = np.lexsort((distance_n, parts.labels.numpy()))
    _, first = np.unique(parts.labels.numpy()[order], return_index=True)
    found = order[first]
    rest = np.setdiff1d(order, found)  # of rows that are the same, some parts are empty
    return np.concatenate([found, rest[: count - len(found)]])


def left_out(index: Index, copies: Path) -> NDArray[np.int64]:
    """The rows that a file of `duplicates` has no need to keep."""
    if copies.suffix not in AS_FILE or not is_copies(copies):
        raise UsageError(f"{copies} is no file of `seehear duplicates`.")
    wanted = ["path", "start_s", "keep"]
    if copies.suffix == ".csv":
        text = csv.ParseOptions(newlines_in_values=True)  # in names of files
        table = csv.read_csv(copies, parse_options=text).select(wanted).to_pylist()
    else:
        table = pq.read_table(copies, columns=wanted).to_pylist()
    gone = {(line["path"], round(line["start_s"], 6)) for line in table if not line["keep"]}
    places = enumerate(index.original_start_s.tolist())
    rows = [row for row, s in places if (index.original_path(row), round(s, 6)) in gone]
    return np.array(rows, np.int64)


def table_of(index: Index, rows: NDArray[np.int64], label_N: NDArray[np.int64]) -> pa.Table:
    """A list of segments as `seehear index --segments` takes it."""
    start_s = index.original_start_s[rows]
    end_s = (start_s + index.seconds[rows]).round(6)
    paths = [index.original_path(row) for row in rows.tolist()]
    return pa.table(dict(zip(COLUMNS, (paths, start_s, end_s, rows, label_N[rows]), strict=True)))


def is_subset(path: Path) -> bool:
    """Whether a file holds what `subset` wrote."""
    return tuple(columns_in(path)) == COLUMNS
