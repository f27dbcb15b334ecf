import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.neighbors import KNeighborsRegressor

from catimage.estimators.knn import CosineKNNRegressor
from catimage.evaluation.trials.draws import (
    complete_seeds,
    drawn_labels,
    possible_sizes,
    trial_predictions,
)
from tests.evaluation.trials.conftest import trial_data


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 5), st.integers(1, 5), st.integers(0, 10**6))
def test_drawn_labels_are_means_over_the_drawn_seeds_of_a_prompt(seeds, size, seed):
    rng = np.random.default_rng(seed)
    by_seed = 2.0 ** np.arange(seeds) * np.ones((20, 3, 1))  # a sum identifies the drawn seeds
    by_seed[rng.random(by_seed.shape) < 0.1] = np.nan
    rows, labels = drawn_labels(by_seed, size, rng)
    complete = ~np.isnan(by_seed).any(axis=1)
    assert rows.tolist() == np.flatnonzero(complete.sum(axis=1) >= size).tolist()
    assert labels.shape == (len(rows), 3)
    for i, label in zip(rows, labels, strict=True):
        assert (label == label[0]).all()  # the same seeds for all candidates
        drawn = [s for s in range(seeds) if round(label[0] * size) >> s & 1]
        assert len(drawn) == size
        assert complete[i, drawn].all()


def test_every_seed_is_drawn_equally_often():
    by_seed = np.arange(4.0) * np.ones((4000, 2, 1))
    _, labels = drawn_labels(by_seed, 1, np.random.default_rng(0))
    counts = np.bincount(labels[:, 0].astype(int), minlength=4)
    assert counts == pytest.approx(1000, abs=120)


@pytest.mark.parametrize("regressor", [CosineKNNRegressor(n_neighbors=9), KNeighborsRegressor(9)])
def test_trials_fitted_in_batches_equal_trials_fitted_one_by_one(regressor):
    data = trial_data(regressor)
    predictions = list(trial_predictions(data, 2, 23, seed=5))
    assert len(predictions) == 23
    rng = np.random.default_rng([5, 2])
    for on_val, on_test in predictions:
        rows, labels = drawn_labels(data.by_seed, 2, rng)
        fitted = clone(regressor).fit(data.features[0][rows], labels)
        assert on_val == pytest.approx(fitted.predict(data.features[1]))
        assert on_test == pytest.approx(fitted.predict(data.features[2]))


def test_only_fewer_seeds_than_available_can_be_drawn():
    assert possible_sizes([1, 3], 4) == [1, 3]
    assert possible_sizes([1, 3], 3) == [1]
    assert possible_sizes([3, 0, 3], 4) == [3]
    assert possible_sizes([1, 3], 1) == []


def test_a_seed_is_complete_if_every_candidate_has_a_score():
    own_seeds = np.where(np.eye(4)[:, None, :] > 0, 0.5, np.nan) * np.ones((4, 2, 1))
    own_seeds[0, 0, 1] = 0.5
    assert complete_seeds(own_seeds).sum(axis=1).tolist() == [1, 1, 1, 1]
