"""The key ``trials`` of ``metrics.json``: Table 1 of the CATImage paper (section 5.4).

In a trial, S of the available seeds are drawn for each training prompt, the k-nearest-neighbours
estimator is fitted on the mean scores of these seeds, and its deferral curve is measured on the
test split. Test prompts and test labels (mean scores over all seeds) are the same in every trial.
Other estimators would take too long to fit this often.
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
"""Relative difference below which two qualities count as equal."""


def trials_and_reason(
    evaluation: Evaluation, estimators: Iterable[tuple[str, Pipeline]]
) -> tuple[dict[str, Any] | None, str | None]:
    """Return the keys ``trials`` and ``trials_left_out`` of ``metrics.json``.

    Args:
        evaluation: the labels and the settings.
        estimators: names and trained estimators of the metric that the router maximizes. The first
            k-nearest-neighbours estimator is used; an iterator may load estimators on demand.

    Returns:
        The document and None, or None and the reason why there are no trials.
    """
    settings, data = evaluation.settings, evaluation.routed
    if not settings.trials:
        return None, "evaluate.trials is 0"
    train = evaluation.dataset.split("train")
    by_seed = train.score_rows(data.metric).by_seed()
    seeds = int(complete_seeds(by_seed).sum(axis=1).max())
    sizes = possible_sizes(settings.trial_seeds, seeds)
    if not sizes:
        return None, _too_few_seeds(seeds, settings.trial_seeds)
    knn = next((e for e in estimators if isinstance(e[1][-1], CosineKNNRegressor)), None)
    if knn is None:
        return None, (
            f"no k-nearest-neighbours estimator is trained on {data.metric}. Add 'knn' to"
            " train.estimators"
        )
    name, pipeline = knn
    candidates = evaluation.candidates
    trial_data = _trial_data(pipeline, train, by_seed, data, candidates.costs)
    return {
        "estimator": name,
        "n_neighbors": int(pipeline[-1].n_neighbors),
        "left_out": [size for size in settings.trial_seeds if size not in sizes],
        **trials_document(trial_data, candidates.names, sizes, settings.trials, settings.seed),
    }, None


def _too_few_seeds(seeds: int, sizes: list[int]) -> str:
    """Return the reason why no size S in ``evaluate.trial_seeds`` is possible."""
    requested = ", ".join(map(str, sizes)) or "none"
    return (
        f"the training prompts have {seeds} seed{'s' * (seeds != 1)}, and no value of"
        f" evaluate.trial_seeds ({requested}) is smaller"
    )


def _trial_data(
    pipeline: Pipeline, train: Dataset, by_seed: Floats, data: LabelledPredictions, costs: Floats
) -> TrialData:
    """Compute the features of the prompts of all three splits."""
    texts = (
        train.texts,
        data.validation_prompts["prompt"].to_numpy(object),
        data.test_prompts["prompt"].to_numpy(object),
    )
    train_features, *other_features = (np.asarray(pipeline[:-1].transform(x)) for x in texts)
    features = train_features, other_features[0], other_features[1]
    return TrialData(pipeline[-1], features, by_seed, data.validation, data.test, costs)


def trials_document(
    data: TrialData, candidates: list[str], sizes: list[int], trials: int, seed: int
) -> dict[str, Any]:
    """Return the tables of ``trials``, one per number of drawn seeds S.

    For each candidate, ``quality`` is the mean over trials of the best quality at no more than the
    candidate's cost, and ``sd`` is the standard deviation over trials. The point of the curve is
    selected on the test split, as in the paper's table; ``selected`` has the statistics of the
    point that is selected on the validation split. A *win* is a trial whose quality is better than
    that of the candidate. ``p_value`` is that of the exact two-sided sign test without ties. It
    concerns other draws of the training seeds, not other prompts.

    Args:
        data: features, scores and labels.
        candidates: the names of the candidates.
        sizes: the numbers of drawn seeds S.
        trials: the number of trials per S.
        seed: the seed of the random draws.
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
    """Return the quality at each candidate's cost in each trial, (n_trials, 2, n_candidates).

    On the second axis, the first quality is that of the point selected on the test split, the
    second that of the point selected on the validation split.
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
    """Compare the qualities of all trials, (n_trials,), with the quality of a fixed candidate."""
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
