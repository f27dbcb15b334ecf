"""Deferral curves and statistics of every method, per metric (CATImage paper, section 5).

A *method* is an estimator that routes or a baseline (``fixed``, ``mix`` and ``oracle``, see
:mod:`catimage.evaluation.policies`). All qualities are higher-is-better. The qualities of a
lower-is-better metric are negated, and ``lower_is_better`` is true.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from catimage.common.arrays import Floats
from catimage.data.dataset import Candidates
from catimage.data.missing_labels import mean_labels
from catimage.evaluation.budget import budget_document
from catimage.evaluation.curve_queries import (
    best_position,
    cost_at,
    position_at_cost,
    quality_at,
)
from catimage.evaluation.curve_rows import curve_rows, referenced_points
from catimage.evaluation.held_out import held_out_document, mean_over_budgets, no_match
from catimage.evaluation.intervals import PairedBootstrap, standard_error
from catimage.evaluation.noise import noise_document, oracle_on_other_seeds
from catimage.evaluation.operating_point import OperatingPoint
from catimage.evaluation.policies import (
    Method,
    PolicyCurve,
    fixed_policies,
    randomized_policies,
    routed_policies,
)
from catimage.evaluation.tables import by_candidate, cost_ratio
from catimage.evaluation.test_data import LabelledPredictions


def metrics_document(
    metrics: list[LabelledPredictions],
    candidates: Candidates,
    point: OperatingPoint,
    bootstrap: PairedBootstrap,
    match_confidence: float = 0.95,
) -> dict[str, Any]:
    """Return the core of ``metrics.json``, ready for JSON (no NaN, no numpy types).

    Args:
        metrics: labels and predictions of each trained metric; the first is the metric that the
            router maximizes.
        candidates: the candidates, in the order of the columns of all labels and predictions.
        point: the calibrated router on the test prompts of the first metric.
        bootstrap: resamples of these prompts. For a metric with another number of test prompts,
            resamples are drawn with the same seed.
        match_confidence: the confidence of each ``match``, ``calibrate.match_confidence``.
    """
    documents = {
        data.metric: metric_document(
            data, candidates, bootstrap.for_prompts(len(data.test)), match_confidence
        )
        for data in metrics
    }
    routed = metrics[0]
    train_val_means = mean_labels(routed.train_val_labels)[None]
    best = routed.best_single(candidates.costs)
    return {
        "metric": routed.metric,
        "cost_unit": candidates.unit,
        "match_confidence": match_confidence,
        "candidates": candidates_document(routed.test, candidates),
        "budget": budget_document(point, train_val_means, routed.test, best, candidates, bootstrap),
        **documents[routed.metric],
        "by_metric": documents,
    }


def metric_document(
    data: LabelledPredictions,
    candidates: Candidates,
    bootstrap: PairedBootstrap,
    match_confidence: float,
) -> dict[str, Any]:
    """Return the statistics of one metric: best single candidate, oracle and all methods."""
    costs, by_seed = candidates.costs, data.test_by_seed
    best, methods = data.best_single(costs), methods_of(data, costs)
    low, high = float(costs.min()), float(costs.max())
    mix_quality = mean_over_budgets(methods["mix"].held_out, low, high)
    best_qualities = {name: _best_quality(methods[name].held_out) for name in data.predictions}
    return {
        "lower_is_better": data.lower_is_better,
        "n_test": len(data.test),
        "left_out": data.left_out,
        "best_single": {
            "candidate": candidates.names[best],
            "cost": float(costs[best]),
            "quality": float(data.test[:, best].mean()),
        },
        "oracle_quality": float(data.test.max(axis=1).mean()),
        "oracle_other_seeds_quality": None if by_seed is None else oracle_on_other_seeds(by_seed),
        "noise": (
            None if by_seed is None else noise_document(by_seed, best, best_qualities, bootstrap)
        ),
        "methods": {
            name: method_document(
                method, mix_quality, data, candidates, bootstrap, match_confidence
            )
            for name, method in methods.items()
        },
    }


def methods_of(data: LabelledPredictions, costs: Floats) -> dict[str, Method]:
    """Return the policies of the baselines and of each estimator, by name."""
    val, test = data.validation, data.test
    methods = {
        "fixed": Method(fixed_policies(test, test, costs), fixed_policies(val, test, costs)),
        "mix": Method(
            randomized_policies(test, test, costs), randomized_policies(val, test, costs)
        ),
        "oracle": Method(
            routed_policies(test, test, test, test, costs),
            routed_policies(val, val, test, test, costs),
        ),
    }
    for name, (on_val, on_test) in data.predictions.items():
        methods[name] = Method(
            routed_policies(on_test, test, on_test, test, costs),
            routed_policies(on_val, val, on_test, test, costs),
        )
    return methods


def _best_quality(policies: PolicyCurve) -> Floats:
    """Return the qualities of the test prompts with the policy that is the best on its curve.

    The shape is (n_test,).
    """
    return policies.outcome(best_position(policies.curve)).quality


def candidates_document(test: Floats, candidates: Candidates) -> list[dict[str, Any]]:
    """Return each candidate's cost, its mean label on the test split and the standard error."""
    columns = zip(candidates.names, candidates.costs, test.T, strict=True)
    return [
        {"candidate": name, "cost": float(c), "quality": float(y.mean()), "se": standard_error(y)}
        for name, c, y in columns
    ]


