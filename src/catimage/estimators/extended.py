"""Adding a candidate to a fitted estimator: its quality is learned from a few hundred prompts, and
the predictions of the other candidates do not change.

As in model routing with models that were not seen in training (Jitkrittum et al. 2025), the
predictions of the other candidates are features of the new one's quality.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from scipy.sparse import issparse
from sklearn.base import BaseEstimator, RegressorMixin, clone
from sklearn.model_selection import KFold
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from catimage.common.arrays import Floats, Ints
from catimage.estimators.ragged_arrays import RaggedArray

MIN_LABELS = 20
"""The number of labelled prompts that a new candidate needs at least."""
SHARES = (0.0, 0.1, 0.5, 1.0)
"""Weights of the features' kernel; the predictions' kernel has the remaining weight."""
ALPHAS = np.logspace(-2, 6, 17)
"""Penalties of the kernel ridge regression."""
_FOLDS = 5


class ExtendedRegressor(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """A fitted regressor of m candidates, extended by a new candidate.

    The label of the new candidate is predicted as the mean of the other candidates plus a
    difference, because the labels of a prompt share most of their variance. The difference is a
    kernel ridge regression on the predictions of the other candidates and the features of the
    prompt, whose penalty and kernel have the smallest leave-one-out error. With the largest penalty
    it is a constant, so that a few uninformative labels do no harm. Predicted differences are
    clipped to the range of the training labels.

    Args:
        base: a regressor that predicts (n, m).
        column: the column, from 0, of the new candidate among the m + 1.
    """

    def __init__(self, base: Any = None, column: int = 0) -> None:
        self.base = base
        self.column = column

    def fit(self, X: Any, y: Floats) -> Self:
        """Fit the base and the extension.

        Args:
            X: features of n prompts, as the base reads them.
            y: labels (n, m + 1), NaN where missing; the new candidate may have few.
        """
        y = np.asarray(y, np.float64)
        new_labels, labels = y[:, self.column], np.delete(y, self.column, axis=1)
        predicted = np.full(labels.shape, np.nan)
        folds = KFold(min(_FOLDS, len(labels)), shuffle=True, random_state=0)
        for train, held_out in folds.split(labels):
            fitted = clone(self.base).fit(_take(X, train), labels[train])
            predicted[held_out] = fitted.predict(_take(X, held_out))
        self.base = clone(self.base).fit(X, labels)
        rows = np.flatnonzero(~np.isnan(new_labels))
        return self.extend(_take(X, rows), predicted[rows], labels[rows], new_labels[rows])

    def extend(self, X: Any, predicted: Floats, labels: Floats, new_labels: Floats) -> Self:
        """Fit the extension; the base does not change.

        Args:
            X: features of n prompts, as the base reads them.
            predicted: out-of-fold predictions of the base, (n, m).
            labels: of the other candidates, (n, m); missing ones are replaced by predictions.
            new_labels: of the new candidate, (n,).

        Raises:
            ValueError: there are fewer than two labels.
        """
        if len(new_labels) < 2:
            raise ValueError(
                f"a new candidate needs at least two labelled prompts, not {len(new_labels)}"
            )
        self.base_ = self.base
        self.center_ = predicted.mean(axis=0)
        self.scale_ = max(float(predicted.std(axis=0).mean()), 1e-12)
        difference = new_labels - np.where(np.isnan(labels), predicted, labels).mean(axis=1)
        blocks = [(predicted - self.center_) / self.scale_, *([X] if _has_columns(X) else [])]
        selected = _select(blocks, difference)
        self.share_, self.alpha_ = selected.share, selected.alpha
        coefs = [
            weight * np.asarray(block.T @ selected.dual).ravel()
            for weight, block in zip(selected.weights, blocks, strict=True)
        ]
        self.prediction_coef_ = coefs[0]
        self.feature_coef_ = coefs[1] if len(coefs) > 1 and selected.share else None
        self.low_, self.high_ = float(difference.min()), float(difference.max())
        self.intercept_ = 0.0
        self.intercept_ = float(difference.mean() - self._difference(X, predicted).mean())
        left_out = np.clip(selected.left_out, self.low_, self.high_)
        self.held_out_ = predicted.mean(axis=1) + left_out
        return self

    def predict(self, X: Any) -> Floats:
        """Return labels (n, m + 1); those of the other candidates are the base's predictions."""
        check_is_fitted(self, "intercept_")
        return self.insert_candidate(np.asarray(self.base_.predict(X), np.float64), X)

    def insert_candidate(self, predicted: Floats, X: Any) -> Floats:
        """Insert the new candidate into the base's predictions for X: (n, m) to (n, m + 1)."""
        difference = np.clip(self._difference(X, predicted), self.low_, self.high_)
        return np.insert(predicted, self.column, predicted.mean(axis=1) + difference, axis=1)

    def multiply_adds(self, X: Any) -> int:
        """Return the multiply-adds of the extension alone, zeros of sparse features excluded."""
        n_prompts = len(X) if isinstance(X, RaggedArray) else int(X.shape[0])
        products = len(self.prediction_coef_) * n_prompts
        if self.feature_coef_ is not None:
            sparse = issparse(X)
            products += X.nnz if sparse else X.size
        return int(products)

    def _difference(self, X: Any, predicted: Floats) -> Floats:
        standardised = (predicted - self.center_) / self.scale_
        difference = self.intercept_ + standardised @ self.prediction_coef_
        if self.feature_coef_ is not None:
            difference = difference + np.asarray(X @ self.feature_coef_).ravel()
        return np.asarray(difference, np.float64)


