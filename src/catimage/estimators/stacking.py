"""Stacking: a weighted sum of estimators, with weights fitted on out-of-fold predictions."""

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
from catimage.estimators.base import WrapperRegressor
from catimage.estimators.context import EstimatorContext, UnfittedEstimator
from catimage.estimators.differences import split_levels
from catimage.params import EstimatorParams


class StackRegressor(WrapperRegressor):
    """The sum of the predictions of several members with non-negative weights (Breiman 1996,
    "Stacked regressions").

    The weights minimise the squared error of out-of-fold predictions. There is one set of weights
    for the differences between candidates, which determine the routing, and one for their mean.
    Weights need not sum to 1, so that overconfident members are shrunk. The mean label of each
    candidate is kept. (scikit-learn's ``StackingRegressor`` supports one output and no missing
    labels.)

    Args:
        members: pairs of name and estimator. All read the same X (prompts, if they are pipelines)
            and predict (n, n_candidates).
        folds: the number of folds of the out-of-fold predictions; reduced to the number of prompts
            if there are fewer.
        random_state: seed of the folds.
    """

    def __init__(
        self, members: Sequence[tuple[str, Any]] = (), folds: int = 5, random_state: int = 0
    ) -> None:
        self.members = members
        self.folds = folds
        self.random_state = random_state

    def fit(self, X: Any, y: Any) -> Self:
        """Fit each member on the complement of every fold, then on all prompts.

        Args:
            X: the features of the members, n rows.
            y: labels (n, n_candidates) or (n,), NaN where missing.

        Raises:
            ValueError: the stack has no members, or there is only one prompt.
        """
        if not self.members:
            raise ValueError("a stack needs at least one member")
        X, y = self._validate_training_data(X, y)
        if len(y) < 2:
            raise ValueError("a stack needs at least two prompts, not n_samples=1")
        labels = y.reshape(len(y), -1)
        predictions = np.stack(
            [self._out_of_fold(member, X, y).reshape(labels.shape) for _, member in self.members]
        )
        self.label_means_ = mean_labels(labels)
        self.member_means_ = predictions.mean(axis=1)
        target = split_levels(labels, self.label_means_)
        parts = [
            split_levels(np.where(np.isnan(labels), np.nan, predicted), means)
            for predicted, means in zip(predictions, self.member_means_, strict=True)
        ]
        self.level_weights_ = _weights([part[:, :1] for part in parts], target[:, :1])
        self.weights_ = _weights([part[:, 1:] for part in parts], target[:, 1:])
        self.members_ = [clone(member).fit(X, y) for _, member in self.members]
        return self

    def predict(self, X: Any) -> Floats:
        """Return labels (n, n_candidates), or (n,) if the stack was fitted to such labels."""
        check_is_fitted(self)
        X = self._validate_x(X, reset=False)
        total: Any = self.label_means_
        for member, means, level_weight, weight in zip(
            self.members_, self.member_means_, self.level_weights_, self.weights_, strict=True
        ):
            predicted = np.asarray(member.predict(X), np.float64)
            parts = split_levels(predicted.reshape(len(predicted), -1), means)
            total = total + level_weight * parts[:, :1] + weight * parts[:, 1:]
        return self._restore_shape(np.asarray(total, np.float64))

    def _out_of_fold(self, member: Any, X: Any, y: Floats) -> Floats:
        predicted = np.empty(y.shape)
        splitter = KFold(min(self.folds, len(y)), shuffle=True, random_state=self.random_state)
        for train, held_out in splitter.split(y):
            fitted = clone(member).fit(X[train], y[train])
            predicted[held_out] = np.reshape(fitted.predict(X[held_out]), predicted[held_out].shape)
        return predicted


def _weights(predictions: list[Floats], target: Floats) -> Floats:
    """Return the non-negative least-squares weights of the members, (n_members,).

    Args:
        predictions: (n, k) for each member.
        target: (n, k), NaN where unknown. If it or all predictions are constant 0, the weights are
            equal and sum to 1.
    """
    known = ~np.isnan(target)
    columns = np.stack([predicted[known] for predicted in predictions], axis=1)
    if not columns.any() or not target[known].any():
        return np.full(len(predictions), 1 / len(predictions))
    return np.asarray(nnls(columns, target[known])[0], np.float64)


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
