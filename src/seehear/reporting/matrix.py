"""Where do video clusters and audio clusters meet? A table of counts, sorted so that agreement
forms blocks.

Clusters are paired so that as many rows as possible lie in a pair (an assignment problem), and
pairs that share rows are placed side by side (average linkage), so that blocks along the diagonal
are groups that both modalities see, and what lies outside sounds alike and looks different, or the
reverse.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from seehear.method.agreement import ami
from seehear.reporting.cards import Grouping, counts

MOST_LINKED = 1500  # pairs; more are sorted by size only


def meeting(video: Grouping, audio: Grouping) -> dict[str, Any]:
    """The table as the page shows it.

    Returns:
        video, audio: names of the clusterings; rows, columns: their clusters that are not empty, in
        order; cells: [row, column, count] by place in that order, without zeros; ami: of both
        labellings.
    """
    table_VA = counts(video.labels_N, video.num_clusters, audio.labels_N, audio.num_clusters)
    rows, columns = order(table_VA)
    sorted_VA = table_VA[np.ix_(rows, columns)]
    at = np.argwhere(sorted_VA)
    return {
        "video": video.name,
        "audio": audio.name,
        "rows": rows.tolist(),
        "columns": columns.tolist(),
        "cells": [[int(r), int(c), int(sorted_VA[r, c])] for r, c in at],
        "ami": round(ami(video.labels_N, audio.labels_N), 4),
    }


def order(table_VA: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """In which order to show rows and columns of a table of counts (empty ones are left out)."""
    from scipy.optimize import linear_sum_assignment

    rows, columns = np.flatnonzero(table_VA.sum(axis=1)), np.flatnonzero(table_VA.sum(axis=0))
    if not len(rows):
        return rows, columns
    small = table_VA[np.ix_(rows, columns)].astype(np.float64)
    r, c = linear_sum_assignment(small, maximize=True)
    places = pair_order(small, r, c)
    r, c = r[places], c[places]
    return rows[with_the_rest(r, small[:, c])], columns[with_the_rest(c, small[r].T)]


def pair_order(table: np.ndarray, r: np.ndarray, c: np.ndarray) -> np.ndarray:
    """An order of pairs (r[i], c[i]): those that share rows are neighbours, large groups first."""
    shared = table[np.ix_(r, c)]
    size = np.diag(shared)
    if not 2 < len(r) <= MOST_LINKED:
        return np.argsort(-size, kind="stable")
    from scipy.cluster.hierarchy import leaves_list, linkage
    from scipy.spatial.distance import squareform

    both = (shared + shared.T) / 2
    scale = np.sqrt(np.maximum(1, shared.sum(axis=1)) * np.maximum(1, shared.sum(axis=0)))
    distance = 1 - np.minimum(1, both / np.sqrt(np.outer(scale, scale)))
    np.fill_diagonal(distance, 0)
    tree = linkage(
        squareform(distance, checks=False), method="average", optimal_ordering=len(r) <= 256
    )
    places: np.ndarray = leaves_list(tree)
    half = len(places) // 2
    return places if size[places[:half]].sum() >= size[places[half:]].sum() else places[::-1]


def with_the_rest(paired: np.ndarray, shared: np.ndarray) -> np.ndarray:
    """Paired clusters in order, each before the unpaired ones that share most with its partner.

    `shared` has the counts of all clusters with the partner of each pair.
    """
    rest = np.setdiff1d(np.arange(len(shared)), paired)
    place = np.concatenate([np.arange(len(paired)), shared[rest].argmax(axis=1) + 0.5])
    return np.concatenate([paired, rest])[np.argsort(place, kind="stable")]


def standing_rows(video: Grouping, audio: Grouping, count: int) -> np.ndarray:
    """Rows that stand for the cells of the table: of each the one nearest to its video centroid."""
    cell_N = video.labels_N.astype(np.int64) * audio.num_clusters + audio.labels_N
    good = np.flatnonzero((video.labels_N >= 0) & (audio.labels_N >= 0))
    good = good[np.argsort(video.distance_N[good], kind="stable")]
    _, first, sizes = np.unique(cell_N[good], return_index=True, return_counts=True)
    return good[first[np.argsort(-sizes, kind="stable")]][:count]
