"""Fitted estimators whose candidates get another order."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.pipeline import Pipeline

from catimage.estimators import store
from catimage.estimators.knn import CosineKNNRegressor
from catimage.estimators.linear import RidgeRegressor
from catimage.estimators.overhead import multiply_adds
from catimage.estimators.reordered import ReorderedRegressor, reordered
from catimage.estimators.spread import SpreadRegressor

NAMES = ["a", "b", "c", "d"]
X = np.random.default_rng(2).normal(size=(60, 5))


def fitted(regressor: object) -> Pipeline:
    rng = np.random.default_rng(0)
    labels = rng.normal(size=(60, 4)) * np.arange(1, 5)
    return Pipeline([("features", "passthrough"), ("regressor", regressor)]).fit(X, labels)


@pytest.mark.parametrize(
    "regressor", [RidgeRegressor(), CosineKNNRegressor(n_neighbors=5), SpreadRegressor()]
)
@pytest.mark.parametrize("names", [["d", "a", "c", "b"], ["b", "a", "d", "c"]])
def test_the_predictions_of_each_candidate_stay_the_same(
    regressor: object, names: list[str], tmp_path: Path
) -> None:
    estimator = fitted(regressor)
    before = dict(zip(NAMES, estimator.predict(X).T, strict=True))
    new = reordered(estimator, NAMES, names)
    store.save(new, tmp_path / "saved", {"candidates": names})
    for pipeline in (new, store.load(tmp_path / "saved")[0]):
        after = dict(zip(names, pipeline.predict(X).T, strict=True))
        for name in NAMES:
            np.testing.assert_array_equal(after[name], before[name])
    np.testing.assert_array_equal(estimator.predict(X).T, list(before.values()))


def test_the_same_order_changes_nothing() -> None:
    estimator = fitted(RidgeRegressor())
    assert reordered(estimator, NAMES, list(NAMES)) is estimator


def test_linear_regressors_and_spreads_keep_their_type() -> None:
    names = ["d", "a", "c", "b"]
    assert type(reordered(fitted(RidgeRegressor()), NAMES, names)[-1]) is RidgeRegressor
    knn = reordered(fitted(CosineKNNRegressor()), NAMES, names)[-1]
    assert isinstance(knn, ReorderedRegressor)
    assert multiply_adds(knn, X) == multiply_adds(knn.base, X)


def test_a_reordered_regressor_can_be_fitted_again() -> None:
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(50, 3)), rng.normal(size=(50, 4))
    order = [3, 0, 2, 1]
    again = ReorderedRegressor(CosineKNNRegressor(n_neighbors=3), order).fit(x, y)
    expected = CosineKNNRegressor(n_neighbors=3).fit(x, y).predict(x)
    np.testing.assert_allclose(again.predict(x), expected)
