"""The predictive spread: the standard deviation of a label around its prediction. The lack of this
estimate is a limitation named in the CATImage paper (section 5.6).

A label differs from its prediction for two reasons: the estimator has an error, and the label is
the mean score of images of only a few random seeds. The residuals of out-of-fold predictions
contain both errors; the scores of several seeds show the second error alone.

The spread of the label of candidate m is ``scale[m] * factor(prompt)``: one scale per candidate,
and one factor per prompt that is common to all candidates. A separate factor per candidate did not
predict held-out residuals better.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from sklearn.base import BaseEstimator
from sklearn.linear_model import Ridge
from sklearn.model_selection import KFold
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import (
    check_array,
    check_consistent_length,
    check_is_fitted,
    validate_data,
)

from catimage.common.arrays import Floats
from catimage.estimators import store
from catimage.estimators.features.text_statistics import TextStatistics
from catimage.estimators.fitting import Split

SPREAD_FOLDER = "spread"
"""The folder of the spread within an estimator's folder."""
ALPHAS = (10.0, 30.0, 100.0, 1000.0)
"""Possible penalties of the ridge regression that predicts the factor."""
MIN_PROMPTS = 50
"""The number of training prompts below which the factor is 1."""
MIN_SPREAD = 1e-12
"""The lower limit of the scale, so that a spread is positive even if all residuals are 0."""
MAX_FACTOR = 4.0
"""Factors are clipped to [1/4, 4], because prompts may be unlike the training prompts."""


class _Factor(NamedTuple):
    """The attributes ``alpha_`` and ``gain_``, and the out-of-fold factors (n_prompts,)."""

    alpha: float | None
    gain: float
    values: Floats


class SpreadRegressor(BaseEstimator):  # type: ignore[misc]
    """Regressor of standard deviations: a scale per candidate times a factor per prompt.

    The logarithm of the squared factor is predicted by ridge regression on the mean logarithm of
    the prompt's squared residuals. The penalty with the largest out-of-fold Gaussian log-likelihood
    is selected. If its likelihood does not exceed the likelihood without a factor by at least one
    standard error over the prompts, the factor is 1. The scale of a candidate equates its mean
    variance and its mean squared out-of-fold residual, so that the spread is calibrated.

    Args:
        alphas: the penalties among which one is selected.
        folds: the number of folds of the out-of-fold factors.
        random_state: the seed of the folds.

    Attributes:
        alpha_: the selected penalty; None if the factor is 1.
        gain_: the gain in log-likelihood per label, relative to a factor of 1.
        scale_: the scale of each candidate, (n_candidates,).
        seed_share_: the share of each candidate's variance that is due to the random seeds of its
            images, (n_candidates,), NaN where unknown.
    """

    by_candidate = ("scale_", "seed_share_")

    def __init__(
        self, alphas: Sequence[float] = ALPHAS, folds: int = 3, random_state: int = 0
    ) -> None:
        self.alphas = alphas
        self.folds = folds
        self.random_state = random_state

    def __sklearn_tags__(self) -> Any:
        """Return the tags of scikit-learn's estimator contract: sparse X, required y."""
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.target_tags.required = True
        return tags

    def fit(self, X: Any, y: Floats, noise: Floats | None = None) -> Self:
        """Fit the scales and the factor.

        Args:
            X: features (n_prompts, width), sparse or dense.
            y: residuals (n_prompts, n_candidates) or (n_prompts,), NaN where missing.
            noise: the variance of each label that is due to the random seeds of its images
                (n_prompts, n_candidates), NaN where unknown; None if all are unknown.

        Raises:
            ValueError: a candidate has no residual.
        """
        X, y = self._validate(X, y)
        present = ~np.isnan(y).all(axis=1)
        X, y, noise = X[present], y[present], None if noise is None else noise[present]
        unit_scale = _scale(y, np.ones(len(y)))
        factor = self._select_factor(X, y, unit_scale)
        self.alpha_, self.gain_ = factor.alpha, factor.gain
        self.scale_ = _scale(y, factor.values)
        self.coef_, self.intercept_ = np.zeros(X.shape[1]), 0.0
        if self.alpha_ is not None:
            ridge = Ridge(self.alpha_).fit(X, _mean_log_squares(y, unit_scale))
            self.coef_, self.intercept_ = np.asarray(ridge.coef_), float(ridge.intercept_)
        self.seed_share_ = _seed_share(y, noise)
        return self

    def predict(self, X: Any) -> Floats:
        """Return positive standard deviations (n_prompts, n_candidates) or (n_prompts,)."""
        check_is_fitted(self, "scale_")
        if not isinstance(X, csr_matrix):
            X = validate_data(self, X, accept_sparse="csr", reset=False)
        spread: Floats = _factor(X @ self.coef_ + self.intercept_)[:, None] * self.scale_
        return spread[:, 0] if self.flat_ else spread

    def _validate(self, X: Any, y: Any) -> tuple[Any, Floats]:
        if y is None:
            raise ValueError("SpreadRegressor requires y to be passed, but the target y is None")
        X = validate_data(self, X, accept_sparse="csr")
        y = check_array(y, ensure_2d=False, ensure_all_finite="allow-nan", dtype=np.float64)
        check_consistent_length(X, y)
        self.flat_ = y.ndim == 1
        y = y.reshape(len(y), -1)
        without_residual = np.flatnonzero(np.isnan(y).all(axis=0))
        if len(without_residual):
            raise ValueError(f"y: candidate {without_residual[0]} (from 0) has no residual")
        return X, y

    def _select_factor(self, X: Any, y: Floats, unit_scale: Floats) -> _Factor:
        """Return the factor with the largest likelihood, given the scale for a factor of 1."""
        best = _Factor(None, 0.0, np.ones(len(y)))
        if len(y) < MIN_PROMPTS:
            return best
        folds = KFold(self.folds, shuffle=True, random_state=self.random_state)
        target = _mean_log_squares(y, unit_scale)
        baseline = _log_likelihood(y, _scale(y, best.values))
        for alpha in self.alphas:
            values = np.ones(len(y))
            for train, held_out in folds.split(values):
                ridge = Ridge(alpha).fit(X[train], target[train])
                values[held_out] = _factor(ridge.predict(X[held_out]))
            likelihood = _log_likelihood(y, values[:, None] * _scale(y, values))
            gain = np.nanmean(likelihood - baseline, axis=1)
            if gain.mean() > max(best.gain, gain.std() / np.sqrt(len(gain))):
                best = _Factor(float(alpha), float(gain.mean()), values)
        return best


