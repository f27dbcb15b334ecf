"""Data of trials in which the expensive candidate is the best if the first feature is positive."""

import numpy as np
import pytest

from catimage.estimators.knn import CosineKNNRegressor
from catimage.evaluation.trials.draws import TrialData

COST = np.array([1.0, 2.0, 5.0])
NAMES = ["a", "b", "c"]


def unit_vectors(rng, n):
    """Return n random vectors of length 1, (n, 4)."""
    x = rng.normal(size=(n, 4))
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def trial_data(regressor):
    """Return data of 200 training, 60 validation and 60 test prompts, with four seeds."""
    rng = np.random.default_rng(0)
    features = unit_vectors(rng, 200), unit_vectors(rng, 60), unit_vectors(rng, 60)
    truth = [
        np.stack(
            [np.full(len(f), 0.5), np.full(len(f), 0.45), np.where(f[:, 0] > 0, 0.9, 0.3)], axis=1
        )
        for f in features
    ]
    by_seed = truth[0][:, :, None] + rng.normal(0, 0.3, (200, 3, 4))
    return TrialData(regressor, features, by_seed, truth[1], truth[2], COST)


@pytest.fixture(scope="module")
def data():
    return trial_data(CosineKNNRegressor(n_neighbors=9))
