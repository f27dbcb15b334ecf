import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.utils.estimator_checks import parametrize_with_checks

from catimage.estimators.mlp import MLPRegressor


@parametrize_with_checks(
    [MLPRegressor(16, 0.05, dropout=0.0, input_dropout=0.0, networks=2, batch=64, epochs=12)]
)
def test_scikit_learns_contract(estimator, check):
    check(estimator)


def data(n=600, seed=0):
    x = np.random.default_rng(seed).normal(size=(n, 6)).astype(np.float32)
    return x, np.stack([3 + x[:, 0], 5 - np.abs(x[:, 1])], axis=1)


SMALL = MLPRegressor(32, 0.01, dropout=0.1, input_dropout=0.0, networks=2, epochs=30)


@pytest.mark.parametrize("loss", ["cross_entropy", "squared"])
def test_learns_what_is_not_linear_in_the_metrics_unit(loss):
    model = clone(SMALL).set_params(loss=loss).fit(*data())
    assert model.score(*data(seed=1)) > 0.85


def test_several_networks_are_the_mean_of_their_logits():
    x, y = data(200)
    model = clone(SMALL).set_params(epochs=3, networks=3).fit(x, y)
    seeds = np.random.SeedSequence(0).generate_state(3)
    each = [clone(SMALL).set_params(epochs=3, networks=1) for _ in seeds]
    logits = []
    for one, seed in zip(each, seeds, strict=True):
        one.fit(x, y)
        tokens, target = one._tokens(x, y)[0], (y - y.min()) / (y.max() - y.min())
        one.weights_ = super(MLPRegressor, one)._train(tokens, target, int(seed))
        share = (one.predict(x) - one.low_) / (one.high_ - one.low_)
        logits.append(np.log(share / (1 - share)))
    expected = model.low_ + (model.high_ - model.low_) / (1 + np.exp(-np.mean(logits, axis=0)))
    assert model.predict(x) == pytest.approx(expected, abs=1e-5)


def test_holes_at_random_come_near_to_whole_labels():
    x, y = data()
    holed = np.where(np.random.default_rng(0).random(y.shape) < 0.3, np.nan, y)
    new, wanted = data(seed=1)
    assert clone(SMALL).fit(x, holed).score(new, wanted) > 0.8


def test_an_unknown_loss_is_refused():
    with pytest.raises(ValueError, match="loss must be cross_entropy or squared, not 'sqared'"):
        MLPRegressor(loss="sqared").fit(*data(50))


def test_a_grid_search_works_and_the_same_seed_gives_the_same_estimator():
    x, y = data(120)
    search = GridSearchCV(
        clone(SMALL).set_params(epochs=2), {"loss": ["squared", "cross_entropy"]}, cv=2
    ).fit(x, y)
    assert search.best_params_["loss"] in ("squared", "cross_entropy")
    assert (
        clone(search.best_estimator_).fit(x, y).predict(x) == search.best_estimator_.predict(x)
    ).all()
