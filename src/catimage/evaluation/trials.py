"""CATImage's Table 1: what the number of images a training prompt is worth, over many trials
(section 5.4).

In a trial, S of the seeds that there are are drawn for each training prompt, the
k-nearest-neighbours estimator is fitted on the mean of their scores, and its deferral curve is
judged on the test split, whose labels (the mean over all seeds) and prompts are the same in every
trial. Other estimators would take too long to fit so many times.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest
from sklearn.base import BaseEstimator, clone

from catimage.common.arrays import Floats
from catimage.evaluation.curve_queries import position_at_cost, quality_at
from catimage.evaluation.policies import Family, routed

TOGETHER = 10
"""Trials fitted at once: labels of several trials side by side are as many outputs of one fit, and
the neighbours are found once.
"""


@dataclass(frozen=True)
class Lesson:
    """What the trials learn from and are judged on.

    Attributes:
        regressor: a k-nearest-neighbours regressor with its k, as the train stage chose it.
        features: of the training, the validation and the test prompts, (n, width) each; computed
            once.
        by_seed: scores of the training prompts (n_train, n_candidates, n_seeds), higher is better,
            NaN where missing.
        validation: labels (n_val, n_candidates); ``test`` (n_test, n_candidates).
        cost: (n_candidates,).
    """

    regressor: BaseEstimator
    features: tuple[NDArray[np.floating], NDArray[np.floating], NDArray[np.floating]]
    by_seed: Floats
    validation: Floats
    test: Floats
    cost: Floats


def whole_seeds(by_seed: Floats) -> NDArray[np.bool_]:
    """Which seeds of a prompt every candidate has a score of: (n_prompts, n_seeds)."""
    return np.asarray(~np.isnan(by_seed).any(axis=1))


def possible_sizes(sizes: list[int], seeds: int) -> list[int]:
    """The S of which there is something to draw: fewer than the whole ``seeds`` of the prompt that
    has most of them.
    """
    return [size for size in dict.fromkeys(sizes) if 0 < size < seeds]


def drawn_labels(
    by_seed: Floats, size: int, rng: np.random.Generator
) -> tuple[NDArray[np.int64], Floats]:
    """The prompts with ``size`` whole seeds at least, and the mean over as many drawn for each:
    (n,), (n, n_candidates).

    A draw is the same for all candidates of a prompt, as a seed gives several of them the same
    noise (section 5.2). A seed is whole where every candidate has a score of it.
    """
    whole = whole_seeds(by_seed)
    rows = np.flatnonzero(whole.sum(axis=1) >= size)
    order = np.argsort(np.where(whole[rows], rng.random((len(rows), whole.shape[1])), 2.0), axis=1)[
        :, :size
    ]
    return rows, np.take_along_axis(by_seed[rows], order[:, None, :], axis=2).mean(axis=2)


def trial_predictions(
    lesson: Lesson, size: int, trials: int, seed: int
) -> Iterator[tuple[Floats, Floats]]:
    """For each trial, the predictions of the validation and of the test prompts, (n, n_candidates)
    each.
    """
    rng, candidates = np.random.default_rng([seed, size]), len(lesson.cost)
    for first in range(0, trials, TOGETHER):
        draws = [
            drawn_labels(lesson.by_seed, size, rng) for _ in range(min(TOGETHER, trials - first))
        ]
        rows, labels = draws[0][0], np.concatenate([labels for _, labels in draws], axis=1)
        fitted = clone(lesson.regressor).fit(lesson.features[0][rows], labels)
        both = [np.asarray(fitted.predict(x), float) for x in lesson.features[1:]]
        for i in range(len(draws)):
            mine = slice(i * candidates, (i + 1) * candidates)
            yield both[0][:, mine], both[1][:, mine]


def trials_document(
    lesson: Lesson, candidates: list[str], sizes: list[int], trials: int, seed: int
) -> dict[str, Any]:
    """``trials`` of ``metrics.json``, without what it says of the estimator: a table for each S of
    ``sizes``.

    ``quality`` is the mean over trials of the best point of the test curve at no more than the
    candidate's cost, as in the paper's table, and ``sd`` its standard deviation; ``selected`` has
    the same where the point is chosen on the validation split. A *win* is a trial that is better
    than the candidate on test. ``p_value`` is the sign test's, two-sided and exact, ties left out;
    it tells whether other draws of the training seeds would win as well, and nothing of other
    prompts.

    Args:
        sizes: all possible, see :func:`possible_sizes`.
    """
    return {
        "trials": trials,
        "seeds": lesson.by_seed.shape[2],
        "by_size": [
            {
                "size": size,
                "n_train": len(drawn_labels(lesson.by_seed, size, np.random.default_rng(0))[0]),
                "by_candidate": _rows(_qualities(lesson, size, trials, seed), lesson, candidates),
            }
            for size in sizes
        ],
    }


def _qualities(lesson: Lesson, size: int, trials: int, seed: int) -> Floats:
    """Quality at each candidate's cost, as the test curve has it and as validation chooses it:
    (n_trials, 2, n_candidates).
    """
    found = []
    for on_val, on_test in trial_predictions(lesson, size, trials, seed):
        best = routed(on_test, lesson.test, on_test, lesson.test, lesson.cost)
        honest = routed(on_val, lesson.validation, on_test, lesson.test, lesson.cost)
        at_best = [quality_at(best.curve, _affordable(best, c)) for c in lesson.cost]
        found.append(
            [
                at_best,
                [float(honest.outcome(_affordable(honest, c)).quality.mean()) for c in lesson.cost],
            ]
        )
    return np.array(found)


def _affordable(family: Family, cost: float) -> float:
    position = position_at_cost(family.curve, float(cost))
    assert position is not None  # every curve of equation 3 ends at the cheapest candidate
    return position


def _rows(qualities: Floats, lesson: Lesson, candidates: list[str]) -> list[dict[str, Any]]:
    fixed = lesson.test.mean(axis=0)
    return [
        {
            "candidate": name,
            "cost": float(lesson.cost[m]),
            "fixed_quality": float(fixed[m]),
            **_against(qualities[:, 0, m], float(fixed[m])),
            "selected": _against(qualities[:, 1, m], float(fixed[m])),
        }
        for m, name in enumerate(candidates)
    ]


def _against(quality: Floats, fixed: float) -> dict[str, Any]:
    """Trials' qualities (n_trials,) against one fixed candidate's."""
    slack = 1e-10 * max(abs(fixed), float(np.abs(quality).max()))
    wins, losses = int((quality > fixed + slack).sum()), int((quality < fixed - slack).sum())
    return {
        "quality": float(quality.mean()),
        "sd": float(quality.std(ddof=1)) if len(quality) > 1 else None,
        "wins": wins,
        "losses": losses,
        "win_rate": wins / len(quality),
        "p_value": float(binomtest(wins, wins + losses).pvalue) if wins + losses else None,
    }
