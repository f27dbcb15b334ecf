import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Ridge
from sklearn.utils.estimator_checks import parametrize_with_checks

from catimage.errors import InputError
from catimage.estimators.linear import RidgeRegressor


@parametrize_with_checks([RidgeRegressor()])
def test_scikit_learn_estimator_contract(estimator, check):
    check(estimator)


def _data(seed: int, missing: float = 0.0):
    """Return features (40, 12) and labels (40, 4), of which a share ``missing`` is NaN."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(40, 12)) * (rng.random((40, 12)) < 0.4)
    y = x[:, :3] @ rng.normal(size=(3, 4)) + 5 + rng.normal(size=(40, 4))
    y[1:, :][rng.random((39, 4)) < missing] = np.nan
    return x, y


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    alpha=st.sampled_from([0.01, 1.0, 100.0]),
    missing=st.sampled_from([0.0, 0.4]),
)
def test_predictions_equal_those_of_one_ridge_regression_per_candidate(seed, alpha, missing):
    x, y = _data(seed, missing)
    # dense features, sparse features, and sparse features with a column without zeros
    for features in (
        x,
        sp.csr_matrix(x),
        sp.hstack([sp.csr_matrix(x), np.ones((40, 1)) * x[:, :1] + 1]).tocsr(),
    ):
        dense = features.toarray() if sp.issparse(features) else features
        fitted = RidgeRegressor(alpha=alpha, tol=1e-10).fit(features, y)
        for m in range(4):
            present = ~np.isnan(y[:, m])
            expected = Ridge(alpha=alpha).fit(dense[present], y[present, m])
            assert fitted.predict(features)[:, m] == pytest.approx(
                expected.predict(dense), abs=1e-6
            )
            assert fitted.coef_[m] == pytest.approx(expected.coef_, abs=1e-6)


def test_predictions_with_the_default_tolerance_are_close_to_those_of_scikit_learn():
    x, y = _data(1)
    assert RidgeRegressor().fit(x, y).predict(x) == pytest.approx(
        Ridge(alpha=2.0).fit(x, y).predict(x), abs=1e-2
    )


def test_a_candidate_without_labels_is_refused():
    x, y = _data(2)
    y[:, 1] = np.nan
    with pytest.raises(InputError, match=r"candidate 2 \(in order of cost\) has no label"):
        RidgeRegressor().fit(x, y)


def test_constant_labels_are_predicted_exactly():
    x, _ = _data(3)
    assert RidgeRegressor().fit(x, np.full((40, 2), 7.0)).predict(x) == pytest.approx(
        np.full((40, 2), 7.0)
    )


def test_candidates_with_equal_labels_have_equal_coefficients_and_predictions():
    """With missing labels too: the products of matrices alone would be rounded by position."""
    x, y = _data(4, missing=0.3)
    y = np.repeat(y[:, :2], [3, 4], axis=1)[:, [0, 3, 1, 4, 2, 5, 6]].astype(np.float32)
    fitted = RidgeRegressor().fit(x.astype(np.float32), y)
    first, second = [0, 2, 4], [1, 3, 5, 6]
    for columns in (first, second):
        assert (fitted.coef_[columns] == fitted.coef_[columns[:1]]).all()
        assert (fitted.predict(x)[:, columns] == fitted.predict(x)[:, columns[:1]]).all()
    assert (fitted.predict(x)[:, 0] != fitted.predict(x)[:, 1]).any()
