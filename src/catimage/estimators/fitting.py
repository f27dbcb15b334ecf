"""Fitting an estimator: parameters chosen on held-out prompts, and out-of-fold predictions of the
prompts that it learns from.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.model_selection import KFold, ParameterGrid
from sklearn.pipeline import Pipeline

from catimage.common.arrays import Floats
from catimage.estimators.context import Grid

Split = tuple[NDArray[np.object_], Floats]
"""Prompts (n,) and labels (n, n_candidates), higher is better; a label that was not measured is
NaN.
"""


def fit(pipeline: Pipeline, grid: Grid, train: Split, val: Split) -> Pipeline:
    """Fits on the training split, with the parameters of ``grid`` that err least on the validation
    split (:func:`difference_error`).
    """
    features, regressor = (clone(pipeline.named_steps[step]) for step in ("features", "regressor"))
    grid = {key: _within(key, values, len(train[0])) for key, values in grid.items()}
    x, held = features.fit(*train).transform(train[0]), features.transform(val[0])
    best = {key: values[0] for key, values in grid.items() if len(values) == 1}
    least = np.inf
    for chosen in ParameterGrid(grid) if any(len(v) > 1 for v in grid.values()) else ():
        error = difference_error(
            clone(regressor).set_params(**chosen).fit(x, train[1]).predict(held), val[1]
        )
        best, least = (chosen, error) if error < least else (best, least)
    return Pipeline(
        [("features", features), ("regressor", regressor.set_params(**best).fit(x, train[1]))]
    )


def _within(key: str, values: list[Any], prompts: int) -> list[Any]:
    """A grid's values; the numbers of neighbours that a fold of a third of the prompts has too, or
    as many as it has.
    """
    if key.rsplit("__")[-1] != "n_neighbors":
        return values
    return [k for k in values if k <= prompts // 3] or [max(1, prompts // 3)]


def difference_error(predicted: Floats, labels: Floats) -> float:
    """Mean squared error of the differences between the candidates of a prompt, which is all that
    equation 3 reads.

    Both (n_prompts, n_candidates); each prompt's error is first freed of its mean over the
    candidates that have a label. With one candidate there is no difference, and the error of the
    levels is returned.
    """
    error = np.where(np.isnan(labels), np.nan, predicted - labels)
    if labels.shape[1] > 1:
        error = error[(~np.isnan(error)).sum(axis=1) > 1]
        error = error - np.nanmean(error, axis=1, keepdims=True)
    return float(np.nanmean(error**2))


def out_of_fold(fitted: Pipeline, data: Split, folds: int, seed: int) -> Floats:
    """What the estimator says of each prompt when it has learned from the other folds: (n_prompts,
    n_candidates).

    Args:
        fitted: its parameters are kept, its fit is not.
        folds: at most the number of prompts.
    """
    prompts, labels = data
    out = np.full(labels.shape, np.nan)
    for known, held in KFold(min(folds, len(prompts)), shuffle=True, random_state=seed).split(
        prompts
    ):
        out[held] = clone(fitted).fit(prompts[known], labels[known]).predict(prompts[held])
    return out


def settings_of(fitted: Pipeline, grid: Grid) -> dict[str, Any]:
    """What was chosen of a grid."""
    return {key: fitted.named_steps["regressor"].get_params()[key] for key in grid}
