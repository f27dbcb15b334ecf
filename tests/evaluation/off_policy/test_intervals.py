"""Intervals of off-policy estimates: coverage on simulated traffic, and special cases."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from catimage.evaluation.intervals import standard_error
from catimage.evaluation.off_policy.estimators import (
    RatioTerms,
    doubly_robust,
    ips,
    mean_terms,
    self_normalized_ips,
)
from catimage.evaluation.off_policy.intervals import ClusterBootstrap
from tests.evaluation.off_policy.logged import TRUE_VALUE, simulate

REPEATS, N = 300, 120


def test_the_intervals_cover_the_true_value() -> None:
    """Within the simulation error of the nominal 95%, four standard deviations of the count.

    Each prompt has two requests with the same outcome, which are not independent.
    """
    bootstrap = ClusterBootstrap(np.repeat(np.arange(N), 2), 200, 0)
    covered = {"ips": 0, "normalized": 0, "robust": 0}
    for seed in range(REPEATS):
        data = simulate(N, seed, error=0.3)
        for name, terms in {
            "ips": ips(data.decisions, data.outcomes),
            "normalized": self_normalized_ips(data.decisions, data.outcomes),
            "robust": doubly_robust(data.decisions, data.outcomes, data.predicted),
        }.items():
            twice = RatioTerms(np.repeat(terms.numerator, 2), np.repeat(terms.denominator, 2))
            interval = bootstrap.estimate(twice, name != "robust").interval
            assert interval is not None
            covered[name] += interval[0] <= TRUE_VALUE <= interval[1]
    tolerance = 4 * np.sqrt(0.95 * 0.05 / REPEATS)
    assert {n: c / REPEATS for n, c in covered.items()} == pytest.approx(
        dict.fromkeys(covered, 0.95), abs=tolerance
    )


def test_the_standard_errors_have_closed_forms() -> None:
    rng = np.random.default_rng(0)
    values, weights = rng.normal(size=50), rng.uniform(0.5, 2, 50)
    single = ClusterBootstrap(np.arange(50), 50, 0)
    assert single.estimate(mean_terms(values), True).standard_error == pytest.approx(
        standard_error(values)
    )
    doubled = ClusterBootstrap(np.repeat(np.arange(50), 2), 50, 0)
    estimate = doubled.estimate(mean_terms(np.repeat(values, 2)), True)
    assert estimate.standard_error == pytest.approx(standard_error(values))
    ratio = (weights * values).sum() / weights.sum()
    linear = weights * (values - ratio) / weights.mean()
    expected = np.sqrt((linear**2).sum() / 49 / 50)
    found = single.estimate(RatioTerms(weights * values, weights), True)
    assert found.value == pytest.approx(ratio)
    assert found.standard_error == pytest.approx(expected)


def test_the_interval_of_skewed_outcomes_is_asymmetric() -> None:
    values = np.where(np.arange(200) % 20 == 0, 20.0, 0.1)
    estimate = ClusterBootstrap(np.arange(200), 500, 0).estimate(mean_terms(values), True)
    assert estimate.value is not None and estimate.interval is not None
    low, high = estimate.interval
    assert high - estimate.value > 1.2 * (estimate.value - low) > 0
    normal = ClusterBootstrap(np.arange(200), 1, 0).estimate(mean_terms(values), False)
    assert normal.value is not None and normal.standard_error is not None
    quantile = norm.ppf(0.975) * normal.standard_error
    assert normal.interval == pytest.approx([normal.value - quantile, normal.value + quantile])


def test_special_cases_have_no_interval_or_an_empty_one() -> None:
    bootstrap = ClusterBootstrap(np.arange(4), 50, 0)
    zeros = np.zeros(4)
    assert bootstrap.estimate(RatioTerms(zeros, zeros), True).value is None
    constant = bootstrap.estimate(mean_terms(np.full(4, 0.3)), True)
    assert constant.interval == [constant.value, constant.value] == pytest.approx([0.3, 0.3])
    one = np.array([0.0, 0.0, 0.0, 2.0])
    rare = bootstrap.estimate(RatioTerms(one * np.arange(4), one + 0.0), True)
    assert rare.value == 3.0
    terms = RatioTerms(np.array([0, 0, 1.0, 4.0]), np.array([0, 0, 1.0, 2.0]))
    few = bootstrap.estimate(terms, True)
    assert few.value == pytest.approx(5 / 3) and few.interval is None
    alone = ClusterBootstrap(np.zeros(3, int), 50, 0).estimate(mean_terms(np.arange(3.0)), True)
    assert (alone.value, alone.standard_error, alone.interval) == (1.0, None, None)
