"""Comparison of estimators by k-fold cross-validation.

Every prompt is evaluated by routers that were not fitted on it. Parameters, lambda and the best
single candidate are selected inside the folds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from catimage.common.arrays import Floats
from catimage.common.formatting import format_gain, format_number, format_percent, format_share
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
    mixed_policies,
    routed_policies,
)
from catimage.evaluation.tables import cost_ratio
from catimage.routing.curve import deferral_curve

POLICIES = ("max_quality", "at_cost", "match")
"""Lambda selected for the best quality, for the best quality within the best single candidate's
cost, and for that candidate's quality at the least cost.
"""
BASELINES = ("fixed", "mix", "oracle")
"""Methods that need no estimator."""


@dataclass(frozen=True)
class FoldOutcome:
    """Quality and cost of one method per evaluated prompt.

    Attributes:
        quality: by policy, (n, 3) in the order of :data:`POLICIES`.
        cost: by policy, (n, 3).
        curve: quality averaged over budgets from the cheapest to the most expensive candidate,
            (n,).
    """

    quality: Floats
    cost: Floats
    curve: Floats


def evaluate_fold(
    known_labels: Floats,
    test: Floats,
    costs: Floats,
    predictions: Mapping[str, tuple[Floats, Floats]],
) -> dict[str, FoldOutcome]:
    """Evaluate every method on the test prompts of one fold, the baselines first.

    Args:
        known_labels: labels of the prompts that choices may use, (n_known, m).
        test: labels of the evaluated prompts, (n_test, m).
        costs: (m,).
        predictions: by estimator, out-of-fold predictions of the known prompts (n_known, m), and
            predictions of the evaluated ones (n_test, m).
    """
    methods = {
        "fixed": fixed_policies(known_labels, test, costs),
        "mix": mixed_policies(known_labels, test, costs),
        "oracle": routed_policies(known_labels, known_labels, test, test, costs),
    }
    for name, (held_out, predicted) in predictions.items():
        methods[name] = routed_policies(held_out, known_labels, predicted, test, costs)
    best = best_single_candidate(known_labels, costs)
    return {
        name: _fold_outcome(policies, best, known_labels, test, costs)
        for name, policies in methods.items()
    }


def in_sample_cost_ratio(
    predicted: Floats, labels: Floats, costs: Floats, best: int
) -> float | None:
    """Return the cost of the cheapest point as good as candidate ``best``, over its cost.

    Lambda is selected on the evaluated prompts themselves, as in the papers' tables.

    Args:
        predicted: (n, m).
        labels: (n, m).
        costs: (m,).
        best: index of a candidate.

    Returns:
        The ratio; None if no point is as good.
    """
    curve = deferral_curve(predicted, costs, labels)
    position = position_to_match(curve, float(labels[:, best].mean()))
    return None if position is None else cost_ratio(cost_at(curve, position), float(costs[best]))


def _fold_outcome(
    policies: PolicyCurve, best: int, known_labels: Floats, test: Floats, costs: Floats
) -> FoldOutcome:
    curve, linear = policies.curve, policies.linear
    positions = (
        best_position(curve),
        position_at_cost(curve, float(costs[best]), linear),
        position_to_match(curve, float(known_labels[:, best].mean()), linear),
    )
    # Where no lambda meets the condition, the best single candidate is used.
    single = Outcome(np.full(len(test), costs[best]), test[:, best])
    outcomes = [single if p is None else policies.outcome(p) for p in positions]
    return FoldOutcome(
        np.stack([o.quality for o in outcomes], axis=1),
        np.stack([o.cost for o in outcomes], axis=1),
        mean_over_budgets(policies, float(costs.min()), float(costs.max())),
    )


def concatenate_folds(folds: list[dict[str, FoldOutcome]]) -> dict[str, FoldOutcome]:
    """Concatenate the prompts of all folds."""
    return {
        name: FoldOutcome(
            np.concatenate([fold[name].quality for fold in folds]),
            np.concatenate([fold[name].cost for fold in folds]),
            np.concatenate([fold[name].curve for fold in folds]),
        )
        for name in folds[0]
    }


def comparison_rows(
    methods: Mapping[str, FoldOutcome],
    reference: Floats,
    reference_cost: Floats,
    bootstrap: PairedBootstrap,
) -> list[dict[str, Any]]:
    """Return one row per method: gains over the best single candidate, cost ratios and mean curve
    quality, each with its 95% interval.

    Args:
        methods: see :func:`concatenate_folds`; one of them is ``fixed``.
        reference: quality of the best single candidate of each prompt's fold, (n,).
        reference_cost: its cost, (n,).
        bootstrap: of the prompts.
    """
    fixed = methods["fixed"].curve
    return [
        {
            "estimator": name,
            **_policy_figures(method, reference, reference_cost, bootstrap),
            **_curve_figures(method.curve, fixed, bootstrap),
            "verdict": verdict(bootstrap.interval(gains_over(method.quality[:, 0], reference))),
        }
        for name, method in methods.items()
    ]


def _policy_figures(
    method: FoldOutcome, reference: Floats, reference_cost: Floats, bootstrap: PairedBootstrap
) -> dict[str, Any]:
    figures = {}
    for i, policy in enumerate(POLICIES):
        gains, cost = gains_over(method.quality[:, i], reference), method.cost[:, i]
        figures[policy] = {
            "gain": float(gains.mean()),
            "interval": bootstrap.interval(gains),
            "cost": float(cost.mean()),
            "cost_ratio": cost_ratio(float(cost.mean()), float(reference_cost.mean())),
            "cost_ratio_interval": bootstrap.ratio_interval(cost, reference_cost),
        }
    return figures


def _curve_figures(curve: Floats, fixed: Floats, bootstrap: PairedBootstrap) -> dict[str, Any]:
    gain = curve - fixed
    return {
        "mean_curve_quality": float(curve.mean()),
        "mean_curve_quality_interval": bootstrap.interval(curve),
        "mean_curve_gain": {"gain": float(gain.mean()), "interval": bootstrap.interval(gain)},
    }


def comparison_table(rows: list[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Return header and cells of the printed table."""
    header = [
        "estimator",
        "gain [95% interval]",
        "of cost",
        "gain at its cost",
        "to match: of cost",
        "and gain",
        "curve over fixed",
        "fit s",
        "ms",
        "verdict",
    ]
    return header, [_cells(row) for row in rows]


