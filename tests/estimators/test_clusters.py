import numpy as np
import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from catimage.errors import InputError
from catimage.estimators.clusters import ClusterRegressor


@parametrize_with_checks([ClusterRegressor(64, 0.0)])
def test_scikit_learn_estimator_contract(estimator, check):
    check(estimator)


def data(n=400, seed=0):
    """Return embeddings of prompts in four groups, noisy labels whose means depend only on the
    group, these means, and the group of each prompt.
    """
    rng = np.random.default_rng(seed)
    group = rng.integers(4, size=n)
    quality = np.array([[1.0, 2, 3, 4], [4, 3, 2, 1], [0, 9, 0, 9]]).T
    return (
        np.eye(8)[group] + 0.1 * rng.normal(size=(n, 8)),
        quality[group] + rng.normal(size=(n, 3)),
        quality[group],
        group,
    )


def test_predictions_are_the_mean_labels_of_the_clusters():
    x, y, _, group = data()
    model = ClusterRegressor(4, shrinkage=0.0).fit(x, y)
    means = np.stack([y[group == k].mean(axis=0) for k in range(4)])
    assert model.predict(x) == pytest.approx(means[group])
    assert model.multiply_adds(x[:1]) == 4 * 8


def test_means_of_clusters_are_shrunk_towards_the_mean_over_all_prompts():
    x, y, _, group = data()
    counts = np.bincount(group)[:, None]
    means = np.stack([y[group == k].mean(axis=0) for k in range(4)])
    expected = (counts * means + 7 * y.mean(axis=0)) / (counts + 7)
    assert ClusterRegressor(4, shrinkage=7.0).fit(x, y).predict(x) == pytest.approx(expected[group])
    assert ClusterRegressor(4, shrinkage=1e12).fit(x, y).predict(x) == pytest.approx(
        np.tile(y.mean(axis=0), (400, 1)), abs=1e-6
    )


def test_missing_labels_are_ignored():
    x, y, quality, group = data()
    incomplete = np.where(np.random.default_rng(0).random(y.shape) < 0.5, np.nan, y)
    predicted = ClusterRegressor(4, shrinkage=0.0).fit(x, incomplete).predict(x)
    assert predicted == pytest.approx(
        np.stack([np.nanmean(incomplete[group == k], axis=0) for k in range(4)])[group]
    )
    assert np.abs(predicted - quality).max() < 0.6


def test_predictions_are_unbiased_if_missing_labels_depend_on_the_prompt():
    x, y, quality, group = data(4000)
    incomplete = np.where(
        np.random.default_rng(0).random(y.shape) < (0.2 + 0.2 * group)[:, None], np.nan, y
    )
    assert ClusterRegressor(4, shrinkage=0.0).fit(x, incomplete).predict(x) == pytest.approx(
        quality, abs=0.2
    )


def test_a_candidate_is_added_without_changing_the_predictions_of_the_other_candidates():
    x, y, quality, _ = data()
    model = ClusterRegressor(4, shrinkage=1.0).fit(x, y[:, [0, 2]])
    before, centers = model.predict(x), model.centers_.copy()
    few, labels, *_ = data(60, seed=1)
    model.add_candidate(few, labels[:, 1], column=1)
    after = model.predict(x)
    assert (after[:, [0, 2]] == before).all()
    assert (model.centers_ == centers).all()
    assert np.abs(after[:, 1] - quality[:, 1]).max() < 1.0
    assert model.add_candidate(few, labels[:, 1]).predict(x)[:, 3] == pytest.approx(after[:, 1])


def test_the_number_of_clusters_is_at_most_the_number_of_prompts():
    x, y, *_ = data(5)
    assert ClusterRegressor(32, shrinkage=0.0).fit(x, y).predict(x) == pytest.approx(y)


def test_a_candidate_without_labels_is_refused():
    x, y, *_ = data(20)
    y[:, 1] = np.nan
    with pytest.raises(InputError, match="candidate 2"):
        ClusterRegressor().fit(x, y)
