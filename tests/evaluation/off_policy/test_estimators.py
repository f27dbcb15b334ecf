"""Off-policy estimators: closed forms, a brute-force implementation, and simulated traffic."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given

from catimage.evaluation.off_policy.estimators import (
    LoggedTraffic,
    doubly_robust,
    effective_sample_size,
    ips,
    mean_terms,
    self_normalized_ips,
)
from tests.evaluation.off_policy.logged import TRUE_VALUE, Simulation, logged_decisions, simulate

REPEATS, N = 400, 200


def brute_force(data: Simulation) -> tuple[float, float, float]:
    """Return the three estimates, computed with loops over decisions and candidates."""
    decisions = data.decisions
    weighted = total = corrected = 0.0
    for i in range(len(data.outcomes)):
        action = int(decisions.actions[i])
        weight = decisions.target[i][action] / decisions.propensities[i][action]
        weighted += weight * data.outcomes[i]
        total += weight
        corrected += sum(p * q for p, q in zip(decisions.target[i], data.predicted[i], strict=True))
        corrected += weight * (data.outcomes[i] - data.predicted[i][action])
    n = len(data.outcomes)
    return weighted / n, weighted / total if total else np.nan, corrected / n


@given(logged_decisions())
def test_the_estimates_agree_with_brute_force(data: Simulation) -> None:
    estimates = (
        ips(data.decisions, data.outcomes).value,
        self_normalized_ips(data.decisions, data.outcomes).value,
        doubly_robust(data.decisions, data.outcomes, data.predicted).value,
    )
    np.testing.assert_allclose(estimates, brute_force(data), rtol=1e-9, atol=1e-12)


@given(logged_decisions())
def test_the_policy_that_was_logged_has_the_mean_outcome(data: Simulation) -> None:
    same = replace(data.decisions, target=data.decisions.propensities)
    mean = pytest.approx(data.outcomes.mean(), abs=1e-12)
    assert ips(same, data.outcomes).value == mean
    assert self_normalized_ips(same, data.outcomes).value == mean
    assert effective_sample_size(same.weights) == pytest.approx(len(data.outcomes))


@given(logged_decisions())
def test_shifted_outcomes_shift_the_self_normalized_and_the_doubly_robust_estimate(
    data: Simulation,
) -> None:
    normalized = self_normalized_ips(data.decisions, data.outcomes)
    if data.decisions.weights.sum() > 1e-6:
        shifted = self_normalized_ips(data.decisions, data.outcomes + 2).value
        assert shifted == pytest.approx(normalized.value + 2, abs=1e-9)
    robust = doubly_robust(data.decisions, data.outcomes, data.predicted).value
    both = doubly_robust(data.decisions, data.outcomes + 2, data.predicted + 2).value
    assert both == pytest.approx(robust + 2, abs=1e-9)
    assert 0 <= effective_sample_size(data.decisions.weights) <= len(data.outcomes) + 1e-9


def test_two_decisions_have_the_estimates_of_the_closed_form() -> None:
    decisions = LoggedTraffic(
        np.array([[0.5, 0.5], [0.8, 0.2]]), np.array([0, 1]), np.array([[1.0, 0.0], [0.0, 1.0]])
    )
    outcomes = np.array([1.0, 3.0])
    assert decisions.weights.tolist() == [2.0, 5.0]
    assert ips(decisions, outcomes).value == (2 + 15) / 2
    assert self_normalized_ips(decisions, outcomes).value == 17 / 7
    predicted = np.array([[1.0, 9.0], [9.0, 2.0]])
    assert doubly_robust(decisions, outcomes, predicted).value == (1 + 2 + 5 * (3 - 2)) / 2
    assert effective_sample_size(decisions.weights) == pytest.approx(49 / 29)
    never = replace(decisions, target=np.array([[0.0, 1.0], [1.0, 0.0]]))
    assert np.isnan(self_normalized_ips(never, outcomes).value)
    assert ips(never, outcomes).value == 0 == effective_sample_size(never.weights)
    assert mean_terms(outcomes).value == 2


@pytest.fixture(scope="module")
def estimates() -> dict[str, np.ndarray]:
    """Estimates of each method for simulated logs, (REPEATS,); ``poor`` has poor predictions."""
    found: dict[str, list[float]] = {"ips": [], "normalized": [], "good": [], "poor": []}
    for seed in range(REPEATS):
        data = simulate(N, seed)
        found["ips"].append(ips(data.decisions, data.outcomes).value)
        found["normalized"].append(self_normalized_ips(data.decisions, data.outcomes).value)
        for name, error in (("good", 0.0), ("poor", 1.0)):
            predicted = data.predicted + error
            found[name].append(doubly_robust(data.decisions, data.outcomes, predicted).value)
    return {name: np.array(values) for name, values in found.items()}


@pytest.mark.parametrize("method", ["ips", "normalized", "good", "poor"])
def test_the_estimates_are_unbiased(estimates: dict[str, np.ndarray], method: str) -> None:
    """Also with wrong predictions; the bias of the self-normalised estimate is of order 1/n."""
    values = estimates[method]
    assert abs(values.mean() - TRUE_VALUE) < 4 * values.std() / np.sqrt(REPEATS) + 1 / N / 5


def test_good_predictions_reduce_the_variance(estimates: dict[str, np.ndarray]) -> None:
    assert estimates["good"].var() < 0.6 * estimates["ips"].var()
    assert estimates["good"].var() < estimates["poor"].var()
    assert estimates["normalized"].var() < estimates["ips"].var()
