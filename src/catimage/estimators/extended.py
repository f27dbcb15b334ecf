"""Addition of a candidate to a fitted estimator. The quality of the new candidate is learned from a
few hundred prompts, and the predictions of the other candidates do not change.

The quality of the new candidate is predicted from the predictions of the other candidates, as in
"Universal Model Routing for Efficient LLM Inference" (Jitkrittum et al. 2025).
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
"""The minimum number of labelled prompts that the commands require for a new candidate."""
SHARES = (0.0, 0.1, 0.5, 1.0)
"""Possible weights of the kernel on the features; the kernel on the predictions has the remaining
weight.
"""
ALPHAS = np.logspace(-2, 6, 17)
"""Possible penalties of the kernel ridge regression."""
_FOLDS = 5


class ExtendedRegressor(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """A fitted regressor of m candidates, extended by a new candidate.

    The label of the new candidate is predicted as the mean prediction of the other candidates plus
    a difference, because the labels of a prompt share most of their variance. The difference is
    predicted by kernel ridge regression from the predictions of the other candidates and the
    features of the prompt. The penalty and the kernel with the smallest leave-one-out error are
    selected; with the largest penalty, the predicted difference is constant, so that a few
    uninformative labels do not degrade the prediction. Predicted differences are clipped to the
    range of the differences in the training labels.

    Args:
        base: the regressor of the m other candidates, which predicts labels (n, m).
        column: the index (from 0) of the new candidate among the m + 1 candidates.

    Attributes:
        leave_one_out_: leave-one-out predictions of the new candidate for the prompts of
            :meth:`extend`, (n,).
    """

    def __init__(self, base: Any = None, column: int = 0) -> None:
        self.base = base
        self.column = column

    def fit(self, X: Any, y: Floats) -> Self:
        """Fit the base regressor and the extension.

        Args:
            X: features of n prompts, as the base regressor reads them.
            y: labels (n, m + 1), NaN where missing; the new candidate may have few labels.
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
        """Fit the extension; the base regressor does not change.

        Args:
            X: features of n prompts, as the base regressor reads them.
            predicted: out-of-fold predictions of the base regressor, (n, m).
            labels: labels of the other candidates (n, m), NaN where missing; a missing label is
                replaced by the prediction.
            new_labels: labels of the new candidate, (n,).

        Raises:
            ValueError: there are fewer than two prompts.
        """
        if len(new_labels) < 2:
            raise ValueError(
                "new_labels: a new candidate needs at least two labelled prompts, not"
                f" {len(new_labels)}. Add labels."
            )
        self.base_ = self.base
        self.center_ = predicted.mean(axis=0)
        self.scale_ = max(float(predicted.std(axis=0).mean()), 1e-12)
        difference = new_labels - np.where(np.isnan(labels), predicted, labels).mean(axis=1)
        blocks = [(predicted - self.center_) / self.scale_, *([X] if _has_columns(X) else [])]
        solution = _select_kernel_ridge(blocks, difference)
        self.share_, self.alpha_ = solution.share, solution.alpha
        coefs = [
            weight * np.asarray(block.T @ solution.dual).ravel()
            for weight, block in zip(solution.weights, blocks, strict=True)
        ]
        self.prediction_coef_ = coefs[0]
        self.feature_coef_ = coefs[1] if len(coefs) > 1 and solution.share else None
        self.low_, self.high_ = float(difference.min()), float(difference.max())
        self.intercept_ = 0.0
        self.intercept_ = float(difference.mean() - self._difference(X, predicted).mean())
        leave_one_out = np.clip(solution.leave_one_out, self.low_, self.high_)
        self.leave_one_out_ = predicted.mean(axis=1) + leave_one_out
        return self

    def predict(self, X: Any) -> Floats:
        """Return labels (n, m + 1); the base regressor predicts those of the other candidates."""
        check_is_fitted(self, "intercept_")
        return self.insert_candidate(np.asarray(self.base_.predict(X), np.float64), X)

    def insert_candidate(self, predicted: Floats, X: Any) -> Floats:
        """Insert the predictions of the new candidate into those of the base regressor.

        Args:
            predicted: predictions of the base regressor for X, (n, m).
            X: features of n prompts.

        Returns:
            Predictions of all candidates, (n, m + 1).
        """
        difference = np.clip(self._difference(X, predicted), self.low_, self.high_)
        return np.insert(predicted, self.column, predicted.mean(axis=1) + difference, axis=1)

    def multiply_adds(self, X: Any) -> int:
        """Return the number of multiply-adds of the extension, without those of the base regressor.

        Zeros of sparse features are not counted.
        """
        n_prompts = len(X) if isinstance(X, RaggedArray) else int(X.shape[0])
        products = len(self.prediction_coef_) * n_prompts
        if self.feature_coef_ is not None:
            sparse = issparse(X)
            products += X.nnz if sparse else X.size
        return int(products)

    def _difference(self, X: Any, predicted: Floats) -> Floats:
        """Return the predicted differences (n,) between the new candidate and the mean."""
        standardised = (predicted - self.center_) / self.scale_
        difference = self.intercept_ + standardised @ self.prediction_coef_
        if self.feature_coef_ is not None:
            difference = difference + np.asarray(X @ self.feature_coef_).ravel()
        return np.asarray(difference, np.float64)


