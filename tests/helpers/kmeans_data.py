"""Rows to cluster, made up."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def mixture(
    num_rows: int,
    width: int,
    centres: int,
    seed: int = 0,
    apart: float = 3.0,
    in_turn: bool = False,
) -> Tensor:
    """Rows of a Gaussian mixture, (N, D) float32; `apart` is the scatter of the centres, that of
    the rows is 1.

    With `in_turn` row i belongs to centre i modulo their number, otherwise to a random one.
    """
    generator = torch.Generator().manual_seed(seed)
    centres_KD = apart * torch.randn(centres, width, generator=generator)
    drawn = torch.randint(centres, (num_rows,), generator=generator)
    if in_turn:
        drawn = torch.arange(num_rows) % centres
    return centres_KD[drawn] + torch.randn(num_rows, width, generator=generator)


def equal_rows(rows: int) -> Tensor:
    """So many rows of one column, all 0.1, that lie on the same 4 bytes."""
    column = np.lib.stride_tricks.as_strided(np.array([[0.1]], dtype=np.float32), (rows, 1), (0, 4))
    return torch.from_numpy(column)
