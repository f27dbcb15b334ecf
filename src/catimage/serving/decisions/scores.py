"""Choice of candidates by score: quality minus the prices of cost and of device time.

The score of candidate m is ``quality[m] - lambda * cost[m] - pressure * seconds[m]``: equation 3 of
the CATImage paper, with a second price, that of one second of device time, while the service is
under load.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from catimage.common.arrays import Floats
from catimage.routing.policy import check_shapes
from catimage.routing.randomized import RoutingRule


@dataclass(frozen=True)
class CandidatePrices:
    """The prices that apply to one request.

    Attributes:
        cost: cost of one image of each candidate, (n_candidates,).
        seconds: device time of one image of each candidate, (n_candidates,).
        pressure: price of one second of device time, in quality.
    """

    cost: Floats
    seconds: Floats
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
    propensities: Floats
    lam: float


def ranking(
    quality: Floats, prices: CandidatePrices, lam: float, allowed: NDArray[np.bool_]
) -> NDArray[np.int64]:
    """Return the positions of the allowed candidates, the one with the highest score first.

    If candidates are tied, the cheapest one is first; if their costs are equal too, the one with
    the lower position, as in :func:`catimage.routing.policy.choose`.

    Args:
        quality: predicted quality of the candidates for one prompt, (n_candidates,).
        prices: costs, device times and the price of device time.
        lam: lambda, in quality units per cost unit.
        allowed: mask of the candidates to choose from, (n_candidates,), not all False.
    """
    kept = np.flatnonzero(allowed)
    q, cost, seconds = quality[kept], prices.cost[kept], prices.seconds[kept]
    with np.errstate(over="ignore"):  # an infinite price of a huge cost is correct
        score = (q - q.max()) - lam * (cost - cost.min())
        if prices.pressure:
            score = score - prices.pressure * (seconds - seconds.min())
    return kept[np.lexsort((cost, -score))]


def choose_candidate(
    predicted: Floats,
    rule: RoutingRule,
    prices: CandidatePrices,
    allowed: NDArray[np.bool_],
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
        allowed: mask of the candidates to choose from, (n_candidates,), not all False.
        explore: probability of a uniformly drawn candidate.
        draw: a uniform random number in [0, 1).

    Raises:
        ValueError: a prediction is not finite.
    """
    check_shapes(predicted, prices.cost)
    rankings = [
        ranking(predicted[0] + values @ predicted[1:], prices, lam, allowed)
        for values, lam in zip(rule.multipliers, rule.lam.tolist(), strict=True)
    ]
    propensities = np.where(allowed, explore / np.count_nonzero(allowed), 0.0)
    for share, order in zip(rule.share.tolist(), rankings, strict=True):
        propensities[order[0]] += (1 - explore) * share
    exploit = (draw - explore) / (1 - explore) if draw >= explore else draw / explore
    part = int(rule.assign_parts(np.array([exploit]))[0]) if draw >= explore else 0
    ranked = rankings[part].tolist()
    if draw < explore:
        drawn = int(np.flatnonzero(allowed)[int(exploit * np.count_nonzero(allowed))])
        ranked = [drawn, *(m for m in ranked if m != drawn)]
    return Choice(ranked, propensities, float(rule.lam[part]))


def mean_multipliers(rule: RoutingRule, lam: float) -> RoutingRule:
    """Return a rule with one lambda and the mean multipliers of ``rule``, as
    :meth:`catimage.router.Router.rule_for` does for a lambda.
    """
    return RoutingRule(np.ones(1), np.array([lam]), (rule.share @ rule.multipliers)[None])


def mask_of(names: Sequence[str], allowed: Sequence[str]) -> NDArray[np.bool_]:
    """Return the mask of the names that are in ``allowed``, (n_names,)."""
    kept = set(allowed)
    return np.array([name in kept for name in names])
