"""Selection of candidates by equation 3 of the CATImage paper."""

import numpy as np
import pytest

from catimage.routing.policy import choose

QUALITY = np.array([[0.2, 0.9, 0.9], [0.5, 0.5, 0.5]])
COST = np.array([3.0, 2.0, 1.0])


def test_lambda_0_selects_the_best_candidate_and_the_cheapest_of_tied_candidates():
    assert choose(QUALITY, COST, 0.0).tolist() == [2, 2]


def test_a_large_lambda_selects_the_cheapest_candidate():
    assert choose(QUALITY, COST, 1e9).tolist() == [2, 2]
    assert choose(QUALITY, np.array([1.0, 2.0, 1.0]), np.inf).tolist() == [2, 0]


def test_the_selection_equals_that_of_a_loop_over_prompts_and_candidates():
    rng = np.random.default_rng(0)
    quality, cost = rng.random((50, 7)), rng.random(7)
    expected = [max(range(7), key=lambda m: quality[i, m] - 0.3 * cost[m]) for i in range(50)]
    assert choose(quality, cost, 0.3).tolist() == expected


@pytest.mark.parametrize("lam", [-1.0, float("nan")])
def test_a_negative_lambda_and_nan_are_refused(lam):
    with pytest.raises(ValueError, match="lambda"):
        choose(QUALITY, COST, lam)
