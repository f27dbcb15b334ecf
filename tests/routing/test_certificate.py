import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import beta

from catimage.errors import InputError
from catimage.routing.calibration import calibrate
from catimage.routing.certificate import Certifier, always_cheapest, budgets_and_rules, certified
from catimage.routing.policy import choose
from tests.routing.problems import problems

COST = np.array([1.0, 2.0, 4.0, 32.0])
CONFIDENCE = 0.9


def world(rng, n):
    """A heavy tail: few prompts gain much by the dear candidates."""
    return rng.lognormal(-1, 1.2, (n, 1)) * np.log(COST) + rng.normal(0, 0.1, (n, len(COST)))


def spent_of(rule, scores):
    return rule.expected(rule.choices(scores, COST), COST).mean()


@pytest.mark.parametrize("n", [60, 250])
def test_coverage(n):
    rng = np.random.default_rng(n)
    everyone, budget, times = world(rng, 20_000), 6.0, 200
    over, plain, used = 0, 0, []
    for _ in range(times):
        seen = everyone[rng.integers(0, len(everyone), n)]
        spent = spent_of(
            Certifier(seen, COST, CONFIDENCE).rule(budget) or always_cheapest(seen, COST), everyone
        )
        used.append(spent / budget)
        over += spent > budget
        plain += spent_of(calibrate(seen, COST, budget).rule, everyone) > budget
    assert over <= (1 - CONFIDENCE) * times < 0.3 * times < plain
    assert np.mean(used) > (0.5 if n == 60 else 0.7)


def test_two_candidates_against_the_exact_bound():
    """With two costs their mean is a binomial share; its exact upper bound is Clopper and
    Pearson's, and ours is above it, and near.
    """
    for n, dear in ((50, 5), (400, 40), (400, 200)):
        exact = beta.ppf(0.95, dear + 1, n - dear)
        grid = np.linspace(0.001, 0.999, 999)
        ours = grid[
            np.argmax(
                [
                    certified(np.array([0.0, 1.0]), np.array([n - dear, dear]), b, 0, 1, 0.95)
                    for b in grid
                ]
            )
        ]
        share = dear / n
        assert exact < ours < share + 1.8 * (exact - share)


@settings(max_examples=60, deadline=None)
@given(problems(), st.floats(0.1, 9), st.booleans())
def test_what_is_certified_is_certain_and_nothing_dearer_is(problem, more, mix):
    scores, cost = np.tile(problem[0][0], (12, 1)), problem[1]
    certifier, budget = Certifier(scores, cost, CONFIDENCE), cost.min() + more
    rule = certifier.rule(budget, mix)
    if rule is None or not rule.lam.any():
        assert rule is not None or not certifier.passes(budget, certifier.last, 0.0)
        return
    values = rule.expected(rule.choices(scores, cost), cost)
    held = lambda spent: certified(
        spent, np.ones(len(spent), int), budget, cost.min(), cost.max(), CONFIDENCE
    )  # noqa: E731
    assert held(values - 1e-9)
    dearer = cost[choose(scores, cost, rule.lam[0] * 2 ** (-1 / 256) * (1 - 1e-9))]
    assert not held(dearer + 1e-9) or np.allclose(dearer, values, atol=1e-6)
    assert mix or len(rule.share) == 1


def test_evidence_grows_with_prompts_and_falls_with_costs_and_confidence():
    spent, count = np.array([0.0, 1.0]), np.array([90, 10])
    assert certified(spent, count, 0.3, 0, 1, 0.95) and not certified(
        spent, count, 0.15, 0, 1, 0.95
    )
    assert certified(spent, 20 * count, 0.15, 0, 1, 0.95)
    assert not certified(np.array([0.1, 1.0]), count, 0.3, 0, 1, 0.9999999)
    assert certified(spent, count, 1.0, 0, 1, 0.95) and not certified(spent, count, 0.0, 0, 1, 0.95)


def test_with_few_prompts_only_the_cheapest_is_certain_and_the_least_budget_is_told():
    scores = world(np.random.default_rng(0), 10)
    certifier = Certifier(scores, COST, 0.99)
    assert certifier.rule(1.5) is None
    least = certifier.smallest_budget()
    assert certifier.rule(least) is not None and certifier.rule(least - 0.1) is None
    assert set(
        choose(world(np.random.default_rng(1), 500), COST, always_cheapest(scores, COST).lam[0])
    ) == {0}


def test_other_budgets_ascend_from_the_cheapest_candidate():
    scores = world(np.random.default_rng(0), 200)
    found = budgets_and_rules(Certifier(scores, COST, 0.9), 32)
    budgets, rules = zip(*found, strict=True)
    spent = [spent_of(rule, scores) for rule in rules]
    assert (
        budgets[0] == 1
        and spent[0] == 1
        and (np.diff(budgets) > 0).all()
        and (np.diff(spent) >= -1e-12).all()
    )
    assert all(s <= b for s, b in zip(spent, budgets, strict=True)) and not rules[-1].lam.any()


def test_bad_input_and_trivial_pools():
    with pytest.raises(InputError, match="below the cheapest"):
        Certifier(world(np.random.default_rng(0), 20), COST, 0.9).rule(0.5)
    with pytest.raises(ValueError, match="confidence"):
        Certifier(np.zeros((3, 4)), COST, 1.0)
    one = Certifier(np.zeros((3, 1)), np.array([2.0]), 0.9)
    assert (
        one.rule(2.0).lam.tolist() == [0.0]
        and one.smallest_budget() == 2
        and budgets_and_rules(one, 4)[0][0] == 2
    )
    same = Certifier(np.ones((40, 4)), COST, 0.9)
    assert same.rule(4.0).lam.tolist() == [0.0]