def _take(X: Any, rows: Ints) -> Any:
    """Return rows of an array, a sparse array or token embeddings."""
    return X.take(rows) if isinstance(X, RaggedArray) else X[rows]


def _has_columns(X: Any) -> bool:
    """Return whether a linear model can read the features, which are not tokens or text."""
    return issparse(X) or (isinstance(X, np.ndarray) and X.ndim == 2 and X.dtype.kind == "f")


@dataclass(frozen=True)
class _KernelRidge:
    """A fitted kernel ridge regression.

    Attributes:
        share: the weight of the kernel of the features.
        alpha: the penalty.
        weights: of the blocks' inner products in the kernel.
        dual: the dual coefficients (n,).
        left_out: the leave-one-out predictions (n,).
    """

    share: float
    alpha: float
    weights: tuple[float, ...]
    dual: Floats
    left_out: Floats


def _select(blocks: Sequence[Any], y: Floats) -> _KernelRidge:
    """Return the kernel ridge regression of y (n,) with the smallest leave-one-out error, among
    weighted sums of the blocks' kernels and penalties; the largest penalty predicts a constant.

    (scikit-learn's ``KernelRidge`` has no closed form of the leave-one-out error; ``RidgeCV`` has,
    for one kernel.)
    """
    kernels, scales = zip(*(_centred_kernel(block) for block in blocks), strict=True)
    best, smallest = None, np.inf
    for share in SHARES if len(blocks) > 1 else (0.0,):
        shares = (1 - share, share)[: len(blocks)]
        weights = tuple(s / scale for s, scale in zip(shares, scales, strict=True))
        kernel = sum(s * k for s, k in zip(shares, kernels, strict=True))
        values, vectors = np.linalg.eigh(kernel)
        values, projected = values.clip(0), vectors.T @ (y - y.mean())
        for alpha in ALPHAS:
            kept = values / (values + alpha)
            leverage = np.einsum("ij,j,ij->i", vectors, kept, vectors) + 1 / len(y)
            residual = (y - y.mean() - vectors @ (kept * projected)) / (1 - leverage).clip(1e-9)
            if (error := float((residual**2).mean())) < smallest:
                dual = vectors @ (projected / (values + alpha))
                best = _KernelRidge(share, float(alpha), weights, dual, y - residual)
                smallest = error
    assert best is not None
    return best


def _centred_kernel(block: Any) -> tuple[Floats, float]:
    """Return the centred inner products (n, n) of features, scaled to a mean diagonal of 1, and the
    scale. Centring amounts to an intercept without penalty.
    """
    kernel, sparse = block @ block.T, issparse(block)
    kernel = np.asarray(kernel.todense() if sparse else kernel, np.float64)
    kernel = kernel - kernel.mean(axis=0) - kernel.mean(axis=1, keepdims=True) + kernel.mean()
    scale = max(float(np.trace(kernel)) / len(kernel), 1e-12)
    return kernel / scale, scale


def extend_estimator(
    estimator: Pipeline,
    column: int,
    prompts: Any,
    predicted: Floats,
    labels: Floats,
    new_labels: Floats,
) -> Pipeline:
    """Return a fitted estimator with a new candidate in ``column``.

    Args:
        estimator: fitted to the other candidates; it is not changed.
        column: from 0, among the m + 1 candidates.
        prompts: (n,), those with a label of the new candidate.
        predicted, labels, new_labels: as in :meth:`ExtendedRegressor.extend`.
    """
    features, regressor = (estimator.named_steps[step] for step in ("features", "regressor"))
    x = features.transform(prompts)
    extended = ExtendedRegressor(regressor, column).extend(x, predicted, labels, new_labels)
    return Pipeline([("features", features), ("regressor", extended)])
