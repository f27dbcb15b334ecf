import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.utils.estimator_checks import parametrize_with_checks

from catimage.estimators.mlp import MLPRegressor


@parametrize_with_checks(
    [
        MLPRegressor(
            16, 0.05, dropout=0.0, input_dropout=0.0, n_estimators=2, batch_size=64, max_iter=12
        )
    ]
)
def test_scikit_learn_estimator_contract(estimator, check):
    check(estimator)


def data(n=600, seed=0):
    """Return features (n, 6), and labels of two candidates that are a function of the features."""
    x = np.random.default_rng(seed).normal(size=(n, 6)).astype(np.float32)
    return x, np.stack([3 + x[:, 0], 5 - np.abs(x[:, 1])], axis=1)


SMALL = MLPRegressor(32, 0.01, dropout=0.1, input_dropout=0.0, n_estimators=2, max_iter=30)


@pytest.mark.parametrize("loss", ["cross_entropy", "squared_error"])
def test_a_nonlinear_function_is_learned_in_the_unit_of_the_metric(loss):
    model = clone(SMALL).set_params(loss=loss).fit(*data())
    assert model.score(*data(seed=1)) > 0.85


def test_the_logits_of_several_networks_are_averaged():
    x, y = data(200)
    model = clone(SMALL).set_params(max_iter=3, n_estimators=3).fit(x, y)
    seeds = np.random.SeedSequence(0).generate_state(3)
    networks = [clone(SMALL).set_params(max_iter=3, n_estimators=1) for _ in seeds]
    logits = []
    for network, seed in zip(networks, seeds, strict=True):
        network.fit(x, y)
        tokens, target = network._validate(x, y)[0], (y - y.min()) / (y.max() - y.min())
        network.weights_ = super(MLPRegressor, network)._train(tokens, target, int(seed))
        scaled = (network.predict(x) - network.low_) / (network.high_ - network.low_)
        logits.append(np.log(scaled / (1 - scaled)))
    expected = model.low_ + (model.high_ - model.low_) / (1 + np.exp(-np.mean(logits, axis=0)))
    assert model.predict(x) == pytest.approx(expected, abs=1e-5)


def test_labels_may_be_missing_at_random():
    x, y = data()
    incomplete = np.where(np.random.default_rng(0).random(y.shape) < 0.3, np.nan, y)
    new, expected = data(seed=1)
    assert clone(SMALL).fit(x, incomplete).score(new, expected) > 0.8


def test_an_unknown_loss_is_refused():
    with pytest.raises(
        ValueError, match=r"loss: unknown value 'sqared'\. Use 'cross_entropy' or 'squared_error'"
    ):
        MLPRegressor(loss="sqared").fit(*data(50))


def test_scikit_learn_grid_search_is_supported_and_predictions_are_reproducible():
    x, y = data(120)
    search = GridSearchCV(
        clone(SMALL).set_params(max_iter=2), {"loss": ["squared_error", "cross_entropy"]}, cv=2
    ).fit(x, y)
    assert search.best_params_["loss"] in ("squared_error", "cross_entropy")
    assert (
        clone(search.best_estimator_).fit(x, y).predict(x) == search.best_estimator_.predict(x)
    ).all()
