import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.utils.estimator_checks import parametrize_with_checks

from catimage.estimators import store
from catimage.estimators.features.text_statistics import TextStatistics
from catimage.estimators.spread import (
    SPREAD_FOLDER,
    SpreadRegressor,
    fit_spread,
    save_spreads,
)

SCALE = np.array([1.0, 3.0])


@parametrize_with_checks([SpreadRegressor()])
def test_scikit_learn_estimator_contract(estimator, check):
    check(estimator)


def prompts_of(n):
    """Return prompts that are alternately difficult (crowded) and easy (plain) to predict."""
    return np.array(
        [f"{'plain' if i % 2 else 'crowded'} thing number {i % 20}" for i in range(n)], object
    )


def residuals_of(n, factor, seed=0):
    """Return normal residuals of two candidates, larger by ``factor`` for difficult prompts."""
    factors = np.where(np.arange(n) % 2, 1.0, factor)[:, None]
    return np.random.default_rng(seed).normal(size=(n, 2)) * SCALE * factors


@pytest.fixture(scope="module")
def uneven():
    """Return a spread that is fitted to easy and difficult prompts."""
    return fit_spread(prompts_of(600), residuals_of(600, 4.0))


def test_a_prompt_that_is_more_difficult_to_predict_has_a_larger_spread(uneven):
    plain, crowded = uneven.predict(
        np.array(["plain thing number 11", "crowded thing number 10"], object)
    )
    assert plain == pytest.approx(SCALE, rel=0.35)
    assert crowded == pytest.approx(4 * SCALE, rel=0.35)


def test_intervals_of_easy_and_of_difficult_prompts_have_the_nominal_coverage(uneven):
    spread = uneven.predict(prompts_of(600))
    inside = np.mean(
        [np.abs(residuals_of(600, 4.0, seed)) <= 1.96 * spread for seed in range(1, 9)], axis=0
    )
    assert inside[::2].mean(axis=0) == pytest.approx([0.95, 0.95], abs=0.04)
    assert inside[1::2].mean(axis=0) == pytest.approx([0.95, 0.95], abs=0.04)


def test_the_spread_of_equally_difficult_prompts_is_the_root_mean_square_of_each_candidate():
    residuals = residuals_of(600, 1.0)
    spread = fit_spread(prompts_of(600), residuals)
    assert spread.named_steps["regressor"].alpha_ is None
    assert spread.predict(prompts_of(3)) == pytest.approx(
        np.tile(np.sqrt((residuals**2).mean(axis=0)), (3, 1))
    )


def test_a_factor_is_used_only_if_it_improves_the_out_of_fold_likelihood():
    """If all prompts are equally difficult, at most six of twenty samples may have a factor."""
    alphas = [
        fit_spread(prompts_of(120), residuals_of(120, 1.0, seed)).named_steps["regressor"].alpha_
        for seed in range(20)
    ]
    assert sum(alpha is not None for alpha in alphas) <= 6
    assert (
        fit_spread(prompts_of(600), residuals_of(600, 4.0)).named_steps["regressor"].alpha_
        is not None
    )


def test_missing_labels_are_ignored():
    residuals = residuals_of(600, 4.0)
    missing = np.random.default_rng(2).random(residuals.shape) < 0.3
    spread = fit_spread(prompts_of(600), np.where(missing, np.nan, residuals)).predict(
        prompts_of(2)
    )
    assert spread == pytest.approx(np.array([4 * SCALE, SCALE]), rel=0.3)
    few = residuals[:40].copy()
    few[7:, 1] = np.nan
    scale = fit_spread(prompts_of(40), few).predict(prompts_of(1))[0]
    assert scale == pytest.approx(
        [np.sqrt((few[:, 0] ** 2).mean()), np.sqrt((few[:7, 1] ** 2).mean())]
    )
    with pytest.raises(ValueError, match=r"candidate 1 \(from 0\) has no residual"):
        fit_spread(prompts_of(40), np.where([True, False], few, np.nan))


def test_the_spread_is_positive_if_all_residuals_are_zero():
    assert (fit_spread(prompts_of(80), np.zeros((80, 2))).predict(prompts_of(5)) > 0).all()


def test_the_seed_share_is_the_share_of_the_variance_that_the_seeds_explain():
    """A label is the mean of four scores with a standard deviation of 2, so that its variance is 1.
    The variance of the estimator's errors is 3.
    """
    rng = np.random.default_rng(0)
    error, by_seed = rng.normal(0, np.sqrt(3), (2000, 2)), rng.normal(0, 2, (2000, 2, 4))
    noise = by_seed.var(axis=2, ddof=1) / 4
    spread = fit_spread(prompts_of(2000), by_seed.mean(axis=2) + error, noise)
    variance = spread.predict(prompts_of(1))[0] ** 2
    share = spread.named_steps["regressor"].seed_share_
    assert np.sqrt(share * variance) == pytest.approx([1, 1], rel=0.1)
    assert np.sqrt((1 - share) * variance) == pytest.approx([np.sqrt(3)] * 2, rel=0.1)


def test_the_seed_share_is_unknown_with_one_seed():
    residuals = residuals_of(100, 1.0)
    spread = fit_spread(prompts_of(100), residuals, np.full_like(residuals, np.nan))
    assert np.isnan(spread.named_steps["regressor"].seed_share_).all()
    without = fit_spread(prompts_of(100), residuals)
    assert (spread.predict(prompts_of(4)) == without.predict(prompts_of(4))).all()


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.01, 100), st.integers(2, 80))
def test_the_spread_has_the_unit_of_the_residuals(seed, unit, n):
    residuals = residuals_of(n, 4.0, seed)
    spread, scaled = (
        fit_spread(prompts_of(n), residuals * scale).predict(prompts_of(5)) for scale in (1.0, unit)
    )
    assert (spread > 0).all() and scaled == pytest.approx(spread * unit, rel=1e-3)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.text(min_size=1).filter(str.strip), min_size=1, max_size=5))
def test_any_prompt_has_features_and_a_spread(uneven, prompts):
    spread = uneven.predict(prompts)
    scale = uneven.named_steps["regressor"].scale_
    assert (spread >= scale / 4 - 1e-12).all() and (spread <= 4 * scale + 1e-12).all()
    assert TextStatistics().fit(prompts).transform(prompts).shape[0] == len(prompts)


def test_a_clone_fits_to_the_same_spread(uneven):
    refitted = clone(uneven).fit(prompts_of(600), residuals_of(600, 4.0))
    assert (refitted.predict(prompts_of(9)) == uneven.predict(prompts_of(9))).all()


def test_spreads_are_saved_in_the_folders_of_the_estimators(tmp_path):
    import pandas as pd

    labels, noise = residuals_of(300, 4.0), np.random.default_rng(3).random((300, 2))
    predicted = pd.DataFrame({"prompt_id": "x", "cheap": np.zeros(300), "expensive": np.ones(300)})
    (tmp_path / "ridge").mkdir()
    predicted.to_parquet(tmp_path / "ridge" / "out_of_fold.parquet")
    save_spreads(tmp_path.glob("*/out_of_fold.parquet"), (prompts_of(300), labels), noise)
    spread, meta = store.load(tmp_path / "ridge" / SPREAD_FOLDER)
    expected = fit_spread(prompts_of(300), labels - [0, 1], noise)
    assert (spread.predict(prompts_of(7)) == expected.predict(prompts_of(7))).all()
    assert (
        meta["candidates"] == ["cheap", "expensive"]
        and meta["alpha"] == expected.named_steps["regressor"].alpha_
    )
    assert meta["log_likelihood_gain"] > 0
