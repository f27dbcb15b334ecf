"""The predictive spread: the standard deviation of a label around its prediction, whose absence
CATImage 5.6 names as a limitation.

A label differs from its prediction because the estimator errs and because the label is the mean of
a few seeds. Out-of-fold residuals contain both parts, and scores of several seeds show the second
one alone. The spread of a label is ``scale[m] * factor(prompt)``: candidates differ in their
uncertainty, and so do prompts, but a prompt that is difficult to predict is so for all candidates.
(A factor per candidate does not predict held-out residuals better than one factor for all.)
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
"""Penalties of the ridge regression of the factor."""
MIN_PROMPTS = 50
"""The number of prompts below which the factor is 1."""
MIN_SPREAD = 1e-12
"""The lower limit of the scale, so that a spread is positive even if all residuals are 0."""
MAX_FACTOR = 4.0
"""Factors are clipped to [1/4, 4], because they are extrapolated to unfamiliar prompts."""


class _Factor(NamedTuple):
    """The selected penalty, the gain in log-likelihood per label, and out-of-fold factors (n,)."""

    alpha: float | None
    gain: float
    values: Floats


class SpreadRegressor(BaseEstimator):  # type: ignore[misc]
    """Standard deviations from residuals: a scale per candidate times a factor per prompt.

    The logarithm of the factor is a ridge regression of the mean log squared residual. Its penalty
    has the largest out-of-fold Gaussian log-likelihood; if that does not exceed the likelihood of
    the scale alone by one standard error over prompts, the factor is 1. The scale equates the mean
    out-of-fold squared residual and variance of each candidate, so that the spread is calibrated.

    Args:
        alphas: penalties to select from.
        folds: of the out-of-fold factors.
        random_state: seed of the folds.

    Attributes:
        alpha_: the selected penalty; None if the factor is 1.
        gain_: in log-likelihood per label, relative to the scale alone.
        scale_: (n_candidates,).
        seed_share_: the share of the variance that the seeds explain, (n_candidates,), NaN where
            unknown.
    """

    def __init__(
        self, alphas: Sequence[float] = ALPHAS, folds: int = 3, random_state: int = 0
    ) -> None:
        self.alphas = alphas
        self.folds = folds
        self.random_state = random_state

    def __sklearn_tags__(self) -> Any:
        """Return the tags of scikit-learn's estimator contract: features may be sparse."""
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.target_tags.required = True
        return tags

    def fit(self, X: Any, y: Floats, noise: Floats | None = None) -> Self:
        """Fit scale and factor.

        Args:
            X: features (n, width), sparse or dense.
            y: residuals (n, n_candidates) or (n,), NaN where missing.
            noise: the variance of each label that its seeds explain, (n, n_candidates)
                (:func:`label_noise`); None if unknown.

        Raises:
            ValueError: a candidate has no residual.
        """
        X, y = self._validate(X, y)
        present = ~np.isnan(y).all(axis=1)
        X, y, noise = X[present], y[present], None if noise is None else noise[present]
        constant = _scale(y, np.ones(len(y)))
        factor = self._select(X, y, constant)
        self.alpha_, self.gain_ = factor.alpha, factor.gain
        self.scale_ = _scale(y, factor.values)
        self.coef_, self.intercept_ = np.zeros(X.shape[1]), 0.0
        if self.alpha_ is not None:
            ridge = Ridge(self.alpha_).fit(X, _mean_log_squares(y, constant))
            self.coef_, self.intercept_ = np.asarray(ridge.coef_), float(ridge.intercept_)
        self.seed_share_ = _seed_share(y, noise)
        return self

    def predict(self, X: Any) -> Floats:
        """Return positive standard deviations, (n, n_candidates) or (n,), of X (n, width)."""
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
        empty = np.flatnonzero(np.isnan(y).all(axis=0))
        if len(empty):
            raise ValueError(f"candidate {empty[0]} (from 0) has no residual")
        return X, y

    def _select(self, X: Any, y: Floats, constant: Floats) -> _Factor:
        """Select the factor by its out-of-fold likelihood; ``constant``: the scale of factor 1."""
        best = _Factor(None, 0.0, np.ones(len(y)))
        if len(y) < MIN_PROMPTS:
            return best
        folds = KFold(self.folds, shuffle=True, random_state=self.random_state)
        target = _mean_log_squares(y, constant)
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
    factor = np.exp(np.ravel(log_squares) / 2)
    return np.asarray(np.clip(factor, 1 / MAX_FACTOR, MAX_FACTOR), np.float64)


