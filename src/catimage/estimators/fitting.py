"""Functions that fit estimators: selection of parameters on the validation split, out-of-fold
predictions, and checks whose errors name the user's settings.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.model_selection import KFold, ParameterGrid
from sklearn.pipeline import Pipeline

from catimage.common.arrays import Floats
from catimage.errors import InputError
from catimage.estimators.context import Grid
from catimage.params import EstimatorParams

EQUAL_LABELS = 1e-6
"""The relative difference up to which labels are regarded as equal."""
Split = tuple[NDArray[np.object_], Floats]
"""Prompts (n_prompts,) and their labels (n_prompts, n_candidates), where higher is better and NaN
is a missing label.
"""


def fit(pipeline: Pipeline, grid: Grid, train: Split, val: Split) -> Pipeline:
    """Fit an estimator on the training split with the parameters selected on the validation split.

    Args:
        pipeline: an unfitted pipeline with the steps ``features`` and ``regressor``, which is not
            changed.
        grid: the grid of the regressor's parameters; the combination with the smallest
            :func:`difference_error` on ``val`` is selected.
        train: the training split, with at least one prompt.
        val: the validation split, which is not used if the grid has only one combination.

    Returns:
        A fitted pipeline with the same steps.
    """
    features, regressor = (clone(pipeline.named_steps[step]) for step in ("features", "regressor"))
    grid = {key: _feasible_values(key, values, len(train[0])) for key, values in grid.items()}
    x = features.fit(*train).transform(train[0])
    best = {key: values[0] for key, values in grid.items()}
    if has_choice(grid):
        x_val, smallest = features.transform(val[0]), np.inf
        for parameters in ParameterGrid(grid):
            fitted = clone(regressor).set_params(**parameters).fit(x, train[1])
            error = difference_error(fitted.predict(x_val), val[1])
            if error < smallest:
                best, smallest = parameters, error
    fitted = regressor.set_params(**best).fit(x, train[1])
    return Pipeline([("features", features), ("regressor", fitted)])


def has_choice(grid: Grid) -> bool:
    """Return whether a grid has more than one combination of parameters."""
    return any(len(values) > 1 for values in grid.values())


def _feasible_values(key: str, values: list[Any], n_prompts: int) -> list[Any]:
    """Return the feasible values of one parameter of a grid. A number of neighbors may be at most a
    third of the number of prompts, so that the estimator can also be fitted to a part of the
    prompts in cross-validation.
    """
    if key.rsplit("__")[-1] != "n_neighbors":
        return values
    return [k for k in values if k <= n_prompts // 3] or [max(1, n_prompts // 3)]


def difference_error(predicted: Floats, labels: Floats) -> float:
    """Return the mean squared error of the predicted differences between candidates.

    The routing decision (CATImage paper, equation 3) depends on the predictions only through these
    differences. The errors of a prompt are centred by their mean over the candidates that have a
    label. With one candidate, the mean squared error of the predictions is returned.

    Args:
        predicted: predicted labels (n_prompts, n_candidates).
        labels: labels (n_prompts, n_candidates), NaN if missing.
    """
    error = np.where(np.isnan(labels), np.nan, predicted - labels)
    if labels.shape[1] > 1:
        error = error[(~np.isnan(error)).sum(axis=1) > 1]
        error = error - np.nanmean(error, axis=1, keepdims=True)
    return float(np.nanmean(error**2))


def out_of_fold_predictions(estimator: Pipeline, data: Split, folds: int, seed: int) -> Floats:
    """Return out-of-fold predictions (n_prompts, n_candidates): each prompt is predicted by a clone
    of the estimator that is fitted on the other folds.

    Args:
        estimator: the estimator whose parameters are used; it is not changed.
        data: the prompts and their labels.
        folds: the number of folds, at most one per prompt.
        seed: the seed of the assignment of prompts to folds.
    """
    prompts, labels = data
    predicted = np.full(labels.shape, np.nan)
    splitter = KFold(min(folds, len(prompts)), shuffle=True, random_state=seed)
    for train, held_out in splitter.split(prompts):
        fitted = clone(estimator).fit(prompts[train], labels[train])
        predicted[held_out] = fitted.predict(prompts[held_out])
    return predicted


def selected_parameters(fitted: Pipeline, grid: Grid) -> dict[str, Any]:
    """Return the selected values of the grid's parameters, by name, from a fitted estimator."""
    parameters = fitted.named_steps["regressor"].get_params()
    return {key: parameters[key] for key in grid}


@contextmanager
def settings_named_in_errors(spec: EstimatorParams) -> Iterator[None]:
    """Convert an error within the ``with`` block to an InputError that names the settings of the
    estimator.

    If ``spec`` has no settings or features, the error is not converted, because its cause is not in
    ``params.yaml``.

    Raises:
        InputError: a ValueError, TypeError or RuntimeError occurred.
    """
    settings = _settings(spec)
    try:
        yield
    except InputError:
        raise
    except (ValueError, TypeError, RuntimeError) as error:
        if not settings:
            raise
        reason = " ".join(str(error).split())
        raise InputError(
            f"train.estimators: {spec.name} cannot be fitted with the settings {settings}"
            f" ({reason}). Correct the settings."
        ) from error


def check_labels(labels: Floats, candidates: list[str], metric: str) -> None:
    """Check that an estimator for routing can be trained on the labels of the training split.

    Args:
        labels: labels (n_prompts, n_candidates), NaN if missing.
        candidates: the names of the candidates.
        metric: the name of the metric.

    Raises:
        InputError: there is only one candidate, a candidate has no label, or all labels are equal.
    """
    if len(candidates) == 1:
        raise InputError(
            f"data/candidates.parquet: {candidates[0]!r} is the only candidate, so there is nothing"
            " to route. Add another candidate."
        )
    for name, column in zip(candidates, labels.T, strict=True):
        if np.isnan(column).all():
            raise InputError(
                f"data/scores.parquet: candidate {name!r} has no score by {metric} for any prompt"
                " of the train split. Score its images, or remove it from the pool or from the"
                " imported files."
            )
    low, high = float(np.nanmin(labels)), float(np.nanmax(labels))
    if high - low <= EQUAL_LABELS * max(abs(low), abs(high)):
        raise InputError(
            f"data/scores.parquet: every label of {metric} in the train split is {high:g}, so there"
            " is nothing to learn. Route on another metric, or correct the scores."
        )


def check_finite(predicted: Floats, spec: EstimatorParams) -> None:
    """Raise InputError if a prediction of the estimator ``spec`` is NaN or infinite."""
    if not np.isfinite(predicted).all():
        settings = _settings(spec)
        fix = f"Correct its settings ({settings})" if settings else "Remove this estimator"
        raise InputError(
            f"train.estimators: {spec.name} predicts values that are not finite. {fix}."
        )


def _settings(spec: EstimatorParams) -> str:
    """Return the settings and features of an estimator, as in params.yaml, on one line."""
    settings = dict(spec.settings)
    if spec.features:
        settings["features"] = " and ".join(feature.kind for feature in spec.features)
    return ", ".join(f"{key}: {value}" for key, value in settings.items())
