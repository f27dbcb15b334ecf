"""The expected behaviour of a router."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from catimage.monitoring.expected import Expected
from catimage.router import Router
from tests.trained_workspace import prompts_of


@pytest.fixture(scope="module")
def router(calibrated_folder: Path) -> Router:
    return Router.load(calibrated_folder / "models" / "router")


def test_the_shares_are_those_of_many_random_decisions(router):
    prompts = prompts_of(100)
    labels = np.array([[0.0, 1.0], [np.nan, 2.0]])
    expected = Expected.compute("d", router, router.rule, 2.4, prompts, labels)
    drawn = [d.candidate for seed in range(30) for d in router.route(prompts, seed=seed)]
    shares = [drawn.count(name) / len(drawn) for name in expected.candidates]
    assert expected.shares == pytest.approx(shares, abs=0.02)
    assert sum(expected.shares) == pytest.approx(1)
    assert expected.label_spread == pytest.approx(np.std([0, 1, 2]))
    assert expected.quality == pytest.approx(router.predict(prompts).mean())
    assert Expected(**expected.to_json()) == expected


def test_the_shares_at_a_lambda_are_those_of_decisions_with_it(router):
    prompts = prompts_of(100)
    expected = Expected.compute("d", router, router.rule, 2.4, prompts, None)
    assert expected.lambdas[0] == 0 and np.all(np.diff(expected.lambdas) > 0)
    for lam in [0.0, router.lam, 0.9 * router.lam, 100.0]:
        chosen = [d.candidate for d in router.route(prompts, lam=lam)]
        shares = [chosen.count(name) / len(prompts) for name in expected.candidates]
        assert expected.shares_at(np.array([lam]))[0] == pytest.approx(shares, abs=0.02)


def test_random_decisions_are_spread_over_all_candidates(router):
    prompts = prompts_of(50)
    plain = Expected.compute("d", router, router.rule, 2.4, prompts, None)
    random = Expected.compute("d", router, router.rule, 2.4, prompts, None, explore=1.0)
    assert random.shares == pytest.approx([1 / 3] * 3, abs=1e-4) and random.label_spread is None
    half = Expected.compute("d", router, router.rule, 2.4, prompts, None, explore=0.5)
    mean = (np.array(plain.shares) + np.array(random.shares)) / 2
    assert half.shares == pytest.approx(mean.tolist(), abs=1e-4)
