"""What can the page find by itself, without a server? What is like a row, by a few numbers of each.

The unit vectors of the map's rows, in the space of clusters, are turned so that the first `WIDTH`
numbers hold as much of them as can be, and kept as int8: the page compares rows by these. A served
page asks the run, which has all rows and all numbers.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch.nn import functional as F

from seehear.library.trained import clusterings_of
from seehear.machine.reading import open_features
from seehear.reporting.scripts import packed

WIDTH = 32


def vectors(run: Path, rows: NDArray[np.int64]) -> dict[str, str]:
    """Modality -> (N, WIDTH) int8, packed; zeros for rows that could not be read."""
    found: dict[str, str] = {}
    clusterings = clusterings_of(load_file(run / "clusters" / "centroids.safetensors"))
    features = open_features(run)
    for clustering in clusterings.values():
        if len(clustering.modalities) > 1 or clustering.modalities[0] in found:
            continue
        (modality,) = clustering.modalities
        part_ND = torch.from_numpy(np.asarray(features[modality][rows], np.float32))
        good_N = ~part_ND.isnan().any(dim=1)
        unit_nD = F.normalize(clustering.prepared({modality: part_ND[good_N]}), dim=1)
        _, turned_DD = torch.linalg.eigh(unit_nD.T @ unit_nD)  # the largest come last
        few_nW = unit_nD @ turned_DD[:, -WIDTH:]
        whole_NW = torch.zeros(len(rows), WIDTH)
        scale = 127 / max(float(few_nW.abs().max()) if few_nW.numel() else 0.0, 1e-6)
        whole_NW[good_N, : few_nW.shape[1]] = (few_nW * scale).round()
        found[modality] = packed(whole_NW.numpy().astype(np.int8))
    return found
