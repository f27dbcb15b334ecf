import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catimage.routing.linear_program import optimum
from tests.routing.problems import means, problems, programme


@settings(max_examples=120, deadline=None)
@given(
    st.integers(1, 4).flatmap(lambda k: problems(metrics=k)),
    st.floats(0, 9.5),
    st.lists(st.floats(-3, 3), min_size=3, max_size=3),
)
def test_it_is_the_optimum_that_scipy_finds(problem, more, levels):
    scores, cost = problem
    budget, floors = cost.min() + more, np.array(levels[: len(scores) - 1])
    wanted, found = programme(scores, cost, budget, floors), optimum(scores, cost, budget, floors)
    if wanted is None:
        assert not found.met or found.missed.max() < 1e-6
        return
    spent, values = means(found.rule, scores, cost)
    assert found.met and values[0] == pytest.approx(wanted, abs=1e-6)
    assert spent <= budget + 1e-6 and (values[1:] >= floors - 1e-6).all()


def test_at_full_size_the_constraints_are_met_exactly_by_few_rules():
    rng = np.random.default_rng(0)
    scores, cost = rng.normal(size=(3, 800, 6)), np.array([1.0, 2, 3, 5, 8, 13])
    found = optimum(scores, cost, 4.0, np.array([0.4, 0.3]))
    spent, values = means(found.rule, scores, cost)
    assert spent == pytest.approx(4.0, abs=1e-9) and values[1:] == pytest.approx(
        [0.4, 0.3], abs=1e-9
    )
    assert len(found.rule.share) <= 4 and (found.rule.multipliers > 0).all()


def test_constant_metrics_and_equal_costs():
    scores = np.ones((2, 5, 3))
    assert optimum(scores, np.ones(3), 1.0, np.array([1.0])).met
    assert optimum(scores, np.ones(3), 1.0, np.array([1.5])).missed.tolist() == pytest.approx(
        [0.0, 0.5]
    )
