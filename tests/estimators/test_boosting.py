import numpy as np
import pytest
from scipy.sparse import csr_matrix
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.utils.estimator_checks import parametrize_with_checks

from catimage.errors import InputError
from catimage.estimators.boosting import BoostingRegressor


@parametrize_with_checks([BoostingRegressor(trees=15, rate=0.3, min_samples_leaf=3, penalty=0.0)])
def test_scikit_learns_contract(estimator, check):
    check(estimator)


def data(n=500, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 5)) * [5, 4, 3, 2, 1]
    return x, np.stack([3 + np.sign(x[:, 0]), np.abs(x[:, 1])], axis=1) + 0.1 * rng.normal(
        size=(n, 2)
    )


SMALL = BoostingRegressor(components=3, trees=40, rate=0.2)


def test_equals_scikit_learns_on_the_principal_components():
    x, y = data()
    model = clone(SMALL).fit(x, y)
    axes = PCA(3).fit(x)
    assert np.abs(model.axes_.T @ axes.components_.T).round(6).tolist() == np.eye(3).tolist()
    z = (x - model.mean_) @ model.axes_
    for j, column in enumerate(y.T):
        theirs = HistGradientBoostingRegressor(
            max_iter=40,
            learning_rate=0.2,
            max_leaf_nodes=8,
            l2_regularization=10.0,
            max_features=0.5,
            early_stopping=False,
            random_state=0,
        ).fit(z, column)
        assert model.predict(x)[:, j] == pytest.approx(theirs.predict(z))


def test_a_candidate_learns_from_the_prompts_that_have_its_label():
    x, y = data()
    holed = y.copy()
    holed[::3, 1] = np.nan
    rows = ~np.isnan(holed[:, 1])
    model = clone(SMALL).fit(x, holed)
    assert model.predict(x)[:, 0] == pytest.approx(clone(SMALL).fit(x, y).predict(x)[:, 0])
    alone = model._one(((x - model.mean_) @ model.axes_)[rows], y[rows, 1])
    assert model.predict(x)[:, 1] == pytest.approx(alone.predict((x - model.mean_) @ model.axes_))
    assert model.score(*data(seed=1)) > 0.8


def test_counts_components_and_comparisons():
    model = clone(SMALL).fit(*data())
    assert model.multiply_adds(np.zeros((2, 5))) == 2 * (5 * 3 + model.depth_ * 80)


def test_sparse_features_are_refused_in_one_sentence():
    with pytest.raises(InputError, match="dense features, and got sparse ones"):
        BoostingRegressor().fit(csr_matrix(np.eye(4)), np.eye(4))
