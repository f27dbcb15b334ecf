"""Floors under the mean quality: the cheapest routing that is good enough, and one metric maximised
while others keep theirs.

What counts are the means of the labels of the prompts where the rule is calibrated, an expectation
over the draws where rules are mixed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from catimage.common.arrays import Floats, Ints
from catimage.errors import InputError
from catimage.routing.curve import Curve
from catimage.routing.linear_program import optimum
from catimage.routing.randomized import Rule, check_budget, mixed

_ROUNDS = 12
_ROUNDING = 1e-9


def cheapest_reaching(curve: Curve, floor: float, mix: bool = True) -> tuple[Rule, float]:
    """The cheapest rule of a curve whose mean quality is at least ``floor``, and its mean cost.

    Args:
        curve: its quality is read from labels.
        mix: whether the two neighbours are mixed between which the floor lies.

    Raises:
        InputError: no point of the curve is that good; it says how good they are.
    """
    slack = _ROUNDING * max(float(np.abs(curve.quality).max()), abs(floor))
    reached = np.flatnonzero(curve.quality >= floor - slack)
    if not len(reached):
        best = int(np.argmax(curve.quality))
        at = f"{curve.quality[best]:.6g}, at a mean cost of {curve.cost[best]:.4g}"
        raise InputError(
            f"calibrate.quality_floor: {floor:g} is above all that routing reaches on the"
            f" validation split: {at}; lower it."
        )
    i = int(reached[-1])
    if not mix or i + 1 == len(curve):
        return mixed(curve, i, 0.0, curve.quality)
    return mixed(curve, i + 1, floor - float(curve.quality[i + 1]), curve.quality)


@dataclass(frozen=True)
class Floored:
    """A rule, its mean cost, and the means of the labels of the floors' metrics (K,)."""

    rule: Rule
    mean_cost: float
    kept: Floats


def best_with_floors(
    scores: Floats,
    labels: Floats,
    cost: Floats,
    budget: float,
    floors: Floats,
    names: Sequence[str],
) -> Floored:
    """The rule of most predicted quality within the budget that keeps the other metrics' floors.

    Predictions decide, labels count: as long as a floor is missed by the labels (or kept with room
    to spare, at a price), the programme is solved again with that floor moved by the difference.

    Args:
        scores: (1 + K, n, m) predicted, of the routed metric first; ``labels`` (K, n, m) of the
            others, NaN where one is missing.
        cost: (m,); ``floors`` (K,); ``names`` of the K metrics.

    Raises:
        InputError: the floors cannot be kept within the budget; it says what can.
    """
    check_budget(budget, float(cost.min()))
    aimed, best, value = floors.copy(), None, -np.inf
    last: Floored | None = None
    for _ in range(_ROUNDS):
        found = optimum(scores, cost, budget, aimed)
        if not found.met:
            break
        last, quality = _floored(found.rule, scores, labels, cost)
        short = floors - last.kept
        short[np.abs(short) <= _ROUNDING * np.maximum(np.abs(floors), 1e-300)] = 0.0
        if (short <= 0).all() and quality > value:
            best, value = last, quality
        move = np.where((short > 0) | (found.rule.multipliers > 0).any(axis=0), short, 0.0)
        if not move.any():
            break
        aimed = aimed + move
    if best is None:
        raise InputError(_refusal(scores, cost, budget, floors, names, last))
    return best


def _floored(rule: Rule, scores: Floats, labels: Floats, cost: Floats) -> tuple[Floored, float]:
    """What a rule gives by the labels, and its predicted quality."""
    choices = rule.choices(scores, cost)
    kept = np.array([_label_mean(rule, choices, y) for y in labels])
    return Floored(rule, float(rule.expected(choices, cost).mean()), kept), float(
        rule.expected(choices, scores[0]).mean()
    )


def _label_mean(rule: Rule, choices: Ints, labels: Floats) -> float:
    """The expected mean label, over the prompts that have all labels."""
    whole = np.flatnonzero(~np.isnan(labels).any(axis=1))
    return float(rule.expected(choices[:, whole], labels[whole]).mean())


def _refusal(
    scores: Floats,
    cost: Floats,
    budget: float,
    floors: Floats,
    names: Sequence[str],
    last: Floored | None,
) -> str:
    """One sentence: which floors cannot be kept, and what can be."""
    wanted = " and ".join(f"{name} {floor:g}" for name, floor in zip(names, floors, strict=True))
    said = (
        f"calibrate.floors: nothing within a budget of {budget:.4g} keeps {wanted} on the"
        " validation split"
    )
    if last is not None:
        reached = " and ".join(
            f"{name} {value:.6g}" for name, value in zip(names, last.kept, strict=True)
        )
        return (
            f"{said}; the routing that should, by what is predicted, has {reached}: lower the"
            " floors to that, or raise the budget."
        )
    most = " and ".join(
        f"{name} {largest(scores, cost, budget, k):.6g}" for k, name in enumerate(names)
    )
    least = smallest_budget(scores, cost, floors)
    mend = (
        "no budget does: lower the floors"
        if least is None
        else f"a budget of {least:.4g} does: raise it, or lower the floors"
    )
    return f"{said}, where each by itself reaches {most} at most by what is predicted; {mend}."


def largest(scores: Floats, cost: Floats, budget: float, k: int) -> float:
    """The largest mean of the predictions of metric ``k`` (of those after the first) within a
    budget.
    """
    alone = scores[[1 + k]]
    rule = optimum(alone, cost, budget, np.zeros(0)).rule
    return float(rule.expected(rule.choices(alone, cost), alone[0]).mean())


def smallest_budget(scores: Floats, cost: Floats, floors: Floats) -> float | None:
    """The least mean cost at which the predictions keep all floors; None where no cost is enough."""
    cheap = np.concatenate([np.broadcast_to(-cost, scores.shape[1:])[None], scores[1:]])
    found = optimum(cheap, cost, float(cost.max()), floors)
    return (
        float(found.rule.expected(found.rule.choices(cheap, cost), cost).mean())
        if found.met
        else None
    )
