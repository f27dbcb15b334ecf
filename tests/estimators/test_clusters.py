import numpy as np
import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from catimage.errors import InputError
from catimage.estimators.clusters import ClusterRegressor


@parametrize_with_checks([ClusterRegressor(64, 0.0)])
def test_scikit_learns_contract(estimator, check):
    check(estimator)


def data(n=400, seed=0):
    """Four kinds of prompts, and labels that depend on the kind alone, with noise."""
    rng = np.random.default_rng(seed)
    kind = rng.integers(4, size=n)
    quality = np.array([[1.0, 2, 3, 4], [4, 3, 2, 1], [0, 9, 0, 9]]).T
    return (
        np.eye(8)[kind] + 0.1 * rng.normal(size=(n, 8)),
        quality[kind] + rng.normal(size=(n, 3)),
        quality[kind],
        kind,
    )


def test_quality_is_the_mean_label_of_the_cluster():
    x, y, _, kind = data()
    model = ClusterRegressor(4, shrinkage=0.0).fit(x, y)
    means = np.stack([y[kind == k].mean(axis=0) for k in range(4)])
    assert model.predict(x) == pytest.approx(means[kind])
    assert model.multiply_adds(x[:1]) == 4 * 8


def test_small_clusters_are_drawn_to_the_mean():
    x, y, _, kind = data()
    counts = np.bincount(kind)[:, None]
    means = np.stack([y[kind == k].mean(axis=0) for k in range(4)])
    expected = (counts * means + 7 * y.mean(axis=0)) / (counts + 7)
    assert ClusterRegressor(4, shrinkage=7.0).fit(x, y).predict(x) == pytest.approx(expected[kind])
    assert ClusterRegressor(4, shrinkage=1e12).fit(x, y).predict(x) == pytest.approx(
        np.tile(y.mean(axis=0), (400, 1)), abs=1e-6
    )


def test_holes_are_left_out_of_the_means():
    x, y, quality, kind = data()
    holed = np.where(np.random.default_rng(0).random(y.shape) < 0.5, np.nan, y)
    predicted = ClusterRegressor(4, shrinkage=0.0).fit(x, holed).predict(x)
    assert predicted == pytest.approx(
        np.stack([np.nanmean(holed[kind == k], axis=0) for k in range(4)])[kind]
    )
    assert np.abs(predicted - quality).max() < 0.6


def test_holes_that_depend_on_the_prompt_do_not_bend_what_is_learned():
    x, y, quality, kind = data(4000)
    holed = np.where(
        np.random.default_rng(0).random(y.shape) < (0.2 + 0.2 * kind)[:, None], np.nan, y
    )
    assert ClusterRegressor(4, shrinkage=0.0).fit(x, holed).predict(x) == pytest.approx(
        quality, abs=0.2
    )


def test_a_candidate_joins_from_a_few_prompts_and_the_others_stay():
    x, y, quality, _ = data()
    model = ClusterRegressor(4, shrinkage=1.0).fit(x, y[:, [0, 2]])
    before, centers = model.predict(x), model.centers_.copy()
    few, labels, *_ = data(60, seed=1)
    model.add_candidate(few, labels[:, 1], place=1)
    after = model.predict(x)
    assert (after[:, [0, 2]] == before).all()
    assert (model.centers_ == centers).all()
    assert np.abs(after[:, 1] - quality[:, 1]).max() < 1.0
    assert model.add_candidate(few, labels[:, 1]).predict(x)[:, 3] == pytest.approx(after[:, 1])


def test_more_clusters_than_prompts_are_one_a_prompt():
    x, y, *_ = data(5)
    assert ClusterRegressor(32, shrinkage=0.0).fit(x, y).predict(x) == pytest.approx(y)


def test_a_candidate_without_any_label_is_refused():
    x, y, *_ = data(20)
    y[:, 1] = np.nan
    with pytest.raises(InputError, match="candidate 2"):
        ClusterRegressor().fit(x, y)
