import math

import numpy as np
import pytest

from catimage.errors import InputError
from catimage.router import Router
from tests.built import COST, build


@pytest.fixture(scope="module")
def router(tmp_path_factory):
    workspace, _ = build(tmp_path_factory.mktemp("router"))
    return Router.load(workspace.router)


def test_crowded_prompts_go_to_the_dear_candidate_and_plain_ones_to_the_cheap(router):
    plain, crowded = router.route(["plain sage number 7", "crowded sage number 8"], lam=0.05)
    assert (plain.candidate, crowded.candidate) == ("mini-1", "mini-4")
    assert plain.cost == COST["mini-1"] and set(plain.qualities) == set(COST)
    assert crowded.predicted_quality == crowded.qualities["mini-4"]


def test_the_extremes_of_lambda(router):
    prompts = ["crowded sage number 8"]
    assert router.route(prompts, lam=math.inf)[0].candidate == "mini-1"
    assert router.route(prompts, lam=0.0)[0].predicted_quality == max(router.predict(prompts)[0])


def test_a_smaller_budget_means_a_larger_lambda(router):
    lambdas = [router.lambda_for(b) for b in np.linspace(1, 4, 13)]
    assert lambdas == sorted(lambdas, reverse=True) and lambdas[0] > lambdas[-1] == 0
    assert router.lambda_for(router.budget) == pytest.approx(router.lam, rel=1e-6)


@pytest.mark.parametrize(
    ("prompts", "options", "words"),
    [
        (["a"], {"budget": 0.5}, "below the cheapest"),
        (["a"], {"budget": 2, "lam": 1}, "not both"),
        (["a"], {"lam": -1}, "0 or more"),
        (["a"], {"lam": math.nan}, "0 or more"),
        (["a", "  "], {}, "prompt 2 is empty"),
        (["x" * 100_000], {}, "100,000 characters"),
    ],
)
def test_bad_requests_get_one_sentence(router, prompts, options, words):
    with pytest.raises(InputError, match=words):
        router.route(prompts, **options)


def test_no_router_and_a_damaged_one(tmp_path):
    with pytest.raises(InputError, match="catimage calibrate"):
        Router.load(tmp_path)
    (tmp_path / "router.json").write_text("{")
    with pytest.raises(InputError, match="damaged"):
        Router.load(tmp_path)
