"""The checks of decisions, cost, streams and quality."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from catimage.data.audits import AUDITS
from catimage.monitoring.checks import (
    check_cost,
    check_decisions,
    check_streams,
    image_costs,
    quality_stream,
)
from catimage.monitoring.expected import Expected
from catimage.monitoring.outcome import CheckOutcome
from catimage.monitoring.quality import (
    check_quality,
    errors_by_candidate,
    errors_by_prompt,
    interval,
)
from catimage.params import MonitorParams
from catimage.params.monitor import AuditParams
from tests.monitoring.decisions import COSTS, NOON, decision, drawn, frame

SHARES = [0.5, 0.2, 0.3]
EXPECTED = Expected(
    "r",
    2.1,
    list(COSTS),
    list(COSTS.values()),
    SHARES,
    [0.0, 0.2],
    [SHARES, [1.0, 0.0, 0.0]],
    1000,
    0.6,
    0.05,
    0.1,
)
SETTINGS = MonitorParams(audit=AuditParams(prompts=1))


def after(check, shares: list[float], n: int = 600, seed: int = 0, expected: Expected = EXPECTED):
    """The outcome after ``n`` requests in three runs."""
    rows, state = drawn(shares, n, seed), {}
    for part in np.array_split(np.arange(n), 3):
        outcome = check(state, rows.iloc[part], expected, SETTINGS)
        state = outcome.state
    return outcome


@pytest.mark.parametrize("check", [check_decisions, check_cost])
def test_expected_traffic_gives_no_alarm(check):
    for seed in range(5):
        outcome = after(check, SHARES, seed=seed)
        assert outcome.evidence < 0.7 and outcome.observations == 200


@pytest.mark.parametrize("shares", [[0.9, 0.05, 0.05], [0.1, 0.6, 0.3]])
def test_other_decisions_give_an_alarm(shares):
    outcome = after(check_decisions, shares)
    assert outcome.evidence >= 1
    assert outcome.details["shares"]["mini-1"] == pytest.approx(shares[0], abs=0.1)
    assert "mini-1" in outcome.message and "expected 50%" in outcome.message


def test_an_expected_share_from_few_prompts_has_a_wider_limit():
    few = replace(EXPECTED, prompts=10)
    shares = [0.82, 0.08, 0.1]
    assert after(check_decisions, shares, 900).evidence > 1
    assert after(check_decisions, shares, 900, expected=few).evidence < 0.5


def test_decisions_are_compared_at_their_lambda_and_without_load():
    """At lambda 0.2, only mini-1 is expected."""
    rows = drawn([1.0, 0.0, 0.0], 600, 0)
    high = check_decisions({}, rows.assign(**{"lambda": 0.3}), EXPECTED, SETTINGS)
    assert high.evidence < 0.4 and high.details["expected"]["mini-1"] == 1
    assert check_decisions({}, rows, EXPECTED, SETTINGS).evidence >= 1
    for left_out in ({"pressure": 0.5}, {"lambda": np.nan}):
        outcome = check_decisions({}, rows.assign(**left_out), EXPECTED, SETTINGS)
        assert outcome.evidence == 0 and outcome.observations == 0


def test_a_cost_above_the_budget_gives_an_alarm():
    outcome = after(check_cost, [0.1, 0.1, 0.8])
    assert outcome.evidence >= 1
    assert outcome.message == f"mean cost per image {outcome.details['mean']:.4g}, budget 2.1."
    assert outcome.details["mean"] == pytest.approx(3.5, abs=0.3)
    assert after(check_cost, [1, 0, 0]).evidence < 0.3


def test_a_budget_for_the_most_expensive_candidate_cannot_be_exceeded():
    outcome = after(check_cost, [0, 0, 1], expected=replace(EXPECTED, budget=4.0))
    assert outcome.evidence < 0.3 and "cannot be exceeded" in outcome.message


@pytest.mark.parametrize("factor", [0.7, 1.3])
def test_a_price_that_changed_gives_an_alarm_although_the_budget_is_kept(factor):
    rows = drawn(SHARES, 300, 0)
    rows["cost"] *= np.where(rows["candidate"] == "mini-1", factor, 1.0)
    outcome = check_cost({}, rows, replace(EXPECTED, budget=3.0), SETTINGS)
    assert outcome.evidence >= 1 and outcome.details["mean"] < 3
    assert outcome.details["change"] == pytest.approx(0.5 * (factor - 1), abs=0.03)
    assert "compared with the costs of the router" in outcome.message


def test_costs_per_image_come_from_images_or_else_from_the_decision():
    rows = frame(
        [
            decision(0, "mini-4", images=2, cost=6.0),
            decision(1, "mini-2", images=0, cost=0.0),
            decision(2, "mini-4", status=500, images=0, cost=0.0),
            decision(3, "unknown", images=0, cost=0.0),
        ]
    )
    paid, planned = image_costs(rows, EXPECTED)
    assert paid.tolist() == [3.0, 2.0] and planned.tolist() == [4.0, 2.0]


def test_without_requests_the_checks_have_no_evidence():
    empty = drawn(SHARES, 1, 0).iloc[:0]
    for check in (check_decisions, check_cost):
        outcome = check({}, empty, EXPECTED, SETTINGS)
        assert outcome.evidence == 0 and outcome.observations == 0


def test_a_stream_that_changes_is_detected_once():
    rng = np.random.default_rng(0)
    state: dict[str, list[float]] = {}
    detected = []
    for hour in range(40):
        values = rng.beta(2, 2, 40) if hour < 20 else rng.beta(6, 2, 40)
        outcome = check_streams(state, {"quality": values.tolist()}, SETTINGS)
        state = outcome.state
        detected += [hour] if outcome.evidence else []
    assert len(detected) == 1 and 20 <= detected[0] < 26
    assert len(state["quality"]) <= 1000
    assert max(len(f"{value}") for value in state["quality"]) <= 6


def test_the_quality_stream_is_centred_and_does_not_depend_on_the_decision():
    same = {"qualities": [(name, 0.6) for name in COSTS]}
    rows = frame([decision(0, "mini-1", **same), decision(1, "mini-4", **same)])
    assert quality_stream(rows, EXPECTED) == [0.5, 0.5]
    high = frame([decision(0, qualities=[("mini-1", 0.8)]), decision(1, qualities=[])])
    assert quality_stream(high, EXPECTED) == [pytest.approx(0.5 + 0.2 / 0.4)]


def audits(bias: float, n: int, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(n):
        for name in COSTS:
            predicted = 0.5 + 0.1 * rng.standard_normal()
            score = predicted - bias + 0.05 * rng.standard_normal()
            time = NOON + timedelta(minutes=i)
            rows.append((time, f"r{i}", f"p{i}", "1", name, False, 0, "m", predicted, score))
    table = pd.DataFrame(rows, columns=AUDITS.names)
    table["time"] = pd.to_datetime(table["time"], utc=True)
    return table


def quality(table: pd.DataFrame, lower: bool = False) -> CheckOutcome:
    return check_quality({}, table, table, NOON + timedelta(days=1), EXPECTED, lower, SETTINGS)


@pytest.mark.parametrize("bias", [0.2, -0.2])
def test_biased_predictions_give_an_alarm(bias):
    outcome = quality(audits(bias, 100))
    assert outcome.evidence >= 1
    low, high = outcome.details["interval"]
    assert low < bias < high and outcome.details["prompts"] == 100


def test_one_biased_candidate_gives_an_alarm_although_the_mean_bias_is_small():
    table = audits(0.0, 200)
    worse = table["score"] - 0.13 * (table["candidate"] == "mini-4")
    outcome = quality(table.assign(score=worse))
    assert abs(outcome.details["bias"]) < outcome.details["limit"]
    assert outcome.evidence >= 1 and "most of mini-4 (+0.12" in outcome.message
    assert outcome.details["by_candidate"]["mini-1"] == pytest.approx(0, abs=0.03)


def test_candidates_that_were_not_audited_have_no_error():
    table = audits(0.0, 4).iloc[:10]
    errors = errors_by_candidate(table, [*COSTS, "other"], False)
    assert np.isfinite(errors).sum(1).tolist() == [4, 3, 3, 0]
    by_prompt = errors_by_prompt(table, False)
    np.testing.assert_allclose(np.nanmean(errors[:, :3], axis=0), by_prompt[:3])


def test_unbiased_predictions_give_no_alarm():
    outcome = quality(audits(0.0, 200))
    assert outcome.evidence < 0.6
    assert outcome.details["limit"] == pytest.approx(0.05)
    assert outcome.message.startswith("200 audited prompts, predicted minus measured quality")


def test_scores_of_metrics_with_good_low_values_are_negated():
    table = audits(0.0, 3)
    negated = table.assign(score=-table["score"])
    np.testing.assert_allclose(errors_by_prompt(negated, True), errors_by_prompt(table, False))


def test_the_interval_is_students():
    errors = np.random.default_rng(0).standard_normal(12)
    expected = stats.ttest_1samp(errors, 0).confidence_interval(0.95)
    assert interval(errors) == pytest.approx([expected.low, expected.high])
    assert interval(errors[:1]) is None


def test_only_audits_since_the_start_and_of_recent_days_count():
    table, end = audits(0.0, 50), NOON + timedelta(days=8)
    outcome = check_quality(
        {"since": (NOON + timedelta(minutes=40)).isoformat()},
        table.iloc[:0],
        table,
        NOON + timedelta(hours=1),
        EXPECTED,
        False,
        SETTINGS,
    )
    assert outcome.details["prompts"] == 10
    assert check_quality({}, table, table, end, EXPECTED, False, SETTINGS).details["prompts"] == 0
