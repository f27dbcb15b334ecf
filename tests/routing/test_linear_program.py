"""Column generation, compared with the linear program in one call of scipy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catimage.routing.linear_program import optimal_rule
from tests.routing.problems import means, problems, relaxed_optimum


@settings(max_examples=120, deadline=None)
@given(
    st.integers(1, 4).flatmap(lambda k: problems(metrics=k)),
    st.floats(0, 9.5),
    st.lists(st.floats(-3, 3), min_size=3, max_size=3),
)
def test_the_optimum_equals_that_of_one_call_of_scipy(problem, extra_budget, floor_values):
    predicted, cost = problem
    budget, floors = cost.min() + extra_budget, np.array(floor_values[: len(predicted) - 1])
    expected = relaxed_optimum(predicted, cost, budget, floors)
    optimum = optimal_rule(predicted, cost, budget, floors)
    if expected is None:
        assert not optimum.feasible or optimum.violations.max() < 1e-6
        return
    spent, values = means(optimum.rule, predicted, cost)
    assert optimum.feasible and values[0] == pytest.approx(expected, abs=1e-6)
    assert spent <= budget + 1e-6 and (values[1:] >= floors - 1e-6).all()


def test_a_mixture_of_few_rules_satisfies_the_constraints_exactly():
    rng = np.random.default_rng(0)
    predicted, cost = rng.normal(size=(3, 800, 6)), np.array([1.0, 2, 3, 5, 8, 13])
    optimum = optimal_rule(predicted, cost, 4.0, np.array([0.4, 0.3]))
    spent, values = means(optimum.rule, predicted, cost)
    assert spent == pytest.approx(4.0, abs=1e-9)
    assert values[1:] == pytest.approx([0.4, 0.3], abs=1e-9)
    assert len(optimum.rule.share) <= 4 and (optimum.rule.multipliers > 0).all()


def test_violations_of_constant_metrics_with_equal_costs():
    predicted = np.ones((2, 5, 3))
    assert optimal_rule(predicted, np.ones(3), 1.0, np.array([1.0])).feasible
    infeasible = optimal_rule(predicted, np.ones(3), 1.0, np.array([1.5]))
    assert infeasible.violations.tolist() == pytest.approx([0.0, 0.5])
