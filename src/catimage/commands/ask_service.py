"""Decisions of a running service, for ``catimage route --url``."""

from __future__ import annotations

from dataclasses import dataclass

from catimage.router import Decision
from catimage.serving.client.answers import RoutedPrompt
from catimage.serving.client.client import Client

TOGETHER = 256
"""Number of prompts per request, the largest that the service accepts."""


@dataclass(frozen=True)
class ServiceDecisions:
    """The decisions of a service.

    Attributes:
        decisions: one decision per prompt.
        metric: the metric that the router predicts.
        cost_unit: unit of the costs.
    """

    decisions: list[Decision]
    metric: str
    cost_unit: str


def ask_service(
    url: str, prompts: list[str], lam: float | None, budget: float | None, seed: int | None
) -> ServiceDecisions:
    """Return the decisions of the service at ``url`` for the prompts, of which there is at least 1.

    Raises:
        ServiceError: the service refuses the request, or does not answer.
    """
    routed: list[RoutedPrompt] = []
    with Client(url) as client:
        for start in range(0, len(prompts), TOGETHER):
            first = None if seed is None else seed + start
            part = prompts[start : start + TOGETHER]
            routed += client.route(part, lam=lam, budget=budget, seed=first)
    decisions = [_decision(one) for one in routed]
    return ServiceDecisions(decisions, str(routed[0].document["metric"]), routed[0].cost_unit)


def _decision(routed: RoutedPrompt) -> Decision:
    """Return a decision; the predictions of a service without a router are nan."""
    nan = float("nan")
    qualities = {
        row["candidate"]: nan if row["predicted_quality"] is None else row["predicted_quality"]
        for row in routed.document["candidates"]
    }
    quality, lam = qualities[routed.candidate], nan if routed.lam is None else routed.lam
    return Decision(routed.prompt, routed.candidate, routed.cost, quality, lam, qualities)
