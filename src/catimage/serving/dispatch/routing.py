"""The router in use: decisions under the present conditions, live budgets, and the pressure."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from starlette.concurrency import run_in_threadpool

from catimage.params.serving import ServingParams
from catimage.serving.budgets import SERVICE, LiveBudgets
from catimage.serving.decisions.conditions import Conditions
from catimage.serving.decisions.decide import Decisions
from catimage.serving.decisions.fixed import Catalogue
from catimage.serving.decisions.pressure import (
    PressureController,
    highest_pressure,
    latency_target,
)
from catimage.serving.dispatch.documents import router_summary
from catimage.serving.dispatch.facts import PoolFacts
from catimage.serving.dispatch.fleet import Fleet
from catimage.serving.dispatch.loading import LoadedRouter
from catimage.serving.messages import JsonObject, Routed, RouteRequest
from catimage.serving.state.store import State
from catimage.serving.tasks import CandidateLoad
from catimage.serving.telemetry.tracing import tracing

_LOG = logging.getLogger(__name__)


class LiveRouter:
    """The router that decides, with what changes while it is served.

    Args:
        loaded: the router and its candidates.
        settings: the section ``serving`` of the parameters.
        state: what the replicas share.
    """

    def __init__(self, loaded: LoadedRouter, settings: ServingParams, state: State) -> None:
        self.loaded, self._settings, self._state = loaded, settings, state
        self.budgets = LiveBudgets(state.budgets, settings)
        self._decisions = Decisions(
            Catalogue(loaded.facts.costs, loaded.facts.fallback),
            self.budgets,
            settings.explore,
            loaded.versions,
        )
        self._loads: dict[str, CandidateLoad] = {}
        self._pressure: PressureController | None = None
        self._users, self._unused = 0, asyncio.Event()

    async def start(self) -> None:
        """Read the budgets from the shared state, and start to share them."""
        for warning in await run_in_threadpool(self.budgets.use, self.loaded.versions):
            _LOG.warning("%s", warning)
        await self.budgets.start()

    @property
    def facts(self) -> PoolFacts:
        """The candidates."""
        return self.loaded.facts

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Keep the router open while a request uses it, so that its cost is counted."""
        self._users += 1
        try:
            yield
        finally:
            self._users -= 1
            if not self._users:
                self._unused.set()

    async def decide(
        self, requests: Sequence[RouteRequest], fleet: Fleet, wait: float
    ) -> list[Routed]:
        """Return one decision per request, under the present conditions of the groups.

        Args:
            requests: the requests.
            fleet: the generator groups.
            wait: estimated wait of a request that arrives now for the busiest device, in seconds.

        Raises:
            ServingError: a request is invalid, or no candidate can answer it.
        """
        with self.in_use():
            conditions = self._conditions(fleet, wait, await self._remaining(requests))
            with tracing().span("route", prompts=len(requests)):
                return await self._decisions.decide(requests, conditions)

    def check(self, request: RouteRequest) -> None:
        """Check a request that is decided later, without regard to the load.

        Raises:
            ServingError: the prompt, the budget or lambda is invalid, or no candidate can make the
                images.
        """
        facts = self.facts
        able = Conditions(sizes=facts.sizes, negative_prompts=facts.negative_prompts)
        self._decisions.begin(request, able, self.loaded.versions)

    def record(self, routed: Routed, cost: float, images: int) -> None:
        """Count a cost against the budget of a request.

        Args:
            routed: the decision.
            cost: cost of the images, or a correction of it.
            images: number of images; of a correction 0, or minus those that were not made.
        """
        self.budgets.record(routed.scope, cost, images, routed.router_version)

    def document(self, fleet: Fleet, wait: float) -> JsonObject:
        """Return the router's part of ``GET /v1/router``.

        ``budget``, ``lambda`` and ``mean_cost`` are those of the service; None without a router.
        ``pressure`` is the present one, and ``latency_target`` is None without a router and before
        a speed is measured.

        Args:
            fleet: the generator groups.
            wait: as for :meth:`decide`.
        """
        pressure = self.present_pressure(fleet, wait)
        budgets = self.budgets.status()
        service = budgets.get(SERVICE, dict.fromkeys(("budget", "lambda", "mean_cost")))
        return (
            router_summary(self.loaded)
            | service
            | {
                "budgets": budgets,
                "pressure": pressure,
                "latency_target": self._pressure.target if self._pressure else None,
            }
        )

    def present_pressure(self, fleet: Fleet, wait: float) -> float:
        """Return the price of one second of device time for a request that arrives now.

        Args:
            fleet: the generator groups.
            wait: as for :meth:`decide`.

        Returns:
            Quality per second.
        """
        return self.pressure(fleet.survey(self.facts.costs).loads, wait)

    async def close(self) -> None:
        """Wait for the requests that use the router, and write the budgets to the shared state."""
        while self._users:
            self._unused.clear()
            await self._unused.wait()
        await self.budgets.close()
        await run_in_threadpool(self._decisions.close)

    def pressure(self, loads: dict[str, CandidateLoad], wait: float) -> float:
        """Return the price of one second of device time, in quality per second.

        Args:
            loads: the measured speed of the candidates.
            wait: estimated wait of a request that arrives now for the busiest device, in seconds.
        """
        champion = self.loaded.champion
        if champion is None or not any(load.seconds for load in loads.values()):
            return 0.0
        if self._pressure is None or loads != self._loads:
            self._loads = loads
            self._pressure = PressureController(
                latency_target(self._settings.latency_target, loads),
                highest_pressure(champion.router, loads),
            )
        return self._pressure.observe(wait)

    def _conditions(self, fleet: Fleet, wait: float, remaining: dict[str, float]) -> Conditions:
        facts = self.facts
        survey = fleet.survey(facts.costs)
        pressure = self.pressure(survey.loads, wait)
        controller = self._pressure if pressure else None
        return Conditions(
            loads=survey.loads,
            queue_seconds=survey.waits,
            unavailable=survey.unavailable,
            sizes=facts.sizes,
            negative_prompts=facts.negative_prompts,
            pressure=pressure,
            pressure_shares=controller.shares(survey.waits, wait) if controller else {},
            remaining=remaining,
        )

    async def _remaining(self, requests: Sequence[RouteRequest]) -> dict[str, float]:
        """Return the cost that the keys of requests may still spend, for keys with a ceiling."""
        keys = {
            r.key.key_id: r.key.ceiling for r in requests if r.key and r.key.ceiling is not None
        }
        return {
            key_id: ceiling - await run_in_threadpool(self._state.spending.spent, key_id)
            for key_id, ceiling in keys.items()
        }
