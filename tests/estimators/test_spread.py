import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from sklearn.base import clone
from sklearn.utils.estimator_checks import parametrize_with_checks

from catimage.estimators import store
from catimage.estimators.spread import (
    FOLDER,
    SpreadRegressor,
    TextShape,
    fit_spread,
    label_noise,
    save_spreads,
    spread_parts,
)

SCALE = np.array([1.0, 3.0])


@parametrize_with_checks([SpreadRegressor()])
def test_scikit_learn_contract(estimator, check):
    check(estimator)


def prompts_of(n):
    """Every other prompt is hard to foretell."""
    return np.array(
        [f"{'plain' if i % 2 else 'crowded'} thing number {i % 20}" for i in range(n)], object
    )


def residuals_of(n, factor, seed=0):
    """Normal ones, two candidates; those of the hard prompts are ``factor`` times as wide."""
    wide = np.where(np.arange(n) % 2, 1.0, factor)[:, None]
    return np.random.default_rng(seed).normal(size=(n, 2)) * SCALE * wide


@pytest.fixture(scope="module")
def uneven():
    return fit_spread(prompts_of(600), residuals_of(600, 4.0))


def test_a_prompt_that_is_harder_to_foretell_has_a_wider_spread(uneven):
    plain, crowded = uneven.predict(
        np.array(["plain thing number 11", "crowded thing number 10"], object)
    )
    assert plain == pytest.approx(SCALE, rel=0.35)
    assert crowded == pytest.approx(4 * SCALE, rel=0.35)


def test_its_intervals_cover_new_labels_for_both_kinds_of_prompts(uneven):
    spread = uneven.predict(prompts_of(600))
    inside = np.mean(
        [np.abs(residuals_of(600, 4.0, seed)) <= 1.96 * spread for seed in range(1, 9)], axis=0
    )
    assert inside[::2].mean(axis=0) == pytest.approx([0.95, 0.95], abs=0.04)
    assert inside[1::2].mean(axis=0) == pytest.approx([0.95, 0.95], abs=0.04)


def test_where_prompts_do_not_differ_the_spread_is_the_root_mean_square_of_each_candidate():
    residuals = residuals_of(600, 1.0)
    spread = fit_spread(prompts_of(600), residuals)
    assert spread.named_steps["regressor"].penalty_ is None
    assert spread.predict(prompts_of(3)) == pytest.approx(
        np.tile(np.sqrt((residuals**2).mean(axis=0)), (3, 1))
    )


def test_the_factor_must_pay_in_other_folds():
    """On residuals of one width, none but a few of many draws may find a factor."""
    found = [
        fit_spread(prompts_of(120), residuals_of(120, 1.0, seed)).named_steps["regressor"].penalty_
        for seed in range(20)
    ]
    assert sum(penalty is not None for penalty in found) <= 6
    assert (
        fit_spread(prompts_of(600), residuals_of(600, 4.0)).named_steps["regressor"].penalty_
        is not None
    )


def test_labels_that_are_missing_are_left_out():
    residuals = residuals_of(600, 4.0)
    holes = np.random.default_rng(2).random(residuals.shape) < 0.3
    spread = fit_spread(prompts_of(600), np.where(holes, np.nan, residuals)).predict(prompts_of(2))
    assert spread == pytest.approx(np.array([4 * SCALE, SCALE]), rel=0.3)
    few = residuals[:40].copy()
    few[7:, 1] = np.nan
    scale = fit_spread(prompts_of(40), few).predict(prompts_of(1))[0]
    assert scale == pytest.approx(
        [np.sqrt((few[:, 0] ** 2).mean()), np.sqrt((few[:7, 1] ** 2).mean())]
    )
    with pytest.raises(ValueError, match=r"candidate 1 \(from 0\) has no residual"):
        fit_spread(prompts_of(40), np.where([True, False], few, np.nan))


def test_an_estimator_that_was_never_wrong_has_a_spread_above_0():
    assert (fit_spread(prompts_of(80), np.zeros((80, 2))).predict(prompts_of(5)) > 0).all()


