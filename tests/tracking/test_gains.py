"""The gain of a challenger at the prices of two routers, compared with closed forms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest

from catimage.params import PromoteParams
from catimage.router import Router
from catimage.routing.calibration import RuleRequirements, calibrate
from catimage.routing.randomized import RoutingRule
from catimage.tracking.gains import gains_by_prompt
from catimage.tracking.gate import compare_routers
from catimage.tracking.objective import GateSample, same_settings, selection
from tests.tracking.table_routers import Table, TableEstimator, gate_sample, router

BETTER = PromoteParams()
N = 100
ADVANTAGE = np.linspace(0.002, 0.2, N)
"""Quality of the expensive candidate minus that of the cheap one: 0.002, 0.004, ..., 0.2."""
LABELS = np.stack([np.full(N, 0.4), 0.4 + ADVANTAGE], axis=1)
SAMPLE = gate_sample(LABELS)


def gains(other: Router, challenger: Router, sample: GateSample = SAMPLE) -> Table:
    chosen = [selection(r, r.candidates, sample.prompts) for r in (other, challenger)]
    return gains_by_prompt((chosen[0], chosen[1]), other, challenger, sample, 0.95)


def promoted(champion: Router, challenger: Router, sample: GateSample = SAMPLE) -> bool:
    return compare_routers(champion, challenger, sample, BETTER).promoted


def test_a_champion_without_a_certificate_is_replaced_by_a_challenger_that_has_one() -> None:
    """The validation split of the first router had 10 prompts, which certify no lambda, and that of
    a later one 1000. At the price of the first, a billion, no router could ever replace it.
    """
    labels = np.tile(LABELS, (11, 1))
    requirements = RuleRequirements("clip_score", 1.2, confidence=0.95)
    routers = []
    for rows in (np.arange(0, N, 10), np.arange(N, 11 * N)):
        used = labels[None, rows]
        rule = calibrate(used, used, np.array([1.0, 2.0]), requirements).rule
        routers.append(router(labels, rule=rule, confidence=0.95, budget=1.2))
    first, later = routers
    assert first.lam > 1e7
    assert later.lam < 0.2
    sample = gate_sample(labels, rows=np.arange(N))
    gain = np.maximum(ADVANTAGE - later.lam, 0).mean()
    assert gains(first, later, sample).mean() == pytest.approx(gain, rel=1e-3)
    assert promoted(first, later, sample)
    assert not promoted(later, first, sample)
    assert not promoted(later, later, sample)
    assert not promoted(first, first, sample)


def test_a_champion_that_is_too_careful_is_replaced_by_one_that_uses_the_budget() -> None:
    """The lambda of the champion is 0.19, and the challenger meets the budget of 1.7 with 0.061. It
    has the expensive candidate for the 64 prompts from 0.062 to 0.188 more than the champion.
    """
    careful, challenger = (router(LABELS, lam=lam, budget=1.7) for lam in (0.191, 0.061))
    more = ADVANTAGE[(ADVANTAGE > 0.061) & (ADVANTAGE < 0.191)]
    expected = (more - 0.061).sum() / N
    assert gains(careful, challenger).mean() == pytest.approx(expected)
    assert promoted(careful, challenger)
    assert gains(challenger, careful).mean() == pytest.approx(-expected)
    assert not promoted(challenger, careful)


def test_a_challenger_that_exceeds_the_budget_pays_the_higher_price_for_the_excess() -> None:
    """With a lambda of 0 the challenger is better at its own price, but its cost is 2 instead of
    1.5. The champion is optimal for the budget: its lambda is the advantage of the median prompt.
    """
    lam = 0.101
    champion, challenger = router(LABELS, lam=lam), router(LABELS, lam=0.0)
    excess = 2.0 - 1.5
    expected = np.where(lam > ADVANTAGE, ADVANTAGE, 0).mean() - lam * excess
    assert expected < -0.02
    assert gains(champion, challenger).mean() == pytest.approx(expected)
    assert not promoted(champion, challenger)


@pytest.mark.parametrize(("budget", "charged"), [(1.69, False), (1.5, True)])
def test_an_excess_of_a_certified_rule_counts_if_it_is_significant(
    budget: float, charged: bool
) -> None:
    """The cost is 1.7 on the gate prompts, with a standard error of 0.046."""
    changes = {"budget": budget, "confidence": 0.95}
    champion, challenger = (router(LABELS, lam=lam, **changes) for lam in (1e8, 0.061))
    assert (gains(champion, challenger).mean() < -1e6) == charged
    assert promoted(champion, challenger) != charged


@pytest.mark.parametrize("lam", [0.0, 0.061])
def test_a_champion_that_overshoots_a_quality_floor_is_replaced_by_a_cheaper_router(
    lam: float,
) -> None:
    """A champion that was calibrated on few prompts has a lambda of 0 and the highest quality. The
    challenger reaches the floor of 0.45 at a lower cost; at a lambda of 0 its saving has no value.
    With a floor that it does not reach, it must be better at the smaller lambda.
    """
    changes = {"budget": 2.0, "quality_floor": 0.45}
    champion, challenger = (router(LABELS, lam=x, **changes) for x in (lam, 0.141))
    saved = ADVANTAGE[(lam < ADVANTAGE) & (ADVANTAGE < 0.141)]
    assert gains(champion, challenger).mean() == pytest.approx((0.141 - saved).sum() / N)
    assert promoted(champion, challenger)
    assert not promoted(challenger, champion)
    higher = [replace(r, quality_floor=0.49) for r in (champion, challenger)]
    assert gains(*higher).mean() == pytest.approx((lam - saved).sum() / N)
    assert not promoted(*higher)


OTHER = np.stack([np.full(N, 0.6), np.full(N, 0.2)], axis=1)
THIRD = np.stack([np.full(N, 0.3), np.full(N, 0.5)], axis=1)


def floored(lam: float, floors: Mapping[str, float], multipliers: Mapping[str, float]) -> Router:
    tables = {"other": OTHER, "third": THIRD}
    rule = RoutingRule(np.ones(1), np.array([lam]), np.array([[multipliers[m] for m in floors]]))
    estimators = {m: TableEstimator(tables[m]) for m in floors}
    return router(LABELS, rule=rule, budget=2.0, floors=dict(floors), floor_estimators=estimators)


@pytest.mark.parametrize("names", [("other", "third"), ("third", "other")])
def test_the_order_of_the_floors_in_the_settings_is_irrelevant(names: tuple[str, str]) -> None:
    """Multipliers belong to metrics. Of two routers with the same settings, one has the floors in
    another order; the lower price of each metric is 0.1 for ``other`` and 0.2 for ``third``.
    """
    floors = {"other": 0.2, "third": 0.3}
    champion = floored(0.05, {m: floors[m] for m in names}, {"other": 0.1, "third": 0.4})
    challenger = floored(0.05, floors, {"other": 0.3, "third": 0.2})
    assert same_settings(champion, challenger)
    value = LABELS + 0.1 * OTHER + 0.2 * THIRD - 0.05 * np.array([1.0, 2.0])
    chosen = [selection(r, r.candidates, SAMPLE.prompts) for r in (champion, challenger)]
    expected = ((chosen[1] - chosen[0]) * value).sum(axis=1)
    assert np.abs(expected).sum() > 0.1
    sample = gate_sample(LABELS, OTHER, THIRD)
    assert gains(champion, challenger, sample) == pytest.approx(expected)


def test_what_is_lacking_below_a_floor_has_the_higher_multiplier() -> None:
    """The challenger ignores the floor of 0.5, which the champion, always cheap, exceeds."""
    champion = floored(0.05, {"other": 0.5}, {"other": 1.0})
    challenger = floored(0.05, {"other": 0.5}, {"other": 0.0})
    expensive = ADVANTAGE > 0.05
    lacking = 0.5 - np.where(expensive, 0.2, 0.6).mean()
    expected = ((ADVANTAGE - 0.05) * expensive).mean() - 1.0 * lacking
    sample = gate_sample(LABELS, OTHER)
    assert gains(champion, challenger, sample).mean() == pytest.approx(expected)
    assert not promoted(champion, challenger, sample)


def test_a_multiplier_of_the_champion_that_is_too_large_does_not_protect_it() -> None:
    """Both routers exceed the floor of 0.15, so the other metric has the challenger's price, 0."""
    champion = floored(0.05, {"other": 0.15}, {"other": 100.0})
    challenger = floored(0.05, {"other": 0.15}, {"other": 0.0})
    sample = gate_sample(LABELS, OTHER)
    expected = np.maximum(ADVANTAGE - 0.05, 0).mean()
    assert gains(champion, challenger, sample).mean() == pytest.approx(expected)
    assert promoted(champion, challenger, sample)
