import numpy as np
import pytest
from hypothesis import given, settings

from catimage.evaluation.policies import fixed, mix, routed
from tests.evaluation.worlds import problems


@settings(max_examples=150, deadline=None)
@given(problems())
def test_an_outcome_on_the_split_where_the_family_was_found_is_its_point(problem):
    predicted, actual, cost = problem
    for family in (
        routed(predicted, actual, predicted, actual, cost),
        fixed(actual, actual, cost),
        mix(actual, actual, cost),
    ):
        for i, (c, q) in enumerate(zip(family.curve.cost, family.curve.quality, strict=True)):
            outcome = family.outcome(float(i))
            assert outcome.cost.mean() == pytest.approx(
                c
            ) and outcome.quality.mean() == pytest.approx(q)


def test_lambda_found_on_one_split_is_applied_to_another():
    family = routed(
        np.array([[0.0, 1.0]]),
        np.array([[0.0, 1.0]]),
        np.array([[0.0, 0.5], [0.0, 9.0]]),
        np.array([[3.0, 4.0], [5.0, 6.0]]),
        np.array([1.0, 2.0]),
    )
    outcome = family.outcome(1.0)
    assert outcome.lam == pytest.approx(1.0)
    assert outcome.cost.tolist() == [1, 2] and outcome.quality.tolist() == [3, 6]


def test_half_of_an_edge_is_half_of_each_candidate():
    test = np.array([[1.0, 5.0], [2.0, 8.0]])
    outcome = mix(np.array([[0.0, 1.0]]), test, np.array([1.0, 3.0])).outcome(0.5)
    assert (
        outcome.cost.tolist() == [2, 2]
        and outcome.quality.tolist() == [3, 5]
        and outcome.lam is None
    )


def test_a_candidate_below_the_hull_is_no_vertex():
    labels = np.array([[0.0, 0.1, 1.0]])
    assert mix(labels, labels, np.array([1.0, 2.0, 3.0])).curve.cost.tolist() == [3, 1]
    assert fixed(labels, labels, np.array([1.0, 2.0, 3.0])).curve.cost.tolist() == [3, 2, 1]
