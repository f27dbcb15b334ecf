"""A stack: several estimators, each weighted by what it adds on prompts that it has not learned
from.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from scipy.optimize import nnls
from sklearn.base import clone
from sklearn.model_selection import KFold
from sklearn.utils.validation import check_is_fitted

from catimage.common.arrays import Floats
from catimage.data.missing_labels import mean_labels
from catimage.errors import InputError
from catimage.estimators.base import CandidatesRegressor
from catimage.estimators.context import EstimatorContext, UnfittedEstimator
from catimage.estimators.differences import split
from catimage.estimators.inputs import checked_x, checked_y
from catimage.params import EstimatorParams


class StackRegressor(CandidatesRegressor):
    """The weighted sum of its members' predictions, the weights not negative (Breiman 1996,
    "Stacked regressions").

    Weights are fitted by least squares on out-of-fold predictions: one set for the differences
    between candidates, which routing reads, and one for their mean, since what knows the one best
    need not know the other. They need not sum to 1: members that boast are shrunk. A candidate's
    mean label is kept as it is.

    Args:
        members: names and estimators, which read the same X (prompts, where they are pipelines) and
            predict (n, n_candidates).
        folds: of the out-of-fold predictions, at most the number of prompts.
    """

    _reads_sparse = True

    def __init__(
        self, members: Sequence[tuple[str, Any]] = (), folds: int = 5, random_state: int = 0
    ) -> None:
        self.members = members
        self.folds = folds
        self.random_state = random_state

    def fit(self, X: Any, y: Any) -> Self:
        """Fits each member ``folds`` times without a fold, and once on all prompts; y is (n, m) or
        (n,), NaN where a label is missing.
        """
        if not self.members:
            raise ValueError("a stack needs a member at least")
        X = checked_x(self, X, reset=True)
        y = checked_y(self, X, y)
        if len(y) < 2:
            raise ValueError("a stack needs two prompts at least, not n_samples=1")
        labels = y.reshape(len(y), -1)
        held = np.stack(
            [self._out_of_fold(member, X, y).reshape(labels.shape) for _, member in self.members]
        )
        self.column_ = mean_labels(labels)
        self.columns_ = np.stack([p.mean(axis=0) for p in held])
        wanted = split(labels, self.column_)
        offered = [
            split(np.where(np.isnan(labels), np.nan, p), column)
            for p, column in zip(held, self.columns_, strict=True)
        ]
        self.level_weights_ = _weights([o[:, :1] for o in offered], wanted[:, :1])
        self.weights_ = _weights([o[:, 1:] for o in offered], wanted[:, 1:])
        self.members_ = [clone(member).fit(X, y) for _, member in self.members]
        self.flat_ = y.ndim == 1
        return self

    def predict(self, X: Any) -> Floats:
        """Labels (n, n_candidates)."""
        check_is_fitted(self)
        X = checked_x(self, X, reset=False)
        total: Any = 0.0
        for member, column, level, weight in zip(
            self.members_, self.columns_, self.level_weights_, self.weights_, strict=True
        ):
            predicted = np.asarray(member.predict(X), np.float64)
            apart = split(predicted.reshape(len(predicted), -1), column)
            total = total + level * apart[:, :1] + weight * apart[:, 1:]
        out: Floats = self.column_ + total
        return out[:, 0] if self.flat_ else out

    def _out_of_fold(self, member: Any, X: Any, y: Floats) -> Floats:
        out = np.empty(y.shape)
        for known, held in KFold(
            min(self.folds, len(y)), shuffle=True, random_state=self.random_state
        ).split(y):
            out[held] = np.reshape(
                clone(member).fit(X[known], y[known]).predict(X[held]), (len(held), *y.shape[1:])
            )
        return out


def _weights(offered: list[Floats], wanted: Floats) -> Floats:
    """The weights, not negative, with which the members (n, k) come nearest to ``wanted`` (n, k)
    where that is known; 1 over their number each where nothing varies.
    """
    known = ~np.isnan(wanted)
    columns = np.stack([o[known] for o in offered], axis=1)
    if not np.abs(columns).max(initial=0.0) > 0 or not np.abs(wanted[known]).max(initial=0.0) > 0:
        return np.full(len(offered), 1 / len(offered))
    return np.asarray(nnls(columns, wanted[known])[0], np.float64)


def build(spec: EstimatorParams, context: EstimatorContext) -> UnfittedEstimator:
    """Return a stack of the estimators that ``spec.members`` names.

    Raises:
        InputError: ``spec`` names no members, or features, which only the members read.
    """
    if spec.features:
        raise InputError(
            f"train.estimators: {spec.name} is a stack and has 'features', which only its members"
            " can have. Remove 'features'."
        )
    if not spec.members:
        raise InputError(
            f"train.estimators: {spec.name} is a stack without members. Name other estimators in"
            " 'members'."
        )
    missing = [name for name in spec.members if name not in context.members]
    if missing:
        raise InputError(
            f"train.estimators: {spec.name}: its member {missing[0]!r} could not be built. Correct"
            " that estimator first."
        )
    members = [(name, clone(context.members[name])) for name in spec.members]
    return UnfittedEstimator(StackRegressor(members, random_state=context.seed), {}, ("prompts",))
