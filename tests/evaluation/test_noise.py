from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catimage.evaluation.intervals import PairedBootstrap
from catimage.evaluation.noise import cross_seed_quality, noise_document, oracle_on_other_seeds


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 6),
    st.integers(1, 4),
    st.integers(2, 5),
    st.integers(0, 10**6),
    st.floats(0, 0.4),
)
def test_cross_seed_quality_agrees_with_a_loop_over_prompts(n, m, seeds, seed, missing):
    rng = np.random.default_rng(seed)
    by_seed = np.where(rng.random((n, m, seeds)) < missing, np.nan, rng.normal(size=(n, m, seeds)))
    for selecting in range(1, seeds):
        quality = cross_seed_quality(by_seed, selecting)
        splits = list(combinations(range(seeds), selecting))
        assert quality.shape == (n, len(splits))
        for i in range(n):
            for column, split in enumerate(splits):
                other_seeds = [s for s in range(seeds) if s not in split]
                selection = [[v for v in by_seed[i, c, list(split)] if v == v] for c in range(m)]
                held_out = [[v for v in by_seed[i, c, other_seeds] if v == v] for c in range(m)]
                if not all(selection) or not all(held_out):
                    assert np.isnan(quality[i, column])
                else:
                    best = max(range(m), key=lambda c: np.mean(selection[c]))
                    assert quality[i, column] == pytest.approx(np.mean(held_out[best]))


def scores(n=3000, m=5, seeds=4, signal=1.0, noise=1.0):
    """Return true qualities (n, m), with standard deviation ``signal``, and noisy scores
    (n, m, seeds).
    """
    rng = np.random.default_rng(3)
    truth = signal * rng.normal(size=(n, m))
    return truth, truth[:, :, None] + noise * rng.normal(size=(n, m, seeds))


def test_a_gain_from_noise_alone_is_not_learnable():
    _, by_seed = scores(signal=0.0)
    document = noise_document(by_seed, 0, {}, PairedBootstrap(3000, 300, 0))
    # The mean of the largest of five normal variables, divided by sqrt(4 seeds).
    assert document["oracle_gain"] == pytest.approx(1.163 / 2, abs=0.03)
    assert document["learnable_gain_interval"][0] < 0 < document["learnable_gain_interval"][1]
    assert document["noise_share"] == pytest.approx(1, abs=0.05)
    assert document["learnable_share"] == pytest.approx(0, abs=0.05)
    assert document["noise_share"] + document["learnable_share"] == pytest.approx(1)


def test_without_noise_the_whole_gain_is_learnable_and_a_perfect_router_captures_it():
    truth, by_seed = scores(noise=0.0)
    best, single = truth.max(axis=1), truth[:, 2]
    routed = {"perfect": best, "single": single, "half": (best + single) / 2}
    document = noise_document(by_seed, 2, routed, PairedBootstrap(3000, 300, 0))
    assert document["learnable_share"] == pytest.approx(1)
    assert document["noise_share"] == pytest.approx(0, abs=1e-12)
    captured = {name: result["share"] for name, result in document["captured"].items()}
    assert captured == {
        "perfect": pytest.approx(1),
        "single": pytest.approx(0, abs=1e-12),
        "half": pytest.approx(0.5),
    }
    assert document["captured"]["half"]["share_interval"] == pytest.approx([0.5, 0.5])
    gains = [gain for _, gain in document["by_seeds"]]
    assert gains == pytest.approx([document["learnable_gain"]] * 3)


def test_the_true_gain_lies_between_the_learnable_and_the_oracle_gain():
    truth, by_seed = scores()
    document = noise_document(by_seed, 0, {}, PairedBootstrap(3000, 300, 0))
    possible = (truth.max(axis=1) - truth[:, 0]).mean()
    assert document["learnable_gain"] < possible < document["oracle_gain"]
    gains = [gain for _, gain in document["by_seeds"]]
    assert [selecting for selecting, _ in document["by_seeds"]] == [1, 2, 3]
    assert gains == sorted(gains)
    assert gains[-1] == pytest.approx(document["learnable_gain"])
    low, high = document["noise_share_interval"]
    assert 0 < low < document["noise_share"] < high < 1


def test_an_oracle_without_gain_has_no_shares():
    by_seed = np.zeros((20, 2, 2))
    document = noise_document(by_seed, 0, {"e": np.zeros(20)}, PairedBootstrap(20, 100, 0))
    assert document["oracle_gain"] == 0
    assert document["noise_share"] is None
    assert document["noise_share_interval"] is None
    assert document["captured"]["e"] == {
        "gain": 0,
        "interval": [0, 0],
        "share": None,
        "share_interval": None,
    }


def test_prompts_with_one_seed_are_left_out():
    _, by_seed = scores(n=30)
    assert noise_document(by_seed[:, :, :1], 0, {}, PairedBootstrap(30, 100, 0)) is None
    by_seed[:10, 0, 1:] = np.nan
    document = noise_document(by_seed, 0, {"e": np.ones(30)}, PairedBootstrap(30, 100, 0))
    complete = noise_document(by_seed[10:], 0, {"e": np.ones(20)}, PairedBootstrap(20, 100, 0))
    assert document["n_test"] == 20
    assert document == complete
    by_seed[1:, 0, 1:] = np.nan
    assert noise_document(by_seed, 0, {}, PairedBootstrap(30, 100, 0)) is None


def test_the_number_of_splits_of_many_seeds_is_limited():
    """There are 1e11 ways to select 20 of 40 seeds."""
    by_seed = np.random.default_rng(0).random((3, 2, 40))
    assert cross_seed_quality(by_seed, 20).shape == (3, 40)


def test_an_oracle_that_selects_by_noise_gains_nothing_on_other_seeds():
    by_seed = np.random.default_rng(0).normal(size=(4000, 6, 2))
    assert by_seed.mean(axis=2).max(axis=1).mean() > 0.5
    assert oracle_on_other_seeds(by_seed) == pytest.approx(0, abs=0.05)


def test_without_noise_the_oracle_keeps_its_gain_and_missing_scores_are_left_out():
    truth = np.random.default_rng(0).normal(size=(100, 3, 1))
    by_seed = np.repeat(truth, 3, axis=2)
    by_seed[:50, :, 2] = np.nan
    by_seed[:10, 1, 1:] = np.nan
    expected = np.average(truth[10:, :, 0].max(axis=1), weights=[2] * 40 + [3] * 50)
    assert oracle_on_other_seeds(by_seed) == pytest.approx(expected)
    assert oracle_on_other_seeds(by_seed[:, :, :1]) is None
