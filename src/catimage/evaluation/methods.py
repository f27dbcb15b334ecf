"""Deferral curves and figures of every method, per metric (CATImage 5).

All qualities are higher-is-better. Those of a lower-is-better metric are negated, and
``lower_is_better`` is true.
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
from catimage.evaluation.held_out import NO_MATCH, held_out_document, mean_over_budgets
from catimage.evaluation.intervals import PairedBootstrap, standard_error
from catimage.evaluation.noise import noise_document, oracle_on_other_seeds
from catimage.evaluation.operating_point import OperatingPoint
from catimage.evaluation.policies import (
    Method,
    PolicyCurve,
    fixed_policies,
    mixed_policies,
    routed_policies,
)
from catimage.evaluation.tables import by_candidate, cost_ratio
from catimage.evaluation.test_data import LabelledPredictions
from catimage.routing.curve import DeferralCurve

MAX_ROWS = 500
"""Rows of a curve in ``metrics.json``."""


def metrics_document(
    metrics: list[LabelledPredictions],
    candidates: Candidates,
    point: OperatingPoint,
    bootstrap: PairedBootstrap,
) -> dict[str, Any]:
    """Return the core of ``metrics.json``, ready for JSON (no NaN, no numpy types).

    Args:
        metrics: one per trained metric, the routed one first.
        candidates: the columns of all labels and predictions.
        point: the calibrated router on the test prompts of the routed metric.
        bootstrap: of these prompts; metrics with another number of prompts use the same seed.
    """
    documents = {
        data.metric: metric_document(data, candidates, bootstrap.for_prompts(len(data.test)))
        for data in metrics
    }
    routed = metrics[0]
    known_labels = mean_labels(routed.known_labels)[None]
    best = routed.best_single(candidates.costs)
    return {
        "metric": routed.metric,
        "cost_unit": candidates.unit,
        "candidates": candidates_document(routed.test, candidates),
        "budget": budget_document(point, known_labels, routed.test, best, candidates, bootstrap),
        **documents[routed.metric],
        "by_metric": documents,
    }


def metric_document(
    data: LabelledPredictions, candidates: Candidates, bootstrap: PairedBootstrap
) -> dict[str, Any]:
    """Return best single candidate, oracle and all methods of one metric."""
    costs, by_seed = candidates.costs, data.test_by_seed
    best, methods = data.best_single(costs), methods_of(data, costs)
    low, high = float(costs.min()), float(costs.max())
    mix_quality = mean_over_budgets(methods["mix"].held_out, low, high)
    selected = {name: _best_quality(methods[name].held_out) for name in data.predictions}
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
        "noise": (None if by_seed is None else noise_document(by_seed, best, selected, bootstrap)),
        "methods": {
            name: method_document(method, mix_quality, data, candidates, bootstrap)
            for name, method in methods.items()
        },
    }


def methods_of(data: LabelledPredictions, costs: Floats) -> dict[str, Method]:
    """Return the policies of ``fixed``, ``mix``, ``oracle`` and each estimator, by name."""
    val, test = data.validation, data.test
    methods = {
        "fixed": Method(fixed_policies(test, test, costs), fixed_policies(val, test, costs)),
        "mix": Method(mixed_policies(test, test, costs), mixed_policies(val, test, costs)),
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
    """Return each test prompt's quality under the policy of the best selection quality."""
    return policies.outcome(best_position(policies.curve)).quality


def candidates_document(test: Floats, candidates: Candidates) -> list[dict[str, Any]]:
    """Return each candidate's cost, and the mean of its test labels with its standard error."""
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
) -> dict[str, Any]:
    """Return the figures of one method, computed from the whole curve.

    The curve of ``fixed`` has one point per candidate, the most expensive first, without lambda.
    The curve of ``mix`` has the vertices of the hull; between them figures follow the straight
    edges, and ``mean_curve_quality`` integrates these. Only the rows of ``curve`` are thinned.

    Args:
        method: its policies.
        mix_quality: quality of the best mix of two fixed candidates per test prompt, averaged over
            budgets, (n_test,).
        data: labels.
        candidates: the columns of the labels.
        bootstrap: of the test prompts.
    """
    costs, policies = candidates.costs, method.in_sample
    best = data.best_single(costs)
    selected = held_out_document(
        method.held_out, best, data.validation, data.test, costs, bootstrap
    )
    return {
        **_in_sample_figures(policies, float(data.test[:, best].mean()), float(costs[best])),
        "mean_curve_quality": policies.curve.mean_quality(
            float(costs.min()), float(costs.max()), policies.linear
        ),
        "selected_mean_curve": _held_out_mean_curve(method, mix_quality, costs, bootstrap),
        "selected": selected,
        "no_match": NO_MATCH if selected["match"] is None else None,
        "by_candidate": by_candidate(method, candidates, data.validation, data.test, bootstrap),
        "curve": curve_rows(policies.curve, _referenced_points(policies, data.test, costs)),
    }


def _in_sample_figures(policies: PolicyCurve, quality: float, cost: float) -> dict[str, Any]:
    """Return the best point of the test curve, and its points at the best single candidate's cost
    and quality.
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


def _referenced_points(policies: PolicyCurve, test: Floats, costs: Floats) -> list[int]:
    """Return the points of the curve that the figures of ``by_candidate`` are read from."""
    curve, linear = policies.curve, policies.linear
    positions = [position_at_cost(curve, float(c), linear) for c in costs]
    positions += [policies.position_to_match(float(y.mean())) for y in test.T]
    return sorted(
        {int(end) for p in positions if p is not None for end in (np.floor(p), np.ceil(p))}
    )


def curve_rows(curve: DeferralCurve, keep: list[int]) -> list[list[float | None]]:
    """Return rows ``[cost, quality, lambda]``, thinned to 500; lambda is None where there is none.

    The ends, the best point and the points in ``keep`` always stay.
    """
    thin = curve.thinned(MAX_ROWS, np.array(keep[: MAX_ROWS - 3], int))
    lam = [None if np.isnan(x) else float(x) for x in thin.lam]
    return [[float(c), float(q), x] for c, q, x in zip(thin.cost, thin.quality, lam, strict=True)]
