import numpy as np
import pytest
from sklearn.neighbors import KNeighborsRegressor

from catimage.estimators.knn import CosineKNNRegressor


def unit(n, seed):
    x = np.random.default_rng(seed).normal(size=(n, 16)).astype(np.float32)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


@pytest.mark.parametrize("k", [1, 7, 200])
def test_equals_scikit_learns_by_cosine(k):
    known, new, labels = unit(200, 0), unit(1500, 1), np.random.default_rng(2).normal(size=(200, 3))
    theirs = KNeighborsRegressor(k, algorithm="brute", metric="cosine").fit(known, labels).predict(new)
    assert CosineKNNRegressor(k, algorithm="brute").fit(known, labels).predict(new) == pytest.approx(theirs)
