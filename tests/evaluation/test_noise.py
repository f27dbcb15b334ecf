from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catimage.evaluation.intervals import PairedBootstrap
from catimage.evaluation.noise import crossed, noise_document


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 6),
    st.integers(1, 4),
    st.integers(2, 5),
    st.integers(0, 10**6),
    st.floats(0, 0.4),
)
def test_crossed_is_what_a_loop_over_prompts_finds(n, m, seeds, seed, holes):
    rng = np.random.default_rng(seed)
    by_seed = np.where(rng.random((n, m, seeds)) < holes, np.nan, rng.normal(size=(n, m, seeds)))
    for picking in range(1, seeds):
        found = crossed(by_seed, picking)
        ways = list(combinations(range(seeds), picking))
        assert found.shape == (n, len(ways))
        for i in range(n):
            for column, way in enumerate(ways):
                rest = [s for s in range(seeds) if s not in way]
                known = [[v for v in by_seed[i, c, list(way)] if v == v] for c in range(m)]
                held = [[v for v in by_seed[i, c, rest] if v == v] for c in range(m)]
                if not all(known) or not all(held):
                    assert np.isnan(found[i, column])
                else:
                    best = max(range(m), key=lambda c: np.mean(known[c]))
                    assert found[i, column] == pytest.approx(np.mean(held[best]))


def world(n=3000, m=5, seeds=4, skill=1.0, noise=1.0):
    """Candidates' worth differs by prompt by ``skill``; every image is off by ``noise``."""
    rng = np.random.default_rng(3)
    truth = skill * rng.normal(size=(n, m))
    return truth, truth[:, :, None] + noise * rng.normal(size=(n, m, seeds))


def test_luck_alone_is_not_learnable():
    _, by_seed = world(skill=0.0)
    document = noise_document(by_seed, 0, {}, PairedBootstrap(3000, 300, 0))
    assert document["oracle_gain"] == pytest.approx(
        1.163 / 2, abs=0.03
    )  # the mean of the largest of five normals, over sqrt(4) seeds
    assert document["learnable_gain_interval"][0] < 0 < document["learnable_gain_interval"][1]
    assert document["noise_share"] == pytest.approx(1, abs=0.05) and document[
        "learnable_share"
    ] == pytest.approx(0, abs=0.05)
    assert document["noise_share"] + document["learnable_share"] == pytest.approx(1)


def test_without_luck_all_is_learnable_and_a_perfect_router_captures_it():
    truth, by_seed = world(noise=0.0)
    routed = {
        "perfect": truth.max(axis=1),
        "single": truth[:, 2],
        "half": (truth.max(axis=1) + truth[:, 2]) / 2,
    }
    document = noise_document(by_seed, 2, routed, PairedBootstrap(3000, 300, 0))
    assert document["learnable_share"] == pytest.approx(1) and document[
        "noise_share"
    ] == pytest.approx(0, abs=1e-12)
    captured = {name: figures["share"] for name, figures in document["captured"].items()}
    assert captured == {
        "perfect": pytest.approx(1),
        "single": pytest.approx(0, abs=1e-12),
        "half": pytest.approx(0.5),
    }
    assert document["captured"]["half"]["share_interval"] == pytest.approx([0.5, 0.5])
    assert [gain for _, gain in document["by_seeds"]] == pytest.approx(
        [document["learnable_gain"]] * 3
    )


def test_between_the_two_the_truth_lies_between_both_oracles():
    truth, by_seed = world()
    document = noise_document(by_seed, 0, {}, PairedBootstrap(3000, 300, 0))
    possible = (truth.max(axis=1) - truth[:, 0]).mean()
    assert document["learnable_gain"] < possible < document["oracle_gain"]
    gains = [gain for _, gain in document["by_seeds"]]
    assert [picking for picking, _ in document["by_seeds"]] == [1, 2, 3] and gains == sorted(gains)
    assert gains[-1] == pytest.approx(document["learnable_gain"])
    low, high = document["noise_share_interval"]
    assert 0 < low < document["noise_share"] < high < 1


def test_an_oracle_that_gains_nothing_has_no_shares():
    by_seed = np.zeros((20, 2, 2))
    document = noise_document(by_seed, 0, {"e": np.zeros(20)}, PairedBootstrap(20, 100, 0))
    assert (
        document["oracle_gain"] == 0
        and document["noise_share"] is None
        and document["noise_share_interval"] is None
    )
    assert document["captured"]["e"] == {
        "gain": 0,
        "interval": [0, 0],
        "share": None,
        "share_interval": None,
    }


def test_one_seed_tells_nothing_and_prompts_with_one_are_left_out():
    _, by_seed = world(n=30)
    assert noise_document(by_seed[:, :, :1], 0, {}, PairedBootstrap(30, 100, 0)) is None
    by_seed[:10, 0, 1:] = np.nan
    document = noise_document(by_seed, 0, {"e": np.ones(30)}, PairedBootstrap(30, 100, 0))
    whole = noise_document(by_seed[10:], 0, {"e": np.ones(20)}, PairedBootstrap(20, 100, 0))
    assert document["n_test"] == 20 and document == whole
    by_seed[1:, 0, 1:] = np.nan
    assert noise_document(by_seed, 0, {}, PairedBootstrap(30, 100, 0)) is None


def test_of_many_seeds_some_ways_alone_are_looked_at():
    """Half of 40 seeds can be chosen in 1e11 ways."""
    assert crossed(np.random.default_rng(0).random((3, 2, 40)), 20).shape == (3, 40)
