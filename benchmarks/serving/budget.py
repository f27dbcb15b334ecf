"""Running mean cost of 2,000 requests whose prompts turn from simple to crowded halfway, half of
them repeats, with a live budget and with the calibrated rule.
"""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.measure import Row
from benchmarks.serving.options import Options
from catimage.params.serving import ServingParams
from catimage.router import Router
from catimage.scenes.grammar import sample_scene
from catimage.serving.budgets import LiveBudgets
from catimage.serving.decisions.conditions import Conditions
from catimage.serving.decisions.decide import Decisions
from catimage.serving.decisions.fixed import Catalogue
from catimage.serving.decisions.versions import RouterVersion, Versions
from catimage.serving.messages import RouteRequest
from catimage.serving.state.store import State
from catimage.workspace import Workspace

REQUESTS, TOGETHER = 2000, 4
BUDGETS = ("", "30%", "50%")
"""Budgets of the service; the first one is the router's own."""


def prompts(seed: int) -> list[str]:
    """Return the prompts: simple and then crowded scenes; half of each are repeats."""
    rng = np.random.default_rng(seed)
    both: list[str] = []
    for kind in ("simple", "crowded"):
        distinct: dict[str, None] = {}
        while len(distinct) < REQUESTS // 4:
            distinct[sample_scene(rng, kind).caption()] = None
        half = [*distinct, *rng.choice(list(distinct), REQUESTS // 4).tolist()]
        both += [half[i] for i in rng.permutation(len(half))]
    return both


async def mean_cost(
    version: RouterVersion, texts: list[str], replicas: int, **settings: object
) -> float:
    """Return the mean cost of requests that are decided ``TOGETHER`` at a time."""
    params = ServingParams.model_validate(settings)
    costs: list[float] = []
    with tempfile.TemporaryDirectory() as home:
        states = [State.open(f"sqlite:///{Path(home) / 'state.db'}") for _ in range(replicas)]
        services = []
        for state in states:
            budgets = LiveBudgets(state.budgets, params)
            budgets.use(Versions(version))
            catalogue = Catalogue(version.costs)
            services.append((budgets, Decisions(catalogue, budgets, versions=Versions(version))))
        for i in range(0, len(texts), TOGETHER):
            budgets, service = services[i // TOGETHER % replicas]
            group = [RouteRequest(p, f"{i}-{k}", i + k) for k, p in enumerate(texts[i:][:TOGETHER])]
            for routed in await service.decide(group, Conditions()):
                cost = routed.costs[routed.candidate]
                budgets.record(routed.scope, cost, 1, routed.router_version)
                costs.append(cost)
            if i % 80 == 0:
                for shared, _ in services:
                    shared.sync()
        for _, service in services:
            service.close()
        for state in states:
            state.close()
    return float(np.mean(costs))


def rows(options: Options) -> list[Row]:
    """Return one row per budget, and one of two replicas that share the first budget."""
    version = RouterVersion("1", Router.load(Workspace(options.workspace).router))
    table = []
    for budget, replicas in [(b, 1) for b in BUDGETS] + [(BUDGETS[0], 2)]:
        texts = prompts(seed=0)
        live = asyncio.run(mean_cost(version, texts, replicas, budget=budget))
        fixed = asyncio.run(mean_cost(version, texts, 1, budget=budget, pace=False))
        target = _target(version, budget)
        table.append(
            Row(
                f"mean cost of {REQUESTS:,} requests, budget {target:.5g}, {replicas} replica(s)",
                f"{live:.5g}",
                f"{fixed:.5g} (calibrated rule)",
                f"{100 * (live / target - 1):+.2f}% (rule: {100 * (fixed / target - 1):+.1f}%)",
                "within 2%",
            )
        )
    return table


def _target(version: RouterVersion, budget: str) -> float:
    router = version.router
    return float(budget[:-1]) / 100 * float(router.costs.max()) if budget else router.budget
