"""The gate, against what it should say by arithmetic."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.pipeline import Pipeline

from catimage.router import Router
from catimage.routing.curve import DeferralCurve
from catimage.routing.randomized import RoutingRule
from catimage.tracking.gate import judge

PROMPTS = [f"prompt {i}" for i in range(50)]
LABELS = np.stack([np.full(50, 0.4), np.linspace(0.3, 0.7, 50)], axis=1)
GAIN = LABELS[:, 1] - LABELS[:, 0]


class Told(Pipeline):
    """An estimator that predicts what it was told."""

    def __init__(self, table: NDArray[np.float64]) -> None:
        self.table = table

    def predict(self, prompts: NDArray[np.object_]) -> NDArray[np.float64]:
        return self.table[[int(p.split()[1]) for p in prompts]]


def router(table: NDArray[np.float64], lam: float = 0.1, **other: object) -> Router:
    curve = DeferralCurve(np.zeros(1), np.ones(1), np.ones(1))
    made = Router(
        Told(table),
        "told",
        "clip_score",
        "tflops",
        "made up",
        ["cheap", "dear"],
        np.array([1.0, 2.0]),
        1.5,
        RoutingRule.from_parts((1, lam)),
        curve,
    )
    return replace(made, **other)


def test_the_same_router_is_not_worse() -> None:
    verdict = judge(router(LABELS), router(LABELS), PROMPTS, LABELS)
    assert verdict.moves and verdict.reason.startswith("not worse")
    assert "+0 [+0, +0]" in verdict.reason


def test_a_worse_router_does_not_move_and_a_better_one_does() -> None:
    knows, wrong = router(LABELS), router(LABELS[:, ::-1])
    assert not judge(knows, wrong, PROMPTS, LABELS).moves
    assert judge(wrong, knows, PROMPTS, LABELS).moves


def test_quality_is_priced_with_the_challengers_lambda() -> None:
    """Sending everything to the dear candidate is worth the mean gain minus the challenger's
    lambda, whatever the champion's.
    """
    spends = np.tile([0.0, 1.0], (50, 1))
    saves = spends[:, ::-1]
    for lam, moves in [(GAIN.mean() - 0.01, True), (GAIN.mean() + 0.01, False)]:
        verdict = judge(router(saves, lam=5.0), router(spends, lam=lam), PROMPTS, LABELS)
        assert verdict.moves == moves
        assert f"that is {GAIN.mean() - lam:+.3g}" in verdict.reason


@pytest.mark.parametrize(
    ("champion", "said"),
    [
        ({"metric": "sharpness"}, "it routes on sharpness, not clip_score"),
        ({"cost_unit": "usd"}, "its costs are in usd, not tflops"),
        ({"candidates": ["cheap", "gone"]}, "its candidates gone are not in the pool any more"),
    ],
)
def test_what_cannot_be_compared_is_replaced_in_words(
    champion: dict[str, object], said: str
) -> None:
    verdict = judge(router(LABELS[:, ::-1], **champion), router(LABELS[:, ::-1]), PROMPTS, LABELS)
    assert verdict.moves and said in verdict.reason


def test_a_champion_of_a_smaller_pool_is_compared_at_todays_costs() -> None:
    alone = router(LABELS[:, :1], candidates=["cheap"], costs=np.array([9.0]))
    assert "0.4 at 1;" in judge(alone, router(LABELS), PROMPTS, LABELS).reason
