"""How far do two labellings of the same rows agree? By normalised mutual information (arithmetic
mean).

It is 0 for independent labellings and 1 for equal ones, whatever their clusters are called.
"""

from __future__ import annotations

import numpy as np

from seehear.method.clusters import UNLABELLED

CHUNK_ROWS = 2**20  # of labels, looked at at once


def nmi(labels_N: np.ndarray, others_N: np.ndarray) -> float:
    """NMI of two labellings over rows that both have; memory grows with pairs of labels alone."""
    first_P, second_P, counts_P = pairs_of(labels_N, others_N)
    total = counts_P.sum()
    share_P, shares = counts_P / total, []
    for labels_P in (first_P, second_P):
        share_K = np.bincount(labels_P, weights=counts_P) / total
        shares.append(
            (share_K[labels_P], -float((share_K[share_K > 0] * np.log(share_K[share_K > 0])).sum()))
        )
    (firsts_P, first_nats), (seconds_P, second_nats) = shares
    if first_nats + second_nats == 0:
        return 1.0  # all rows alike in both, or no rows
    mutual_nats = float((share_P * np.log(share_P / firsts_P / seconds_P)).sum())
    return max(0.0, min(1.0, 2 * mutual_nats / (first_nats + second_nats)))


def pairs_of(
    labels_N: np.ndarray, others_N: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The pairs of labels that rows have, and how many rows have each: three int64 arrays (P,)."""
    width = int(others_N.max(initial=0)) + 1
    codes, counts = np.zeros(0, np.int64), np.zeros(0, np.int64)
    for start in range(0, len(labels_N), CHUNK_ROWS):
        part = slice(start, start + CHUNK_ROWS)
        labels_n, others_n = labels_N[part], others_N[part]
        both_n = (labels_n != UNLABELLED) & (others_n != UNLABELLED)
        here, times = np.unique(
            labels_n[both_n] * np.int64(width) + others_n[both_n], return_counts=True
        )
        codes, place = np.unique(np.concatenate([codes, here]), return_inverse=True)
        counts = np.bincount(place, weights=np.concatenate([counts, times])).astype(np.int64)
    return codes // width, codes % width, counts
