"""Pacing: keep the running mean cost at the budget while the traffic changes.

A calibrated lambda spends the budget on prompts like those of the calibration. In a service, the
mix of prompts changes and prompts repeat, and the mean cost per image with it. Lambda is the
multiplier of the budget in the Lagrangian of equation 1 of the CATImage paper,
``quality - lambda * (cost - budget)``. Dual ascent raises lambda after each image by ``step`` times
its cost above the budget, and lowers it after a cheaper one: an online subgradient step on the dual
problem, as in adaptive pacing (Balseiro and Gur, "Learning in repeated auctions with budgets:
regret minimization and equilibrium", Management Science 65(9), 2019) and in online allocation by
mirror descent (Balseiro, Lu and Mirrokni, "The best of many worlds: dual mirror descent for online
allocation problems", Operations Research 71(1), 2023).

As in adaptive pacing, the target of the next images is not the budget itself but what the images so
far have left of it: money that simple prompts did not need is spent on later ones. A service has no
last request, so the account (the cost so far, minus its budget) is forgotten exponentially over
``HORIZON`` images: the mean is kept over a window of that length, and a service that ran for a
month reacts as fast as a new one. Lambda and the target are bounded, so that neither grows while
the traffic cannot spend the budget, or cannot keep it (anti-windup).

The steps are taken on the scale of the calibrated curve (a mirror map): lambda moves to where the
curve's mean cost is lower by ``1 / REACTION`` of the cost above the target. A step therefore fits
the slope of the curve at every lambda, and no step size has to be set. The account is settled over
``4 * REACTION`` images, for which the two feedbacks are critically damped together if the traffic
has the calibrated curve.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from catimage.common.arrays import Floats
from catimage.routing.curve import DeferralCurve, lambda_of_point

REACTION = 50.0
"""Number of images after which most of a change of the traffic is compensated."""
HORIZON = 2000.0
"""Number of images over which the mean cost is kept: older ones are forgotten exponentially."""
_LINEAR = 0.1
"""Weight of a straight line that is added to the curve: it bounds the step where the calibrated
curve is flat, as other prompts may change their candidates there.
"""
_POINTS = 256
"""Number of points of the curve that a controller uses."""


@dataclass(frozen=True)
class PaceState:
    """The state of a controller. Each image forgets a share of ``1 / HORIZON`` of the sums.

    Attributes:
        lam: lambda of equation 3 for the next image, in quality units per cost unit.
        images: number of the images so far, less what was forgotten.
        cost: cost of these images.
    """

    lam: float
    images: float = 0.0
    cost: float = 0.0

    def added(self, lam: float, images: float, cost: float) -> PaceState:
        """Return the state after further images, with a new lambda."""
        kept = math.exp(-max(images, 0.0) / HORIZON)
        return PaceState(lam, kept * self.images + images, kept * self.cost + cost)


@dataclass(frozen=True)
class Pacing:
    """A controller of the mean cost per image. It has no state, see :class:`PaceState`.

    Attributes:
        budget: mean cost per image to keep.
        cheapest: cost of one image of the cheapest candidate.
        most_expensive: cost of one image of the most expensive candidate.
        start: lambda at the start, that of the calibration.
        lambdas: lambdas of the scale, (n_points,), ascending from 0. The last one is the largest
            lambda of the controller: it selects the cheapest candidate for all calibration prompts.
        scale: the scale at these lambdas, (n_points,), descending, in the unit of the cost.
    """

    budget: float
    cheapest: float
    most_expensive: float
    start: float
    lambdas: Floats
    scale: Floats

    @classmethod
    def calibrated(
        cls, curve: DeferralCurve, budget: float, start: float, costs: tuple[float, float]
    ) -> Pacing:
        """Return the controller for a budget.

        Args:
            curve: deferral curve of the calibration prompts.
            budget: mean cost per image.
            start: lambda of the rule that was calibrated for this budget. If it is above all
                lambdas of the curve, it is the upper bound.
            costs: lowest and highest cost of one image of a candidate.
        """
        lambdas, scale = _scale(curve, start)
        return cls(budget, *costs, start, lambdas, scale)

    @property
    def highest(self) -> float:
        """The largest lambda."""
        return float(self.lambdas[-1])

    def initial(self) -> PaceState:
        """Return the state of a service that has not made an image yet."""
        return PaceState(self.start)

    def target(self, state: PaceState, reaction: float = REACTION) -> float:
        """Return the mean cost of the next images that settles the account.

        Args:
            state: the state.
            reaction: the number of images that compensate a change.
        """
        debt = state.cost - self.budget * state.images
        wanted = self.budget - debt / (4 * reaction)
        return min(max(wanted, self.cheapest), self.most_expensive)

    def update(
        self, state: PaceState, cost: float, images: float = 1.0, reaction: float = REACTION
    ) -> PaceState:
        """Return the state after some images.

        Args:
            state: the state before.
            cost: total cost of the images.
            images: their number. A correction of an earlier cost has no images.
            reaction: the number of images that compensate a change; larger numbers than
                ``REACTION`` make smaller steps, which delayed costs need.
        """
        excess = cost - images * self.target(state, reaction)
        return state.added(self.moved(state.lam, -excess / reaction), images, cost)

    def moved(self, lam: float, change: float) -> float:
        """Return the lambda at ``change`` further on the scale, within the bounds."""
        position = self.position(lam) + change
        return float(np.interp(-position, -self.scale, self.lambdas))

    def position(self, lam: float) -> float:
        """Return the position of a lambda on the scale, in the unit of the cost."""
        return float(np.interp(lam, self.lambdas, self.scale))


def _scale(curve: DeferralCurve, start: float) -> tuple[Floats, Floats]:
    """Return lambdas and the scale at them: the mean cost of the curve, made strictly monotone.

    The curve is interpolated between its points: at the lambda of a jump, the traffic gets mean
    costs between the two points, because lambda moves around it.
    """
    curve = curve.thinned(_POINTS)
    highest = max(lambda_of_point(curve, len(curve) - 1), start)
    lambdas = np.append(curve.lam, highest)
    cost = np.append(curve.cost, curve.cost[-1])
    line = lambdas / highest if highest > 0 else lambdas
    scale = cost - _LINEAR * float(cost[0] - cost[-1]) * line
    kept = np.append(True, lambdas[1:] > lambdas[:-1])
    return lambdas[kept], scale[kept]
