"""Choice of candidates by score: quality minus the prices of cost and of device time.

The score of candidate m is ``quality[m] - lambda * cost[m] - pressure * seconds[m]``: equation 3 of
the CATImage paper, with a second price, that of one second of device time, while the service is
under load.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from catimage.common.arrays import Floats
from catimage.routing.randomized import RoutingRule


@dataclass(frozen=True)
class CandidatePrices:
    """The prices that apply to one request.

    Attributes:
        cost: cost of one image of each candidate, (n_candidates,), finite.
        seconds: device time of one image of each candidate, (n_candidates,), finite. The time of a
            device with a shorter queue than the busiest one counts less.
        pressure: price of one second of device time, in quality.
    """

    cost: Sequence[float]
    seconds: Sequence[float]
    pressure: float = 0.0


@dataclass(frozen=True)
class Choice:
    """The candidate that was selected for one request.

    Attributes:
        ranked: positions of the allowed candidates, the selected one first, then by score.
        propensities: probability with which each candidate was selected, (n_candidates,).
        lam: lambda of the part of the rule that decided.
    """

    ranked: list[int]
    propensities: list[float]
    lam: float


def ranking(
    quality: Sequence[float], prices: CandidatePrices, lam: float, allowed: Sequence[int]
) -> list[int]:
    """Return the positions of the allowed candidates, the one with the highest score first.

    If candidates are tied, the cheapest one is first; if their costs are equal too, the one with
    the lower position, as in :func:`catimage.routing.policy.choose`.

    Args:
        quality: predicted quality of the candidates for one prompt, (n_candidates,).
        prices: costs, device times and the price of device time.
        lam: lambda, in quality units per cost unit.
        allowed: positions of the candidates to choose from, at least one.
    """
    cost, seconds, pressure = prices.cost, prices.seconds, prices.pressure
    best, lowest = max(quality[m] for m in allowed), min(cost[m] for m in allowed)
    fastest = min(seconds[m] for m in allowed)

    def order(m: int) -> tuple[float, float, int]:
        score = (quality[m] - best) - lam * (cost[m] - lowest) - pressure * (seconds[m] - fastest)
        return -score, cost[m], m

    return sorted(allowed, key=order)


def choose_candidate(
    predicted: Floats,
    rule: RoutingRule,
    prices: CandidatePrices,
    allowed: Sequence[int],
    explore: float,
    draw: float,
) -> Choice:
    """Select a candidate for one request.

    With probability ``explore``, a candidate is drawn uniformly from the allowed ones. Otherwise,
    a part of the rule is drawn, and the allowed candidate with the best score is selected. The
    propensities are exact: they are the probabilities over ``draw``.

    Args:
        predicted: predicted metrics for the prompt, (1 + n_floors, n_candidates), the routed metric
            first.
        rule: the routing rule.
        prices: costs, device times and the price of device time.
        allowed: positions of the candidates to choose from, at least one.
        explore: probability of a uniformly drawn candidate.
        draw: a uniform random number in [0, 1).

    Raises:
        ValueError: a prediction is not finite.
    """
    if not np.isfinite(predicted).all():
        raise ValueError("the predicted quality must be finite")
    rankings = [
        ranking(_combined(predicted, values), prices, lam, allowed)
        for values, lam in zip(rule.multipliers, rule.lam.tolist(), strict=True)
    ]
    propensities = _propensities(predicted.shape[1], rankings, rule, explore)
    if draw < explore:
        drawn = allowed[int(draw / explore * len(allowed))]
        ranked = [drawn, *(m for m in rankings[0] if m != drawn)]
        return Choice(ranked, propensities, float(rule.lam[0]))
    uniform = (draw - explore) / (1 - explore)
    part = int(rule.assign_parts(np.array([uniform]))[0]) if len(rankings) > 1 else 0
    return Choice(rankings[part], propensities, float(rule.lam[part]))


def _propensities(
    n_candidates: int, rankings: Sequence[Sequence[int]], rule: RoutingRule, explore: float
) -> list[float]:
    """Return the probability of each candidate; the first one of each ranking is selected."""
    propensities = [0.0] * n_candidates
    for m in rankings[0]:
        propensities[m] = explore / len(rankings[0])
    for share, order in zip(rule.share.tolist(), rankings, strict=True):
        propensities[order[0]] += (1 - explore) * share
    return propensities


def _combined(predicted: Floats, multipliers: Floats) -> list[float]:
    """Return the routed metric plus the weighted further metrics, (n_candidates,)."""
    quality = predicted[0] + multipliers @ predicted[1:] if len(predicted) > 1 else predicted[0]
    combined: list[float] = quality.tolist()
    return combined
