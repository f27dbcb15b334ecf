"""CATImage's Table 1 (section 5.4) as a document.

In a trial, S of the available seeds are drawn for each training prompt, the k-nearest-neighbours
estimator is fitted on the mean of their scores, and its deferral curve is measured on the test
split. Test prompts and test labels (the mean over all seeds) are the same in every trial. Other
estimators would take too long to fit this often.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from scipy.stats import binomtest
from sklearn.pipeline import Pipeline

from catimage.common.arrays import Floats
from catimage.data.dataset import Dataset
from catimage.estimators.knn import CosineKNNRegressor
from catimage.evaluation.curve_queries import quality_at
from catimage.evaluation.evaluate import Evaluation
from catimage.evaluation.policies import routed_policies
from catimage.evaluation.test_data import LabelledPredictions
from catimage.evaluation.trials.draws import (
    TrialData,
    complete_seeds,
    drawn_labels,
    possible_sizes,
    trial_predictions,
)

TOLERANCE = 1e-10
"""Relative difference below which two qualities are equal."""


def trials_and_reason(
    evaluation: Evaluation, estimators: Iterable[tuple[str, Pipeline]]
) -> tuple[dict[str, Any] | None, str | None]:
    """Return ``trials`` and ``trials_left_out`` of ``metrics.json``.

    Args:
        evaluation: of the routed metric.
        estimators: names and trained estimators of the routed metric. The first
            k-nearest-neighbours estimator is used; an iterator may load them on demand.

    Returns:
        The document and None, or None and the reason why there are no trials.
    """
    settings, data = evaluation.settings, evaluation.routed
    if not settings.trials:
        return None, "evaluate.trials is 0"
    train = evaluation.dataset.split("train")
    by_seed = train.seed_scores(data.metric)
    seeds = int(complete_seeds(by_seed).sum(axis=1).max())
    sizes = possible_sizes(settings.trial_seeds, seeds)
    if not sizes:
        return None, _too_few_seeds(seeds, settings.trial_seeds)
    nearest = next((e for e in estimators if isinstance(e[1][-1], CosineKNNRegressor)), None)
    if nearest is None:
        return None, (
            f"no k-nearest-neighbours estimator is trained on {data.metric}: add knn to"
            " train.estimators"
        )
    name, pipeline = nearest
    candidates = evaluation.candidates
    trial_data = _trial_data(pipeline, train, by_seed, data, candidates.costs)
    return {
        "estimator": name,
        "n_neighbors": int(pipeline[-1].n_neighbors),
        "left_out": [size for size in settings.trial_seeds if size not in sizes],
        **trials_document(trial_data, candidates.names, sizes, settings.trials, settings.seed),
    }, None


def _too_few_seeds(seeds: int, sizes: list[int]) -> str:
    requested = ", ".join(map(str, sizes)) or "none"
    return (
        f"the training prompts have {seeds} seed{'s' * (seeds != 1)}, and S ({requested}) must be"
        " smaller"
    )


def _trial_data(
    pipeline: Pipeline, train: Dataset, by_seed: Floats, data: LabelledPredictions, costs: Floats
) -> TrialData:
    texts = (
        train.texts,
        data.validation_prompts["prompt"].to_numpy(object),
        data.test_prompts["prompt"].to_numpy(object),
    )
    learned, validation, test = (np.asarray(pipeline[:-1].transform(x)) for x in texts)
    features = learned, validation, test
    return TrialData(pipeline[-1], features, by_seed, data.validation, data.test, costs)


def trials_document(
    data: TrialData, candidates: list[str], sizes: list[int], trials: int, seed: int
) -> dict[str, Any]:
    """Return the figures of ``trials``: one table per S.

    ``quality`` is the mean over trials of the best point of the test curve at no more than the
    candidate's cost, as in the paper's table, and ``sd`` its standard deviation. ``selected`` has
    the same with the point selected on the validation split. A *win* is a trial that is better than
    the candidate on test. ``p_value`` is of the exact two-sided sign test without ties: it concerns
    other draws of the training seeds, not other prompts.

    Args:
        data: features, scores and labels.
        candidates: names.
        sizes: see :func:`~catimage.evaluation.trials.draws.possible_sizes`.
        trials: number of trials per S.
        seed: of the draws.
    """
    return {
        "trials": trials,
        "seeds": data.by_seed.shape[2],
        "by_size": [
            {
                "size": size,
                "n_train": len(drawn_labels(data.by_seed, size, np.random.default_rng(0))[0]),
                "by_candidate": _rows(_trial_qualities(data, size, trials, seed), data, candidates),
            }
            for size in sizes
        ],
    }


def _trial_qualities(data: TrialData, size: int, trials: int, seed: int) -> Floats:
    """Return the quality at each candidate's cost, in-sample and held-out:
    (n_trials, 2, n_candidates).
    """
    costs, rows = data.costs, []
    for on_val, on_test in trial_predictions(data, size, trials, seed):
        in_sample = routed_policies(on_test, data.test, on_test, data.test, costs)
        held_out = routed_policies(on_val, data.validation, on_test, data.test, costs)
        best = [quality_at(in_sample.curve, in_sample.position_at_cost(float(c))) for c in costs]
        outcomes = [held_out.outcome(held_out.position_at_cost(float(c))) for c in costs]
        rows.append([best, [float(outcome.quality.mean()) for outcome in outcomes]])
    return np.array(rows)


def _rows(qualities: Floats, data: TrialData, candidates: list[str]) -> list[dict[str, Any]]:
    fixed = data.test.mean(axis=0)
    return [
        {
            "candidate": name,
            "cost": float(data.costs[m]),
            "fixed_quality": float(fixed[m]),
            **sign_test(qualities[:, 0, m], float(fixed[m])),
            "selected": sign_test(qualities[:, 1, m], float(fixed[m])),
        }
        for m, name in enumerate(candidates)
    ]


def sign_test(quality: Floats, fixed: float) -> dict[str, Any]:
    """Compare the qualities of all trials (n_trials,) with that of a fixed candidate."""
    tolerance = TOLERANCE * max(abs(fixed), float(np.abs(quality).max()))
    wins = int((quality > fixed + tolerance).sum())
    losses = int((quality < fixed - tolerance).sum())
    return {
        "quality": float(quality.mean()),
        "sd": float(quality.std(ddof=1)) if len(quality) > 1 else None,
        "wins": wins,
        "losses": losses,
        "win_rate": wins / len(quality),
        "p_value": float(binomtest(wins, wins + losses).pvalue) if wins + losses else None,
    }
