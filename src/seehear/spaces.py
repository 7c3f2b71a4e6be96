"""What exactly is clustered? Features of one modality, or of both joined, centred and scaled before k-means.

The paper does not say how; `cluster.features` chooses. "l2": centre, then unit length, so that k-means compares
directions. "whiten": centre, rotate to principal components, scale each to unit variance, then unit length, so that no
direction dominates. "none": as they are. In the joint space each modality is prepared by itself, then both are joined
and the rows scaled to unit length again, so that neither outweighs the other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

WHITEN_FLOOR = 1e-4  # components with less than this share of the largest variance are noise and are dropped


@dataclass(frozen=True)
class Space:
    """A fitted preparation: a mean (D,) and, where whitened, a projection (D, d) for each modality it joins."""

    means: tuple[Tensor, ...]
    projections: tuple[Tensor, ...]
    scaled: bool

    @classmethod
    def fit(cls, parts: Sequence[Tensor], kind: str) -> Space:
        """Fit on the features (N, D) of each modality that the space joins; `kind` is "l2", "whiten" or "none"."""
        means = tuple(part.double().mean(dim=0).float() for part in parts)
        if kind == "none":
            means = tuple(torch.zeros_like(mean) for mean in means)
        projections = tuple(map(whitening, parts)) if kind == "whiten" else ()
        return cls(means, projections, kind != "none")

    def __call__(self, parts: Sequence[Tensor]) -> Tensor:
        """Features of each modality (N, D) -> what is clustered (N, sum of widths)."""
        prepared = []
        for i, part in enumerate(parts):
            x = part - self.means[i]
            if self.projections:
                x = x @ self.projections[i]
            prepared.append(F.normalize(x, dim=1) if self.scaled else x)
        joined = torch.cat(prepared, dim=1)
        return F.normalize(joined, dim=1) if self.scaled and len(parts) > 1 else joined

    def state_dict(self) -> dict[str, Tensor]:
        """The fitted tensors by name."""
        means = {f"mean_{i}": mean for i, mean in enumerate(self.means)}
        projections = {f"projection_{i}": p for i, p in enumerate(self.projections)}
        return means | projections | {"scaled": torch.tensor(self.scaled)}

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Tensor]) -> Space:
        """The inverse of `state_dict`."""
        means = tuple(state[k] for k in sorted(state) if k.startswith("mean_"))
        projections = tuple(state[k] for k in sorted(state) if k.startswith("projection_"))
        return cls(means, projections, bool(state["scaled"]))


def whitening(features_ND: Tensor) -> Tensor:
    """(D, d): principal components, each divided by its deviation; d leaves out those that hold only noise."""
    centred_ND = features_ND.double() - features_ND.double().mean(dim=0)
    variances_D, components_DD = torch.linalg.eigh(centred_ND.T @ centred_ND / max(1, len(centred_ND) - 1))
    kept_D = variances_D > WHITEN_FLOOR * variances_D[-1].clamp_min(1e-30)
    projection_Dd: Tensor = components_DD[:, kept_D] / variances_D[kept_D].sqrt()
    return projection_Dd.float()
