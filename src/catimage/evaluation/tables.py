"""Tables 2 and 3 of the CATImage paper.

Table 2 has the quality of routing at each candidate's cost, Table 3 the cost of matching each
candidate's quality.

The in-sample statistics are computed from the curve on the test split, as in the paper. They are
the best that any lambda gives on the test prompts; lambdas selected on other prompts give less.
``quality_at_cost`` (Table 2) is the best quality at no more than the candidate's cost, and ``se``
its standard error over prompts. ``cost_ratio_to_match`` (Table 3) is the lowest cost with at least
the candidate's quality, divided by the candidate's cost.

The held-out statistics describe policies that are selected on the validation split.
``selected_lambda``, ``selected_cost`` and ``selected_quality`` are those of the best policy at no
more than the candidate's cost; ``gain`` is its gain over the candidate, with the paired 95%
``interval``. ``selected_match`` describes the cheapest policy that is certified on the validation
split to be as good as the candidate (:mod:`catimage.routing.match`). The confidence applies to each
candidate separately. Statistics of a match are None if no policy is certified.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from catimage.common.arrays import Floats
from catimage.data.dataset import Candidates
from catimage.evaluation.curve_queries import cost_at, quality_at
from catimage.evaluation.intervals import PairedBootstrap, gains_over, standard_error
from catimage.evaluation.policies import Method, Outcome, PolicyCurve


def cost_ratio(cost: float, reference: float) -> float | None:
    """Return ``cost / reference``; None if the reference costs nothing or almost nothing."""
    ratio = cost / reference if reference > 0 else float("inf")
    return ratio if np.isfinite(ratio) else None


def by_candidate(
    method: Method,
    candidates: Candidates,
    test: Floats,
    bootstrap: PairedBootstrap,
    match_confidence: float,
) -> list[dict[str, Any]]:
    """Return the key ``by_candidate`` of ``metrics.json``: one row of both tables per candidate.

    Args:
        method: the policies of one method.
        candidates: the candidates, in the order of the columns of the labels.
        test: labels of the test split, (n_test, n_candidates).
        bootstrap: resamples of the test prompts.
        match_confidence: the confidence of each ``selected_match``.
    """
    costs, held_out = candidates.costs, method.held_out
    within = [held_out.outcome(held_out.position_at_cost(float(c))) for c in costs]
    gains = gains_over(np.stack([outcome.quality for outcome in within], axis=1), test)
    intervals = bootstrap.intervals(gains).tolist()
    matching = _matching_outcomes(held_out, len(costs), match_confidence)
    matches = _match_rows(matching, costs, test, bootstrap)
    return [
        {
            "candidate": name,
            "cost": float(costs[m]),
            **_in_sample_row(method.in_sample, float(costs[m]), test[:, m]),
            **_held_out_row(within[m]),
            "gain": float(gains[:, m].mean()),
            "interval": intervals[m],
            "selected_match": matches[m],
        }
        for m, name in enumerate(candidates.names)
    ]


def _held_out_row(outcome: Outcome) -> dict[str, Any]:
    """Return the keys that begin with ``selected_``."""
    return {
        "selected_lambda": outcome.lam,
        "selected_cost": float(outcome.cost.mean()),
        "selected_quality": float(outcome.quality.mean()),
    }


def _matching_outcomes(
    policies: PolicyCurve, n_candidates: int, confidence: float
) -> list[Outcome | None]:
    """Return the outcome of the cheapest policy that is certified to match each candidate."""
    positions = [policies.certified_match(m, confidence) for m in range(n_candidates)]
    return [None if position is None else policies.outcome(position) for position in positions]


def _match_rows(
    outcomes: list[Outcome | None], costs: Floats, test: Floats, bootstrap: PairedBootstrap
) -> list[dict[str, Any] | None]:
    """Return ``selected_match`` of each candidate, with one bootstrap pass for all intervals."""
    matched = [(m, outcome) for m, outcome in enumerate(outcomes) if outcome]
    rows: list[dict[str, Any] | None] = [None] * len(outcomes)
    if not matched:
        return rows
    spent = np.stack([outcome.cost for _, outcome in matched], axis=1)
    gains = np.stack([gains_over(outcome.quality, test[:, m]) for m, outcome in matched], axis=1)
    intervals = bootstrap.intervals(np.concatenate([spent, gains], axis=1))
    spent_intervals, gain_intervals = np.split(intervals, 2)
    for i, (m, outcome) in enumerate(matched):
        rows[m] = {
            "lambda": outcome.lam,
            "cost_ratio": cost_ratio(float(spent[:, i].mean()), float(costs[m])),
            "cost_ratio_interval": _ratios(spent_intervals[i], float(costs[m])),
            "gain": float(gains[:, i].mean()),
            "interval": gain_intervals[i].tolist(),
        }
    return rows


def _ratios(interval: Floats, reference: float) -> list[float] | None:
    """Return the ends of an interval over a cost; None if the cost is 0 or almost 0."""
    ratios = [cost_ratio(float(end), reference) for end in interval]
    return [ratio for ratio in ratios if ratio is not None] if None not in ratios else None


def _in_sample_row(policies: PolicyCurve, cost: float, labels: Floats) -> dict[str, Any]:
    """Return the in-sample statistics of a candidate with this cost and these labels, (n_test,)."""
    position, quality = policies.position_at_cost(cost), float(labels.mean())
    match = policies.position_to_match(quality)
    return {
        "quality_at_cost": quality_at(policies.curve, position),
        "se": standard_error(policies.outcome(position).quality),
        "fixed_quality": quality,
        "fixed_se": standard_error(labels),
        "cost_ratio_to_match": (
            None if match is None else cost_ratio(cost_at(policies.curve, match), cost)
        ),
    }