def method_document(
    method: Method,
    mix_quality: Floats,
    data: LabelledPredictions,
    candidates: Candidates,
    bootstrap: PairedBootstrap,
    match_confidence: float,
) -> dict[str, Any]:
    """Return the statistics of one method.

    The curve of ``fixed`` has one point per candidate in order of descending cost, without lambda.
    The curve of ``mix`` has the vertices of the upper hull of these points; statistics between two
    vertices, such as ``mean_curve_quality``, are computed from the straight edges. The key
    ``curve`` has at most 500 points, but the statistics are computed from all points.

    Args:
        method: the policies of the method.
        mix_quality: the quality of the best mix of two fixed candidates, averaged over budgets, of
            each test prompt, (n_test,).
        data: the labels of the metric.
        candidates: the candidates, in the order of the columns of the labels.
        bootstrap: resamples of the test prompts.
        match_confidence: the confidence of each ``match``.
    """
    costs, policies = candidates.costs, method.in_sample
    best = data.best_single(costs)
    held_out = held_out_document(
        method.held_out, best, match_confidence, data.test, costs, bootstrap
    )
    return {
        **_in_sample_statistics(policies, float(data.test[:, best].mean()), float(costs[best])),
        "mean_curve_quality": policies.curve.mean_quality(
            float(costs.min()), float(costs.max()), policies.linear
        ),
        "selected_mean_curve": _held_out_mean_curve(method, mix_quality, costs, bootstrap),
        "selected": held_out,
        "no_match": no_match(match_confidence) if held_out["match"] is None else None,
        "by_candidate": by_candidate(method, candidates, data.test, bootstrap, match_confidence),
        "curve": curve_rows(policies.curve, referenced_points(policies, data.test, costs)),
    }


def _in_sample_statistics(policies: PolicyCurve, quality: float, cost: float) -> dict[str, Any]:
    """Return statistics of the curve on the test split.

    They describe its best point, and its points at the cost and at the quality of the best single
    candidate, ``cost`` and ``quality``.
    """
    curve = policies.curve
    top = best_position(curve)
    affordable = position_at_cost(curve, cost, policies.linear)
    match = policies.position_to_match(quality)
    return {
        "max_quality": quality_at(curve, top),
        "max_quality_cost": cost_at(curve, top),
        "quality_at_best_single_cost": (
            None if affordable is None else quality_at(curve, affordable)
        ),
        "cost_ratio_to_match_best_single": (
            None if match is None else cost_ratio(cost_at(curve, match), cost)
        ),
    }


def _held_out_mean_curve(
    method: Method, mix_quality: Floats, costs: Floats, bootstrap: PairedBootstrap
) -> dict[str, Any]:
    """Return ``selected_mean_curve``: the held-out counterpart of ``mean_curve_quality``."""
    quality = mean_over_budgets(method.held_out, float(costs.min()), float(costs.max()))
    pairs = np.stack([quality, quality - mix_quality], axis=1)
    interval, gain_interval = bootstrap.intervals(pairs).tolist()
    return {
        "quality": float(quality.mean()),
        "interval": interval,
        "gain_over_mix": float((quality - mix_quality).mean()),
        "gain_interval": gain_interval,
    }
