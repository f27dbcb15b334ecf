import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import beta

from catimage.errors import InputError
from catimage.routing.calibration import calibrate_to_budget
from catimage.routing.certificate import CertifiedRules, Certifier, cheapest_rule, is_certified
from catimage.routing.policy import choose
from tests.routing.problems import problems

COST = np.array([1.0, 2.0, 4.0, 32.0])
CONFIDENCE = 0.9


def heavy_tailed(rng, n):
    """Heavy-tailed quality: few prompts gain much from the expensive candidates."""
    return rng.lognormal(-1, 1.2, (n, 1)) * np.log(COST) + rng.normal(0, 0.1, (n, len(COST)))


def mean_cost(rule, scores):
    return rule.expected(rule.choose_by_part(scores, COST), COST).mean()


@pytest.mark.parametrize("n", [60, 250])
def test_the_budget_is_kept_with_the_confidence(n):
    rng = np.random.default_rng(n)
    population, budget, times = heavy_tailed(rng, 20_000), 6.0, 200
    over, plain, used = 0, 0, []
    for _ in range(times):
        seen = population[rng.integers(0, len(population), n)]
        spent = mean_cost(
            Certifier(seen, COST, CONFIDENCE).rule(budget) or cheapest_rule(seen, COST), population
        )
        used.append(spent / budget)
        over += spent > budget
        plain += mean_cost(calibrate_to_budget(seen, COST, budget).rule, population) > budget
    assert over <= (1 - CONFIDENCE) * times < 0.3 * times < plain
    assert np.mean(used) > (0.5 if n == 60 else 0.7)


def test_with_two_candidates_the_bound_is_close_to_the_exact_one():
    """With two costs the mean is a binomial proportion. The bound is above the exact one (Clopper
    and Pearson) and close to it.
    """
    for n, n_expensive in ((50, 5), (400, 40), (400, 200)):
        exact = beta.ppf(0.95, n_expensive + 1, n - n_expensive)
        grid = np.linspace(0.001, 0.999, 999)
        bound = grid[
            np.argmax(
                [
                    is_certified(
                        np.array([0.0, 1.0]),
                        np.array([n - n_expensive, n_expensive]),
                        b,
                        (0, 1),
                        0.95,
                    )
                    for b in grid
                ]
            )
        ]
        share = n_expensive / n
        assert exact < bound < share + 1.8 * (exact - share)


@settings(max_examples=60, deadline=None)
@given(problems(), st.floats(0.1, 9), st.booleans())
def test_the_rule_passes_the_test_and_a_more_expensive_one_does_not(problem, more, mix):
    scores, cost = np.tile(problem[0][0], (12, 1)), problem[1]
    certifier, budget = Certifier(scores, cost, CONFIDENCE), cost.min() + more
    rule = certifier.rule(budget, mix)
    if rule is None or not rule.lam.any():
        assert rule is not None or not certifier.passes(budget, certifier.last, 0.0)
        return
    values = rule.expected(rule.choose_by_part(scores, cost), cost)

    def passes(spent):
        count = np.ones(len(spent), int)
        return is_certified(spent, count, budget, (cost.min(), cost.max()), CONFIDENCE)

    assert passes(values - 1e-9)
    costlier = cost[choose(scores, cost, rule.lam[0] * 2 ** (-1 / 256) * (1 - 1e-9))]
    assert not passes(costlier + 1e-9) or np.allclose(costlier, values, atol=1e-6)
    assert mix or len(rule.share) == 1


def test_the_test_is_monotone_in_prompts_costs_and_confidence():
    spent, count = np.array([0.0, 1.0]), np.array([90, 10])
    assert is_certified(spent, count, 0.3, (0, 1), 0.95) and not is_certified(
        spent, count, 0.15, (0, 1), 0.95
    )
    assert is_certified(spent, 20 * count, 0.15, (0, 1), 0.95)
    assert not is_certified(np.array([0.1, 1.0]), count, 0.3, (0, 1), 0.9999999)
    assert is_certified(spent, count, 1.0, (0, 1), 0.95) and not is_certified(
        spent, count, 0.0, (0, 1), 0.95
    )


def test_with_few_prompts_no_lambda_is_certified_but_the_smallest_budget_is():
    scores = heavy_tailed(np.random.default_rng(0), 10)
    certifier = Certifier(scores, COST, 0.99)
    assert certifier.rule(1.5) is None
    least = certifier.smallest_budget()
    assert certifier.rule(least) is not None and certifier.rule(least - 0.1) is None
    assert set(
        choose(
            heavy_tailed(np.random.default_rng(1), 500), COST, cheapest_rule(scores, COST).lam[0]
        )
    ) == {0}


def test_certified_budgets_ascend_from_the_cheapest_candidate():
    scores = heavy_tailed(np.random.default_rng(0), 200)
    certified = CertifiedRules.compute(Certifier(scores, COST, 0.9), 32)
    budgets, rules = certified.budgets, certified.rules
    spent = [mean_cost(rule, scores) for rule in rules]
    assert (
        budgets[0] == 1
        and spent[0] == 1
        and (np.diff(budgets) > 0).all()
        and (np.diff(spent) >= -1e-12).all()
    )
    assert all(s <= b for s, b in zip(spent, budgets, strict=True)) and not rules[-1].lam.any()


def test_certified_rules_are_unchanged_by_a_round_trip_through_columns():
    certifier = Certifier(heavy_tailed(np.random.default_rng(0), 200), COST, 0.9)
    for mix in (True, False):
        certified = CertifiedRules.compute(certifier, 16, mix)
        copy = CertifiedRules.from_columns(certified.to_columns())
        assert copy.budgets.tolist() == certified.budgets.tolist()
        for rule, other in zip(copy.rules, certified.rules, strict=True):
            assert rule.lam.tolist() == other.lam.tolist()
            assert rule.share == pytest.approx(other.share, abs=1e-12)


def test_invalid_input_and_pools_of_equal_candidates():
    with pytest.raises(InputError, match="below the cost of the cheapest"):
        Certifier(heavy_tailed(np.random.default_rng(0), 20), COST, 0.9).rule(0.5)
    with pytest.raises(ValueError, match="confidence"):
        Certifier(np.zeros((3, 4)), COST, 1.0)
    one = Certifier(np.zeros((3, 1)), np.array([2.0]), 0.9)
    assert (
        one.rule(2.0).lam.tolist() == [0.0]
        and one.smallest_budget() == 2
        and CertifiedRules.compute(one, 4).budgets[0] == 2
    )
    same = Certifier(np.ones((40, 4)), COST, 0.9)
    assert same.rule(4.0).lam.tolist() == [0.0]
