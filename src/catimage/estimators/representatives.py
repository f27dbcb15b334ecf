"""Selection of representative prompts, for which the images of a new candidate are generated."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.sparse import issparse

from catimage.common.arrays import Floats, Ints

SPARSE_COMPONENTS = 50
"""The number of dimensions that sparse features are reduced to."""
MAX_ITER = 30
"""Iterations of k-means."""


def representatives(features: Any, count: int, seed: int = 0) -> Ints:
    """Return the rows of representative prompts, ascending.

    k-means clusters the features, scaled to length 1, into ``count`` clusters; the prompt nearest
    to each centre is selected.

    Args:
        features: (n, width), sparse or dense.
        count: of the prompts; all n are returned if there are no more.
        seed: of k-means and of the dimensionality reduction.
    """
    n = features.shape[0]
    if count >= n:
        return np.arange(n)
    from sklearn.cluster import KMeans

    vectors = dense_unit_vectors(features, seed)
    fitted = KMeans(count, n_init=1, max_iter=MAX_ITER, random_state=seed).fit(vectors)
    return _nearest_rows(vectors, fitted.cluster_centers_)


def dense_unit_vectors(features: Any, seed: int = 0) -> Floats:
    """Return features as dense vectors of length 1, float64; sparse ones are first reduced by a
    truncated singular value decomposition.
    """
    sparse = issparse(features)
    if sparse:
        from sklearn.decomposition import TruncatedSVD

        width = min(SPARSE_COMPONENTS, features.shape[0] - 1, features.shape[1] - 1)
        features = TruncatedSVD(max(1, width), random_state=seed).fit_transform(features)
    vectors = np.asarray(features, np.float64)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit_vectors: Floats = vectors / np.maximum(lengths, 1e-12)
    return unit_vectors


def _nearest_rows(vectors: Floats, centres: Floats) -> Ints:
    """Return for each centre the nearest row that no earlier centre has, ascending."""
    distances = ((centres**2).sum(axis=1) - 2 * vectors @ centres.T).T
    taken = np.zeros(len(vectors), bool)
    for distance in distances:
        taken[np.argmin(np.where(taken, np.inf, distance))] = True
    return np.flatnonzero(taken)
