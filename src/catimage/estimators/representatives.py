"""Selection of representative prompts, for which the images of a new candidate are generated."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.sparse import issparse

from catimage.common.arrays import Floats, Ints

SPARSE_COMPONENTS = 50
"""The number of dimensions to which sparse features are reduced."""
MAX_ITER = 30
"""The maximum number of iterations of k-means."""


def representatives(features: Any, count: int, seed: int = 0) -> Ints:
    """Return the row numbers of representative prompts, in ascending order.

    The features are scaled to length 1 and clustered by k-means into ``count`` clusters. The prompt
    nearest to the center of each cluster is selected.

    Args:
        features: the features of the prompts (n, width), sparse or dense.
        count: the number of prompts to select; if it is at least n, all rows are returned.
        seed: the seed of k-means and of the dimensionality reduction.
    """
    n = features.shape[0]
    if count >= n:
        return np.arange(n)
    from sklearn.cluster import KMeans

    vectors = dense_unit_vectors(features, seed)
    fitted = KMeans(count, n_init=1, max_iter=MAX_ITER, random_state=seed).fit(vectors)
    return _nearest_rows(vectors, fitted.cluster_centers_)


def dense_unit_vectors(features: Any, seed: int = 0) -> Floats:
    """Return features (n, width) as dense vectors of length 1, float64. The dimension of sparse
    features is first reduced by a truncated singular value decomposition.
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


def _nearest_rows(vectors: Floats, centers: Floats) -> Ints:
    """Return the nearest row of each center, in ascending order. A row that is already assigned to
    a center is not assigned to a second one.
    """
    distances = ((centers**2).sum(axis=1) - 2 * vectors @ centers.T).T
    assigned = np.zeros(len(vectors), bool)
    for distance in distances:
        assigned[np.argmin(np.where(assigned, np.inf, distance))] = True
    return np.flatnonzero(assigned)
