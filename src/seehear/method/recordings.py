"""What do the rows of one recording share, and what is left of each without it?

Their mean is the place, the light, the head and the microphone; what a row adds to it is the event.
A picture and its sound share the recording above all, so that encoders which teach each other learn
to tell recordings apart, unless these means are taken away before k-means. The mean of few rows,
however, is mostly of their events. So with `cluster.centre` "auto" it is taken from the rows of
recordings that have at least `LEAST_ROWS`; with "recording" from all that are not alone; with "all"
from none. Rows from which none is taken are compared with all rows, as ever.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from seehear.machine import distributed

BLOCK_RECORDINGS = 2**13  # whose means are in memory at once: 34 MB of 512 columns in float64
CHUNK_ROWS = 2**14  # added up at once
LEAST_ROWS = 4  # docs/method.md has what recordings of fewer lose, and of more gain
# `cluster.centre` -> of how many rows a recording must be for its mean to be taken from them
LEAST = {"all": 2**62, "recording": 2, "auto": LEAST_ROWS}


@dataclass(frozen=True)
class Spread:
    """How the variance of features is divided, over the rows of all ranks.

    mean_D: float64, of all rows. within, between: sums of squares, of rows about the mean of their
    recording and of these means about `mean_D`. most: rows of the largest recording.
    """

    mean_D: Tensor
    rows: int
    recordings: int
    within: float
    between: float
    most: int

    @classmethod
    def of(cls, features_nD: Tensor, recording_n: np.ndarray) -> Spread:
        """Of this rank's rows and those of all others; recordings are numbered alike on all."""
        totals_D = features_nD.new_zeros(features_nD.shape[1] + 1, dtype=torch.float64)
        totals_D[:-1], totals_D[-1] = features_nD.sum(0, dtype=torch.float64), len(features_nD)
        distributed.all_reduce(totals_D)
        mean_D = totals_D[:-1] / totals_D[-1].clamp(min=1)
        sums, most = torch.zeros(3, dtype=torch.float64), torch.zeros((), dtype=torch.float64)
        for rows_c, mean_cD, count_c in _means(features_nD, recording_n):
            sums += torch.stack(
                (
                    (features_nD[rows_c] - mean_cD).square().sum(),
                    (mean_cD - mean_D).square().sum(),
                    (1 / count_c).sum(),
                )
            )
            most = torch.maximum(most, count_c.max())
        within, between, recordings = distributed.all_reduce(sums).tolist()
        largest = int(distributed.all_reduce(most, "max"))
        return cls(mean_D, int(totals_D[-1]), round(recordings), within, between, largest)

    @property
    def share(self) -> float:
        """The share of the variance that lies between recordings."""
        return self.between / max(self.within + self.between, 1e-30)

    @property
    def chance(self) -> float:
        """The share that is to be expected where recordings mean nothing: 1 with a row of each."""
        return (self.recordings - 1) / max(1, self.rows - 1)


@dataclass(frozen=True)
class Centring:
    """What is taken from rows for their recordings: by how much the mean of each that has at least
    so many rows differs from the mean of all training rows, `mean_D`.
    """

    mean_D: Tensor
    least: int

    @classmethod
    def fit(cls, spread: Spread, centre: str) -> Centring | None:
        """As `cluster.centre` says; None where nothing is to be taken."""
        least = LEAST[centre]
        return cls(spread.mean_D, least) if spread.most >= least else None

    def __call__(self, features_nD: Tensor, recording_n: np.ndarray) -> Tensor:
        """A copy of features without what is their recording's on all ranks, float32."""
        out_nD = features_nD.float().clone()
        for rows_c, mean_cD, count_c in _means(features_nD, recording_n):
            out_nD[rows_c] -= self.of_recording(mean_cD, count_c)
        return out_nD

    def of_recording(self, mean_nD: Tensor, count_n: Tensor) -> Tensor:
        """What is taken from rows whose recordings have these means and so many rows, float32."""
        return torch.where((count_n >= self.least)[:, None], mean_nD - self.mean_D, 0.0).float()


def num_centred(recording_N: np.ndarray, centre: str) -> int:
    """How many of some rows the mean of their recording is taken from."""
    count_R = np.bincount(recording_N)
    return int(count_R[count_R >= LEAST[centre]].sum())