def _take(X: Any, rows: Ints) -> Any:
    """Return the rows with the given indices of a dense or sparse array, or of token embeddings."""
    return X.take(rows) if isinstance(X, RaggedArray) else X[rows]


def _has_columns(X: Any) -> bool:
    """Return whether the features are a numeric matrix, and not token embeddings or prompts."""
    return issparse(X) or (isinstance(X, np.ndarray) and X.ndim == 2 and X.dtype.kind == "f")


@dataclass(frozen=True)
class _KernelRidge:
    """A fitted kernel ridge regression.

    Attributes:
        share: the weight of the kernel on the features.
        alpha: the penalty.
        weights: the weight of the inner products of each block in the kernel.
        dual: the dual coefficients (n,).
        leave_one_out: the leave-one-out predictions (n,).
    """

    share: float
    alpha: float
    weights: tuple[float, ...]
    dual: Floats
    leave_one_out: Floats


def _select_kernel_ridge(blocks: Sequence[Any], y: Floats) -> _KernelRidge:
    """Return the kernel ridge regression with the smallest leave-one-out error.

    Every penalty in ``ALPHAS`` is tried with every weight in ``SHARES``. With the largest penalty,
    the prediction is constant. scikit-learn's ``KernelRidge`` does not compute the leave-one-out
    error, and ``RidgeCV`` computes it only for a single kernel.

    Args:
        blocks: predictions (n, m), and optionally features (n, width), dense or sparse.
        y: the target (n,).
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
            shrinkage = values / (values + alpha)
            leverage = np.einsum("ij,j,ij->i", vectors, shrinkage, vectors) + 1 / len(y)
            fitted = vectors @ (shrinkage * projected)
            residual = (y - y.mean() - fitted) / (1 - leverage).clip(1e-9)
            if (error := float((residual**2).mean())) < smallest:
                dual = vectors @ (projected / (values + alpha))
                best = _KernelRidge(share, float(alpha), weights, dual, y - residual)
                smallest = error
    assert best is not None
    return best


def _centred_kernel(block: Any) -> tuple[Floats, float]:
    """Return the centred inner products (n, n) of the rows of a block, divided by the mean of their
    diagonal, and this mean. Centring is equivalent to an unpenalised intercept.
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
        estimator: an estimator that is fitted to the m other candidates; it is not changed.
        column: the index (from 0) of the new candidate among the m + 1 candidates.
        prompts: the prompts that have a label of the new candidate, (n,).
        predicted: out-of-fold predictions of ``estimator``, (n, m).
        labels: labels of the other candidates (n, m), NaN where missing.
        new_labels: labels of the new candidate, (n,).
    """
    features, regressor = (estimator.named_steps[step] for step in ("features", "regressor"))
    x = features.transform(prompts)
    extended = ExtendedRegressor(regressor, column).extend(x, predicted, labels, new_labels)
    return Pipeline([("features", features), ("regressor", extended)])
