"""The objective of calibration on labels, compared with brute force, and new requirements."""

from __future__ import annotations

import re

import numpy as np
import pytest

from catimage.routing.calibration import RuleRequirements, calibrate
from catimage.tracking.objective import (
    GateSample,
    objective,
    selection,
    unmet_requirements,
)
from tests.tracking.table_routers import Table, TableEstimator, calibrated_router, gate_sample

COSTS = np.array([1.0, 2.0, 4.0])
BUDGET = 2.0


def tables(n: int = 120, seed: int = 0) -> Table:
    """Labels of a routed metric, which increases with cost, and of one that decreases."""
    rng = np.random.default_rng(seed)
    quality = 0.2 * rng.standard_normal((n, 3)) + np.array([0.0, 0.2, 0.3])
    other = 0.2 * rng.standard_normal((n, 3)) + np.array([0.6, 0.4, 0.0])
    return np.stack([quality, other])


def means(probabilities: Table, labels: Table) -> tuple[float, float, float]:
    """Mean quality, mean of the other metric, and mean cost of selection probabilities."""
    quality, other = ((probabilities * table).sum(axis=1).mean() for table in labels)
    return float(quality), float(other), float((probabilities @ COSTS).mean())


def test_selection_probabilities_are_those_of_the_parts_of_the_rule() -> None:
    labels = tables()[:1]
    calibrated = calibrate(labels, labels, COSTS, RuleRequirements("clip_score", BUDGET))
    router = calibrated_router(labels, COSTS, calibrated)
    sample = gate_sample(*labels)
    names = ["new", *router.candidates[::-1]]
    probabilities = selection(router, names, sample.prompts)
    assert probabilities.sum(axis=1) == pytest.approx(1)
    assert not probabilities[:, 0].any()
    assert (probabilities[:, [3, 2, 1]] @ COSTS).mean() == pytest.approx(calibrated.mean_cost)
    assert (probabilities[:, [3, 2, 1]] * labels[0]).sum(axis=1).mean() == pytest.approx(
        calibrated.quality
    )


@pytest.mark.parametrize("floors", [{}, {"other": 0.5}])
def test_no_router_that_meets_the_requirements_has_a_better_objective(
    floors: dict[str, float],
) -> None:
    """If the predictions are the labels, the calibrated rule is optimal: every other assignment has
    a lower objective, and if it meets the requirements, its loss is at most its loss in quality.
    The prices of the parts of a rule with floors differ by a small amount.
    """
    labels = tables()[: 1 + len(floors)]
    requirements = RuleRequirements("clip_score", BUDGET, floors=floors)
    calibrated = calibrate(labels, labels, COSTS, requirements)
    router = calibrated_router(labels, COSTS, calibrated, floors=floors)
    sample = gate_sample(*labels)
    utility = objective(router, sample)
    best = selection(router, router.candidates, sample.prompts)
    value = (best * utility).sum(axis=1).mean()
    assert value == pytest.approx(utility.max(axis=1).mean(), abs=1e-4)
    rng = np.random.default_rng(1)
    both = tables()
    admissible = 0
    for _ in range(2000):
        weights = rng.random(2) * [0.3, 1.0]
        score = labels[0] - weights[0] * COSTS + weights[1] * both[1]
        other = np.eye(3)[np.argmax(score + 0.1 * rng.standard_normal(score.shape), axis=1)]
        gain = value - (other * utility).sum(axis=1).mean()
        assert gain > -1e-4
        quality, floored, cost = means(other, both)
        if cost <= BUDGET and floored >= floors.get("other", -np.inf):
            admissible += 1
            assert gain <= means(best, both)[0] - quality + 1e-4
    assert admissible > 100


