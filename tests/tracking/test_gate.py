"""The decisions of the promotion gate, compared with closed forms, and over many weeks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from pydantic import ValidationError
from scipy import stats

from catimage.params import PromoteParams
from catimage.router import Router
from catimage.routing.calibration import RuleRequirements, calibrate
from catimage.routing.randomized import RoutingRule
from catimage.tracking.gate import compare_routers, judge
from catimage.tracking.objective import GateSample, Prices, objective, selection
from tests.tracking.table_routers import (
    Table,
    TableEstimator,
    calibrated_router,
    gate_sample,
    router,
)

BETTER = PromoteParams()
LABELS = np.stack([np.full(50, 0.4), np.linspace(0.3, 0.7, 50)], axis=1)
GAIN = LABELS[:, 1] - LABELS[:, 0]
SAMPLE = gate_sample(LABELS)
COSTS = np.array([1.0, 2.0, 4.0])
WEEKS = 300
PRICE = RoutingRule.from_parts((1, 0.02))


def test_an_equal_router_is_not_better_but_not_worse() -> None:
    decision = compare_routers(router(LABELS), router(LABELS), SAMPLE, BETTER)
    assert not decision.promoted
    assert decision.reason.startswith("not significantly better than the champion on 50 gate")
    not_worse = PromoteParams(rule="not_worse", margin=0.01)
    decision = compare_routers(router(LABELS), router(LABELS), SAMPLE, not_worse)
    assert (decision.promoted, decision.reference) == (True, "champion")
    assert decision.reason.startswith("not worse than the champion by 0.01 or more")


def test_a_better_router_is_promoted_and_a_worse_one_is_not() -> None:
    good, bad = router(LABELS), router(LABELS[:, ::-1])
    assert not compare_routers(good, bad, SAMPLE, BETTER).promoted
    decision = compare_routers(bad, good, SAMPLE, BETTER)
    assert (decision.promoted, decision.reference) == (True, "challenger")
    assert decision.reason.startswith("better than the champion")


def test_the_bound_is_that_of_students_t_and_costs_have_the_price_of_the_challenger() -> None:
    """The challenger serves the expensive candidate, the champion the cheap one, to every prompt,
    for a smaller budget. The gain is the difference of the labels minus the challenger's lambda.
    """
    expensive = np.tile([0.0, 1.0], (50, 1))
    cheap = expensive[:, ::-1]
    level = GAIN.mean() - stats.t.ppf(0.95, 49) * stats.sem(GAIN)
    for lam, promoted in [(level - 0.001, True), (level + 0.001, False)]:
        champion, challenger = router(cheap, lam=5.0, budget=1.0), router(expensive, lam=lam)
        decision = compare_routers(champion, challenger, SAMPLE, BETTER)
        assert decision.promoted == promoted
        assert f"is {GAIN.mean() - lam:+.3g}, and above {level - lam:+.3g}" in decision.reason
        wide = PromoteParams(rule="not_worse", margin=0.002)
        assert compare_routers(champion, challenger, SAMPLE, wide).promoted


def test_with_equal_settings_a_challenger_without_a_certificate_is_not_better() -> None:
    """A calibration that cannot certify any lambda has a price of a billion, at which serving the
    cheapest candidate to every prompt is better than anything. It is not at the champion's price.
    """
    champion, challenger = router(LABELS, lam=0.01), router(LABELS, lam=1e9)
    decision = compare_routers(champion, challenger, SAMPLE, BETTER)
    assert not decision.promoted
    gain = (np.minimum(LABELS[:, 0] - LABELS[:, 1] + 0.01, 0)).mean()
    assert f"is {gain:+.3g}" in decision.reason
    larger = replace(champion, budget=2.0)  # other settings: the challenger's price
    assert compare_routers(larger, challenger, SAMPLE, BETTER).promoted


def test_few_different_prompts_are_not_significant() -> None:
    """Equal gains of four prompts have a one-sided p-value of 1/16 in a sign test."""
    gains = np.zeros(60)
    gains[:4] = 0.1
    assert not judge(gains, BETTER).promoted
    assert judge(gains, PromoteParams(confidence=0.9)).promoted
    gains[:5] = 0.1
    assert judge(gains, BETTER).promoted


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
    decision = compare_routers(champion, router(LABELS[:, ::-1]), SAMPLE, BETTER)
    assert decision.promoted
    assert reason in decision.reason


def test_a_champion_of_a_smaller_pool_is_compared_at_the_costs_of_the_challenger() -> None:
    champion = router(LABELS[:, :1], candidates=["cheap"], costs=np.array([9.0]), budget=1.5)
    decision = compare_routers(champion, router(LABELS), SAMPLE, BETTER)
    assert "compared with 0.4 at 1;" in decision.reason


def test_too_few_gate_prompts_give_no_promotion_and_say_what_to_change() -> None:
    sample = gate_sample(LABELS, rows=np.arange(19))
    decision = compare_routers(router(LABELS[:, ::-1]), router(LABELS), sample, BETTER)
    assert not decision.promoted
    assert "19 prompts of the split gate" in decision.reason
    assert "increase gate_share" in decision.reason


def test_the_rule_not_worse_needs_a_margin() -> None:
    with pytest.raises(ValidationError, match="not_worse needs a margin above 0"):
        PromoteParams(rule="not_worse")


@pytest.mark.parametrize(
    "settings", [{"floors": {"other": 0.5}}, {"confidence": 0.95}, {"quality_floor": 0.36}]
)
def test_a_challenger_with_a_new_setting_replaces_a_plain_champion_but_not_an_equal_one(
    settings: dict[str, object],
) -> None:
    """A floored or certified router has a lower quality, or costs more, than a plain one."""
    rng = np.random.default_rng(0)
    quality = 0.2 * rng.standard_normal((100, 3)) + np.array([0.0, 0.2, 0.3])
    other = 0.2 * rng.standard_normal((100, 3)) + np.array([0.6, 0.4, 0.0])
    routers = []
    for chosen in ({}, settings):
        used = np.stack([quality, other])[: 1 + len(chosen.get("floors", {}))]
        rule = calibrate(used, used, COSTS, RuleRequirements("clip_score", 2.0, **chosen))
        routers.append(calibrated_router(used, COSTS, rule, **chosen))
    plain, limited = routers
    sample = gate_sample(quality, *([other] if limited.floors else []))
    decision = compare_routers(plain, limited, sample, BETTER)
    assert decision.promoted
    assert decision.reason.startswith("the champion does not meet the new settings of calibrate")
    assert not compare_routers(limited, limited, sample, BETTER).promoted


def test_a_cautious_challenger_replaces_a_champion_that_ignores_risk() -> None:
    """The expensive candidate is 0.1 better on average, and its spread 0.2 larger. With a risk
    aversion of 1 the objective of the cheap candidate is better, although its quality is lower.
    """
    labels = np.tile([0.4, 0.5], (50, 1)) + 0.01 * np.random.default_rng(0).random((50, 2))
    spread = np.tile([0.1, 0.3], (50, 1))
    champion = router(labels, lam=0.0, budget=2.0)
    challenger = replace(champion, risk_aversion=1.0, spread=TableEstimator(spread))
    decision = compare_routers(champion, challenger, gate_sample(labels), BETTER)
    assert decision.promoted
    assert "clip_score 0.4" in decision.reason


class Weeks:
    """A population of prompts, from which weekly challengers and gate samples are drawn.

    The prediction of a challenger is the label plus independent noise, so challengers with equal
    noise have equal expected quality. All routers use one lambda.
    """

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.labels = 0.1 * self.rng.standard_normal((4000, 3)) + np.array([0.3, 0.33, 0.35])
        self.everything = gate_sample(self.labels)

    def router(self, noise: float = 0.1, predicted: Table | None = None) -> Router:
        base = self.labels if predicted is None else predicted
        table = base + noise * self.rng.standard_normal(base.shape)
        return router(
            table,
            candidates=["a", "b", "c"],
            costs=COSTS,
            rule=PRICE,
            budget=2.0,
        )

    def gate(self, n: int = 70) -> GateSample:
        return gate_sample(self.labels, rows=self.rng.choice(4000, n, replace=False))

    def quality(self, router: Router) -> float:
        """The true objective at a lambda of 0.02: its mean over the population."""
        chosen = selection(router, router.candidates, self.everything.prompts)
        utility = objective(router, self.everything, Prices(0.02))
        return float((chosen * utility).sum(axis=1).mean())

    def run(
        self,
        settings: PromoteParams,
        challenger: Callable[[Router], Router],
        gate: Callable[[], GateSample],
        with_reference: bool = True,
    ) -> tuple[int, float, float]:
        """Return the number of promotions, and the true quality of the last and first champion."""
        champion = reference = first = self.router()
        promotions = 0
        for _ in range(WEEKS):
            new = challenger(champion)
            fixed = reference if with_reference else None
            decision = compare_routers(champion, new, gate(), settings, fixed)
            if decision.promoted:
                reference = {"challenger": new, "champion": champion, "reference": reference}[
                    decision.reference
                ]
                champion, promotions = new, promotions + 1
        return promotions, self.quality(champion), self.quality(first)


@pytest.mark.parametrize("fresh", [False, True], ids=["the same gate prompts", "new gate prompts"])
@pytest.mark.parametrize("seed", range(3))
def test_equally_good_challengers_are_rarely_promoted_in_300_weeks(seed: int, fresh: bool) -> None:
    weeks = Weeks(seed)
    fixed = weeks.gate()
    promotions, last, first = weeks.run(
        BETTER, lambda _: weeks.router(), weeks.gate if fresh else lambda: fixed
    )
    assert promotions <= 24
    assert last > first - 0.01


def test_equally_good_calibrated_challengers_are_rarely_promoted_in_300_weeks() -> None:
    """Each challenger has its own lambda, calibrated on 70 validation prompts of its own."""
    weeks = Weeks(0)
    requirements = RuleRequirements("clip_score", 2.0)

    def calibrated(_: Router) -> Router:
        new = weeks.router()
        val = weeks.rng.choice(4000, 70, replace=False)
        predicted = new.estimator.table[None, val]
        rule = calibrate(predicted, weeks.labels[None, val], COSTS, requirements).rule
        return replace(new, rule=rule)

    promotions, last, first = weeks.run(BETTER, calibrated, weeks.gate)
    assert promotions <= 24
    assert last > first - 0.01


MARGIN = 0.02
NOT_WORSE = PromoteParams(rule="not_worse", margin=MARGIN)


@pytest.mark.parametrize("seed", range(3))
def test_not_worse_promotes_equally_good_challengers_within_one_margin(seed: int) -> None:
    weeks = Weeks(seed)
    fixed = weeks.gate(100)
    promotions, last, first = weeks.run(
        NOT_WORSE, lambda _: weeks.router(weeks.rng.uniform(0.08, 0.12)), lambda: fixed
    )
    assert promotions > 30
    assert last > first - MARGIN


@pytest.mark.parametrize("seed", range(3))
def test_not_worse_does_not_add_up_small_losses_of_successive_champions(seed: int) -> None:
    """Every challenger is a little worse than the champion. If the margin is measured from the
    champion instead of the reference, nearly all of them are promoted.
    """
    margin = 0.01
    settings = PromoteParams(rule="not_worse", margin=margin)
    losses = {}
    for with_reference in (True, False):
        weeks = Weeks(seed)

        def worse(champion: Router, weeks: Weeks = weeks) -> Router:
            return weeks.router(0.03, champion.estimator.table)

        def gate(weeks: Weeks = weeks) -> GateSample:
            return weeks.gate(300)

        promotions, last, first = weeks.run(settings, worse, gate, with_reference)
        losses[with_reference] = (first - last) / margin
    assert promotions > 280
    assert losses[True] < 1.5
    assert losses[False] > 3
