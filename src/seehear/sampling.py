"""In which order does an epoch draw its rows? Written out whole, 4 bytes a draw, as NumPy's generator shuffles it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np


def epoch_rows(
    rows: np.ndarray, labels: Mapping[str, np.ndarray], seed: int, epoch: int, *, uniform: bool
) -> np.ndarray:
    """Which rows an epoch draws, in order: as many as `rows` has.

    Uniform over rows: a permutation. Uniform over clusters: for each draw a space, then one of its clusters, then one
    of the cluster's rows, so that every cluster is seen equally often in the space that it belongs to.
    """
    seeds = (seed, epoch, 0x5EED)
    if not uniform:
        return shuffled(rows, seeds)
    generator, spaces = np.random.default_rng(seeds), sorted(labels)
    counts = np.diff([len(rows) * i // len(spaces) for i in range(len(spaces) + 1)])
    drawn = [
        uniform_over_clusters(rows, labels[space][rows], int(count), generator)
        for space, count in zip(spaces, counts, strict=True)
    ]
    return generator.permutation(np.concatenate(drawn))


def shuffled(rows: np.ndarray, seeds: tuple[int, ...]) -> np.ndarray:
    """Some rows, each once, in an order that derives from `seeds`."""
    return np.random.default_rng(seeds).permutation(rows)


def uniform_over_clusters(
    rows: np.ndarray, labels_of_rows: np.ndarray, count: int, generator: np.random.Generator
) -> np.ndarray:
    """`count` rows such that every cluster comes equally often (to within one), and its rows as evenly as can be."""
    order = generator.permutation(len(rows))
    order = order[np.argsort(labels_of_rows[order], kind="stable")]
    _, first, sizes = np.unique(labels_of_rows[order], return_index=True, return_counts=True)
    turns = np.arange(count)
    cluster = generator.permutation(len(sizes))[turns % len(sizes)]
    return rows[order[first[cluster] + (turns // len(sizes)) % sizes[cluster]]]