def test_the_terms_are_quality_spread_floors_and_cost() -> None:
    """The closed form for one prompt of a rule: lambda 0.1, multiplier 2, risk aversion 3."""
    labels, other = np.array([[0.5, 0.6]]), np.array([[0.2, 0.1]])
    calibrated = calibrate(
        tables(), tables(), COSTS, RuleRequirements("clip_score", BUDGET, floors={"other": 0.5})
    )
    router = calibrated_router(tables(), COSTS, calibrated, floors={"other": 0.5})
    rule = type(calibrated.rule)(np.array([0.25, 0.75]), np.array([0.1, 0.1]), np.full((2, 1), 2.0))
    changed = type(router)(
        **{
            **vars(router),
            "rule": rule,
            "costs": np.array([1.0, 2.0]),
            "risk_aversion": 3.0,
            "spread": TableEstimator(np.array([[0.01, 0.02]])),
        }
    )
    utility = objective(changed, gate_sample(labels, other))
    expected = [0.5 - 3 * 0.01 + 2 * 0.2 - 0.1, 0.6 - 3 * 0.02 + 2 * 0.1 - 0.2]
    assert utility[0] == pytest.approx(expected)


def unmet(labels: Table, champion: dict[str, object], challenger: dict[str, object]) -> list[str]:
    """Calibrate two routers with the labels as predictions; return the new unmet requirements."""
    routers = []
    for settings in (champion, challenger):
        keys = ("quality_floor", "floors", "confidence")
        requirements = RuleRequirements(
            "clip_score",
            float(settings.get("budget", BUDGET)),
            **{k: settings[k] for k in keys if k in settings},
        )
        used = labels[: 1 + len(settings.get("floors", {}))]
        calibrated = calibrate(used, used, COSTS, requirements)
        kept = {k: v for k, v in settings.items() if k != "budget"}
        routers.append(calibrated_router(used, COSTS, calibrated, **kept))
    old, new = routers
    sample = gate_sample(*labels[: 1 + len(new.floors)])
    chosen = tuple(selection(r, new.candidates, sample.prompts) for r in routers)
    return unmet_requirements(old, new, sample, chosen)


@pytest.mark.parametrize(
    ("champion", "challenger", "reason"),
    [
        ({}, {"floors": {"other": 0.5}}, r"mean other 0\.[0-4]\d*, floor 0\.5"),
        ({"floors": {"other": 0.45}}, {"floors": {"other": 0.5}}, "mean other 0.45, floor 0.5"),
        ({"budget": 3.0}, {}, "mean cost 3 tflops, budget 2"),
        ({}, {"quality_floor": 0.36}, r"mean clip_score 0\.\d+, floor 0\.36"),
        ({}, {"confidence": 0.95}, "mean cost 2 tflops, not certified for 2"),
        ({"quality_floor": 0.36}, {}, r"mean cost \d\.\d+ tflops, budget 2"),
    ],
)
def test_a_champion_that_does_not_meet_a_new_requirement_is_described(
    champion: dict[str, object], challenger: dict[str, object], reason: str
) -> None:

    (found,) = unmet(tables(), champion, challenger)
    assert re.fullmatch(reason, found)


@pytest.mark.parametrize(
    ("champion", "challenger"),
    [
        ({}, {}),
        ({"floors": {"other": 0.5}}, {"floors": {"other": 0.5}}),
        ({"floors": {"other": 0.5}}, {}),
        ({"confidence": 0.95}, {"confidence": 0.95}),
        ({"confidence": 0.95}, {}),
        ({}, {"budget": 3.0}),
        ({}, {"floors": {"other": 0.1}}),
    ],
)
def test_a_requirement_that_the_champion_meets_or_was_calibrated_for_is_no_reason(
    champion: dict[str, object], challenger: dict[str, object]
) -> None:
    assert unmet(tables(), champion, challenger) == []


def test_a_budget_in_percent_is_the_same_after_the_costs_were_measured_again() -> None:
    labels = tables()[:1]
    routers = []
    for factor in (1.0, 0.97):
        requirements = RuleRequirements("clip_score", BUDGET * factor)
        calibrated = calibrate(labels, labels, COSTS * factor, requirements)
        routers.append(calibrated_router(labels, COSTS * factor, calibrated))
    sample = gate_sample(*labels)
    chosen = tuple(selection(r, r.candidates, sample.prompts) for r in routers)
    assert unmet_requirements(*routers, sample, chosen) == []


def test_a_floor_of_a_metric_whose_low_values_are_good_is_an_upper_bound() -> None:
    labels = tables()
    sample = GateSample(["prompt 0"], labels[:, :1], {"other"})
    assert sample.as_label("other", 0.3) == -0.3
    assert sample.as_label("clip_score", 0.3) == 0.3
