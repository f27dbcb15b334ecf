"""Stacking: a weighted sum of estimators, whose weights are fitted on out-of-fold predictions."""

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
from catimage.estimators.differences import means_and_differences
from catimage.params import EstimatorParams


class StackRegressor(WrapperRegressor):
    """Regressor that adds the predictions of several members with non-negative weights ("Stacked
    regressions", Breiman 1996).

    The weights minimise the squared error of out-of-fold predictions. One set of weights is fitted
    for the differences between candidates, which determine the routing, and another for the mean
    over the candidates. The sum of the weights may be less than 1, so that predictions that vary
    too much are shrunk towards the mean label of each candidate. scikit-learn's
    ``StackingRegressor`` is not used, because it supports neither several outputs nor missing
    labels.

    Args:
        members: pairs of name and estimator. All estimators read the same X (prompts, if they are
            pipelines) and predict labels (n, n_candidates).
        folds: the number of folds of the out-of-fold predictions, at most one per prompt.
        random_state: the seed of the folds.

    Attributes:
        members_: the fitted members.
        weights_: the weight of each member for the differences, (n_members,).
        level_weights_: the weight of each member for the mean over the candidates, (n_members,).
        label_means_: the mean label of each candidate, (n_candidates,).
        member_means_: the mean prediction of each member, (n_members, n_candidates).
    """

    def __init__(
        self, members: Sequence[tuple[str, Any]] = (), folds: int = 5, random_state: int = 0
    ) -> None:
        self.members = members
        self.folds = folds
        self.random_state = random_state

    def fit(self, X: Any, y: Any) -> Self:
        """Fit the weights on out-of-fold predictions, then fit each member on all prompts.

        Args:
            X: the input of the members, n rows.
            y: labels (n, n_candidates) or (n,), NaN where missing.

        Raises:
            ValueError: the stack has no members, or there is only one prompt.
        """
        if not self.members:
            raise ValueError("members: a stack without members cannot be fitted. Add a member.")
        X, y = self._validate_training_data(X, y)
        if len(y) < 2:
            raise ValueError(
                "X: a stack cannot be fitted to one prompt (n_samples=1). Add at least one prompt."
            )
        labels = y.reshape(len(y), -1)
        predictions = np.stack(
            [self._out_of_fold(member, X, y).reshape(labels.shape) for _, member in self.members]
        )
        self.label_means_ = mean_labels(labels)
        self.member_means_ = predictions.mean(axis=1)
        target = means_and_differences(labels, self.label_means_)
        parts = [
            means_and_differences(np.where(np.isnan(labels), np.nan, predicted), means)
            for predicted, means in zip(predictions, self.member_means_, strict=True)
        ]
        self.level_weights_ = _weights([part[:, :1] for part in parts], target[:, :1])
        self.weights_ = _weights([part[:, 1:] for part in parts], target[:, 1:])
        self.members_ = [clone(member).fit(X, y) for _, member in self.members]
        return self

    def predict(self, X: Any) -> Floats:
        """Return labels (n, n_candidates), or (n,) if the stack was fitted to 1-D labels."""
        check_is_fitted(self)
        X = self._validate_x(X, reset=False)
        total: Any = self.label_means_
        for member, means, level_weight, weight in zip(
            self.members_, self.member_means_, self.level_weights_, self.weights_, strict=True
        ):
            predicted = np.asarray(member.predict(X), np.float64)
            part = means_and_differences(predicted.reshape(len(predicted), -1), means)
            total = total + level_weight * part[:, :1] + weight * part[:, 1:]
        return self._restore_shape(np.asarray(total, np.float64))

    def _out_of_fold(self, member: Any, X: Any, y: Floats) -> Floats:
        """Return the out-of-fold predictions of a member in the shape of y."""
        predicted = np.empty(y.shape)
        splitter = KFold(min(self.folds, len(y)), shuffle=True, random_state=self.random_state)
        for train, held_out in splitter.split(y):
            fitted = clone(member).fit(X[train], y[train])
            predicted[held_out] = np.reshape(fitted.predict(X[held_out]), predicted[held_out].shape)
        return predicted


def _weights(predictions: list[Floats], target: Floats) -> Floats:
    """Return the non-negative least-squares weights of the members, (n_members,).

    Args:
        predictions: the predictions of each member, (n, k).
        target: the target (n, k), NaN where a label is missing. If the target is 0 everywhere, or
            all predictions are, the weights are equal and sum to 1.
    """
    present = ~np.isnan(target)
    columns = np.stack([predicted[present] for predicted in predictions], axis=1)
    if not columns.any() or not target[present].any():
        return np.full(len(predictions), 1 / len(predictions))
    return np.asarray(nnls(columns, target[present])[0], np.float64)


def build(spec: EstimatorParams, context: EstimatorContext) -> UnfittedEstimator:
    """Return a stack of the estimators that ``spec.members`` names.

    Raises:
        InputError: ``spec`` has no members, has features, or has a member that was not built.
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
            f"train.estimators: {spec.name}: the member {missing[0]!r} could not be built. Correct"
            " that estimator first."
        )
    members = [(name, clone(context.members[name])) for name in spec.members]
    return UnfittedEstimator(StackRegressor(members, random_state=context.seed), {}, ("prompts",))
