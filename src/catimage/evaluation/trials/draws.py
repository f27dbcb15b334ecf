"""Labels from fewer seeds, and the predictions of estimators that are fitted on them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, clone

from catimage.common.arrays import Floats, Ints

BATCH_SIZE = 10
"""Trials that are fitted at once: their labels are the outputs of one fit, so that the neighbours
are searched once.
"""


@dataclass(frozen=True)
class TrialData:
    """The data of the trials.

    Attributes:
        regressor: a k-nearest-neighbours regressor with the k that stage train selected.
        features: of the training, the validation and the test prompts, (n, width) each.
        by_seed: scores of the training prompts, (n_train, n_candidates, n_seeds), higher is better,
            NaN where missing.
        validation: labels (n_val, n_candidates).
        test: labels (n_test, n_candidates).
        costs: (n_candidates,).
    """

    regressor: BaseEstimator
    features: tuple[NDArray[np.floating], NDArray[np.floating], NDArray[np.floating]]
    by_seed: Floats
    validation: Floats
    test: Floats
    costs: Floats


def complete_seeds(by_seed: Floats) -> NDArray[np.bool_]:
    """Return which seeds of a prompt have a score of every candidate: (n_prompts, n_seeds).

    Args:
        by_seed: scores (n_prompts, n_candidates, n_seeds), NaN where missing.
    """
    return np.asarray(~np.isnan(by_seed).any(axis=1))


def possible_sizes(sizes: list[int], seeds: int) -> list[int]:
    """Return the sizes S that can be drawn: more than 0 and fewer than ``seeds``.

    Args:
        sizes: requested numbers of seeds; duplicates are dropped.
        seeds: complete seeds of the prompt that has most of them.
    """
    return [size for size in dict.fromkeys(sizes) if 0 < size < seeds]


def drawn_labels(by_seed: Floats, size: int, rng: np.random.Generator) -> tuple[Ints, Floats]:
    """Draw ``size`` complete seeds per prompt and average their scores.

    The same seeds are drawn for all candidates of a prompt, since a seed gives several candidates
    the same initial noise (CATImage 5.2).

    Args:
        by_seed: scores (n_prompts, n_candidates, n_seeds), NaN where missing.
        size: number of seeds.
        rng: random number generator.

    Returns:
        The rows (n,) of the prompts with at least ``size`` complete seeds, and their labels
        (n, n_candidates).
    """
    complete = complete_seeds(by_seed)
    rows = np.flatnonzero(complete.sum(axis=1) >= size)
    keys = np.where(complete[rows], rng.random((len(rows), complete.shape[1])), 2.0)
    drawn = np.argsort(keys, axis=1)[:, :size]
    return rows, np.take_along_axis(by_seed[rows], drawn[:, None, :], axis=2).mean(axis=2)


def trial_predictions(
    data: TrialData, size: int, trials: int, seed: int
) -> Iterator[tuple[Floats, Floats]]:
    """Fit the regressor on drawn labels, once per trial.

    Args:
        data: features, scores and labels.
        size: seeds per training prompt.
        trials: number of trials.
        seed: of the draws.

    Yields:
        Per trial, predictions of the validation and of the test prompts, (n, n_candidates) each.
    """
    rng, candidates = np.random.default_rng([seed, size]), len(data.costs)
    for first in range(0, trials, BATCH_SIZE):
        draws = [
            drawn_labels(data.by_seed, size, rng) for _ in range(min(BATCH_SIZE, trials - first))
        ]
        rows, labels = draws[0][0], np.concatenate([labels for _, labels in draws], axis=1)
        fitted = clone(data.regressor).fit(data.features[0][rows], labels)
        validation, test = (np.asarray(fitted.predict(x), float) for x in data.features[1:])
        for i in range(len(draws)):
            columns = slice(i * candidates, (i + 1) * candidates)
            yield validation[:, columns], test[:, columns]
