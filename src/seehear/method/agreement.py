"""How far do two labellings of the same rows agree? By normalised mutual information (arithmetic
mean).

NMI is 1 for equal labellings, whatever their clusters are called, and 0 for independent ones of
endless rows. Of few rows chance alone gives more, and the more, the more clusters there are: of
1,200 rows 0.01 with 8 clusters and 0.32 with 64. Adjusted for that, it is AMI.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from seehear.method.clusters import UNLABELLED, number_of, space_of

CHUNK_ROWS = 2**20  # of labels, looked at at once
NEARLY = 0.9  # of the highest AMI: more clusters say more, if they agree not much less


def nmi(labels_N: np.ndarray, others_N: np.ndarray) -> float:
    """NMI of two labellings over rows that both have; memory grows with pairs of labels alone."""
    return _nmi_of(*pairs_of(labels_N, others_N))


def ami(labels_N: np.ndarray, others_N: np.ndarray) -> float:
    """NMI on a scale from 0, what chance gives or less, to 1, equal labellings.

    Chance is one table of counts drawn at random with clusters of the same sizes. Its expected
    value, which the literature takes, costs 14 s for a million rows and 256 clusters each; this 10
    ms, and the same to 0.02 from some hundred rows on.
    """
    pairs = pairs_of(labels_N, others_N)
    value, chance = _nmi_of(*pairs), _nmi_of(*_dealt_out(*pairs))
    return max(0.0, (value - chance) / max(1e-9, 1 - chance))


def most_agreed(labels: Mapping[str, np.ndarray]) -> str:
    """The clustering to show first: by both senses, with the most clusters on which video and audio
    agree, beyond chance, nearly as well as with any number.

    labels: clustering, such as "joint_64", -> its labels (N,).
    """

    def agreed(name: str) -> float:
        count = name.removeprefix(space_of(name))
        both = [labels[m + count] for m in ("video", "audio") if m + count in labels]
        return ami(*both) if len(both) == 2 else 0.0

    found = {n: agreed(n) for n in [n for n in labels if space_of(n) == "joint"] or labels}
    if not any(found.values()):  # one sense alone, or no agreement
        return next(iter(found))
    enough = NEARLY * max(found.values())
    return max((name for name in found if found[name] >= enough), key=number_of)


def _nmi_of(first_P: np.ndarray, second_P: np.ndarray, counts_P: np.ndarray) -> float:
    """NMI by the pairs of labels that rows have, and their numbers."""
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


def _dealt_out(
    first_P: np.ndarray, second_P: np.ndarray, counts_P: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The pairs after the second labels were dealt out at random, without touching the rows."""
    rng = np.random.default_rng(0)
    sizes_K = np.bincount(first_P, weights=counts_P).astype(np.int64)
    left_K = np.bincount(second_P, weights=counts_P).astype(np.int64)
    dealt = [(np.zeros(0, np.int64),) * 3]
    for label, size in enumerate(sizes_K):
        dealt_K = rng.multivariate_hypergeometric(left_K, size, method="marginals")
        left_K = left_K - dealt_K
        there = np.flatnonzero(dealt_K)
        dealt.append((np.full(len(there), label), there, dealt_K[there]))
    first_P, second_P, counts_P = (np.concatenate(part) for part in zip(*dealt, strict=True))
    return first_P, second_P, counts_P


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
