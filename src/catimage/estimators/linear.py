"""Ridge regression of the labels of all candidates, by default on TF-IDF features of prompts."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from sklearn.linear_model import Ridge

from catimage.common.arrays import Floats
from catimage.common.distinct_rows import distinct_rows
from catimage.estimators.base import LabelRegressor, missing_label_patterns
from catimage.estimators.context import EstimatorContext, UnfittedEstimator
from catimage.params import EstimatorParams


class RidgeRegressor(LabelRegressor):
    """scikit-learn's :class:`~sklearn.linear_model.Ridge` for labels with missing values.

    One ridge regression is fitted for each group of candidates whose labels are missing for the
    same prompts. Predictions are linear in the labels. Therefore, if no labels are missing, the
    predictions do not change if the regressor is fitted to differences between candidates
    (:mod:`catimage.estimators.differences`). Candidates with equal labels have equal coefficients
    and equal predictions, to the last bit, so that the cheapest of them is selected.

    Args:
        alpha: the penalty on the squared coefficients; the intercept is not penalised.
        tol: the relative tolerance of the iterative solver, which is used for sparse features.

    Attributes:
        coef_: the coefficients (n_candidates, n_features), or (n_features,) for 1-D labels.
        intercept_: the intercepts (n_candidates,), or a float for 1-D labels.
    """

    _accepts_sparse = True
    by_candidate = ("coef_", "intercept_")

    def __init__(self, alpha: float = 2.0, tol: float = 1e-4) -> None:
        self.alpha = alpha
        self.tol = tol

    def fit(self, X: Any, y: Any) -> Self:
        """Fit the coefficients.

        Args:
            X: features (n_prompts, n_features), dense or CSR.
            y: labels (n_prompts, n_candidates) or (n_prompts,), NaN where missing.

        Raises:
            InputError: a candidate has no label.
            ValueError: the shapes are inconsistent, or a value is infinite.
        """
        X, y = self._validate_training_data(X, y)
        coef, intercept = np.empty((y.shape[1], X.shape[1]), X.dtype), np.empty(y.shape[1])
        for rows, columns in missing_label_patterns(y):
            x = X if rows.all() else X[rows]
            labels, positions = distinct_rows(y[np.ix_(rows, columns)].T)
            ridge = Ridge(self.alpha, tol=self.tol).fit(x, labels.T)
            coef[columns] = np.atleast_2d(ridge.coef_)[positions]
            intercept[columns] = np.atleast_1d(ridge.intercept_)[positions]
        self.coef_ = coef[0] if self.flat_ else coef
        self.intercept_ = float(intercept[0]) if self.flat_ else intercept
        return self

    def predict(self, X: Any) -> Floats:
        """Return labels (n_prompts, n_candidates), or (n_prompts,) for 1-D labels, of X
        (n_prompts, n_features).
        """
        X = self._validate_features(X, (np.float64, np.float32))
        coef, positions = distinct_rows(np.atleast_2d(self.coef_))
        product = (X @ coef.T)[:, 0 if self.flat_ else positions]
        return np.asarray(product + self.intercept_, np.float64)


def build(spec: EstimatorParams, context: EstimatorContext) -> UnfittedEstimator:
    """Return a ridge regression on TF-IDF features of words and pairs of words."""
    grid = {"alpha": [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 64.0, 1000.0]}
    return UnfittedEstimator(RidgeRegressor(), grid, ("tfidf",))


def build_kernel_ridge(spec: EstimatorParams, context: EstimatorContext) -> UnfittedEstimator:
    """Return a ridge regression on TF-IDF features and on features of a Gaussian kernel.

    Of all kinds of estimators, it has the largest gain on real scores (docs/estimators.md).
    """
    grid = {"alpha": [1.0, 2.0, 4.0, 8.0, 16.0, 64.0]}
    return UnfittedEstimator(RidgeRegressor(alpha=4.0), grid, ("tfidf", "kernel"))