def _cells(row: dict[str, Any]) -> list[str]:
    figures = [row[key] for key in (*POLICIES, "mean_curve_gain")]
    best, at_cost, match, curve = (format_gain(f["gain"], f["interval"]) for f in figures)
    return [
        row["estimator"],
        best,
        format_percent(row["max_quality"]["cost_ratio"]),
        at_cost,
        format_share(row["match"]["cost_ratio"], row["match"]["cost_ratio_interval"]),
        match,
        curve,
        *(format_number(row.get(key), 3) for key in ("fit_seconds", "decision_ms")),
        row["verdict"],
    ]


def comparison_lines(rows: list[dict[str, Any]], chosen: str) -> list[str]:
    """Describe the gain and the cost of the estimator ``chosen`` in two sentences."""
    row = next(r for r in rows if r["estimator"] == chosen)
    best, match = row["max_quality"], row["match"]
    gain = format_gain(best["gain"], best["interval"])
    first = {
        "better": (
            f"{chosen} gains {gain} over the best single candidate, at"
            f" {format_percent(best['cost_ratio'])} of its cost."
        ),
        "worse": f"{chosen} loses to the best single candidate: {gain}.",
        "nothing significant": (
            f"{chosen} gains nothing significant over the best single candidate: {gain}."
        ),
    }[row["verdict"]]
    match_gain = format_gain(match["gain"], match["interval"])
    target = "Calibrated to the best single candidate's quality, it"
    second = {
        "worse": f"{target} falls short by {match_gain}",
        "better": f"{target} exceeds it by {match_gain}",
        "nothing significant": f"{target} matches it (difference {match_gain})",
    }[verdict(match["interval"])]
    return [first, f"{second}, at {format_percent(match['cost_ratio'])} of its cost."]
