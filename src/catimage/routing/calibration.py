"""Calibration: the lambda that keeps the average cost within a budget (CATImage, equations 1 and 3)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from catimage.errors import InputError
from catimage.routing.curve import Curve, deferral_curve, safe_lambda
from catimage.routing.rule import Floats


@dataclass(frozen=True)
class Calibration:
    """A lambda, the mean cost that it gave where it was calibrated, and the whole curve for any other budget."""

    lam: float
    mean_cost: float
    curve: Curve


def calibrate(predicted: Floats, cost: Floats, budget: float, actual: Floats | None = None) -> Calibration:
    """The smallest lambda whose mean cost over these prompts is no more than ``budget``.

    Args:
        predicted: (n_prompts, n_candidates), on the validation split; ``cost`` (n_candidates,) and ``budget`` in one unit.
        actual: labels (n_prompts, n_candidates) for the curve's quality.

    Raises:
        InputError: the budget is below the cheapest candidate.
    """
    curve = deferral_curve(predicted, cost, actual)
    lam, mean_cost = lambda_for(curve, budget, float(cost.min()))
    return Calibration(lam, mean_cost, curve)


def lambda_for(curve: Curve, budget: float, cheapest: float) -> tuple[float, float]:
    """The smallest lambda of a curve within ``budget``, and its mean cost there.

    Raises:
        InputError: the budget is below the cheapest candidate.
    """
    slack = 1e-9 * max(abs(cheapest), 1e-300)
    if not budget >= cheapest - slack:
        raise InputError(f"budget {budget:g} is below the cheapest candidate, which costs {cheapest:g}: raise it to that at least.")
    i = int(np.argmax(curve.cost <= max(budget, cheapest) * (1 + 1e-12) + slack))
    return safe_lambda(curve, i), float(curve.cost[i])