def _factor(log_squares: Floats) -> Floats:
    """Return the clipped factor of each prompt, given the logarithms of the squared factors."""
    factor = np.exp(np.ravel(log_squares) / 2)
    return np.asarray(np.clip(factor, 1 / MAX_FACTOR, MAX_FACTOR), np.float64)


def _scale(residuals: Floats, factor: Floats) -> Floats:
    """Return the root mean square of ``residuals / factor`` over prompts, (n_candidates,)."""
    squares = np.nanmean((residuals / factor[:, None]) ** 2, axis=0)
    return np.asarray(np.maximum(np.sqrt(squares), MIN_SPREAD), np.float64)


def _mean_log_squares(residuals: Floats, scale: Floats) -> Floats:
    """Return the centred mean logarithm of each prompt's squared scaled residuals, (n_prompts,)."""
    logs = np.log((residuals / scale) ** 2 + 1e-3)
    present = ~np.isnan(logs)
    centred = np.where(present, logs - np.nanmean(logs), 0.0)
    return np.asarray(centred.sum(axis=1) / np.maximum(present.sum(axis=1), 1), np.float64)


def _log_likelihood(residuals: Floats, spread: Floats) -> Floats:
    """Return the Gaussian log-likelihood of each residual up to a constant."""
    return np.asarray(-0.5 * (residuals / spread) ** 2 - np.log(spread), np.float64)


def _seed_share(residuals: Floats, noise: Floats | None) -> Floats:
    """Return ``seed_share_``, given residuals and label noise (n_prompts, n_candidates)."""
    if noise is None:
        return np.full(residuals.shape[1], np.nan)
    count = (~np.isnan(noise)).sum(axis=0)
    explained = np.where(count, np.nansum(noise, axis=0) / np.maximum(count, 1), np.nan)
    variance = np.maximum(np.nanmean(residuals**2, axis=0), MIN_SPREAD**2)
    return np.asarray(np.clip(explained / variance, 0.0, 1.0), np.float64)


def fit_spread(
    prompts: NDArray[np.object_], residuals: Floats, noise: Floats | None = None, seed: int = 0
) -> Pipeline:
    """Return a fitted pipeline that predicts the standard deviations of labels
    (n_prompts, n_candidates) from prompts (n_prompts,).

    Args:
        prompts: the prompts of the train split, (n_prompts,).
        residuals: labels minus predictions (n_prompts, n_candidates), NaN where missing.
        noise: the variance of each label that is due to the random seeds of its images
            (n_prompts, n_candidates), NaN where unknown
            (:meth:`catimage.data.score_rows.ScoreRows.label_noise`); None if all are unknown.
        seed: the seed of the folds.
    """
    regressor = SpreadRegressor(random_state=seed)
    pipeline = Pipeline([("features", TextStatistics()), ("regressor", regressor)])
    fitted: Pipeline = pipeline.fit(prompts, residuals, regressor__noise=noise)
    return fitted


def save_spreads(prediction_files: Iterable[Path], train: Split, noise: Floats | None) -> None:
    """Fit the spread of each estimator, and save it in a folder beside the predictions.

    Args:
        prediction_files: the file of each estimator's out-of-fold predictions, as written by stage
            train; its prompts are in the order of ``train``.
        train: prompts and labels of the train split.
        noise: as in :func:`fit_spread`.
    """
    prompts, labels = train
    for path in prediction_files:
        predicted = pd.read_parquet(path, partitioning=None).drop(columns="prompt_id")
        spread = fit_spread(prompts, labels - predicted.to_numpy(float), noise)
        regressor = spread.named_steps["regressor"]
        meta = {"alpha": regressor.alpha_, "log_likelihood_gain": regressor.gain_}
        folder = path.parent / SPREAD_FOLDER
        store.save(spread, folder, {"candidates": list(predicted.columns), **meta})
