"""Gradient-boosted trees on the prompt's embedding, one ensemble a candidate."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.utils.validation import check_is_fitted, validate_data

from catimage.common.arrays import Floats
from catimage.estimators.base import LabelRegressor
from catimage.estimators.context import EstimatorContext, UnfittedEstimator
from catimage.params import EstimatorParams

_ROWS = 256
"""Prompts that pass the trees at once, so that memory does not grow with their number."""


class BoostingRegressor(LabelRegressor):
    """scikit-learn's ``HistGradientBoostingRegressor`` of each candidate, on the embedding's
    leading principal components.

    Trees split along axes, and an embedding's axes mean nothing by themselves; its principal
    components are fewer, and come in order of weight. The fitted trees are kept as arrays, so that
    a decision takes one pass down all of them (scikit-learn's takes a millisecond a candidate) and
    nothing but numbers is stored. A candidate learns from the prompts that have its label.

    Args:
        components: at most the features there are.
        trees: a candidate, at most: training stops early on a tenth of the prompts where there are
            more than 1,000.
    """

    def __init__(
        self,
        components: int = 64,
        trees: int = 300,
        rate: float = 0.05,
        leaves: int = 8,
        min_samples_leaf: int = 20,
        penalty: float = 10.0,
        feature_share: float = 0.5,
        random_state: int = 0,
    ) -> None:
        self.components = components
        self.trees = trees
        self.rate = rate
        self.leaves = leaves
        self.min_samples_leaf = min_samples_leaf
        self.penalty = penalty
        self.feature_share = feature_share
        self.random_state = random_state

    def fit(self, X: Any, y: Any) -> Self:
        """Learns from embeddings X (n_prompts, width) and labels y (n_prompts, n_candidates) or
        (n_prompts,), NaN where missing.
        """
        X, y = self._checked(X, y)
        self.mean_ = X.mean(axis=0, dtype=np.float64)
        self.axes_ = _axes(X - self.mean_, self.components)
        x = (X - self.mean_) @ self.axes_
        forests = [
            self._one(x[rows], column[rows]) for column, rows in ((c, ~np.isnan(c)) for c in y.T)
        ]
        self.base_ = np.array([float(np.ravel(f._baseline_prediction)[0]) for f in forests])
        self._keep([stage[0].nodes for f in forests for stage in f._predictors])
        self.ends_ = np.cumsum([len(f._predictors) for f in forests])
        return self

    def predict(self, X: Any) -> Floats:
        """Expected quality in the metric's unit: (n_prompts, n_candidates)."""
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, dtype=[np.float64, np.float32])
        x = (X - self.mean_) @ self.axes_
        return self._shaped(
            np.concatenate([self._passed(x[i : i + _ROWS]) for i in range(0, len(x), _ROWS)])
        )

    def multiply_adds(self, X: Any) -> int:
        """Of the predictions for ``X``: the components, and a comparison a level of a tree."""
        return len(X) * int(self.axes_.size + self.depth_ * len(self.first_))

    def _one(self, x: Floats, y: Floats) -> HistGradientBoostingRegressor:
        return HistGradientBoostingRegressor(
            max_iter=self.trees,
            learning_rate=self.rate,
            max_leaf_nodes=self.leaves,
            min_samples_leaf=self.min_samples_leaf,
            l2_regularization=self.penalty,
            max_features=self.feature_share,
            early_stopping=len(y) > 1000,
            n_iter_no_change=15,
            random_state=self.random_state,
        ).fit(x, y)

    def _keep(self, trees: list[NDArray[Any]]) -> None:
        """The nodes of all trees as one array a field; a leaf's children are itself."""
        starts = np.cumsum([0, *map(len, trees)])
        nodes, offset = np.concatenate(trees), np.repeat(starts[:-1], np.diff(starts))
        leaf, self_ = nodes["is_leaf"].astype(bool), np.arange(len(nodes))
        self.first_, self.depth_ = starts[:-1], int(nodes["depth"].max(initial=0))
        self.feature_ = np.where(leaf, 0, nodes["feature_idx"]).astype(np.int32)
        self.threshold_ = nodes["num_threshold"].astype(np.float64)
        self.children_ = (
            np.where(leaf, self_, np.stack([nodes["right"] + offset, nodes["left"] + offset]))
            .T.astype(np.int32)
            .copy()
        )
        self.value_ = nodes["value"].astype(np.float64)

    def _passed(self, x: Floats) -> Floats:
        at = np.tile(self.first_, (len(x), 1))
        rows = np.arange(len(x))[:, None]
        for _ in range(self.depth_):
            at = self.children_[
                at, (x[rows, self.feature_[at]] <= self.threshold_[at]).astype(np.int8)
            ]
        sums = np.cumsum(np.concatenate([np.zeros((len(x), 1)), self.value_[at]], axis=1), axis=1)[
            :, [0, *self.ends_]
        ]
        return self.base_ + np.diff(sums, axis=1)


def _axes(x: Floats, count: int) -> Floats:
    """The leading principal axes of centred features, (width, at most ``count``), by the
    covariance, which is small.
    """
    _, vectors = np.linalg.eigh((x.T @ x).astype(np.float64))
    leading = vectors[:, ::-1][:, :count]
    turned: Floats = leading * np.sign(
        leading[np.abs(leading).argmax(axis=0), np.arange(leading.shape[1])]
    )
    return turned


def build(spec: EstimatorParams, context: EstimatorContext) -> UnfittedEstimator:
    """Gradient boosting; validation chooses how large a tree is."""
    return UnfittedEstimator(BoostingRegressor(random_state=context.seed), {"leaves": [4, 8]})
