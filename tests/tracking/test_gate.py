"""The decisions of the promotion gate, compared with statistics in closed form."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.pipeline import Pipeline

from catimage.router import Router
from catimage.routing.curve import DeferralCurve
from catimage.routing.randomized import RoutingRule
from catimage.tracking.gate import compare_routers

PROMPTS = [f"prompt {i}" for i in range(50)]
LABELS = np.stack([np.full(50, 0.4), np.linspace(0.3, 0.7, 50)], axis=1)
GAIN = LABELS[:, 1] - LABELS[:, 0]


class TableEstimator(Pipeline):
    """An estimator that predicts row ``i`` of a table for the prompt ``prompt i``."""

    def __init__(self, table: NDArray[np.float64]) -> None:
        self.table = table

    def predict(self, prompts: NDArray[np.object_]) -> NDArray[np.float64]:
        return self.table[[int(prompt.split()[1]) for prompt in prompts]]


def router(table: NDArray[np.float64], lam: float = 0.1, **changes: object) -> Router:
    """Return a router with the predictions of a table, and with changed attributes."""
    built = Router(
        TableEstimator(table),
        "table",
        "clip_score",
        "tflops",
        "made up",
        ["cheap", "expensive"],
        np.array([1.0, 2.0]),
        1.5,
        RoutingRule.from_parts((1, lam)),
        DeferralCurve(np.zeros(1), np.ones(1), np.ones(1)),
    )
    return replace(built, **changes)


def test_the_same_router_is_not_worse() -> None:
    decision = compare_routers(router(LABELS), router(LABELS), PROMPTS, LABELS)
    assert decision.promoted
    assert decision.reason.startswith("not worse")
    assert "+0 [+0, +0]" in decision.reason


def test_a_better_router_is_promoted_and_a_worse_one_is_not() -> None:
    good, bad = router(LABELS), router(LABELS[:, ::-1])
    assert not compare_routers(good, bad, PROMPTS, LABELS).promoted
    assert compare_routers(bad, good, PROMPTS, LABELS).promoted


def test_costs_are_weighted_with_the_lambda_of_the_challenger() -> None:
    """The challenger serves the expensive candidate, the champion the cheap one, to every prompt.
    The difference is the mean gain minus the challenger's lambda, whatever the champion's lambda.
    """
    expensive = np.tile([0.0, 1.0], (50, 1))
    cheap = expensive[:, ::-1]
    for lam, promoted in [(GAIN.mean() - 0.01, True), (GAIN.mean() + 0.01, False)]:
        champion, challenger = router(cheap, lam=5.0), router(expensive, lam=lam)
        decision = compare_routers(champion, challenger, PROMPTS, LABELS)
        assert decision.promoted == promoted
        assert f"with lambda {lam:.4g} is {GAIN.mean() - lam:+.3g}" in decision.reason


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"metric": "sharpness"}, "it routes on sharpness, not clip_score"),
        ({"cost_unit": "usd"}, "its costs are in usd, not tflops"),
        ({"candidates": ["cheap", "removed"]}, "its candidates removed are no longer in the pool"),
    ],
)
def test_a_champion_that_cannot_be_compared_is_replaced_and_the_reason_is_given(
    changes: dict[str, object], reason: str
) -> None:
    champion = router(LABELS[:, ::-1], **changes)
    decision = compare_routers(champion, router(LABELS[:, ::-1]), PROMPTS, LABELS)
    assert decision.promoted
    assert reason in decision.reason


def test_a_champion_of_a_smaller_pool_is_compared_at_the_costs_of_the_challenger() -> None:
    champion = router(LABELS[:, :1], candidates=["cheap"], costs=np.array([9.0]))
    decision = compare_routers(champion, router(LABELS), PROMPTS, LABELS)
    assert "compared with 0.4 at 1;" in decision.reason
