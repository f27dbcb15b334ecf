"""The cluster estimator of "Universal Model Routing for Efficient LLM Inference" (Jitkrittum et al.
2025): the mean quality of each candidate in each cluster of prompts.
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from sklearn.utils.validation import check_is_fitted, validate_data

from catimage.common.arrays import Floats, Ints
from catimage.estimators.base import LabelRegressor, validate_labels
from catimage.estimators.context import EstimatorContext, UnfittedEstimator
from catimage.params import EstimatorParams


class ClusterRegressor(LabelRegressor):
    """Regressor that clusters the embeddings by k-means and predicts the mean label of the cluster.

    Experimental: no significant gain over the best single candidate on the real data sets in
    docs/estimators.md.

    The clusters depend on the prompts alone, so a candidate can be added later with labels of a few
    prompts (:meth:`add_candidate`). The mean of a cluster is shrunk towards the candidate's mean
    over all prompts, as if the cluster contained ``shrinkage`` additional prompts with this mean.
    The paper, which has hundreds of prompts per cluster, uses the mean without shrinkage.

    Args:
        n_clusters: number of clusters; at most the number of distinct training prompts is used.
        shrinkage: weight of the mean over all prompts, as a number of prompts.
        random_state: seed of k-means.

    Attributes:
        centers_: cluster centers (n_clusters, width).
        quality_: shrunk mean labels (n_clusters, n_candidates).
    """

    def __init__(
        self, n_clusters: int = 32, shrinkage: float = 10.0, random_state: int = 0
    ) -> None:
        self.n_clusters = n_clusters
        self.shrinkage = shrinkage
        self.random_state = random_state

    def fit(self, X: Any, y: Any) -> Self:
        """Fit to embeddings X (n_prompts, width) and labels y (n_prompts, n_candidates) or
        (n_prompts,), NaN if missing.
        """
        X, y = self._validate_training_data(X, y)
        n_clusters = min(self.n_clusters, len(np.unique(X, axis=0)))
        kmeans = KMeans(n_clusters, n_init=2, random_state=self.random_state).fit(X)
        self.centers_ = kmeans.cluster_centers_
        self.quality_ = self._cluster_means(kmeans.labels_, y)
        return self

    def predict(self, X: Any) -> Floats:
        """Return the expected quality in the unit of the metric: (n_prompts, n_candidates)."""
        check_is_fitted(self)
        return self._restore_shape(self.quality_[self._nearest_centers(X)])

    def add_candidate(self, X: Any, y: Any, column: int | None = None) -> Self:
        """Add a candidate; the clusters and the other candidates do not change.

        Args:
            X: embeddings (n, width) of some prompts, which need not be training prompts.
            y: labels of the candidate (n,), NaN if missing.
            column: index of the candidate's column in the predictions; None appends it.
        """
        check_is_fitted(self)
        labels = validate_labels(y).reshape(len(y), 1)
        quality = self._cluster_means(self._nearest_centers(X), labels)[:, 0]
        n_candidates = self.quality_.shape[1]
        index = n_candidates if column is None else column
        self.quality_ = np.insert(self.quality_, index, quality, axis=1)
        self.flat_ = False
        return self

    def multiply_adds(self, X: Any) -> int:
        """Return the number of multiply-adds of ``predict(X)``, which computes the distance of each
        prompt to each center.
        """
        return len(X) * int(self.centers_.size)

    def _nearest_centers(self, X: Any) -> Ints:
        """Return the index of the nearest center of each prompt, (n_prompts,)."""
        X = validate_data(self, X, reset=False, dtype=[np.float64, np.float32])
        centers = self.centers_.astype(X.dtype)
        nearest: Ints = ((centers**2).sum(axis=1) / 2 - X @ centers.T).argmin(axis=1)
        return nearest

    def _cluster_means(self, clusters: NDArray[np.integer], y: Floats) -> Floats:
        """Return the shrunk mean labels of clusters (n_clusters, n_candidates).

        Args:
            clusters: the cluster of each prompt, (n_prompts,).
            y: labels (n_prompts, n_candidates), NaN if missing.
        """
        present, mean = ~np.isnan(y), np.nanmean(y, axis=0)
        sums, counts = np.zeros((2, len(self.centers_), y.shape[1]))
        np.add.at(sums, clusters, np.where(present, y - mean, 0))
        np.add.at(counts, clusters, present)
        means: Floats = mean + sums / np.maximum(counts + self.shrinkage, 1e-12)
        return means


def build(spec: EstimatorParams, context: EstimatorContext) -> UnfittedEstimator:
    """Return the cluster estimator, whose number of clusters and shrinkage are selected on the
    validation split.
    """
    return UnfittedEstimator(
        ClusterRegressor(random_state=context.seed),
        {"n_clusters": [4, 8, 16, 32, 64, 128], "shrinkage": [3.0, 10.0, 30.0]},
    )
