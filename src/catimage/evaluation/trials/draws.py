"""Labels from randomly drawn seeds, and predictions of regressors that are fitted on them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, clone

from catimage.common.arrays import Floats, Ints

BATCH_SIZE = 10
"""Number of trials that are fitted at once. Their labels are the outputs of one regressor, so that
the neighbours are searched only once.
"""


@dataclass(frozen=True)
class TrialData:
    """The data of the trials.

    Attributes:
        regressor: a k-nearest-neighbours regressor with the k that the stage ``train`` selected.
        features: the features of the training, the validation and the test prompts, each
            (n_prompts, width).
        by_seed: scores of the training prompts, (n_train, n_candidates, n_seeds), higher is better,
            NaN where missing.
        validation: labels of the validation prompts, (n_val, n_candidates).
        test: labels of the test prompts, (n_test, n_candidates).
        costs: the candidates' costs, (n_candidates,).
    """

    regressor: BaseEstimator
    features: tuple[NDArray[np.floating], NDArray[np.floating], NDArray[np.floating]]
    by_seed: Floats
    validation: Floats
    test: Floats
    costs: Floats


def complete_seeds(by_seed: Floats) -> NDArray[np.bool_]:
    """Return whether each seed of each prompt has a score of every candidate, (n_prompts, n_seeds).

    Args:
        by_seed: scores (n_prompts, n_candidates, n_seeds), NaN where missing.
    """
    return np.asarray(~np.isnan(by_seed).any(axis=1))


def possible_sizes(sizes: list[int], seeds: int) -> list[int]:
    """Return the requested numbers of seeds that can be drawn, without duplicates.

    Args:
        sizes: the requested numbers of seeds.
        seeds: the number of available seeds. A possible size is between 1 and ``seeds - 1``.
    """
    return [size for size in dict.fromkeys(sizes) if 0 < size < seeds]


def drawn_labels(by_seed: Floats, size: int, rng: np.random.Generator) -> tuple[Ints, Floats]:
    """Draw ``size`` complete seeds per prompt and average their scores.

    A seed is complete if every candidate has a score for it. The same seeds are drawn for all
    candidates of a prompt, because a seed gives several candidates the same initial noise (CATImage
    paper, section 5.2).

    Args:
        by_seed: scores (n_prompts, n_candidates, n_seeds), NaN where missing.
        size: the number of seeds to draw.
        rng: a random number generator.

    Returns:
        The positions (n,) of the prompts with at least ``size`` complete seeds, and the labels of
        these prompts (n, n_candidates).
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
        size: the number of drawn seeds per training prompt.
        trials: the number of trials.
        seed: the seed of the random draws.

    Yields:
        For each trial, predictions for the validation prompts, (n_val, n_candidates), and for the
        test prompts, (n_test, n_candidates).
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
