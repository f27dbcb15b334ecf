"""The price of device time under load, so that the service gets cheaper before it gets slow.

The score of a candidate falls by ``pressure`` times its device seconds. The capacity of the devices
is a second constraint beside the budget, and the pressure is its multiplier in the Lagrangian. The
waiting time is the integral of the load above the capacity, which is what dual ascent on this
constraint adds up; the pressure is therefore a function of the waiting time, without a further
integral that could overshoot (the drift-plus-penalty method of Neely, "Stochastic Network
Optimization", 2010). It rises with the cube of the waiting time, so that short queues, which
batches need, change few decisions. It falls with the queue, and has no state to recover from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from catimage.routing.curve import DeferralCurve, lambda_of_point
from catimage.serving.tasks import CandidateLoad

if TYPE_CHECKING:
    from catimage.router import Router

FREE_SHARE, FULL_SHARE = 0.1, 0.8
"""Shares of the latency target: the pressure is 0 while the wait is shorter than the first one, and
has its largest value when the wait is longer than the second one.
"""
DEFAULT_TARGET_FACTOR = 3.0
"""Default latency target, in times of the slowest candidate."""
_FEW = 0.02
"""Share of the range of the mean cost that prompts with unusually large differences may cause."""
_SIMILAR = 1.05
"""Candidates whose device time differs by less than this factor are not distinguished."""


@dataclass
class PressureController:
    """The current price of one second of device time.

    Attributes:
        target: seconds within which most requests should be answered.
        highest: the largest price, in quality per second: :func:`highest_pressure`.
        value: the current price, in quality per second.
    """

    target: float
    highest: float
    value: float = 0.0

    def observe(self, queue_seconds: float) -> float:
        """Set the price from the estimated wait of a request that arrives now; return it."""
        self.value = self.price(queue_seconds)
        return self.value

    def price(self, queue_seconds: float) -> float:
        """Return the price at a wait, in quality per second."""
        excess = (queue_seconds / self.target - FREE_SHARE) / (FULL_SHARE - FREE_SHARE)
        return self.highest * min(max(excess, 0.0), 1.0) ** 3

    def shares(self, waits: Mapping[str, float], busiest: float) -> dict[str, float]:
        """Return the price of each candidate's device, as a share of the current price.

        The current price is that of the busiest device. The price of a device with a shorter queue
        is lower, so that its candidates are preferred.

        Args:
            waits: estimated wait for the device of each candidate, in seconds.
            busiest: the wait from which the current price was set: that for the busiest device,
                with the requests that were not sent to a device yet.
        """
        if self.value == 0:
            return {}
        longest = max(waits.values(), default=0.0)
        return {
            name: self.price(busiest - (longest - wait)) / self.value
            for name, wait in waits.items()
        }


def latency_target(target: float | None, loads: Mapping[str, CandidateLoad]) -> float:
    """Return the latency target: ``serving.latency_target``, or its default.

    Args:
        target: the setting, or None.
        loads: the measured speed of the candidates, at least one without a setting.
    """
    if target is not None:
        return target
    return DEFAULT_TARGET_FACTOR * max(load.seconds for load in loads.values())


def highest_pressure(router: Router, loads: Mapping[str, CandidateLoad]) -> float:
    """Return a price of device time at which the fastest candidate wins for nearly every prompt.

    At a large lambda of the calibrated curve, the cheapest candidate wins for nearly all
    calibration prompts. For these, the difference in quality between two candidates is at most
    lambda times the cost of both above the cheapest one. The few prompts with larger differences,
    for which lambda may be many times larger, would make the price too steep.

    Args:
        router: the router.
        loads: the measured speed of the candidates.

    Returns:
        Quality per second; 0 if all candidates are equally fast, or no speed is known.
    """
    rows = [i for i, name in enumerate(router.candidates) if name in loads]
    if len(rows) < 2:
        return 0.0
    seconds = np.array([loads[router.candidates[i]].batch_seconds for i in rows])
    above = router.costs[rows] - router.costs.min()
    fastest = int(np.argmin(seconds))
    slower = seconds > _SIMILAR * seconds[fastest]
    if not slower.any():
        return 0.0
    gains = _large_lambda(router.curve) * (above[slower] + above[fastest])
    return float(np.max(gains / (seconds[slower] - seconds[fastest])))


def _large_lambda(curve: DeferralCurve) -> float:
    """Return the lambda above which the mean cost is nearly that of the cheapest candidate."""
    nearly = curve.cost[-1] + _FEW * (curve.cost[0] - curve.cost[-1])
    return lambda_of_point(curve, int(np.flatnonzero(curve.cost <= nearly)[0]))
