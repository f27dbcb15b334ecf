"""Rules within a budget for costs that are zero, tiny, huge, equal or not integers.

The reference solutions are computed with fractions, by enumeration of all assignments or lambdas.
"""

from fractions import Fraction
from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from catimage.errors import InputError
from catimage.routing.calibration import calibrate_to_budget
from catimage.routing.curve import DeferralCurve, deferral_curve
from catimage.routing.floors import FloorProblem, best_with_floors
from catimage.routing.policy import choose
from catimage.routing.randomized import rule_within
from tests.routing.problems import means, problems

COSTS = st.one_of(
    st.sampled_from([0.0, 1e-300, 3e-300, 1e-17, 0.1, 0.3, 1.0, 1e9, 1e9 + 1, 7e9, 1e200]),
    st.floats(1e-6, 10),
)
QUALITIES = st.integers(-20, 20).map(lambda v: v / 7)


@st.composite
def small_problems(draw):
    """Draw predictions, (n_prompts, n_candidates), and costs, small enough to enumerate."""
    n, m = draw(st.integers(1, 3)), draw(st.integers(1, 4))
    rows = [[draw(QUALITIES) for _ in range(m)] for _ in range(n)]
    return np.array(rows), np.array([draw(COSTS) for _ in range(m)])


@st.composite
def budgets_of(draw, cost):
    """Draw a budget that is at least the cost of the cheapest candidate."""
    low, high = float(cost.min()), float(cost.max())
    between = draw(st.floats(0, 1)) * (high - low) + low
    near = [low, low * (1 + 1e-12), low + 1e-17, low + 1e-300, high, between, *cost.tolist()]
    return draw(st.sampled_from([b for b in near if b >= low]))


def exact_means(predicted, cost, assignment):
    """Return the exact mean cost and mean quality if prompt i is routed to ``assignment[i]``."""
    n = len(predicted)
    spent = sum(Fraction(float(cost[m])) for m in assignment) / n
    return spent, sum(Fraction(float(predicted[i, m])) for i, m in enumerate(assignment)) / n


def best_mixture(predicted, cost, budget, tolerance=0.0):
    """Return the best mean quality of a mixture of two assignments within a budget.

    The budget may be exceeded by the share ``tolerance``.
    """
    n, m = predicted.shape
    points = [exact_means(predicted, cost, a) for a in product(range(m), repeat=n)]
    limit = Fraction(budget) * (1 + Fraction(tolerance))
    best = max(quality for spent, quality in points if spent <= limit)
    for (c, q), (other_c, other_q) in product(points, points):
        if c <= limit < other_c:
            best = max(best, q + (other_q - q) * (limit - c) / (other_c - c))
    return float(best)


def exact_choice(row, cost, lam):
    """Return the candidate that equation 3 selects in exact arithmetic, the cheapest if tied."""
    values = [
        (Fraction(float(q)) - lam * Fraction(float(c)), -c) for q, c in zip(row, cost, strict=True)
    ]
    return max(range(len(row)), key=lambda m: values[m])


def best_lambda(predicted, cost, budget, tolerance=1e-9):
    """Return the best mean quality of equation 3 with one lambda within a budget.

    The budget may be exceeded by the share ``tolerance``.
    """
    lambdas = {Fraction(0)}
    for row in predicted:
        for a, b in product(range(len(cost)), repeat=2):
            if cost[a] > cost[b] and row[a] > row[b]:
                difference = Fraction(float(row[a])) - Fraction(float(row[b]))
                lambdas.add(difference / (Fraction(float(cost[a])) - Fraction(float(cost[b]))))
    candidates = ([exact_choice(row, cost, lam) for row in predicted] for lam in lambdas)
    points = [exact_means(predicted, cost, choice) for choice in candidates]
    limit = Fraction(budget) * (1 + Fraction(tolerance))
    return float(max(quality for spent, quality in points if spent <= limit))


@settings(max_examples=300, deadline=None)
@given(small_problems(), st.data(), st.booleans())
def test_the_rule_keeps_the_budget_and_has_the_best_quality(problem, data, mix):
    predicted, cost = problem
    budget = data.draw(budgets_of(cost))
    calibrated = calibrate_to_budget(predicted, cost, budget, mix=mix)
    spent, quality = means(calibrated.rule, predicted[None], cost)
    assert spent <= budget * (1 + 2e-9)
    assert spent == pytest.approx(calibrated.mean_cost, rel=1e-6)
    best = best_mixture if mix else best_lambda
    allowed = best(predicted, cost, budget, tolerance=2e-9)
    assert best(predicted, cost, budget) - 1e-7 <= quality[0] <= allowed + 1e-7


@settings(max_examples=150, deadline=None)
@given(small_problems(), st.data(), st.booleans())
def test_a_larger_budget_never_has_a_lower_cost_or_quality(problem, data, mix):
    predicted, cost = problem
    budgets = sorted(data.draw(budgets_of(cost)) for _ in range(4))
    rules = [calibrate_to_budget(predicted, cost, b, mix=mix).rule for b in budgets]
    results = [means(rule, predicted[None], cost) for rule in rules]
    for (spent, quality), (more_spent, more_quality) in pairwise(results):
        assert spent <= more_spent * (1 + 3e-9)
        assert quality[0] <= more_quality[0] + 1e-7


