"""Regression of the differences between candidates instead of the labels. The routing decision
(CATImage paper, equation 3) depends on the predictions only through these differences.
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
"""The possible targets of the regression: the labels themselves (``levels``), or the mean over the
candidates and each candidate's difference from this mean (``differences``).
"""


class DifferencesRegressor(WrapperRegressor):
    """Regressor of the mean over the candidates and of each candidate's difference from this mean.

    Most of the variance of the labels is common to all candidates (some prompts are difficult for
    every generator) and is irrelevant to routing. A regressor whose outputs share a limited
    capacity, such as a network or a tree, predicts the differences better if they are separate
    outputs with the same scale as the mean. The predictions of a model that is linear in the labels
    do not change.

    Args:
        regressor: the regressor to fit; its labels (n, k) may be missing (NaN).
        target: ``differences``, or ``levels`` to fit the labels unchanged.
    """

    def __init__(self, regressor: Any = None, target: str = "differences") -> None:
        self.regressor = regressor
        self.target = target

    def fit(self, X: Any, y: Any) -> Self:
        """Fit to X and labels y (n, n_candidates), NaN where missing; labels of one candidate have
        no differences and are fitted unchanged.

        Raises:
            ValueError: ``target`` is unknown.
        """
        if self.target not in TARGETS:
            raise ValueError(
                f"target: unknown value {self.target!r}. Use one of {', '.join(TARGETS)}."
            )
        X, y = self._validate_training_data(X, y)
        self.fits_differences_ = self.target == "differences" and y.ndim == 2 and y.shape[1] > 1
        targets = y
        if self.fits_differences_:
            self.means_ = mean_labels(y)
            targets = means_and_differences(y, self.means_)
            self.scale_ = np.array([_scale(targets[:, 0]), _scale(targets[:, 1:])])
            targets = targets / self._scales(y.shape[1])
        self.regressor_ = clone(self.regressor).fit(X, targets)
        return self

    def predict(self, X: Any) -> Floats:
        """Return labels (n, n_candidates)."""
        check_is_fitted(self)
        X = self._validate_x(X, reset=False)
        predicted = np.asarray(self.regressor_.predict(X), np.float64)
        if not self.fits_differences_:
            return predicted
        return labels_of_differences(predicted * self._scales(len(self.means_)), self.means_)

    def _scales(self, n_candidates: int) -> Floats:
        """Return the scale of each target, (1 + n_candidates,). All differences share one scale,
        because with separate scales, the smallest differences would have the same weight as the
        largest.
        """
        return np.repeat(self.scale_, [1, n_candidates])


def _scale(values: Floats) -> float:
    return max(float(np.nanstd(values)), 1e-12)


def means_and_differences(labels: Floats, means: Floats) -> Floats:
    """Return the mean label of each prompt, and the difference of each label from this mean.

    The mean label of each candidate is subtracted from the labels first.

    Args:
        labels: labels (n, n_candidates), NaN where missing.
        means: the mean label of each candidate, (n_candidates,).

    Returns:
        The mean over the labels of the prompt that are not missing, and the differences,
        (n, 1 + n_candidates). The difference of a missing label is NaN.
    """
    centred = labels - means
    present = ~np.isnan(centred)
    count = present.sum(axis=1)
    mean = np.where(count, np.nansum(centred, axis=1) / np.maximum(count, 1), np.nan)[:, None]
    return np.concatenate([mean, centred - mean], axis=1)


def labels_of_differences(targets: Floats, means: Floats) -> Floats:
    """Return the labels (n, n_candidates) that correspond to means and differences: the inverse of
    :func:`means_and_differences`.

    Args:
        targets: mean and differences of each prompt, (n, 1 + n_candidates). The differences are
            centred first.
        means: the mean label of each candidate, (n_candidates,).
    """
    differences = targets[:, 1:] - targets[:, 1:].mean(axis=1, keepdims=True)
    return np.asarray(means + targets[:, :1] + differences, np.float64)


def with_target(unfitted: UnfittedEstimator, target: str) -> UnfittedEstimator:
    """Return an unfitted estimator whose regression target is ``target``.

    Args:
        unfitted: the estimator.
        target: the setting ``target`` of an entry of ``train.estimators``: ``levels``,
            ``differences``, or ``auto`` to select the target with the smaller error on the
            validation split.
    """
    if target == "levels":
        return unfitted
    grid: Grid = {f"regressor__{key}": values for key, values in unfitted.grid.items()}
    if target == "auto":
        grid["target"] = list(TARGETS)
    return UnfittedEstimator(DifferencesRegressor(unfitted.regressor), grid, unfitted.features)
