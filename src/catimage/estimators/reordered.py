"""An estimator whose candidates have another order than in the training.

Candidates are in the order of their costs. After a change of prices the order may be another one,
which needs no training: the columns of the predictions are reordered.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from catimage.common.arrays import Floats


class ReorderedRegressor(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """A fitted regressor with reordered candidates.

    Args:
        base: the regressor, which predicts labels (n, m).
        order: the index in ``base`` of each candidate, (m,).
    """

    def __init__(self, base: Any = None, order: Sequence[int] = ()) -> None:
        self.base = base
        self.order = order

    def fit(self, X: Any, y: Floats) -> Self:
        """Fit the regressor to labels (n, m) in the new order."""
        self.base = self.base.fit(X, np.asarray(y)[:, np.argsort(self.order)])
        return self

    def __sklearn_is_fitted__(self) -> bool:
        """Return whether the regressor is fitted, for scikit-learn's ``check_is_fitted``."""
        try:
            check_is_fitted(self.base)
        except NotFittedError:
            return False
        return True

    def predict(self, X: Any) -> Floats:
        """Return labels (n, m) in the new order."""
        return np.asarray(self.base.predict(X), np.float64)[:, list(self.order)]


def reordered(estimator: Pipeline, old_names: Sequence[str], candidates: Sequence[str]) -> Pipeline:
    """Return a fitted estimator with the candidates in another order.

    Args:
        estimator: a pipeline of features and a regressor.
        old_names: the names of the candidates in the order of the training.
        candidates: the same names in the new order.
    """
    if list(old_names) == list(candidates):
        return estimator
    order = [list(old_names).index(name) for name in candidates]
    name, regressor = estimator.steps[-1]
    return Pipeline([*estimator.steps[:-1], (name, _reordered(regressor, order))])


def _reordered(regressor: Any, order: list[int]) -> Any:
    """Return a regressor with reordered candidates.

    A class whose attribute ``by_candidate`` names the fitted attributes with one row per candidate
    is kept: predictions of ridge regressions are fast, and the evaluation reads the parameters of a
    spread.
    """
    attributes = vars(type(regressor)).get("by_candidate")
    if attributes is None:
        return ReorderedRegressor(regressor, order)
    new = copy(regressor)
    for name in attributes:
        if (values := getattr(regressor, name)) is not None:
            setattr(new, name, values[order])
    return new
