"""The calibrated router on the test split, compared with fixed candidates and their best mix.

The router maximizes the mean quality within a budget, a mean cost (CATImage paper, equation 1). It
is compared with three policies that are selected by the labels of the train and validation splits.
``best_single`` is the candidate with the best mean label. ``best_fixed`` is the best of the
candidates whose cost is within the budget. ``mix`` sends random shares of the prompts to two
candidates, at the mean cost of the router.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from catimage.common.arrays import Floats
from catimage.data.dataset import Candidates
from catimage.evaluation.curve_queries import position_at_cost
from catimage.evaluation.held_out import compare_outcomes
from catimage.evaluation.intervals import PairedBootstrap, gains_over
from catimage.evaluation.operating_point import FloorLabels, OperatingPoint
from catimage.evaluation.policies import Outcome, randomized_policies
from catimage.routing.curve import BUDGET_TOLERANCE


def budget_document(
    point: OperatingPoint,
    train_val: Floats,
    test: Floats,
    best: int,
    candidates: Candidates,
    bootstrap: PairedBootstrap,
) -> dict[str, Any]:
    """Return the key ``budget`` of ``metrics.json``: cost and quality of the router.

    ``gain`` is the router's gain in quality over a policy, and ``interval`` its 95% interval,
    paired over prompts. ``floors`` has one row per floor: the required and the realised mean.

    Args:
        point: the router on the test prompts.
        train_val: labels of train and validation, (n, n_candidates), or one row of their means.
        test: labels of the test split, (n_test, n_candidates).
        best: the index of the best single candidate.
        candidates: the candidates, in the order of the columns of the labels.
        bootstrap: resamples of the test prompts.
    """
    costs = candidates.costs
    outcome = point.outcome(test, costs)
    outcomes = {"router": outcome}
    compared = compare_outcomes(outcomes, test[:, best], float(costs[best]), bootstrap)["router"]
    best_single = {key: compared[key] for key in ("gain", "interval", "cost_ratio")}
    return {
        "estimator": point.estimator,
        "target": float(point.target),
        "lambda": point.lam,
        "realised_mean_cost": float(outcome.cost.mean()),
        "realised_mean_cost_interval": bootstrap.interval(outcome.cost),
        "realised_quality": float(outcome.quality.mean()),
        **_calibration(point),
        "floors": [_realised_floor(point, floor, costs) for floor in point.floors],
        "best_single": {"candidate": candidates.names[best], **best_single},
        "best_fixed": _best_fixed(outcome, point.target, train_val, test, candidates, bootstrap),
        "mix": _best_mix(outcome, train_val, test, costs, bootstrap),
    }


def _calibration(point: OperatingPoint) -> dict[str, Any]:
    """Return the calibrated rule and the settings that it was calibrated with."""
    return {
        "rule": point.rule.to_rows([floor.metric for floor in point.floors]),
        "confidence": point.confidence,
        "quality_floor": point.quality_floor,
        "risk_aversion": point.risk_aversion,
    }


def _realised_floor(point: OperatingPoint, floor: FloorLabels, costs: Floats) -> dict[str, Any]:
    """Return a floor and the router's mean label of that metric.

    Only prompts with a label of every candidate count; the mean is None if there are none.
    """
    values = point.outcome(floor.labels, costs).quality
    values = values[~np.isnan(floor.labels).any(axis=1)]
    realised = float(values.mean()) if len(values) else None
    return {"metric": floor.metric, "floor": floor.floor, "realised": realised}


def _best_fixed(
    outcome: Outcome,
    target: float,
    train_val: Floats,
    test: Floats,
    candidates: Candidates,
    bootstrap: PairedBootstrap,
) -> dict[str, Any] | None:
    """Compare the router with the best candidate within the budget; None if all cost more."""
    within = np.flatnonzero(candidates.costs <= target * (1 + BUDGET_TOLERANCE))
    if not len(within):
        return None
    m = int(within[np.argmax(train_val[:, within].mean(axis=0))])
    fixed = Outcome(np.full(len(test), candidates.costs[m]), test[:, m])
    return {"candidate": candidates.names[m], **_compare(fixed, outcome, bootstrap)}


def _best_mix(
    outcome: Outcome, train_val: Floats, test: Floats, costs: Floats, bootstrap: PairedBootstrap
) -> dict[str, Any] | None:
    """Compare the router with the best mix at its cost; None if every mix costs more."""
    policies = randomized_policies(train_val, test, costs)
    position = position_at_cost(policies.curve, float(outcome.cost.mean()), linear=True)
    if position is None:
        return None
    return _compare(policies.outcome(position), outcome, bootstrap)


def _compare(reference: Outcome, router: Outcome, bootstrap: PairedBootstrap) -> dict[str, Any]:
    """Return the cost and quality of a reference policy and the router's gain over that policy."""
    gain = gains_over(router.quality, reference.quality)
    return {
        "cost": float(reference.cost.mean()),
        "quality": float(reference.quality.mean()),
        "gain": float(gain.mean()),
        "interval": bootstrap.interval(gain),
    }
