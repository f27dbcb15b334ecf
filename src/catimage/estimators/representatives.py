"""Prompts that stand for many: which ones to make a new candidate's images of."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse

from catimage.common.arrays import Ints

WIDTH = 50
"""Dimensions that sparse features are brought down to."""
ROUNDS = 30


def representatives(features: Any, count: int, seed: int = 0) -> Ints:
    """Rows of ``features`` (n, width), sparse or not, that stand for all: ascending, ``count`` of
    them or all if there are no more.

    One prompt of each of ``count`` clusters (k-means of unit vectors), that nearest to the centre.
    """
    n = features.shape[0]
    if count >= n:
        return np.arange(n)
    from sklearn.cluster import KMeans

    vectors = dense_units(features, seed)
    fitted = KMeans(count, n_init=1, max_iter=ROUNDS, random_state=seed).fit(vectors)
    return _nearest(vectors, fitted.cluster_centers_)


def dense_units(features: Any, seed: int = 0) -> NDArray[np.float64]:
    """Features as dense vectors of unit length; sparse ones by their leading directions."""
    sparse = issparse(features)
    if sparse:
        from sklearn.decomposition import TruncatedSVD

        width = min(WIDTH, features.shape[0] - 1, features.shape[1] - 1)
        features = TruncatedSVD(max(1, width), random_state=seed).fit_transform(features)
    vectors: NDArray[np.float64] = np.asarray(features, np.float64)
    units: NDArray[np.float64] = vectors / np.maximum(
        np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12
    )
    return units


def _nearest(vectors: NDArray[np.float64], centres: NDArray[np.float64]) -> Ints:
    """For each centre the nearest row that no centre before it has taken."""
    distance = ((centres**2).sum(axis=1) - 2 * vectors @ centres.T).T
    taken = np.zeros(len(vectors), bool)
    for row in distance:
        taken[np.argmin(np.where(taken, np.inf, row))] = True
    return np.flatnonzero(taken)
