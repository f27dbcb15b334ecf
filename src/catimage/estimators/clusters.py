"""The cluster router of universal model routing (Jitkrittum et al. 2025): what a candidate is worth
on each kind of prompt.
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from sklearn.utils.validation import check_is_fitted, validate_data

from catimage.common.arrays import Floats
from catimage.estimators.base import LabelRegressor, check_labels
from catimage.estimators.context import EstimatorContext, UnfittedEstimator
from catimage.params import EstimatorParams


class ClusterRegressor(LabelRegressor):
    """K-means on the embeddings; the quality of a candidate on a prompt is its mean label over the
    prompt's cluster.

    The clusters depend on prompts alone, so that a candidate may join later with labels of a few
    prompts (:meth:`add_candidate`). In small clusters a mean is drawn to the candidate's mean over
    all prompts, as if ``shrinkage`` more prompts of that mean were in each; the paper, which has
    hundreds of prompts a cluster, does without.

    Args:
        n_clusters: at most one a training prompt.
        shrinkage: prompts.
    """

    def __init__(
        self, n_clusters: int = 32, shrinkage: float = 10.0, random_state: int = 0
    ) -> None:
        self.n_clusters = n_clusters
        self.shrinkage = shrinkage
        self.random_state = random_state

    def fit(self, X: Any, y: Any) -> Self:
        """Learns from embeddings X (n_prompts, width) and labels y (n_prompts, n_candidates) or
        (n_prompts,), NaN where missing.
        """
        X, y = self._checked(X, y)
        k = min(self.n_clusters, len(np.unique(X, axis=0)))
        means = KMeans(k, n_init=2, random_state=self.random_state).fit(X)
        self.centers_ = means.cluster_centers_
        self.quality_ = self._quality(means.labels_, y)
        return self

    def predict(self, X: Any) -> Floats:
        """Expected quality in the metric's unit: (n_prompts, n_candidates)."""
        check_is_fitted(self)
        return self._shaped(self.quality_[self._clusters(X)])

    def add_candidate(self, X: Any, y: Any, place: int | None = None) -> Self:
        """Adds a candidate from its labels; clusters and the other candidates stay as they are.

        Args:
            X: embeddings (n, width) of a few prompts, which need not be training prompts.
            y: the candidate's labels (n,); those that are NaN count for nothing.
            place: its column from 0 on; None: the last one.
        """
        check_is_fitted(self)
        column = self._quality(self._clusters(X), check_labels(y).reshape(len(y), 1))[:, 0]
        self.quality_ = np.insert(
            self.quality_, self.quality_.shape[1] if place is None else place, column, axis=1
        )
        self.flat_ = False
        return self

    def multiply_adds(self, X: Any) -> int:
        """Of the predictions for ``X``: a distance to each centre."""
        return len(X) * int(self.centers_.size)

    def _clusters(self, X: Any) -> NDArray[np.int64]:
        X = validate_data(self, X, reset=False, dtype=[np.float64, np.float32])
        centers = self.centers_.astype(X.dtype)
        nearest: NDArray[np.int64] = ((centers**2).sum(axis=1) / 2 - X @ centers.T).argmin(axis=1)
        return nearest

    def _quality(self, clusters: NDArray[np.integer], y: Floats) -> Floats:
        """The shrunk mean label of each cluster and candidate, (n_clusters, n_candidates)."""
        there, mean = ~np.isnan(y), np.nanmean(y, axis=0)
        sums, counts = np.zeros((2, len(self.centers_), y.shape[1]))
        np.add.at(sums, clusters, np.where(there, y - mean, 0))
        np.add.at(counts, clusters, there)
        quality: Floats = mean + sums / np.maximum(counts + self.shrinkage, 1e-12)
        return quality


def build(spec: EstimatorParams, context: EstimatorContext) -> UnfittedEstimator:
    """Universal model routing's clusters; validation chooses how many, and how much small ones are
    shrunk.
    """
    return UnfittedEstimator(
        ClusterRegressor(random_state=context.seed),
        {"n_clusters": [4, 8, 16, 32, 64, 128], "shrinkage": [3.0, 10.0, 30.0]},
    )
