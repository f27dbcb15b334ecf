import numpy as np
import pytest
from sklearn.base import clone
from sklearn.dummy import DummyRegressor
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.utils.estimator_checks import parametrize_with_checks

from catimage.errors import InputError
from catimage.estimators import store
from catimage.estimators.build import build_estimator
from catimage.estimators.context import EstimatorContext
from catimage.estimators.fitting import difference_error
from catimage.estimators.stacking import StackRegressor
from catimage.params import EstimatorParams

CHECKED = StackRegressor([("a", Ridge()), ("b", DummyRegressor())], folds=2)


@parametrize_with_checks([CHECKED])
def test_scikit_learn_estimator_contract(estimator, check):
    check(estimator)


def _data(n: int = 300, seed: int = 0):
    """Return features (n, 4) and noisy labels (n, 3) that are linear in the features."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 4))
    y = (
        np.stack([x[:, 0] + x[:, 1], x[:, 0] - x[:, 1], x[:, 0]], axis=1)
        + rng.normal(size=(n, 3)) / 5
        + [3.0, 1.0, 2.0]
    )
    return x, y


def test_an_uninformative_member_has_weight_zero():
    x, y = _data()
    stack = StackRegressor([("good", LinearRegression()), ("constant", DummyRegressor())]).fit(x, y)
    assert stack.weights_ == pytest.approx([1, 0], abs=0.05)
    assert stack.level_weights_ == pytest.approx([1, 0], abs=0.05)


def test_weights_minimise_the_squared_error_of_out_of_fold_predictions():
    x, y = _data(60)
    y += np.random.default_rng(5).normal(size=y.shape)
    members = [("a", Ridge(alpha=1.0)), ("b", Ridge(alpha=200.0))]
    stack = StackRegressor(members, folds=3).fit(x, y)
    out_of_fold = [stack._out_of_fold(member, x, y) for _, member in members]
    first, second, target = (
        (p - p.mean(0)) - (p - p.mean(0)).mean(1, keepdims=True) for p in (*out_of_fold, y)
    )

    def error(weights):
        return ((weights[0] * first + weights[1] * second - target) ** 2).sum()

    values = np.linspace(0, 3, 61)
    assert error(stack.weights_) <= min(error((a, b)) for a in values for b in values) + 1e-9
    assert (stack.weights_ >= 0).all()


def test_members_that_use_different_features_are_combined():
    x, y = _data()

    class First(LinearRegression):
        def fit(self, X, y):
            return super().fit(X * [1, 0, 1, 1], y)

    class Second(LinearRegression):
        def fit(self, X, y):
            return super().fit(X * [0, 1, 1, 1], y)

    stack = StackRegressor([("first", First()), ("second", Second())]).fit(x, y)
    assert difference_error(stack.predict(x), y) < 0.05
    assert np.mean((stack.predict(x) - y) ** 2) < 0.1


def test_labels_may_be_missing():
    x, y = _data()
    complete = StackRegressor([("a", LinearRegression())]).fit(x, y).predict(x)
    rng = np.random.default_rng(3)
    y[rng.random(y.shape) < 0.2] = np.nan
    from catimage.estimators.linear import RidgeRegressor

    incomplete = StackRegressor([("a", RidgeRegressor(alpha=1e-3, tol=1e-8))]).fit(x, y).predict(x)
    assert np.isfinite(incomplete).all()
    assert incomplete == pytest.approx(complete, abs=0.3)


def test_a_stack_of_pipelines_can_be_built_cloned_saved_and_loaded(tmp_path):
    prompts = np.array([f"{w} thing {i}" for i in range(40) for w in ("red", "blue")], object)
    y = np.array([[i % 2, 1 - i % 2] for i in range(80)], float)
    specs = [
        EstimatorParams(name=kind, kind="ridge", features=[kind])
        for kind in ("tfidf", "characters")
    ]
    members = {spec.name: build_estimator(spec, EstimatorContext())[0] for spec in specs}
    pipeline, grid = build_estimator(
        EstimatorParams(name="both", kind="stack", members=("tfidf", "characters")),
        EstimatorContext(members=members),
    )
    assert not grid
    fitted = clone(pipeline).fit(prompts, y)
    assert (fitted.predict(prompts).argmax(axis=1) == y.argmax(axis=1)).all()
    store.save(fitted, tmp_path / "s", {})
    assert store.load(tmp_path / "s")[0].predict(prompts[:3]) == pytest.approx(
        fitted.predict(prompts[:3])
    )


def test_a_stack_without_members_is_refused():
    with pytest.raises(InputError, match="stack is a stack without members"):
        build_estimator(EstimatorParams(name="stack"), EstimatorContext())
    with pytest.raises(ValueError, match="a stack without members cannot be fitted"):
        StackRegressor().fit(np.ones((4, 1)), np.ones(4))


def test_a_stack_with_features_is_refused():
    spec = EstimatorParams(name="both", kind="stack", members=("knn",), features=("embedding",))
    member = build_estimator(EstimatorParams(name="knn"), EstimatorContext())[0]
    with pytest.raises(
        InputError, match="both is a stack and has 'features', which only its members can have"
    ):
        build_estimator(spec, EstimatorContext(members={"knn": member}))


def test_a_member_that_was_not_built_is_refused():
    spec = EstimatorParams(name="both", kind="stack", members=("knn",))
    with pytest.raises(InputError, match="both: the member 'knn' could not be built"):
        build_estimator(spec, EstimatorContext())
