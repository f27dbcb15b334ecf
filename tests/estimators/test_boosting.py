import numpy as np
import pytest
from scipy.sparse import csr_matrix
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.estimator_checks import parametrize_with_checks

from catimage.errors import InputError
from catimage.estimators import store
from catimage.estimators.boosting import BoostingRegressor


@parametrize_with_checks(
    [BoostingRegressor(max_iter=15, learning_rate=0.3, min_samples_leaf=3, l2_regularization=0.0)]
)
def test_check_estimator(estimator, check):
    check(estimator)


def data(n=500, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 5)) * [5, 4, 3, 2, 1]
    return x, np.stack([3 + np.sign(x[:, 0]), np.abs(x[:, 1])], axis=1) + 0.1 * rng.normal(
        size=(n, 2)
    )


SMALL = BoostingRegressor(n_components=3, max_iter=40, learning_rate=0.2)


def test_equals_scikit_learn_on_the_principal_components():
    x, y = data()
    model = clone(SMALL).fit(x, y)
    axes, pca = model.pca_.components_, PCA(3).fit(x)
    assert np.abs(axes @ pca.components_.T).round(6).tolist() == np.eye(3).tolist()
    z = (x - x.mean(axis=0)) @ axes.T
    for j, column in enumerate(y.T):
        expected = HistGradientBoostingRegressor(
            max_iter=40,
            learning_rate=0.2,
            max_leaf_nodes=8,
            l2_regularization=10.0,
            max_features=0.5,
            early_stopping=False,
            random_state=0,
        ).fit(z, column)
        assert model.predict(x)[:, j] == pytest.approx(expected.predict(z))


def test_a_candidate_is_trained_on_the_prompts_that_have_its_label():
    x, y = data()
    incomplete = y.copy()
    incomplete[::3, 1] = np.nan
    model = clone(SMALL).fit(x, incomplete)
    assert model.predict(x)[:, 0] == pytest.approx(clone(SMALL).fit(x, y).predict(x)[:, 0])
    rows, z = ~np.isnan(incomplete[:, 1]), model.pca_.transform(x)
    alone = model._fit_candidate(z[rows], y[rows, 1])
    assert model.predict(x)[:, 1] == pytest.approx(alone.predict(z))
    assert model.score(*data(seed=1)) > 0.8


def test_multiply_adds_are_components_and_comparisons():
    model = clone(SMALL).fit(*data())
    assert model.multiply_adds(np.zeros((2, 5))) == 2 * (5 * 3 + 7 * 80)


def test_is_saved_and_loaded_without_pickle(tmp_path):
    x, y = data()
    steps = [("features", FunctionTransformer()), ("regressor", clone(SMALL))]
    pipeline = Pipeline(steps).fit(x, y)
    store.save(pipeline, tmp_path / "boosting", {})
    assert (store.load(tmp_path / "boosting")[0].predict(x) == pipeline.predict(x)).all()


def test_one_prompt_is_rejected():
    with pytest.raises(InputError, match="at least two training prompts"):
        BoostingRegressor().fit(np.zeros((1, 3)), np.zeros((1, 2)))


def test_sparse_features_are_rejected():
    with pytest.raises(InputError, match="needs dense features, and these are sparse"):
        BoostingRegressor().fit(csr_matrix(np.eye(4)), np.eye(4))
