"""Facts about the candidates that do not change while the service runs: sizes and costs."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

from catimage.common.files import read_json
from catimage.errors import InputError
from catimage.params.serving import ServingParams
from catimage.pool.spec import Pool
from catimage.router import Router
from catimage.workspace import Workspace

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class PoolFacts:
    """The facts about the candidates of a router that are known before a generator is loaded.

    Attributes:
        sizes: (width, height) of the images of each candidate, in pixels.
        negative_prompts: the candidates that take a negative prompt.
        costs: cost of one image of each candidate, cheapest first.
        cost_unit: unit of the costs.
        reference: candidate with whose cost savings are computed.
        fallback: candidate that answers if no router can be loaded.
    """

    sizes: Mapping[str, tuple[int, int]]
    negative_prompts: frozenset[str]
    costs: Mapping[str, float]
    cost_unit: str
    reference: str
    fallback: str


def pool_facts(
    pool: Pool, costs: Mapping[str, float], cost_unit: str, settings: ServingParams
) -> PoolFacts:
    """Return the facts about the candidates of a pool that have a cost.

    Args:
        pool: the pool.
        costs: cost of one image of each candidate of the router.
        cost_unit: unit of the costs.
        settings: the section ``serving`` of the parameters.

    Raises:
        InputError: the pool lacks a candidate of the router, or a candidate of the settings is
            unknown.
    """
    check_candidates(pool, costs)
    candidates = {c.candidate: c for c in pool.candidates}
    specs = {
        name: pool.generators[candidates[name].generator].with_settings_of(candidates[name])
        for name in costs
    }
    ordered = dict(sorted(costs.items(), key=lambda item: item[1]))
    condition = pool.reference_condition
    reference = settings.reference or (condition if condition in ordered else None)
    return PoolFacts(
        sizes={name: (spec.size, spec.size) for name, spec in specs.items()},
        negative_prompts=frozenset(n for n, spec in specs.items() if getattr(spec, "guided", 0)),
        costs=ordered,
        cost_unit=cost_unit,
        reference=_known(reference or list(ordered)[-1], ordered, "reference"),
        fallback=_known(settings.fallback or next(iter(ordered)), ordered, "fallback"),
    )


def check_candidates(pool: Pool, costs: Mapping[str, float]) -> None:
    """Raise InputError if the pool lacks a candidate of the router."""
    known = {c.candidate for c in pool.candidates}
    if missing := [name for name in costs if name not in known]:
        raise InputError(
            f"models/router: the pool {pool.name!r} lacks {', '.join(missing)}. Run 'catimage"
            " calibrate' again."
        )


def router_costs(router: Router) -> dict[str, float]:
    """Return the cost of one image of each candidate of a router, cheapest first."""
    return dict(zip(router.candidates, router.costs.tolist(), strict=True))


def costs_without_router(workspace: Workspace, pool: Pool) -> tuple[dict[str, float], str]:
    """Return the costs of the candidates, and their unit, if the router cannot be loaded.

    They are those in ``models/router/router.json``, or, if it is damaged, those of the pool file.

    Raises:
        InputError: the pool file has no costs either, and they cannot be counted.
    """
    known = {c.candidate for c in pool.candidates}
    try:
        document = read_json(workspace.router / "router.json", "calibrate")
        rows = zip(document["candidates"], document["costs"], strict=True)
        costs = {name: float(cost) for name, cost in rows if name in known}
        if costs:
            return costs, str(document["cost_unit"])
    except (InputError, KeyError, ValueError, TypeError):
        _LOG.warning("%s: no costs either; those of the pool are used", workspace.router)
    from catimage.pool.costs import candidate_costs

    table = candidate_costs(pool)
    unit = str(table["unit"].mode()[0])
    table = table[table["unit"] == unit]
    return dict(zip(table["candidate"], table["cost"].astype(float), strict=True)), unit


def _known(name: str, costs: Mapping[str, float], key: str) -> str:
    if name not in costs:
        raise InputError(
            f"serving.{key}: no candidate of the router is called {name!r}. Use one of"
            f" {', '.join(costs)}."
        )
    return name
