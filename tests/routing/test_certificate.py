"""Certified rules: coverage at the given confidence, testing by betting, and invalid input."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import beta

from catimage.errors import InputError
from catimage.routing.betting import is_certified
from catimage.routing.calibration import calibrate_to_budget
from catimage.routing.certificate import CertifiedRules, Certifier, cheapest_rule
from catimage.routing.policy import choose
from tests.routing.problems import problems

COST = np.array([1.0, 2.0, 4.0, 32.0])
CONFIDENCE = 0.9


def heavy_tailed(rng, n):
    """Draw the quality of n prompts, few of which gain much from the expensive candidates."""
    return rng.lognormal(-1, 1.2, (n, 1)) * np.log(COST) + rng.normal(0, 0.1, (n, len(COST)))


def mean_cost(rule, predicted):
    return rule.expected(rule.choose_by_part(predicted, COST), COST).mean()


@pytest.mark.parametrize("n", [60, 250])
def test_the_budget_is_kept_with_the_confidence(n):
    rng = np.random.default_rng(n)
    population, budget, n_simulations = heavy_tailed(rng, 20_000), 6.0, 200
    exceeded, exceeded_without_confidence, budget_shares = 0, 0, []
    for _ in range(n_simulations):
        sample = population[rng.integers(0, len(population), n)]
        rule = Certifier(sample, COST, CONFIDENCE).rule(budget) or cheapest_rule(sample, COST)
        mean_spent = mean_cost(rule, population)
        budget_shares.append(mean_spent / budget)
        exceeded += mean_spent > budget
        uncertified = calibrate_to_budget(sample, COST, budget).rule
        exceeded_without_confidence += mean_cost(uncertified, population) > budget
    assert exceeded <= (1 - CONFIDENCE) * n_simulations
    assert (1 - CONFIDENCE) * n_simulations < 0.3 * n_simulations < exceeded_without_confidence
    assert np.mean(budget_shares) > (0.5 if n == 60 else 0.7)


def test_the_bound_of_two_candidates_is_close_to_the_exact_bound():
    """The mean of two costs is a binomial proportion, with the exact bound of Clopper and Pearson.

    The certified bound is above the exact bound, and close to it.
    """
    for n, n_expensive in ((50, 5), (400, 40), (400, 200)):
        exact = beta.ppf(0.95, n_expensive + 1, n - n_expensive)
        grid = np.linspace(0.001, 0.999, 999)
        distinct_costs, count = np.array([0.0, 1.0]), np.array([n - n_expensive, n_expensive])
        certified = [is_certified(distinct_costs, count, b, (0, 1), 0.95) for b in grid]
        bound = grid[np.argmax(certified)]
        share = n_expensive / n
        assert exact < bound < share + 1.8 * (exact - share)


@settings(max_examples=60, deadline=None)
@given(problems(), st.floats(0.1, 9), st.booleans())
def test_a_certified_rule_passes_the_test_and_a_more_expensive_rule_does_not(
    problem, extra_budget, mix
):
    predicted, cost = np.tile(problem[0][0], (12, 1)), problem[1]
    certifier, budget = Certifier(predicted, cost, CONFIDENCE), cost.min() + extra_budget
    rule = certifier.rule(budget, mix)
    if rule is None or not rule.lam.any():
        assert rule is not None or not certifier.passes(budget, certifier.last, 0.0)
        return
    expected_cost = rule.expected(rule.choose_by_part(predicted, cost), cost)

    def passes(costs):
        count = np.ones(len(costs), int)
        return is_certified(costs, count, budget, (cost.min(), cost.max()), CONFIDENCE)

    assert passes(expected_cost - 1e-9)
    more_expensive = cost[choose(predicted, cost, rule.lam[0] * 2 ** (-1 / 256) * (1 - 1e-9))]
    assert not passes(more_expensive + 1e-9) or np.allclose(
        more_expensive, expected_cost, atol=1e-6
    )
    assert mix or len(rule.share) == 1


def test_the_certification_test_is_monotone_in_prompts_costs_and_confidence():
    distinct_costs, count = np.array([0.0, 1.0]), np.array([90, 10])
    assert is_certified(distinct_costs, count, 0.3, (0, 1), 0.95) and not is_certified(
        distinct_costs, count, 0.15, (0, 1), 0.95
    )
    assert is_certified(distinct_costs, 20 * count, 0.15, (0, 1), 0.95)
    assert not is_certified(np.array([0.1, 1.0]), count, 0.3, (0, 1), 0.9999999)
    assert is_certified(distinct_costs, count, 1.0, (0, 1), 0.95) and not is_certified(
        distinct_costs, count, 0.0, (0, 1), 0.95
    )


def test_few_prompts_certify_no_lambda_for_a_low_budget():
    predicted = heavy_tailed(np.random.default_rng(0), 10)
    certifier = Certifier(predicted, COST, 0.99)
    assert certifier.rule(1.5) is None
    smallest = certifier.smallest_budget()
    assert certifier.rule(smallest) is not None and certifier.rule(smallest - 0.1) is None
    other_prompts = heavy_tailed(np.random.default_rng(1), 500)
    assert set(choose(other_prompts, COST, cheapest_rule(predicted, COST).lam[0])) == {0}


def test_certified_budgets_ascend_from_the_cheapest_candidate():
    predicted = heavy_tailed(np.random.default_rng(0), 200)
    certified = CertifiedRules.compute(Certifier(predicted, COST, 0.9), 32)
    budgets, rules = certified.budgets, certified.rules
    mean_spent = [mean_cost(rule, predicted) for rule in rules]
    assert (
        budgets[0] == 1
        and mean_spent[0] == 1
        and (np.diff(budgets) > 0).all()
        and (np.diff(mean_spent) >= -1e-12).all()
    )
    assert all(s <= b for s, b in zip(mean_spent, budgets, strict=True)) and not rules[-1].lam.any()


def test_certified_rules_are_unchanged_by_a_round_trip_through_columns():
    certifier = Certifier(heavy_tailed(np.random.default_rng(0), 200), COST, 0.9)
    for mix in (True, False):
        certified = CertifiedRules.compute(certifier, 16, mix)
        rebuilt = CertifiedRules.from_columns(certified.to_columns())
        assert rebuilt.budgets.tolist() == certified.budgets.tolist()
        for rule, expected in zip(rebuilt.rules, certified.rules, strict=True):
            assert rule.lam.tolist() == expected.lam.tolist()
            assert rule.share == pytest.approx(expected.share, abs=1e-12)


def test_invalid_input_is_refused():
    with pytest.raises(InputError, match="below the cost of the cheapest"):
        Certifier(heavy_tailed(np.random.default_rng(0), 20), COST, 0.9).rule(0.5)
    with pytest.raises(ValueError, match="confidence"):
        Certifier(np.zeros((3, 4)), COST, 1.0)


def test_one_candidate_and_candidates_of_equal_quality_need_no_lambda():
    certifier = Certifier(np.zeros((3, 1)), np.array([2.0]), 0.9)
    assert certifier.rule(2.0).lam.tolist() == [0.0] and certifier.smallest_budget() == 2
    assert CertifiedRules.compute(certifier, 4).budgets[0] == 2
    equal_quality = Certifier(np.ones((40, 4)), COST, 0.9)
    assert equal_quality.rule(4.0).lam.tolist() == [0.0]


def test_a_budget_slightly_above_the_calibrated_one_does_not_select_a_rule_of_lower_mean_cost():
    """The calibrated budget lies between two evenly spaced budgets, so it must be one of the
    certified budgets itself.
    """
    predicted, budget = heavy_tailed(np.random.default_rng(0), 200), 6.3
    certifier = Certifier(predicted, COST, 0.9)
    rule = certifier.rule(budget)
    certified = CertifiedRules.compute(certifier, 32, True, budget)
    assert budget in certified.budgets
    for served in (budget, budget * (1 + 1e-12), budget + 1e-6, budget + 0.1):
        assert mean_cost(certified.within(served), predicted) >= mean_cost(rule, predicted)
    evenly_spaced = CertifiedRules.compute(certifier, 32)
    smaller = mean_cost(evenly_spaced.within(budget + 1e-6), predicted)
    assert smaller < mean_cost(rule, predicted)


@settings(max_examples=40, deadline=None)
@given(problems(), st.floats(0.01, 0.99), st.booleans())
def test_a_larger_certified_budget_never_has_a_lower_cost_or_quality(problem, share, mix):
    predicted, cost = np.tile(problem[0][0], (12, 1)), problem[1]
    low, high = float(cost.min()), float(cost.max())
    budget = low + share * (high - low)
    certified = CertifiedRules.compute(Certifier(predicted, cost, 0.6), 16, mix, budget)
    served = np.sort([*np.linspace(low, high, 23), budget, budget * (1 + 1e-6), budget + 0.01])
    rules = [certified.within(float(b)) for b in served]
    chosen = [rule.choose_by_part(predicted, cost) for rule in rules]
    pairs = list(zip(rules, chosen, strict=True))
    costs = [rule.expected(choice, cost).mean() for rule, choice in pairs]
    qualities = [rule.expected(choice, predicted).mean() for rule, choice in pairs]
    assert (np.diff(costs) >= -1e-7).all()
    assert (np.diff(qualities) >= -1e-7).all()


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(0, 1), min_size=1, max_size=30),
    st.floats(0, 1),
    st.floats(0, 1),
    st.floats(0.5, 0.99),
)
def test_the_certification_test_is_monotone_in_the_budget(costs, budget, increase, confidence):
    cost_array, count = np.array(costs), np.ones(len(costs), int)
    if is_certified(cost_array, count, budget, (0, 1), confidence):
        assert is_certified(cost_array, count, budget + increase * (1 - budget), (0, 1), confidence)


def test_candidates_that_cost_almost_nothing_can_be_certified():
    rng = np.random.default_rng(0)
    for cost in ([0.0, 1e-300], [0.0, 1e-17, 1.0], [1e9, 1e9 + 1], [0.0, 0.0]):
        predicted, costs = rng.random((300, len(cost))), np.array(cost)
        low, high = float(costs.min()), float(costs.max())
        certifier = Certifier(predicted, costs, 0.9)
        for budget in (low, low + 1e-18, (low + high) / 2, high):
            rule = certifier.rule(budget) or cheapest_rule(predicted, costs)
            mean_spent = rule.expected(rule.choose_by_part(predicted, costs), costs).mean()
            assert mean_spent <= budget * (1 + 1e-9)
