import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.linear_model import LinearRegression
from sklearn.tree import DecisionTreeRegressor
from sklearn.utils.estimator_checks import parametrize_with_checks

from catimage.data.missing_labels import mean_labels
from catimage.estimators.build import build_estimator
from catimage.estimators.context import EstimatorContext
from catimage.estimators.differences import (
    DifferencesRegressor,
    labels_of_differences,
    means_and_differences,
)
from catimage.estimators.fitting import difference_error, fit
from catimage.params import EstimatorParams


@parametrize_with_checks([DifferencesRegressor(LinearRegression())])
def test_scikit_learn_estimator_contract(estimator, check):
    check(estimator)


@given(n=st.integers(1, 6), m=st.integers(2, 5), seed=st.integers(0, 1000))
def test_labels_are_restored_from_means_and_differences(n, m, seed):
    labels = np.random.default_rng(seed).normal(size=(n, m))
    means = mean_labels(labels)
    targets = means_and_differences(labels, means)
    assert targets[:, 1:].sum(axis=1) == pytest.approx(np.zeros(n), abs=1e-9)
    assert labels_of_differences(targets, means) == pytest.approx(labels)


def test_a_missing_label_does_not_change_the_differences_of_the_other_labels():
    labels = np.add.outer([0.0, 5.0, -3.0], [1.0, 2.0, 4.0])
    labels[1, 2] = np.nan
    targets = means_and_differences(labels, np.array([1.0, 2.0, 4.0]))
    assert np.isnan(targets[1, 3])
    assert targets[:, 0] == pytest.approx([0, 5, -3])
    assert np.nan_to_num(targets[:, 1:]) == pytest.approx(np.zeros((3, 3)))


def test_predictions_of_a_linear_model_do_not_change():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(30, 3)), rng.normal(size=(30, 4))
    levels = LinearRegression().fit(x, y).predict(x)
    assert DifferencesRegressor(LinearRegression()).fit(x, y).predict(x) == pytest.approx(levels)


def test_a_shallow_tree_has_a_smaller_error_if_means_vary_more_than_differences():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(400, 2))
    y = (
        10 * np.sign(x[:, :1])
        + np.sign(x[:, 1:]) * np.array([1.0, -1.0])
        + rng.normal(size=(400, 2)) / 10
    )
    tree = DecisionTreeRegressor(max_depth=1, random_state=0)
    levels = difference_error(tree.fit(x, y).predict(x), y)
    differences = difference_error(DifferencesRegressor(tree).fit(x, y).predict(x), y)
    assert differences < levels / 10


def test_target_auto_adds_the_target_to_the_grid():
    rng = np.random.default_rng(2)
    prompts = np.array([f"{w} thing {i}" for i in range(60) for w in ("red", "blue")], object)
    y = np.array([[i % 2, 1 - i % 2] for i in range(120)], float) + rng.normal(size=(120, 1)) * 5
    pipeline, grid = build_estimator(
        EstimatorParams(name="ridge", target="auto"), EstimatorContext()
    )
    assert grid["target"] == ["levels", "differences"]
    fitted = fit(pipeline, grid, (prompts[:100], y[:100]), (prompts[100:], y[100:]))
    predicted = fitted.predict(prompts[100:])
    assert ((predicted[:, 0] > predicted[:, 1]) == (y[100:, 0] > y[100:, 1])).all()
    assert clone(fitted).get_params()["regressor__target"] in ("levels", "differences")


def test_an_unknown_target_is_refused():
    with pytest.raises(ValueError, match="target: unknown value 'ratios'"):
        DifferencesRegressor(LinearRegression(), target="ratios").fit(
            np.ones((3, 1)), np.ones((3, 2))
        )
