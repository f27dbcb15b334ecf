"""Draws of randomized rules per request: distribution, repeatability and independence."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from scipy.stats import binom, ks_2samp, kstest

from catimage.data.prompts.identity import split_of
from catimage.errors import InputError
from catimage.routing.draws import request_draws
from catimage.routing.randomized import RoutingRule

PROMPTS = [f"number {i}" for i in range(4000)]
RULE = RoutingRule.from_parts((0.5, 0.0), (0.5, 1.0))


def assert_half_uses_each_part(draws):
    """Check a share of 50% by the central 99.98% of the binomial distribution."""
    n_first = int((RULE.assign_parts(draws) == 0).sum())
    low, high = binom.interval(0.9998, len(draws), 0.5)
    assert low <= n_first <= high


def test_repeated_prompts_use_the_parts_in_proportion_to_their_shares():
    """Three prompts are sent many times: a draw per prompt would give them three draws only."""
    prompts = ["a red ring", "two moons", "a red ring"] * 1000
    assert_half_uses_each_part(request_draws(prompts))
    assert_half_uses_each_part(request_draws(prompts, seed=0))
    ids = [f"request {i}" for i in range(len(prompts))]
    assert_half_uses_each_part(request_draws(prompts, request_ids=ids))
    single_requests = [request_draws(["a red ring"])[0] for _ in range(2000)]
    assert_half_uses_each_part(np.array(single_requests))


def test_one_seed_for_all_requests_does_not_give_them_the_same_draw():
    single_requests = [request_draws([prompt], seed=42)[0] for prompt in PROMPTS]
    assert kstest(single_requests, "uniform").pvalue > 1e-3


@pytest.mark.parametrize(
    "arguments",
    [
        {"seed": 7},
        {"seed": "a text"},
        {"request_ids": PROMPTS},
        {"seed": 1, "request_ids": PROMPTS},
    ],
)
def test_draws_are_repeatable_and_uniform(arguments):
    draws = request_draws(PROMPTS, **arguments)
    assert draws.tolist() == request_draws(PROMPTS, **arguments).tolist()
    assert kstest(draws, "uniform").pvalue > 1e-3
    assert (draws >= 0).all()
    assert (draws < 1).all()
    changed = arguments | {"seed": 8}
    assert ks_2samp(draws, request_draws(PROMPTS, **changed)).pvalue > 1e-3
    assert not np.isin(draws, request_draws(PROMPTS, **changed)).any()


def test_a_draw_does_not_depend_on_the_other_requests():
    draws = request_draws(PROMPTS[:9], seed=3)
    assert request_draws(PROMPTS[:4], seed=3).tolist() == draws[:4].tolist()
    others = ["other"] * 8 + [PROMPTS[8]]
    assert request_draws(others, seed=3)[8] == draws[8]
    by_id = request_draws(PROMPTS[:3], request_ids=["x", "y", "z"])
    assert request_draws([PROMPTS[1]], request_ids=["y"])[0] == by_id[1]
    assert request_draws([f"  {PROMPTS[1]} "], request_ids=["y"])[0] == by_id[1]


def test_the_first_position_and_a_request_with_the_id_0_have_different_draws():
    assert request_draws(["a"], seed=1)[0] != request_draws(["a"], seed=1, request_ids=["0"])[0]


def test_draws_are_independent_of_the_split():
    draws = request_draws(PROMPTS, seed=0, request_ids=PROMPTS)
    train = np.array([split_of(prompt, 0.1) == "train" for prompt in PROMPTS])
    assert ks_2samp(draws[train], draws[~train]).pvalue > 1e-3


def test_random_draws_of_concurrent_requests_differ():
    with ThreadPoolExecutor(8) as pool:
        draws = list(pool.map(lambda _: request_draws(["a red ring"])[0], range(800)))
    assert len(set(draws)) == 800
    assert kstest(draws, "uniform").pvalue > 1e-4


def test_a_wrong_number_of_ids_is_refused():
    with pytest.raises(InputError, match=r"request_ids: 1 ids for 2 prompts\. Pass one id per"):
        request_draws(["a", "b"], request_ids=["x"])
