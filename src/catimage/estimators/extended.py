"""A candidate that is added to a trained estimator: its quality learned from a few hundred prompts,
those of the others left as they are.

What the estimator says of the old candidates tells much of a new one, as model routing with models
unseen in training has it (Jitkrittum et al. 2025, who keep a new model's mean quality a cluster of
prompts). Here it is a small linear model of what the others are worth.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse
from sklearn.base import BaseEstimator, RegressorMixin, clone
from sklearn.model_selection import KFold
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from catimage.common.arrays import Floats
from catimage.estimators.ragged_arrays import Ragged

FEWEST = 20
"""Labelled prompts below which a new candidate is not added."""
SHARES = (0.0, 0.1, 0.5, 1.0)
"""How much of the kernel is of the prompts' features; the rest is of the others' predictions."""
PENALTIES = np.logspace(-2, 6, 17)
_FOLDS = 5


class ExtendedRegressor(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """A fitted regressor of m candidates, and a new one in column ``place`` of what it predicts.

    The new candidate is the mean of the others and its difference from that. The difference is
    learned from labels of the same prompts, so that what makes a prompt hard for all drops out; it
    is a ridge regression on the others' predictions and the prompt's features, whose penalty and
    mixture err least on each prompt left out. With the largest penalty it is a constant: a new
    candidate is as good as the others and a bit, which is what a few labels can tell at worst.
    Differences beyond those that were seen are cut off.

    Args:
        base: predicts (n, m).
        place: the column, from 0, of the new candidate among the m + 1.
    """

    def __init__(self, base: Any = None, place: int = 0) -> None:
        self.base = base
        self.place = place

    def fit(self, X: Any, y: Floats) -> Self:
        """Learns base and addition anew from labels y (n, m + 1); that of the new candidate may be
        NaN for most prompts.
        """
        added = np.asarray(y, np.float64)[:, self.place]
        known = np.delete(np.asarray(y, np.float64), self.place, axis=1)
        rows = np.flatnonzero(~np.isnan(added))
        held = np.full(known.shape, np.nan)
        for learned, left in KFold(min(_FOLDS, len(known)), shuffle=True, random_state=0).split(
            known
        ):
            held[left] = (
                clone(self.base).fit(_taken(X, learned), known[learned]).predict(_taken(X, left))
            )
        self.base = clone(self.base).fit(X, known)
        return self.extend(_taken(X, rows), held[rows], known[rows], added[rows])

    def extend(self, X: Any, predicted: Floats, known: Floats, added: Floats) -> Self:
        """Learns the addition; the base stays as it is.

        Args:
            X: of n prompts, as the base reads them.
            predicted: what the base says of them when it has not learned from them, (n, m).
            known: their labels (n, m); where one is NaN, what is predicted takes its place.
            added: labels of the new candidate (n,).

        Raises:
            ValueError: fewer than two labels.
        """
        if len(added) < 2:
            raise ValueError(
                f"a new candidate needs two labelled prompts at least, not {len(added)}"
            )
        self.base_ = self.base
        self.center_, self.scale_ = (
            predicted.mean(axis=0),
            max(float(predicted.std(axis=0).mean()), 1e-12),
        )
        level = np.where(np.isnan(known), predicted, known).mean(axis=1)
        difference = added - level
        blocks = [(predicted - self.center_) / self.scale_, *([X] if _linear(X) else [])]
        chosen = _chosen(blocks, difference)
        self.share_, self.penalty_ = chosen.share, chosen.penalty
        weights = [
            w * np.asarray(block.T @ chosen.dual).ravel()
            for w, block in zip(chosen.weights, blocks, strict=True)
        ]
        self.of_predictions_ = weights[0]
        self.of_features_ = weights[1] if len(weights) > 1 and chosen.share else None
        self.low_, self.high_ = float(difference.min()), float(difference.max())
        self.intercept_ = 0.0
        self.intercept_ = float(difference.mean() - self._linear(X, predicted).mean())
        self.held_out_ = predicted.mean(axis=1) + np.clip(chosen.left_out, self.low_, self.high_)
        return self

    def predict(self, X: Any) -> Floats:
        """Expected quality (n, m + 1); the old candidates' is the base's."""
        check_is_fitted(self, "intercept_")
        return self.added_to(np.asarray(self.base_.predict(X), np.float64), X)

    def added_to(self, predicted: Floats, X: Any) -> Floats:
        """The base's predictions (n, m) for ``X``, and the new candidate's among them: (n, m + 1)."""
        added = predicted.mean(axis=1) + np.clip(self._linear(X, predicted), self.low_, self.high_)
        return np.insert(predicted, self.place, added, axis=1)

    def multiply_adds(self, X: Any) -> int:
        """Of the addition alone, for the prompts of ``X``; zeros of sparse features are skipped."""
        sparse = issparse(X)
        read = 0 if self.of_features_ is None else X.nnz if sparse else X.size
        return int(len(self.of_predictions_) * _count(X) + read)

    def _linear(self, X: Any, predicted: Floats) -> Floats:
        found = self.intercept_ + (predicted - self.center_) / self.scale_ @ self.of_predictions_
        return np.asarray(
            (
                found
                if self.of_features_ is None
                else found + np.asarray(X @ self.of_features_).ravel()
            ),
            np.float64,
        )


@dataclass(frozen=True)
class _Chosen:
    share: float
    penalty: float
    weights: tuple[float, ...]
    dual: Floats
    left_out: Floats


def _taken(X: Any, rows: NDArray[np.int64]) -> Any:
    """These rows of what a regressor reads: an array, sparse or not, or token embeddings."""
    return X.take(rows) if isinstance(X, Ragged) else X[rows]


def _count(X: Any) -> int:
    return len(X) if isinstance(X, Ragged) else int(X.shape[0])


def _linear(X: Any) -> bool:
    """Whether features are rows of numbers, so that a linear model can read them (token embeddings
    are not).
    """
    return issparse(X) or (isinstance(X, np.ndarray) and X.ndim == 2 and X.dtype.kind == "f")


def _chosen(blocks: list[Any], y: Floats) -> _Chosen:
    """The kernel ridge regression of y (n,) that errs least on each prompt left out, over mixtures
    of the blocks' kernels and penalties.

    Kernels are centred, which an intercept without penalty amounts to, and scaled to a mean
    diagonal of 1. Where nothing is better than a constant, the largest penalty has the least error.
    """
    kernels, scales = zip(*(_kernel(block) for block in blocks), strict=True)
    best: tuple[float, _Chosen] | None = None
    for share in SHARES if len(blocks) > 1 else (0.0,):
        parts = (1 - share, share)[: len(blocks)]
        values, vectors = np.linalg.eigh(sum(p * k for p, k in zip(parts, kernels, strict=True)))
        values, turned = values.clip(0), vectors.T @ (y - y.mean())
        for penalty in PENALTIES:
            kept = values / (values + penalty)
            leverage = np.einsum("ij,j,ij->i", vectors, kept, vectors) + 1 / len(y)
            error = (y - y.mean() - vectors @ (kept * turned)) / (1 - leverage).clip(1e-9)
            if best is None or (error**2).mean() < best[0]:
                weights = tuple(p / s for p, s in zip(parts, scales, strict=True))
                best = (
                    float((error**2).mean()),
                    _Chosen(
                        share,
                        float(penalty),
                        weights,
                        vectors @ (turned / (values + penalty)),
                        y - error,
                    ),
                )
    assert best is not None
    return best[1]


def _kernel(block: Any) -> tuple[Floats, float]:
    """The centred linear kernel (n, n) of features, over its scale, and that scale."""
    kernel, sparse = block @ block.T, issparse(block)
    kernel = np.asarray(kernel.todense() if sparse else kernel, np.float64)
    kernel = kernel - kernel.mean(axis=0) - kernel.mean(axis=1, keepdims=True) + kernel.mean()
    scale = max(float(np.trace(kernel)) / len(kernel), 1e-12)
    return kernel / scale, scale


def extended(
    estimator: Pipeline, place: int, prompts: Any, predicted: Floats, known: Floats, added: Floats
) -> Pipeline:
    """A fitted estimator with a new candidate in column ``place``; arguments as of
    :meth:`ExtendedRegressor.extend`, ``prompts`` (n,).
    """
    features, regressor = (estimator.named_steps[step] for step in ("features", "regressor"))
    grown = ExtendedRegressor(regressor, place).extend(
        features.transform(prompts), predicted, known, added
    )
    return Pipeline([("features", features), ("regressor", grown)])
