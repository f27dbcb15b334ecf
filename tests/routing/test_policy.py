import numpy as np
import pytest

from catimage.routing.policy import choose

QUALITY = np.array([[0.2, 0.9, 0.9], [0.5, 0.5, 0.5]])
COST = np.array([3.0, 2.0, 1.0])


def test_zero_lambda_takes_the_best_and_a_tie_goes_to_the_cheaper():
    assert choose(QUALITY, COST, 0.0).tolist() == [2, 2]


def test_large_lambda_takes_the_cheapest():
    assert choose(QUALITY, COST, 1e9).tolist() == [2, 2]
    assert choose(QUALITY, np.array([1.0, 2.0, 1.0]), np.inf).tolist() == [2, 0]


def test_against_a_loop():
    rng = np.random.default_rng(0)
    quality, cost = rng.random((50, 7)), rng.random(7)
    looped = [max(range(7), key=lambda m: quality[i, m] - 0.3 * cost[m]) for i in range(50)]
    assert choose(quality, cost, 0.3).tolist() == looped


@pytest.mark.parametrize("lam", [-1.0, float("nan")])
def test_a_negative_lambda_is_refused(lam):
    with pytest.raises(ValueError, match="lambda"):
        choose(QUALITY, COST, lam)
