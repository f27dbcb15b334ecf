import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.linear_model import Ridge
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer

from catimage.estimators.fitting import (
    difference_error,
    fit,
    out_of_fold_predictions,
    selected_parameters,
)


def numbers(prompts):
    """Return the features of prompts that consist of numbers."""
    return np.array([[float(x) for x in p.split()] for p in prompts])


def linear_data(n, seed=0, noise=0.1):
    """Return prompts of three numbers, and noisy labels that are linear in the numbers."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 3)).round(3)
    labels = x @ rng.normal(size=(3, 4)) + noise * rng.normal(size=(n, 4))
    return np.array([" ".join(map(str, row)) for row in x], object), labels


PIPELINE = Pipeline([("features", FunctionTransformer(numbers)), ("regressor", Ridge())])
GRID = {"alpha": [0.01, 1.0, 1000.0]}


def test_the_parameter_with_the_smallest_validation_error_is_selected():
    train, val = linear_data(60), linear_data(40, noise=0.0)
    errors = {
        alpha: difference_error(
            clone(PIPELINE).set_params(regressor__alpha=alpha).fit(*train).predict(val[0]), val[1]
        )
        for alpha in GRID["alpha"]
    }
    fitted = fit(PIPELINE, GRID, train, val)
    assert selected_parameters(fitted, GRID) == {"alpha": min(errors, key=errors.get)}
    assert fitted.predict(val[0]) == pytest.approx(
        clone(PIPELINE)
        .set_params(regressor__alpha=selected_parameters(fitted, GRID)["alpha"])
        .fit(*train)
        .predict(val[0])
    )


def test_out_of_fold_predictions_are_those_of_estimators_fitted_without_the_prompt():
    prompts, labels = linear_data(30)
    predicted = out_of_fold_predictions(PIPELINE, (prompts, labels), folds=30, seed=0)
    for i in (0, 7, 29):
        others = np.arange(30) != i
        assert predicted[i] == pytest.approx(
            clone(PIPELINE).fit(prompts[others], labels[others]).predict(prompts[i : i + 1])[0]
        )
    assert predicted == pytest.approx(
        out_of_fold_predictions(PIPELINE, (prompts, labels), folds=99, seed=5)
    ), "at most one fold per prompt"


@given(st.integers(1, 6), st.integers(2, 4), st.integers(0, 10_000))
def test_the_difference_error_is_half_the_mean_squared_error_of_pairwise_differences(n, m, seed):
    rng = np.random.default_rng(seed)
    predicted, labels = rng.normal(size=(2, n, m))
    error = predicted - labels
    pairs = (error[:, :, None] - error[:, None, :]) ** 2
    assert difference_error(predicted, labels) == pytest.approx(pairs.mean() / 2)
    assert difference_error(predicted + rng.normal(size=(n, 1)), labels) == pytest.approx(
        difference_error(predicted, labels)
    ), "the mean over the candidates is ignored"


def test_missing_labels_are_ignored_in_the_difference_error():
    labels = np.array([[1.0, 2.0, np.nan], [np.nan, 5.0, np.nan], [1.0, 1.0, 4.0]])
    predicted = np.array([[1.0, 4.0, 9.0], [3.0, 0.0, 3.0], [1.0, 1.0, 4.0]])
    assert difference_error(predicted, labels) == pytest.approx((1 + 1 + 0 + 0 + 0) / 5)
    assert difference_error(np.array([[3.0]]), np.array([[1.0]])) == 4.0, (
        "with one candidate, the error of the label"
    )
