"""The router in use: decisions under the present conditions, live budgets, and the pressure."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.concurrency import run_in_threadpool

from catimage.params.serving import ServingParams
from catimage.routing.randomized import RoutingRule
from catimage.serving.decisions.conditions import Conditions
from catimage.serving.decisions.decide import Decisions
from catimage.serving.decisions.fixed import Catalogue
from catimage.serving.decisions.versions import RouterVersion, Versions
from catimage.serving.dispatch.documents import router_summary
from catimage.serving.dispatch.facts import PoolFacts
from catimage.serving.dispatch.fleet import Fleet
from catimage.serving.dispatch.loading import LoadedRouter
from catimage.serving.messages import JsonObject, Routed, RouteRequest
from catimage.serving.state.store import State


class _NoBudgets:
    """Stub until LiveBudgets exists."""

    def scope_of(self, request: RouteRequest) -> str | None:
        return None

    def rule(self, scope: str, version: RouterVersion) -> RoutingRule:
        return version.router.rule


class LiveRouter:
    """The router that decides, with what changes while it is served.

    Args:
        loaded: the router and its candidates.
        settings: the section ``serving`` of the parameters.
        state: what the replicas share.
    """

    def __init__(self, loaded: LoadedRouter, settings: ServingParams, state: State) -> None:
        self.loaded, self._state = loaded, state
        self._decisions = Decisions(
            Catalogue(loaded.facts.costs, loaded.facts.fallback),
            _NoBudgets(),
            settings.explore,
            Versions(loaded.champion),
        )

    @property
    def facts(self) -> PoolFacts:
        """The candidates."""
        return self.loaded.facts

    async def decide(self, requests: Sequence[RouteRequest], fleet: Fleet) -> list[Routed]:
        """Return one decision per request, under the present conditions of the groups.

        Raises:
            ServingError: a request is invalid, or no candidate can answer it.
        """
        conditions = self._conditions(fleet, await self._remaining(requests))
        return await self._decisions.decide(requests, conditions)

    def record(self, scope: str, cost: float, images: int) -> None:
        """Count the cost of a request against a budget."""

    def document(self) -> JsonObject:
        """Return the router's part of ``GET /v1/router``."""
        return router_summary(self.loaded)

    def close(self) -> None:
        """Stop the thread of the decisions."""
        self._decisions.close()

    def _conditions(self, fleet: Fleet, remaining: dict[str, float]) -> Conditions:
        facts = self.facts
        return Conditions(
            loads=fleet.loads(),
            queue_seconds={name: fleet.wait(name) or 0.0 for name in facts.costs},
            unavailable=fleet.unavailable(facts.costs),
            sizes=facts.sizes,
            negative_prompts=facts.negative_prompts,
            pressure=0.0,
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
