"""Calibration: the rule that keeps the average cost within a budget (CATImage, equations 1 and 3)."""

from __future__ import annotations

from dataclasses import dataclass

from catimage.common.arrays import Floats
from catimage.routing.curve import Curve, deferral_curve
from catimage.routing.randomized import Rule, rule_within


@dataclass(frozen=True)
class Calibration:
    """A rule, the mean cost that it gave where it was calibrated, and the whole curve for any other
    budget.
    """

    rule: Rule
    mean_cost: float
    curve: Curve

    @property
    def lam(self) -> float:
        """The smallest lambda that keeps the budget by itself: the largest of the rule's."""
        return float(self.rule.lam.max())


def calibrate(
    predicted: Floats, cost: Floats, budget: float, actual: Floats | None = None, mix: bool = True
) -> Calibration:
    """The rule of best predicted quality whose mean cost over these prompts is no more than
    ``budget``.

    Args:
        predicted: (n_prompts, n_candidates), on the validation split; ``cost`` (n_candidates,) and
            ``budget`` in one unit.
        actual: labels (n_prompts, n_candidates) for the curve's quality.
        mix: use the budget up by mixing two neighbouring lambdas; otherwise the smallest lambda
            within it.

    Raises:
        InputError: the budget is below the cheapest candidate.
    """
    curve = deferral_curve(predicted, cost, actual)
    return Calibration(*rule_within(curve, budget, float(cost.min()), mix), curve)
