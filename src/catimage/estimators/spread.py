"""The predictive spread: how far a label may lie from what an estimator says of it (CATImage 5.6
has none, and says so).

A label misses its prediction for two reasons: the estimator errs, and the label is the mean of a
few seeds. Out-of-fold residuals show both together, and the scores of several seeds show the second
alone. The spread of a label is ``scale[m] * factor(prompt)``: candidates are uncertain in different
degrees, and so are prompts, but where a prompt is hard to foretell it is so for every candidate
(measured: a factor a candidate predicts held-out residuals no better than one for all).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, hstack
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.feature_extraction.text import TfidfVectorizer
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
from catimage.estimators.fitting import Split

FOLDER = "spread"
"""Where it lies in an estimator's folder."""
PENALTIES = (10.0, 30.0, 100.0, 1000.0)
FEWEST = 50
"""Prompts below which the spread is not asked to depend on the prompt."""
LEAST = 1e-12
"""A spread is never 0, even where an estimator was never wrong."""
WIDEST = 4.0
"""The factor stays within a fourth and four times of 1: what was learned must not run away on a
prompt of another kind.
"""


class TextShape(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """What can be read off any prompt at no cost: its words (TF-IDF) and its shape (lengths,
    commas, digits, capitals), sparse.

    An estimator of any kind has these, whatever features it reads itself.
    """

    def __init__(self, most_words: int = 5000, shape_weight: float = 0.2) -> None:
        self.most_words = most_words
        self.shape_weight = shape_weight

    def fit(self, prompts: Sequence[str], y: Any = None) -> Self:
        """Learns the words, and mean and spread of the shape, of the prompts (n,)."""
        self.words_ = TfidfVectorizer(
            sublinear_tf=True, max_features=self.most_words, token_pattern=r"(?u)\w+|\S"
        )
        self.words_.fit(prompts)
        self.words_.vocabulary_ = {
            word: int(column) for word, column in self.words_.vocabulary_.items()
        }
        shapes = _shapes(prompts)
        self.mean_, self.scale_ = shapes.mean(axis=0), np.maximum(shapes.std(axis=0), 1e-9)
        return self

    def transform(self, prompts: Sequence[str]) -> csr_matrix:
        """Sparse (n, words + 5)."""
        check_is_fitted(self)
        shapes = np.clip((_shapes(prompts) - self.mean_) / self.scale_, -3, 3) * self.shape_weight
        features: csr_matrix = hstack([self.words_.transform(prompts), csr_matrix(shapes)]).tocsr()
        return features


def _shapes(prompts: Sequence[str]) -> Floats:
    """Words, characters a word, commas, digits, words that begin with a capital: (n, 5), lengths as
    logarithms, shares of the words.
    """
    rows = []
    for prompt in prompts:
        words = str(prompt).split() or [""]
        capitals = sum(word[:1].isupper() for word in words)
        marks = [len(re.findall(pattern, str(prompt))) / len(words) for pattern in (",", r"\d")]
        rows.append(
            [
                np.log(len(words)),
                np.log(max(len(str(prompt)), 1) / len(words)),
                *marks,
                capitals / len(words),
            ]
        )
    return np.array(rows, float)


class SpreadRegressor(BaseEstimator):  # type: ignore[misc]
    """Standard deviations from residuals: a scale a candidate times a factor of the prompt, or the
    scale alone.

    The logarithm of the factor is a ridge regression of the mean log squared residual. Its penalty
    is the one with the best Gaussian likelihood of residuals in other folds; where that is not
    better than the scale alone by a standard error over prompts, the factor is 1. The scale makes
    squared residuals in other folds as large as the variances on average, so that the spread is
    calibrated.
    """

    def __init__(
        self, penalties: Sequence[float] = PENALTIES, folds: int = 3, random_state: int = 0
    ) -> None:
        self.penalties = penalties
        self.folds = folds
        self.random_state = random_state

    def __sklearn_tags__(self) -> Any:
        """Features may be sparse."""
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.target_tags.required = True
        return tags

    def fit(self, X: Any, y: Floats, noise: Floats | None = None) -> Self:
        """Learns from residuals ``y`` (n, m), NaN where there is none.

        Args:
            X: features (n, width), sparse or not.
            noise: the part of each label's variance that its seeds explain (n, m), see
                :func:`label_noise`; left out: not known.

        Raises:
            ValueError: a candidate has no residual.
        """
        if y is None:
            raise ValueError("SpreadRegressor requires y to be passed, but the target y is None")
        X = validate_data(self, X, accept_sparse="csr")
        self.flat_ = np.ndim(y) == 1
        y = check_array(
            y, ensure_2d=False, ensure_all_finite="allow-nan", dtype=np.float64
        ).reshape(len(y), -1)
        check_consistent_length(X, y)
        if np.isnan(y).all(axis=0).any():
            raise ValueError(
                f"candidate {int(np.isnan(y).all(axis=0).argmax())} (from 0) has no residual"
            )
        some = ~np.isnan(y).all(axis=1)
        X, y, noise = X[some], y[some], None if noise is None else noise[some]
        constant = _scale(y, np.ones(len(y)))
        self.penalty_, self.gain_, factor = self._choose(X, y, constant)
        self.scale_ = _scale(y, factor)
        self.coef_, self.intercept_ = np.zeros(X.shape[1]), 0.0
        if self.penalty_ is not None:
            ridge = Ridge(self.penalty_).fit(X, _log_squares(y, constant))
            self.coef_, self.intercept_ = np.asarray(ridge.coef_), float(ridge.intercept_)
        self.seed_share_ = _seed_share(y, noise)
        return self

    def predict(self, X: Any) -> Floats:
        """Standard deviations (n, m) of labels about their predictions, all above 0."""
        check_is_fitted(self, "scale_")
        X = (
            X
            if isinstance(X, csr_matrix)
            else validate_data(self, X, accept_sparse="csr", reset=False)
        )
        spread: Floats = _factor(X @ self.coef_ + self.intercept_)[:, None] * self.scale_
        return spread[:, 0] if self.flat_ else spread

    def _choose(self, X: Any, y: Floats, constant: Floats) -> tuple[float | None, float, Floats]:
        """The penalty, what it gains in log-likelihood a label, and the factors in other folds;
        None, 0 and ones for the scale alone.
        """
        best: tuple[float | None, float, Floats] = None, 0.0, np.ones(len(y))
        if len(y) < FEWEST:
            return best
        target = _log_squares(y, constant)
        alone = _log_likelihood(y, _scale(y, best[2]))
        for penalty in self.penalties:
            factor = np.ones(len(y))
            for known, held in self._folds(len(y)):
                factor[held] = _factor(Ridge(penalty).fit(X[known], target[known]).predict(X[held]))
            gain = np.nanmean(
                _log_likelihood(y, factor[:, None] * _scale(y, factor)) - alone, axis=1
            )
            if gain.mean() > max(best[1], gain.std() / np.sqrt(len(gain))):
                best = float(penalty), float(gain.mean()), factor
        return best

    def _folds(self, n: int) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        yield from KFold(self.folds, shuffle=True, random_state=self.random_state).split(
            np.arange(n)
        )


def _factor(log_squares: Floats) -> Floats:
    return np.asarray(np.clip(np.exp(np.ravel(log_squares) / 2), 1 / WIDEST, WIDEST), np.float64)


def _scale(residuals: Floats, factor: Floats) -> Floats:
    """(m,): root mean square of the residuals over their factor."""
    return np.asarray(
        np.maximum(np.sqrt(np.nanmean((residuals / factor[:, None]) ** 2, axis=0)), LEAST),
        np.float64,
    )


def _log_squares(residuals: Floats, scale: Floats) -> Floats:
    """The mean over the candidates of the log squared residual in units of its scale (n,), 0 for a
    prompt without any.
    """
    logs = np.log((residuals / scale) ** 2 + 1e-3)
    there = ~np.isnan(logs)
    centred = np.where(there, logs - np.nanmean(logs), 0.0)
    return np.asarray(centred.sum(axis=1) / np.maximum(there.sum(axis=1), 1), np.float64)


def _log_likelihood(residuals: Floats, spread: Floats) -> Floats:
    return np.asarray(-0.5 * (residuals / spread) ** 2 - np.log(spread), np.float64)


def _seed_share(residuals: Floats, noise: Floats | None) -> Floats:
    """(m,): the share of the variance that seeds explain, within 0 and 1; NaN where not known."""
    if noise is None:
        return np.full(residuals.shape[1], np.nan)
    known = np.where(
        np.isnan(noise).all(axis=0),
        np.nan,
        np.nansum(noise, axis=0) / np.maximum((~np.isnan(noise)).sum(axis=0), 1),
    )
    return np.asarray(
        np.clip(known / np.maximum(np.nanmean(residuals**2, axis=0), LEAST**2), 0.0, 1.0),
        np.float64,
    )


def label_noise(by_seed: Floats) -> Floats | None:
    """The variance of each label that its seeds explain: s^2 / S, the squared standard error of a
    mean of S images.

    Args:
        by_seed: scores (n, m, n_seeds), NaN where one is missing.

    Returns:
        (n, m), NaN where a label has fewer than two seeds; None where every label has.
    """
    count = (~np.isnan(by_seed)).sum(axis=2)
    some = np.where(count > 1, count, np.nan)
    mean = np.nansum(by_seed, axis=2) / some
    squares = np.nansum((by_seed - mean[:, :, None]) ** 2, axis=2)
    return None if np.isnan(some).all() else squares / (some - 1) / some


def fit_spread(
    prompts: NDArray[np.object_], residuals: Floats, by_seed: Floats | None = None, seed: int = 0
) -> Pipeline:
    """The spread of an estimator's labels: a pipeline whose ``predict(prompts)`` gives standard
    deviations (n, m), all above 0.

    Args:
        prompts: (n,), of the train split.
        residuals: labels minus out-of-fold predictions (n, m), NaN where a label is missing.
        by_seed: the scores that the labels are means of (n, m, n_seeds), NaN where one is missing.
        seed: of the folds.
    """
    noise = None if by_seed is None else label_noise(by_seed)
    pipeline = Pipeline(
        [("features", TextShape()), ("regressor", SpreadRegressor(random_state=seed))]
    )
    fitted: Pipeline = pipeline.fit(prompts, residuals, regressor__noise=noise)
    return fitted


def save_spreads(out_of_fold: Iterable[Path], train: Split, by_seed: Floats) -> None:
    """Learns the spread of each estimator that has out-of-fold predictions, and writes ``spread/``
    beside these, as ``store.load`` reads.

    Args:
        out_of_fold: files of stage train, ``prompt_id`` and a column a candidate, in the order of
            the prompts of ``train``.
        train: prompts and labels of the train split.
        by_seed: the scores that the labels are means of, (n, m, n_seeds), NaN where one is missing.
    """
    prompts, labels = train
    for path in out_of_fold:
        held = pd.read_parquet(path).drop(columns="prompt_id")
        spread = fit_spread(prompts, labels - held.to_numpy(float), by_seed)
        regressor = spread.named_steps["regressor"]
        found = {"penalty": regressor.penalty_, "log_likelihood_gain": regressor.gain_}
        store.save(spread, path.parent / FOLDER, {"candidates": list(held.columns), **found})


def spread_parts(spread: Pipeline, prompts: Sequence[str]) -> tuple[Floats, Floats]:
    """Standard deviations of a label by its two reasons, the estimator's error and the seeds: (n,
    m) each; their squares add up.

    The second is NaN where there was one seed alone: its noise is then part of the first.
    """
    total, share = spread.predict(prompts), spread.named_steps["regressor"].seed_share_
    return total * np.sqrt(1 - np.nan_to_num(share)), total * np.sqrt(share)
