"""The documents that describe the service: its models, its router and its state."""

from __future__ import annotations

from typing import Any

from catimage.routing.curve import DeferralCurve
from catimage.serving.dispatch.fleet import Fleet
from catimage.serving.dispatch.loading import LoadedRouter
from catimage.serving.messages import JsonObject
from catimage.serving.tasks import GroupStatus

CURVE_ROWS = 100
"""Maximum number of rows of the curve in :func:`router_document`."""


def model_documents(loaded: LoadedRouter, fleet: Fleet) -> list[JsonObject]:
    """Return one object per candidate, cheapest first, for ``GET /v1/models``."""
    facts = loaded.facts
    survey = fleet.survey(facts.costs)
    documents = []
    for name, cost in facts.costs.items():
        load, (width, height) = survey.loads.get(name), facts.sizes[name]
        documents.append(
            {
                "id": name,
                "created": loaded.created,
                "cost": cost,
                "cost_unit": facts.cost_unit,
                "size": f"{width}x{height}",
                "negative_prompt": name in facts.negative_prompts,
                "available": name not in survey.unavailable,
                "unavailable": survey.unavailable.get(name),
                "seconds": load.seconds if load and load.seconds else None,
                "batch_seconds": load.batch_seconds if load and load.batch_seconds else None,
                "batch_size": load.batch_size if load else None,
            }
        )
    return documents


def curve_rows(curve: DeferralCurve) -> list[list[float]]:
    """Return at most 100 evenly spaced rows ``[cost, quality, lambda]`` of a deferral curve."""
    rows = list(zip(curve.cost, curve.quality, curve.lam, strict=True))
    step = -(-len(rows) // CURVE_ROWS)
    kept = rows[:: max(step, 1)]
    if rows and kept[-1] is not rows[-1]:
        kept.append(rows[-1])
    return [[float(value) for value in row] for row in kept]


def router_summary(loaded: LoadedRouter) -> dict[str, Any]:
    """Return the facts about the router that do not change while it is served."""
    summary: dict[str, Any] = {
        "version": loaded.version,
        "digest": loaded.digest,
        "problem": loaded.problem or None,
        "pool": loaded.pool.name,
        "cost_unit": loaded.facts.cost_unit,
        "reference": loaded.facts.reference,
        "fallback": loaded.facts.fallback,
        "lineage": dict(loaded.lineage),
    }
    if loaded.champion is None:
        return summary | {"metric": None, "estimator": None, "curve": []}
    router = loaded.champion.router
    return summary | {
        "metric": router.metric,
        "estimator": router.estimator_name,
        "calibrated_budget": router.budget,
        "calibrated_lambda": router.lam,
        "curve": curve_rows(router.curve),
    }


def group_document(status: GroupStatus | None, problem: str) -> JsonObject:
    """Return the state of a generator group for the readiness check.

    Args:
        status: the last status; None before the first one.
        problem: why the group takes no tasks; empty if it does.
    """
    draining = status is not None and status.draining
    document: JsonObject = {"ready": not problem and not draining, "problem": problem or None}
    if status is not None:
        document |= {
            "draining": draining,
            "candidates": sorted(status.candidates),
            "queued_images": status.queued_images,
            "running_images": status.running_images,
            "queue_seconds": round(status.queue_seconds, 3),
            "measured": status.measured,
        }
    return document


def fleet_document(fleet: Fleet) -> JsonObject:
    """Return the state of every generator group, by name."""
    return {
        name: group_document(member.status, member.problem)
        for name, member in fleet.members.items()
    }
