"""Predicting differences between candidates instead of levels: equation 3 reads nothing else of an
estimator.
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from sklearn.base import clone
from sklearn.utils.validation import check_is_fitted

from catimage.common.arrays import Floats
from catimage.data.missing_labels import mean_labels
from catimage.estimators.base import CandidatesRegressor
from catimage.estimators.context import Grid, UnfittedEstimator
from catimage.estimators.inputs import checked_x, checked_y

TARGETS = ("levels", "differences")


class DifferencesRegressor(CandidatesRegressor):
    """A regressor of levels, or of a prompt's mean over the candidates and each candidate's
    difference from it.

    What makes a prompt hard for every candidate is most of what a label varies by and of no use to
    routing; a regressor that has one capacity for all its outputs (a network, a tree) spends it on
    the differences once these are outputs of their own, of one scale. Models that are linear in the
    labels gain nothing by it.

    Args:
        regressor: fits labels (n, k), NaN where one is missing.
        target: ``levels`` leaves all as it is.
    """

    _reads_sparse = True

    def __init__(self, regressor: Any = None, target: str = "differences") -> None:
        self.regressor = regressor
        self.target = target

    def fit(self, X: Any, y: Any) -> Self:
        """Learns from y (n, n_candidates), or (n,), which has no differences."""
        if self.target not in TARGETS:
            raise ValueError(f"target must be one of {TARGETS}, not {self.target!r}")
        X = checked_x(self, X, reset=True)
        y = checked_y(self, X, y)
        self.split_ = self.target == "differences" and y.ndim == 2 and y.shape[1] > 1
        targets = y
        if self.split_:
            self.column_ = mean_labels(y)
            targets = split(y, self.column_)
            self.scale_ = np.array([_spread(targets[:, 0]), _spread(targets[:, 1:])])
            targets = targets / self._scales(y.shape[1])
        self.regressor_ = clone(self.regressor).fit(X, targets)
        return self

    def predict(self, X: Any) -> Floats:
        """Labels (n, n_candidates)."""
        check_is_fitted(self)
        predicted = np.asarray(self.regressor_.predict(checked_x(self, X, reset=False)), np.float64)
        return (
            join(predicted * self._scales(len(self.column_)), self.column_)
            if self.split_
            else predicted
        )

    def _scales(self, candidates: int) -> Floats:
        """Of the mean, and one of all differences: scaling each by itself would weigh candidates
        that hardly differ as much as others.
        """
        return np.concatenate([self.scale_[:1], np.repeat(self.scale_[1:], candidates)])


def _spread(values: Floats) -> float:
    return max(float(np.nanstd(values)), 1e-12)


def split(labels: Floats, column: Floats) -> Floats:
    """Levels to the mean over the candidates and the differences from it: (n, m) to (n, 1 + m),
    both freed of the ``column`` means (m,).

    NaN stays where a label is missing; the mean is over those that are there.
    """
    apart = labels - column
    known = ~np.isnan(apart)
    mean = np.where(
        known.any(axis=1), np.nansum(apart, axis=1) / np.maximum(known.sum(axis=1), 1), np.nan
    )[:, None]
    return np.concatenate([mean, apart - mean], axis=1)


def join(targets: Floats, column: Floats) -> Floats:
    """The reverse of :func:`split`: (n, 1 + m) to levels (n, m). What predicted differences have in
    common counts as nothing.
    """
    apart = targets[:, 1:]
    return np.asarray(
        column + targets[:, :1] + apart - apart.mean(axis=1, keepdims=True), np.float64
    )


def with_target(made: UnfittedEstimator, target: str) -> UnfittedEstimator:
    """A kind's regressor that predicts ``levels`` or ``differences``; ``auto``: whichever errs less
    on the validation split.
    """
    if target == "levels":
        return made
    grid: Grid = {f"regressor__{key}": values for key, values in made.grid.items()}
    choice: Grid = {"target": list(TARGETS)} if target == "auto" else {}
    return UnfittedEstimator(DifferencesRegressor(made.regressor), grid | choice, made.features)
