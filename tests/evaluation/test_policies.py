import numpy as np
import pytest
from hypothesis import given, settings

from catimage.evaluation.policies import fixed_policies, randomized_policies, routed_policies
from tests.evaluation.synthetic import problems


@settings(max_examples=150, deadline=None)
@given(problems())
def test_the_outcome_on_the_selection_split_is_the_point_of_the_curve(problem):
    predicted, actual, cost = problem
    for policies in (
        routed_policies(predicted, actual, predicted, actual, cost),
        fixed_policies(actual, actual, cost),
        randomized_policies(actual, actual, cost),
    ):
        curve = policies.curve
        for i, (c, q) in enumerate(zip(curve.cost, curve.quality, strict=True)):
            outcome = policies.outcome(float(i))
            assert outcome.cost.mean() == pytest.approx(c)
            assert outcome.quality.mean() == pytest.approx(q)


def test_a_lambda_selected_on_one_split_is_applied_to_another():
    policies = routed_policies(
        np.array([[0.0, 1.0]]),
        np.array([[0.0, 1.0]]),
        np.array([[0.0, 0.5], [0.0, 9.0]]),
        np.array([[3.0, 4.0], [5.0, 6.0]]),
        np.array([1.0, 2.0]),
    )
    outcome = policies.outcome(1.0)
    assert outcome.lam == pytest.approx(1.0, rel=2e-4)
    assert outcome.cost.tolist() == [1, 2]
    assert outcome.quality.tolist() == [3, 6]


def test_the_middle_of_an_edge_is_the_mean_of_both_candidates():
    test = np.array([[1.0, 5.0], [2.0, 8.0]])
    outcome = randomized_policies(np.array([[0.0, 1.0]]), test, np.array([1.0, 3.0])).outcome(0.5)
    assert outcome.cost.tolist() == [2, 2]
    assert outcome.quality.tolist() == [3, 5]
    assert outcome.lam is None


def test_a_candidate_below_the_hull_is_not_part_of_a_mix():
    labels, cost = np.array([[0.0, 0.1, 1.0]]), np.array([1.0, 2.0, 3.0])
    assert randomized_policies(labels, labels, cost).curve.cost.tolist() == [3, 1]
    assert fixed_policies(labels, labels, cost).curve.cost.tolist() == [3, 2, 1]


def test_a_cost_below_that_of_every_policy_is_refused():
    labels = np.array([[0.0, 1.0]])
    policies = fixed_policies(labels, labels, np.array([1.0, 3.0]))
    assert policies.position_at_cost(2.0) == 1
    message = r"cost: 0\.5 is below the lowest cost of the curve\. Use 1\.0 or more"
    with pytest.raises(ValueError, match=message):
        policies.position_at_cost(0.5)