@settings(max_examples=100, deadline=None)
@given(small_problems())
@example((np.array([[0.0, 1.0]] * 3), np.array([0.0, 0.1])))
@example(
    (np.array([[0.0, 0.0], [0.0, 0.0], [0.0, -1 / 7]]), np.array([np.nextafter(1e-6, 1), 1e-6]))
)
def test_the_last_point_of_a_curve_costs_as_much_as_the_cheapest_candidate(problem):
    predicted, cost = problem
    curve = deferral_curve(predicted, cost)
    assert curve.cost[-1] == cost.min()
    assert (np.diff(curve.cost) <= 0).all()  # equal if the difference of two costs is rounded
    cheapest = curve.quality[curve.cost <= cost.min() * (1 + 1e-9)].max()
    assert curve.mean_quality(cost.min(), cost.min()) == pytest.approx(cheapest)


@pytest.mark.parametrize("budget", [0.0, -0.0, 1e-17, 1e-300])
def test_a_budget_of_almost_nothing_selects_the_free_candidate(budget):
    """The mean of the free candidate's cost must not round to more than the budget, because no
    point of the curve would then be within the budget.
    """
    for seed in range(100):
        rng = np.random.default_rng(seed)
        predicted, cost = rng.random((50, 4)), np.append(0.0, rng.random(3))
        rule, spent = rule_within(deferral_curve(predicted, cost), budget, cost)
        assert spent <= max(budget, 0.0) * (1 + 1e-9)
        assert means(rule, predicted[None], cost)[0] <= max(budget, 0.0) * (1 + 1e-9)


@pytest.mark.parametrize("budget", [0.0, 1e-17])
@pytest.mark.parametrize("mix", [True, False])
def test_new_prompts_get_the_free_candidate_too_if_nothing_can_be_spent(budget, mix):
    rng, cost = np.random.default_rng(0), np.array([0.0, 0.3, 1.0])
    curve = deferral_curve(rng.random((50, 3)), cost)
    rule, _ = rule_within(curve, budget, cost, mix)
    new = rng.normal(0, 1000, (2000, 3))
    assert means(rule, new[None], cost)[0] == 0


@settings(max_examples=100, deadline=None)
@given(problems(), st.booleans(), st.integers(0, 2**32 - 1), st.floats(1e-6, 1e6))
def test_new_prompts_get_the_cheapest_candidate_if_no_known_prompt_prefers_a_dearer_one(
    problem, mix, seed, scale
):
    """The curve then has one point, whose lambda is 0."""
    predicted, cost = problem
    predicted = -np.sort(-predicted[0], axis=1)[:, np.argsort(np.argsort(cost, kind="stable"))]
    curve = deferral_curve(predicted, cost)
    assert len(curve) == 1
    rule, spent = rule_within(curve, cost.min(), cost, mix)
    new = np.random.default_rng(seed).normal(0, scale, (200, len(cost)))
    assert spent == cost.min()
    assert means(rule, new[None], cost)[0] == pytest.approx(cost.min())


def test_a_curve_whose_points_all_exceed_the_budget_by_rounding_gives_its_cheapest_point():
    curve = DeferralCurve(np.array([0.0, 2.0]), np.array([0.3, 1e-17]), np.array([1.0, 0.0]))
    rule, spent = rule_within(curve, 0.0, np.array([0.0, 0.3]))
    assert rule.lam.min() >= 2.0
    assert spent == 1e-17


def test_candidates_that_are_all_free_need_no_lambda():
    predicted = np.random.default_rng(0).random((20, 3))
    calibrated = calibrate_to_budget(predicted, np.zeros(3), 0.0)
    assert calibrated.rule.lam.tolist() == [0.0]
    assert calibrated.mean_cost == 0.0


def test_large_common_costs_and_qualities_do_not_hide_differences():
    cost, lam = np.array([1e9, 1e9 + 1]), 0.5 * (1 + 1e-9)
    assert choose(np.array([[0.0, 0.5]]), cost, lam).tolist() == [0]
    assert choose(np.array([[0.0, 0.5]]), cost, 0.5 * (1 - 1e-9)).tolist() == [1]
    assert choose(np.array([[1e6, 1e6 + 0.5]]), cost - 1e9, lam).tolist() == [0]


@pytest.mark.parametrize("budget", [float("nan"), float("inf"), float("-inf"), "60%", None, True])
def test_a_budget_that_is_not_a_finite_number_is_refused(budget):
    with pytest.raises(InputError, match=r"^budget: must be a finite number, not .*\. Correct it"):
        rule_within(deferral_curve(np.ones((2, 1)), np.ones(1)), budget, np.ones(1))


def test_a_floor_of_zero_and_a_free_candidate_keep_a_tiny_budget():
    """The mean of labels of both signs rounds to 1e-17: a floor of 0 must accept this."""
    rng = np.random.default_rng(3)
    labels = rng.normal(size=(1, 40, 3))
    labels -= labels.mean(axis=1, keepdims=True)
    cost = np.array([0.0, 0.3, 1.0])
    predicted = np.concatenate([rng.random((1, 40, 3)), labels])
    for budget in (0.0, 1e-17, 1e-7, 0.5):
        problem = FloorProblem(predicted, labels, cost, budget, np.zeros(1), ["other"])
        solution = best_with_floors(problem)
        assert solution.mean_cost <= budget + 1e-9 * np.ptp(cost)
        assert solution.mean_labels[0] >= -1e-9
