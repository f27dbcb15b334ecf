"""Gradient-boosted trees on the principal components of the prompt's embedding."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from sklearn.decomposition import PCA
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.utils.validation import check_is_fitted, validate_data

from catimage.common.arrays import Floats
from catimage.errors import InputError
from catimage.estimators.base import LabelRegressor
from catimage.estimators.context import EstimatorContext, UnfittedEstimator
from catimage.params import EstimatorParams

_MIN_PROMPTS_TO_STOP_EARLY = 1000


class BoostingRegressor(LabelRegressor):
    """One ``HistGradientBoostingRegressor`` per candidate on the leading principal components of
    the embeddings.

    Experimental: no significant gain on the real data of docs/estimators.md.

    The principal components are used because trees split along the axes of their input, and the
    axes of an embedding have no individual meaning. Each candidate is trained on the prompts that
    have its label. Predicting one prompt takes 0.02 ms per tree: 15 ms for six candidates with 128
    trees each, measured on one CPU core.

    Args:
        n_components: number of principal components; at most the smaller dimension of X is used.
        max_iter: maximum number of trees per candidate. With more than 1,000 labels, training stops
            early on a validation set of a tenth of them.
        learning_rate, max_leaf_nodes, min_samples_leaf, l2_regularization, max_features: of
            ``HistGradientBoostingRegressor``.
        random_state: seed of the validation sets and of the features considered per split.

    Attributes:
        n_iter_: number of trees of each candidate (n_candidates,).
        pca_: the fitted principal component analysis.
        estimators_: the fitted ``HistGradientBoostingRegressor`` of each candidate.
    """

    def __init__(
        self,
        n_components: int = 64,
        max_iter: int = 300,
        learning_rate: float = 0.05,
        max_leaf_nodes: int = 8,
        min_samples_leaf: int = 20,
        l2_regularization: float = 10.0,
        max_features: float = 0.5,
        random_state: int = 0,
    ) -> None:
        self.n_components = n_components
        self.max_iter = max_iter
        self.learning_rate = learning_rate
        self.max_leaf_nodes = max_leaf_nodes
        self.min_samples_leaf = min_samples_leaf
        self.l2_regularization = l2_regularization
        self.max_features = max_features
        self.random_state = random_state

    def fit(self, X: Any, y: Any) -> Self:
        """Fit to embeddings X (n_prompts, width) and labels y (n_prompts, n_candidates) or
        (n_prompts,), NaN if missing.

        Raises:
            InputError: there is only one prompt, or a candidate has no label.
        """
        X, y = self._validate_training_data(X, y)
        if len(X) < 2:
            raise InputError(
                "train.estimators: boosting needs at least two training prompts, and n_samples = 1."
                " Add prompts, or remove it from the list."
            )
        X = X.astype(np.float64)
        n_components = min(self.n_components, *X.shape)
        self.pca_ = PCA(n_components, svd_solver="covariance_eigh").fit(X)
        x = self.pca_.transform(X)
        self.estimators_ = [self._fit_candidate(x, labels) for labels in y.T]
        self.n_iter_ = np.array([e.n_iter_ for e in self.estimators_])
        return self

    def predict(self, X: Any) -> Floats:
        """Return the expected quality in the unit of the metric: (n_prompts, n_candidates)."""
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, dtype=np.float64)
        x = self.pca_.transform(X)
        return self._restore_shape(np.stack([e.predict(x) for e in self.estimators_], axis=1))

    def multiply_adds(self, X: Any) -> int:
        """Return the number of multiply-adds of ``predict(X)``: the principal components, and at
        most one comparison per level of a tree.
        """
        levels = (self.max_leaf_nodes - 1) * self.n_iter_.sum()
        return len(X) * int(self.pca_.components_.size + levels)

    def _fit_candidate(self, x: Floats, labels: Floats) -> HistGradientBoostingRegressor:
        present = ~np.isnan(labels)
        return HistGradientBoostingRegressor(
            max_iter=self.max_iter,
            learning_rate=self.learning_rate,
            max_leaf_nodes=self.max_leaf_nodes,
            min_samples_leaf=self.min_samples_leaf,
            l2_regularization=self.l2_regularization,
            max_features=self.max_features,
            early_stopping=int(present.sum()) > _MIN_PROMPTS_TO_STOP_EARLY,
            n_iter_no_change=15,
            random_state=self.random_state,
        ).fit(x[present], labels[present])


def build(spec: EstimatorParams, context: EstimatorContext) -> UnfittedEstimator:
    """Return gradient-boosted trees; their size is selected on the validation split."""
    return UnfittedEstimator(
        BoostingRegressor(random_state=context.seed), {"max_leaf_nodes": [4, 8]}
    )