@dataclass(frozen=True)
class Recordings:
    """The recordings of many rows, whose features are read a block at a time: the mean of each.

    number_N: int32, which recording a row is of, -1 where that has too few rows to have a mean.
    sums: modality -> (R, D + 1) float64, of features and rows. centrings: of the same modalities;
    features of others stay as they are. least: of how many rows a recording has a mean.
    """

    number_N: np.ndarray
    centrings: Mapping[str, Centring] = field(default_factory=dict)
    sums: Mapping[str, Tensor] = field(default_factory=dict)
    least: int = 2

    @classmethod
    def of(
        cls,
        recording_N: np.ndarray,
        blocks: Iterable[tuple[np.ndarray, Mapping[str, Tensor]]],
        centrings: Mapping[str, Centring],
    ) -> Recordings:
        """Read all blocks once: numbers of rows, and features (n, D) by modality.

        recording_N: numbers that are equal for rows of one recording, of all rows.
        """
        _, own_N, count_R = np.unique(recording_N, return_inverse=True, return_counts=True)
        least = min((c.least for c in centrings.values()), default=2)
        several_R = count_R >= least
        number_R = np.where(several_R, np.cumsum(several_R) - 1, -1).astype(np.int32)
        number_N = number_R[own_N]
        sums = {
            modality: torch.zeros(int(several_R.sum()), len(c.mean_D) + 1, dtype=torch.float64)
            for modality, c in centrings.items()
        }
        for rows_n, features in blocks:
            known_n = number_N[rows_n] >= 0
            number_n = torch.from_numpy(number_N[rows_n][known_n].astype(np.int64))
            for modality in sums.keys() & features.keys():
                sums[modality][:, :-1].index_add_(0, number_n, features[modality][known_n].double())
                sums[modality][:, -1] += torch.bincount(number_n, minlength=len(sums[modality]))
        return cls(number_N, centrings, sums, least)

    def without(self, rows_n: np.ndarray, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Features (n, D) of some rows, without what is their recordings'."""
        number_n, found = self.number_N[rows_n], dict(features)
        known_n = torch.from_numpy(number_n >= 0)
        for modality in self.centrings.keys() & features.keys():
            sums_nD = self.sums[modality][number_n[number_n >= 0]]
            count_n = sums_nD[:, -1]
            taken_nD = self.centrings[modality].of_recording(
                sums_nD[:, :-1] / count_n.clamp(min=1)[:, None], count_n
            )
            found[modality] = features[modality].float().clone()
            found[modality][known_n] -= taken_nD
        return found


def _means(features_nD: Tensor, recording_n: np.ndarray) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Some rows of this rank at a time: their numbers, and of the recording of each the mean (c, D)
    and how many rows it has on all ranks (c,), float64.
    """
    most = distributed.all_reduce(torch.tensor(recording_n.max(initial=-1) + 1), "max")
    edges = np.arange(0, int(most) + BLOCK_RECORDINGS, BLOCK_RECORDINGS)
    order = np.argsort(recording_n, kind="stable")
    bounds = np.searchsorted(recording_n[order], edges)
    for first, (start, stop) in zip(edges, pairwise(bounds), strict=False):
        rows_n = torch.from_numpy(order[start:stop])
        own_n = torch.from_numpy(recording_n[order[start:stop]].astype(np.int64) - first)
        chunks = [
            (rows_n[at : at + CHUNK_ROWS], own_n[at : at + CHUNK_ROWS])
            for at in range(0, len(rows_n), CHUNK_ROWS)
        ]
        sums_RD = torch.zeros(BLOCK_RECORDINGS, features_nD.shape[1] + 1, dtype=torch.float64)
        for rows_c, own_c in chunks:
            sums_RD[:, :-1].index_add_(0, own_c, features_nD[rows_c].double())
            sums_RD[:, -1] += torch.bincount(own_c, minlength=BLOCK_RECORDINGS)
        distributed.all_reduce(sums_RD)
        means_RD = sums_RD[:, :-1] / sums_RD[:, -1:].clamp(min=1)
        for rows_c, own_c in chunks:
            yield rows_c, means_RD[own_c], sums_RD[own_c, -1]