def _scale(residuals: Floats, factor: Floats) -> Floats:
    """Return the root mean square of the residuals divided by the factor, (n_candidates,)."""
    squares = np.nanmean((residuals / factor[:, None]) ** 2, axis=0)
    return np.asarray(np.maximum(np.sqrt(squares), MIN_SPREAD), np.float64)


def _mean_log_squares(residuals: Floats, scale: Floats) -> Floats:
    """Return the mean log squared scaled residual of each prompt, centred, (n,); 0 if none."""
    logs = np.log((residuals / scale) ** 2 + 1e-3)
    present = ~np.isnan(logs)
    centred = np.where(present, logs - np.nanmean(logs), 0.0)
    return np.asarray(centred.sum(axis=1) / np.maximum(present.sum(axis=1), 1), np.float64)


def _log_likelihood(residuals: Floats, spread: Floats) -> Floats:
    return np.asarray(-0.5 * (residuals / spread) ** 2 - np.log(spread), np.float64)


def _seed_share(residuals: Floats, noise: Floats | None) -> Floats:
    """Return the share of the variance that the seeds explain, between 0 and 1, (n_candidates,);
    NaN where ``noise`` is unknown.
    """
    if noise is None:
        return np.full(residuals.shape[1], np.nan)
    count = (~np.isnan(noise)).sum(axis=0)
    explained = np.where(count, np.nansum(noise, axis=0) / np.maximum(count, 1), np.nan)
    variance = np.maximum(np.nanmean(residuals**2, axis=0), MIN_SPREAD**2)
    return np.asarray(np.clip(explained / variance, 0.0, 1.0), np.float64)


def label_noise(by_seed: Floats) -> Floats | None:
    """Return the variance of each label that its seeds explain: the squared standard error s^2 / S
    of the mean of S scores.

    Args:
        by_seed: scores (n, n_candidates, n_seeds), NaN where missing.

    Returns:
        (n, n_candidates), NaN where a label has fewer than two seeds; None if all labels have.
    """
    count = (~np.isnan(by_seed)).sum(axis=2)
    n_seeds = np.where(count > 1, count, np.nan)
    mean = np.nansum(by_seed, axis=2) / n_seeds
    squares = np.nansum((by_seed - mean[:, :, None]) ** 2, axis=2)
    return None if np.isnan(n_seeds).all() else squares / (n_seeds - 1) / n_seeds


def fit_spread(
    prompts: NDArray[np.object_], residuals: Floats, by_seed: Floats | None = None, seed: int = 0
) -> Pipeline:
    """Return a fitted pipeline that predicts the standard deviations of an estimator's labels,
    positive, (n, n_candidates), from prompts (n,).

    Args:
        prompts: of the train split, (n,).
        residuals: labels minus out-of-fold predictions (n, n_candidates), NaN where missing.
        by_seed: the scores whose means are the labels, (n, n_candidates, n_seeds), NaN where
            missing; None if unknown.
        seed: of the folds.
    """
    regressor = SpreadRegressor(random_state=seed)
    pipeline = Pipeline([("features", TextStatistics()), ("regressor", regressor)])
    noise = None if by_seed is None else label_noise(by_seed)
    fitted: Pipeline = pipeline.fit(prompts, residuals, regressor__noise=noise)
    return fitted


def save_spreads(out_of_fold: Iterable[Path], train: Split, by_seed: Floats) -> None:
    """Fit the spread of each estimator and save it in ``spread/`` beside its predictions.

    Args:
        out_of_fold: files of out-of-fold predictions, as stage train writes them, with the prompts
            in the order of ``train``.
        train: prompts and labels of the train split.
        by_seed: the scores whose means are the labels, (n, n_candidates, n_seeds), NaN where
            missing.
    """
    prompts, labels = train
    for path in out_of_fold:
        predicted = pd.read_parquet(path).drop(columns="prompt_id")
        spread = fit_spread(prompts, labels - predicted.to_numpy(float), by_seed)
        regressor = spread.named_steps["regressor"]
        meta = {"alpha": regressor.alpha_, "log_likelihood_gain": regressor.gain_}
        folder = path.parent / SPREAD_FOLDER
        store.save(spread, folder, {"candidates": list(predicted.columns), **meta})