def test_the_seeds_share_of_the_variance_is_found():
    """Labels are means of four seeds of standard deviation 2 (variance of the mean: 1) and the
    estimator errs by a variance of 3.
    """
    rng = np.random.default_rng(0)
    error, by_seed = rng.normal(0, np.sqrt(3), (2000, 2)), rng.normal(0, 2, (2000, 2, 4))
    spread = fit_spread(prompts_of(2000), by_seed.mean(axis=2) + error, by_seed)
    estimator, seeds = spread_parts(spread, prompts_of(1))
    assert seeds[0] == pytest.approx([1, 1], rel=0.1)
    assert estimator[0] == pytest.approx([np.sqrt(3)] * 2, rel=0.1)
    assert estimator**2 + seeds**2 == pytest.approx(spread.predict(prompts_of(1)) ** 2)


def test_with_one_seed_its_noise_is_part_of_the_estimators_error():
    residuals = residuals_of(100, 1.0)
    spread = fit_spread(prompts_of(100), residuals, residuals[:, :, None])
    estimator, seeds = spread_parts(spread, prompts_of(4))
    assert np.isnan(seeds).all() and estimator == pytest.approx(spread.predict(prompts_of(4)))


@given(
    npst.arrays(
        float,
        st.tuples(st.integers(1, 6), st.integers(1, 3), st.integers(1, 4)),
        elements=st.sampled_from([0.0, 1.0, 2.5, np.nan]),
    )
)
def test_label_noise_is_the_squared_standard_error_of_each_mean(by_seed):
    noise = label_noise(by_seed)
    for i, j in np.ndindex(by_seed.shape[:2]):
        there = by_seed[i, j][~np.isnan(by_seed[i, j])]
        if noise is None or len(there) < 2:
            assert len(there) < 2 and (noise is None or np.isnan(noise[i, j]))
        else:
            assert noise[i, j] == pytest.approx(there.var(ddof=1) / len(there))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.01, 100), st.integers(2, 80))
def test_the_spread_has_the_unit_of_the_residuals(seed, unit, n):
    residuals = residuals_of(n, 4.0, seed)
    spread, scaled = (
        fit_spread(prompts_of(n), residuals * by).predict(prompts_of(5)) for by in (1.0, unit)
    )
    assert (spread > 0).all() and scaled == pytest.approx(spread * unit, rel=1e-3)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.text(min_size=1).filter(str.strip), min_size=1, max_size=5))
def test_any_prompt_has_features_and_a_spread(uneven, prompts):
    spread = uneven.predict(prompts)
    scale = uneven.named_steps["regressor"].scale_
    assert (spread >= scale / 4 - 1e-12).all() and (spread <= 4 * scale + 1e-12).all()
    assert TextShape().fit(prompts).transform(prompts).shape[0] == len(prompts)


def test_clones_and_refits_to_the_same(uneven):
    again = clone(uneven).fit(prompts_of(600), residuals_of(600, 4.0))
    assert (again.predict(prompts_of(9)) == uneven.predict(prompts_of(9))).all()


def test_it_lies_beside_the_estimator_and_comes_back_whole(tmp_path):
    import pandas as pd

    labels, by_seed = residuals_of(300, 4.0), np.random.default_rng(3).normal(size=(300, 2, 2))
    held = pd.DataFrame({"prompt_id": "x", "cheap": np.zeros(300), "dear": np.ones(300)})
    (tmp_path / "ridge").mkdir()
    held.to_parquet(tmp_path / "ridge" / "out_of_fold.parquet")
    save_spreads(tmp_path.glob("*/out_of_fold.parquet"), (prompts_of(300), labels), by_seed)
    spread, meta = store.load(tmp_path / "ridge" / FOLDER)
    expected = fit_spread(prompts_of(300), labels - [0, 1], by_seed)
    assert (spread.predict(prompts_of(7)) == expected.predict(prompts_of(7))).all()
    assert (
        meta["candidates"] == ["cheap", "dear"]
        and meta["penalty"] == expected.named_steps["regressor"].penalty_
    )
    assert meta["log_likelihood_gain"] > 0
