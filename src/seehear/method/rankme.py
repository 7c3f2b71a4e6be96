"""In how many directions do features vary? RankMe, which needs no classes.

Garrido, Balestriero, Najman, LeCun: "RankMe: Assessing the Downstream Performance of Pretrained
Self-Supervised Representations by Their Rank", ICML 2023. The entropy of the singular values of the
features, as a number of equal ones: 1 where all features are multiples of one, D at most.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from seehear.machine import distributed

MOST_ROWS = 25_600  # the paper's number; more change nothing


def rankme(features_nD: Tensor, rows_n: np.ndarray, num_rows: int) -> float:
    """exp of the entropy of the singular values of features, not centred, as the paper has it.

    Args:
        features_nD: of this rank's rows.
        rows_n: which these are of `num_rows` over all ranks: every so many is taken, so that the
            result does not depend on who has which.
    """
    taken_n = torch.from_numpy(rows_n % -(-max(num_rows, 1) // MOST_ROWS) == 0)
    taken_mD = features_nD[taken_n].double()
    gram_DD = distributed.all_reduce(taken_mD.T @ taken_mD)
    singular_D = torch.linalg.eigvalsh(gram_DD).clamp(min=0).sqrt()
    if not singular_D.sum():
        return 0.0
    share_D = singular_D[singular_D > 0] / singular_D.sum()
    return float(torch.exp(-(share_D * share_D.log()).sum()))
