"""The gauges of the router process: queues, circuit breakers, budgets and the pressure."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from catimage.serving.dispatch.fleet import Fleet
from catimage.serving.dispatch.routing import LiveRouter
from catimage.serving.telemetry.facade import Telemetry

INTERVAL = 1.0
"""Seconds between two updates."""
_LOG = logging.getLogger(__name__)
_STATES = ("closed", "half_open", "open")


async def update_gauges(
    telemetry: Telemetry,
    fleet: Fleet,
    live: Callable[[], LiveRouter | None],
    wait: Callable[[], float],
) -> None:
    """Update the gauges until the task is cancelled.

    Args:
        telemetry: the metrics.
        fleet: the generator groups.
        live: returns the router in use.
        wait: returns the wait of a request that arrives now for the busiest device, in seconds.
    """
    while True:
        try:
            set_gauges(telemetry, fleet, live(), wait())
        except Exception:  # never end: the next update may succeed
            _LOG.exception("the gauges cannot be updated")
        await asyncio.sleep(INTERVAL)


def set_gauges(telemetry: Telemetry, fleet: Fleet, live: LiveRouter | None, wait: float) -> None:
    """Set the gauges to the present values. The arguments are those of :func:`update_gauges`."""
    states: dict[str, list[str]] = {}
    for name, member in fleet.members.items():
        if member.status is None:
            continue
        telemetry.queue(name, member.status.queued_images, member.wait)
        for candidate in member.status.candidates:
            states.setdefault(candidate, []).append(fleet.breakers.state((name, candidate)))
    for candidate, found in states.items():
        telemetry.breaker(candidate, min(found, key=_STATES.index))
    if live is None:
        return
    telemetry.pressure(live.present_pressure(fleet, wait))
    for scope, status in live.budgets.status().items():
        mean, budget = status["mean_cost"], status["budget"]
        error = mean / budget - 1 if mean is not None and budget else 0.0
        telemetry.budget(scope, status["lambda"], budget, error)
