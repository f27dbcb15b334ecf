"""Comparison of estimators by k-fold cross-validation.

Each prompt is routed only by estimators that were not fitted on it. The estimators' parameters,
lambda and the best single candidate are selected on the training prompts of the fold, which are the
prompts of the other folds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from catimage.common.arrays import Floats
from catimage.data.missing_labels import best_single_candidate
from catimage.evaluation.curve_queries import (
    best_position,
    cost_at,
    position_at_cost,
    position_to_match,
)
from catimage.evaluation.held_out import mean_over_budgets
from catimage.evaluation.intervals import PairedBootstrap, gains_over, verdict
from catimage.evaluation.policies import (
    Outcome,
    PolicyCurve,
    fixed_policies,
    randomized_policies,
    routed_policies,
)
from catimage.evaluation.tables import cost_ratio
from catimage.routing.curve import deferral_curve

POLICIES = ("max_quality", "at_cost", "match")
"""The selections of lambda: for the best quality, for the best quality at no more than the best
single candidate's cost, and for the least cost with at least the best single candidate's quality.

Each is the best on the training prompts, without a confidence, so it is optimistic there. The
results on the test prompts are not.
"""
BASELINES = ("fixed", "mix", "oracle")
"""Methods without an estimator: ``fixed`` uses one candidate for all prompts, ``mix`` uses two
candidates at random, and ``oracle`` routes by the labels (:mod:`catimage.evaluation.policies`).
"""


@dataclass(frozen=True)
class FoldOutcome:
    """Quality and cost of one method per evaluated prompt.

    Attributes:
        quality: the quality by policy, (n, 3) in the order of :data:`POLICIES`.
        cost: the cost by policy, (n, 3).
        curve_quality: the quality averaged over budgets from the cost of the cheapest candidate to
            that of the most expensive one, (n,).
    """

    quality: Floats
    cost: Floats
    curve_quality: Floats


def evaluate_fold(
    training_labels: Floats,
    test: Floats,
    costs: Floats,
    predictions: Mapping[str, tuple[Floats, Floats]],
) -> dict[str, FoldOutcome]:
    """Return the outcomes of every method on the test prompts of one fold, the baselines first.

    Args:
        training_labels: labels of the training prompts, (n_train, n_candidates).
        test: labels of the test prompts, (n_test, n_candidates).
        costs: the candidates' costs, (n_candidates,).
        predictions: by estimator, out-of-fold predictions for the training prompts, (n_train,
            n_candidates), and predictions for the test prompts, (n_test, n_candidates).
    """
    methods = {
        "fixed": fixed_policies(training_labels, test, costs),
        "mix": randomized_policies(training_labels, test, costs),
        "oracle": routed_policies(training_labels, training_labels, test, test, costs),
    }
    for name, (out_of_fold, predicted) in predictions.items():
        methods[name] = routed_policies(out_of_fold, training_labels, predicted, test, costs)
    best = best_single_candidate(training_labels, costs)
    return {
        name: _fold_outcome(policies, best, training_labels, test, costs)
        for name, policies in methods.items()
    }


def in_sample_cost_ratio(
    predicted: Floats, labels: Floats, costs: Floats, best: int
) -> float | None:
    """Return the lowest cost of matching the quality of candidate ``best``, over its own cost.

    Lambda is selected on the evaluated prompts themselves, as in the papers' tables.

    Args:
        predicted: predicted qualities, (n, n_candidates).
        labels: measured qualities, (n, n_candidates).
        costs: the candidates' costs, (n_candidates,).
        best: the index of a candidate.

    Returns:
        The ratio; None if every lambda gives a lower quality.
    """
    curve = deferral_curve(predicted, costs, labels)
    position = position_to_match(curve, float(labels[:, best].mean()))
    return None if position is None else cost_ratio(cost_at(curve, position), float(costs[best]))


def _fold_outcome(
    policies: PolicyCurve, best: int, training_labels: Floats, test: Floats, costs: Floats
) -> FoldOutcome:
    """Apply the selected policies, or the best single candidate where none can be selected."""
    curve, linear = policies.curve, policies.linear
    positions = (
        best_position(curve),
        position_at_cost(curve, float(costs[best]), linear),
        position_to_match(curve, float(training_labels[:, best].mean()), linear),
    )
    single = Outcome(np.full(len(test), costs[best]), test[:, best])
    outcomes = [single if p is None else policies.outcome(p) for p in positions]
    return FoldOutcome(
        np.stack([o.quality for o in outcomes], axis=1),
        np.stack([o.cost for o in outcomes], axis=1),
        mean_over_budgets(policies, float(costs.min()), float(costs.max())),
    )


def concatenate_folds(folds: list[dict[str, FoldOutcome]]) -> dict[str, FoldOutcome]:
    """Return the outcomes of the prompts of all folds, by method."""
    return {
        name: FoldOutcome(
            np.concatenate([fold[name].quality for fold in folds]),
            np.concatenate([fold[name].cost for fold in folds]),
            np.concatenate([fold[name].curve_quality for fold in folds]),
        )
        for name in folds[0]
    }


def comparison_rows(
    methods: Mapping[str, FoldOutcome],
    reference: Floats,
    reference_cost: Floats,
    bootstrap: PairedBootstrap,
) -> list[dict[str, Any]]:
    """Return one row of statistics per method, each with its 95% interval.

    Args:
        methods: the outcomes of :func:`concatenate_folds`, which include those of ``fixed``.
        reference: per prompt, the quality of the best single candidate of the prompt's fold, (n,).
        reference_cost: per prompt, the cost of that candidate, (n,).
        bootstrap: resamples of the prompts.
    """
    fixed = methods["fixed"].curve_quality
    return [
        {
            "estimator": name,
            **_policy_statistics(method, reference, reference_cost, bootstrap),
            **_curve_statistics(method.curve_quality, fixed, bootstrap),
            "verdict": verdict(bootstrap.interval(gains_over(method.quality[:, 0], reference))),
        }
        for name, method in methods.items()
    ]


def _policy_statistics(
    method: FoldOutcome, reference: Floats, reference_cost: Floats, bootstrap: PairedBootstrap
) -> dict[str, Any]:
    """Return gain, cost and cost ratio of each policy in :data:`POLICIES`."""
    statistics = {}
    for i, policy in enumerate(POLICIES):
        gains, cost = gains_over(method.quality[:, i], reference), method.cost[:, i]
        statistics[policy] = {
            "gain": float(gains.mean()),
            "interval": bootstrap.interval(gains),
            "cost": float(cost.mean()),
            "cost_ratio": cost_ratio(float(cost.mean()), float(reference_cost.mean())),
            "cost_ratio_interval": bootstrap.ratio_interval(cost, reference_cost),
        }
    return statistics


def _curve_statistics(quality: Floats, fixed: Floats, bootstrap: PairedBootstrap) -> dict[str, Any]:
    """Return the mean curve quality and its gain over the fixed candidates' mean curve quality."""
    gain = quality - fixed
    return {
        "mean_curve_quality": float(quality.mean()),
        "mean_curve_quality_interval": bootstrap.interval(quality),
        "mean_curve_gain": {"gain": float(gain.mean()), "interval": bootstrap.interval(gain)},
    }
