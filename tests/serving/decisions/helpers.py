"""Requests, conditions and decisions for the tests of this folder."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from catimage.params.serving import ServingParams
from catimage.serving.budgets import LiveBudgets
from catimage.serving.decisions.conditions import Conditions
from catimage.serving.decisions.decide import Decisions
from catimage.serving.decisions.fixed import Catalogue
from catimage.serving.decisions.versions import RouterVersion, Versions
from catimage.serving.messages import Routed, RouteRequest
from catimage.serving.state.store import State
from catimage.serving.tasks import CandidateLoad
from tests.trained_workspace import COSTS

CATALOGUE = Catalogue(COSTS)
IDLE = Conditions(
    loads={name: CandidateLoad(cost / 10, cost / 20, 4) for name, cost in COSTS.items()},
    sizes={"mini-1": (32, 32), "mini-2": (64, 64), "mini-4": (64, 64)},
    negative_prompts=frozenset({"mini-1", "mini-2"}),
)
PLAIN, CROWDED = "plain sage number 7", "crowded sage number 8"


def request(prompt: str = CROWDED, number: int = 0, **fields: Any) -> RouteRequest:
    """Return a request."""
    fields = {"request_id": f"r{number}", "draw": number} | fields
    return RouteRequest(prompt, **fields)


def conditions(**changes: Any) -> Conditions:
    """Return the conditions of an idle service with some fields changed."""
    return replace(IDLE, **changes)


def decisions(
    state: State, *versions: RouterVersion, explore: float = 0.0, **settings: Any
) -> Decisions:
    """Return decisions of a champion, and of a challenger in the shadow if there is a second."""
    champion, challenger = [*versions, None, None][:2]
    used = Versions(champion, challenger, shadow=challenger is not None)
    budgets = LiveBudgets(state.budgets, ServingParams.model_validate(settings))
    budgets.use(used)
    return Decisions(CATALOGUE, budgets, explore, used)


def decide(
    service: Decisions, requests: Sequence[RouteRequest], state: Conditions = IDLE
) -> list[Routed]:
    """Return the decisions of requests of one call."""
    return asyncio.run(service.decide(requests, state))
