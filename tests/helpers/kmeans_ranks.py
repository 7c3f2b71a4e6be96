"""What every rank does in test_distributed.py; run by torchrun: kmeans_ranks.py FOLDER RANKS [FEWER
RANKS ...].

Each rank clusters its shard of the same rows and writes what it found to FOLDER/<ranks>/<rank>.pt.
Fewer ranks than were started form a group of their own, so that one start serves several numbers of
ranks.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch

from fewer_ranks import fewer_and_fewer
from kmeans_data import mixture
from seehear.errors import SettingsError
from seehear.machine import distributed
from seehear.method.kmeans import fit_preprocessing, kmeans
from seehear.method.kmeans import rows as kmeans_rows

# where the rows are cut, in shares of them: uneven, and one rank of five has none
CUTS = {1: (0, 1), 2: (0, 0.3, 1), 3: (0, 0.07, 0.61, 1), 5: (0, 0.2, 0.2, 0.55, 0.9, 1)}
ROWS, CLUSTERS = 901, 13


def features() -> torch.Tensor:
    return torch.relu(mixture(ROWS, 24, 30, apart=0.6)) * torch.linspace(0.2, 2, 24)


def searches() -> dict[str, dict[str, Any]]:
    """Options of the searches to compare; arguments with one entry per row are cut like the
    rows.
    """
    return {
        "plain": {},
        "warm": {"init": torch.arange(ROWS) % CLUSTERS},
        "sample": {"points_per_centroid": 25},
        "empty": {"init": torch.cat([torch.zeros(1, 24), torch.full((CLUSTERS - 1, 24), 1e3)])},
    }


def cluster(rank: int, ranks: int) -> dict[str, Any]:
    """What this rank of so many finds."""
    first, last = (round(CUTS[ranks][i] * ROWS) for i in (rank, rank + 1))
    rows = features()[first:last]
    found: dict[str, Any] = {}
    kmeans_rows._BLOCK_NUMBERS["cpu"] = 150 * rows.shape[1]  # several chunks a rank
    for name, options in searches().items():
        cut = {
            key: value[first:last]
            if isinstance(value, torch.Tensor) and len(value) == ROWS
            else value
            for key, value in options.items()
        }
        result = kmeans(rows, CLUSTERS, seed=3, iterations=8, **cut)
        found[name] = {
            "labels": result.labels,
            "centroids": result.centroids,
            "sizes": result.sizes,
            "inertia": result.inertia,
            "reseeded": result.reseeded,
        }
    found["preprocessing"] = fit_preprocessing(rows, whiten=True)(rows)
    bad = rows.clone()
    if rank == ranks - 1:
        bad[-2:] = torch.nan
    try:
        kmeans(bad, CLUSTERS, seed=0)
    except SettingsError as error:
        found["error"] = str(error)
    return found


def collectives() -> None:
    """Sums, extremes and copies over the ranks."""
    me, all_of_us = distributed.rank(), distributed.world_size()
    assert distributed.all_reduce(torch.tensor([me, 1])).tolist() == [
        all_of_us * (all_of_us - 1) // 2,
        all_of_us,
    ]
    assert distributed.all_reduce(torch.tensor([float(me)]), "max").tolist() == [all_of_us - 1]
    assert distributed.all_reduce(torch.tensor([me]), "min").tolist() == [0]
    assert distributed.broadcast(torch.tensor([me + 5])).tolist() == [5]
    assert distributed.broadcast(torch.tensor([me]), all_of_us - 1).tolist() == [all_of_us - 1]
    distributed.barrier()


def main() -> None:
    folder, *counts = sys.argv[1:]
    assert distributed.start() == torch.device("cpu")
    started_as = distributed.rank()
    for ranks in fewer_and_fewer(folder, map(int, counts)):
        collectives()
        target = Path(folder, str(ranks))
        target.mkdir(exist_ok=True)
        torch.save(cluster(started_as, ranks), target / f"{started_as}.pt")


if __name__ == "__main__":
    main()
