"""Where does each segment lie on a plane? Features of a modality in two dimensions, by PCA or UMAP.

Features are centred and scaled to unit length first, so that directions are compared, as clustering
does. UMAP keeps neighbours and distorts distances between groups; it is not installed by default
(`pip install 'seehear[umap]'`).
"""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np

from seehear.errors import SettingsError

PROJECTIONS = ("pca", "umap")
MOST_POINTS = 50_000


def check_projection(kind: str) -> None:
    """Raise SettingsError for a projection that there is not, or that is not installed."""
    if kind not in PROJECTIONS:
        raise SettingsError(
            f"The projection is {kind!r}. It must be one of: {', '.join(PROJECTIONS)}."
        )
    if kind == "umap" and find_spec("umap") is None:
        raise SettingsError(
            "UMAP is not installed. `pip install 'seehear[umap]'`, or take --map pca."
        )


def choose_points(readable_N: np.ndarray, first: np.ndarray, most: int = MOST_POINTS) -> np.ndarray:
    """The rows on the map, ascending: all readable ones, or those of `first` and some drawn."""
    rows = np.flatnonzero(readable_N)
    if len(rows) <= most:
        return rows
    chosen = np.intersect1d(first, rows)[:most]
    others = np.random.default_rng(0).permutation(np.setdiff1d(rows, chosen))
    return np.sort(np.concatenate([chosen, others[: most - len(chosen)]]))


def project(features_nD: np.ndarray, kind: str) -> tuple[np.ndarray, float | None]:
    """Points (n, 2) float32, and for PCA the share of the variance that the two axes hold."""
    x = features_nD.astype(np.float32)
    x -= x.mean(axis=0)
    x /= np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
    x -= x.mean(axis=0)
    if kind == "umap":
        return by_umap(x), None
    return by_pca(x)


def by_pca(centred_nD: np.ndarray) -> tuple[np.ndarray, float]:
    """The two components of most variance; the side of an axis with the longer tail is positive."""
    covariance_DD = centred_nD.T @ centred_nD / max(1, len(centred_nD))
    variances_D, axes_DD = np.linalg.eigh(covariance_DD.astype(np.float64))
    points_n2 = (centred_nD @ axes_DD[:, ::-1][:, :2].astype(np.float32)).astype(np.float32)
    if points_n2.shape[1] < 2:  # features of one number
        points_n2 = np.pad(points_n2, ((0, 0), (0, 1)))
    points_n2 *= np.where((points_n2**3).sum(axis=0) < 0, -1, 1).astype(np.float32)
    total = float(variances_D.sum())
    return points_n2, float(variances_D[-2:].sum()) / total if total > 0 else 0.0


def by_umap(centred_nD: np.ndarray) -> np.ndarray:
    """UMAP's layout, from a fixed seed."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a seed costs it its threads
        import umap

        neighbours = max(2, min(15, len(centred_nD) - 1))
        layout = umap.UMAP(n_neighbors=neighbours, random_state=0)
        points_n2: np.ndarray = layout.fit_transform(centred_nD).astype(np.float32)
    return points_n2


def to_uint16(points_n2: np.ndarray) -> np.ndarray:
    """Points scaled into 0 .. 65535, both axes alike, centred."""
    low, high = points_n2.min(axis=0), points_n2.max(axis=0)
    span = max(float((high - low).max()), 1e-12)
    centred = (points_n2 - (low + high) / 2) / span + 0.5
    scaled_n2: np.ndarray = np.clip(np.round(centred * 65535), 0, 65535).astype(np.uint16)
    return scaled_n2
