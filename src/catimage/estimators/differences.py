"""Predicting the differences between candidates instead of the labels themselves: equation 3 of
CATImage depends on an estimator only through these differences.
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from sklearn.base import clone
from sklearn.utils.validation import check_is_fitted

from catimage.common.arrays import Floats
from catimage.data.missing_labels import mean_labels
from catimage.estimators.base import WrapperRegressor
from catimage.estimators.context import Grid, UnfittedEstimator

TARGETS = ("levels", "differences")


class DifferencesRegressor(WrapperRegressor):
    """Fit a regressor to the mean over the candidates and to each candidate's difference from it.

    Most of the variance of the labels is shared by all candidates (some prompts are difficult for
    every generator) and is irrelevant to routing. A regressor with a limited capacity for all its
    outputs, such as a network or a tree, predicts the differences better if they are outputs with
    the same scale as the mean. Models that are linear in the labels do not change.

    Args:
        regressor: fits labels (n, k), NaN where missing.
        target: ``differences``, or ``levels`` to fit the labels unchanged.
    """

    def __init__(self, regressor: Any = None, target: str = "differences") -> None:
        self.regressor = regressor
        self.target = target

    def fit(self, X: Any, y: Any) -> Self:
        """Fit labels y (n, n_candidates); labels (n,) have no differences and are fitted unchanged.

        Raises:
            ValueError: ``target`` is unknown.
        """
        if self.target not in TARGETS:
            raise ValueError(f"target must be one of {TARGETS}, not {self.target!r}")
        X, y = self._validate_training_data(X, y)
        self.split_ = self.target == "differences" and y.ndim == 2 and y.shape[1] > 1
        targets = y
        if self.split_:
            self.means_ = mean_labels(y)
            targets = split_levels(y, self.means_)
            self.scale_ = np.array([_scale(targets[:, 0]), _scale(targets[:, 1:])])
            targets = targets / self._scales(y.shape[1])
        self.regressor_ = clone(self.regressor).fit(X, targets)
        return self

    def predict(self, X: Any) -> Floats:
        """Return labels (n, n_candidates)."""
        check_is_fitted(self)
        X = self._validate_x(X, reset=False)
        predicted = np.asarray(self.regressor_.predict(X), np.float64)
        if not self.split_:
            return predicted
        return join_levels(predicted * self._scales(len(self.means_)), self.means_)

    def _scales(self, n_candidates: int) -> Floats:
        """Return the scale of each target. All differences have one scale: with a scale each,
        candidates with small differences would weigh as much as the others.
        """
        return np.repeat(self.scale_, [1, n_candidates])


def _scale(values: Floats) -> float:
    return max(float(np.nanstd(values)), 1e-12)


def split_levels(labels: Floats, means: Floats) -> Floats:
    """Return the centred mean of each prompt, and each candidate's difference from it.

    Args:
        labels: (n, n_candidates), NaN where missing.
        means: the mean label of each candidate, (n_candidates,), which is subtracted first.

    Returns:
        (n, 1 + n_candidates), NaN where a label is missing; the mean is over the labels present.
    """
    centred = labels - means
    present = ~np.isnan(centred)
    count = present.sum(axis=1)
    mean = np.where(count, np.nansum(centred, axis=1) / np.maximum(count, 1), np.nan)[:, None]
    return np.concatenate([mean, centred - mean], axis=1)


def join_levels(targets: Floats, means: Floats) -> Floats:
    """Return the labels (n, n_candidates) of targets (n, 1 + n_candidates), the inverse of
    :func:`split_levels`. The differences of each prompt are centred first.
    """
    differences = targets[:, 1:] - targets[:, 1:].mean(axis=1, keepdims=True)
    return np.asarray(means + targets[:, :1] + differences, np.float64)


def with_target(unfitted: UnfittedEstimator, target: str) -> UnfittedEstimator:
    """Return an estimator that predicts ``levels`` or ``differences``; with ``auto``, the one with
    the smaller error on the validation split is selected.
    """
    if target == "levels":
        return unfitted
    grid: Grid = {f"regressor__{key}": values for key, values in unfitted.grid.items()}
    if target == "auto":
        grid["target"] = list(TARGETS)
    return UnfittedEstimator(DifferencesRegressor(unfitted.regressor), grid, unfitted.features)
