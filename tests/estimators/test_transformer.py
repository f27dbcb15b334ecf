import numpy as np
import pytest
from sklearn.base import clone
from sklearn.utils.estimator_checks import parametrize_with_checks

from catimage.estimators.ragged_arrays import RaggedArray, as_ragged_array
from catimage.estimators.transformer import TokenMLPRegressor


@parametrize_with_checks([TokenMLPRegressor(64, 0.03, dropout=0.0, max_iter=15)])
def test_scikit_learn_estimator_contract(estimator, check):
    check(estimator)


def tokens(n=300, width=6, seed=0):
    """Return random token embeddings of n prompts of 1 to 8 tokens."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 9, n)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    return RaggedArray(rng.normal(size=(offsets[-1], width)).astype(np.float16), offsets)


def labels(x):
    """Return labels of two candidates with different ranges, linear in the mean over the tokens."""
    first = x.mean(x.values[:, :1].astype(float))
    return np.concatenate([3 + first, 5 - 2 * first], axis=1)


def test_a_linear_function_of_the_token_mean_is_learned_in_the_unit_of_the_metric():
    x, new = tokens(), tokens(seed=1)
    model = TokenMLPRegressor().fit(x, labels(x))
    assert model.predict(new).shape == (300, 2)
    assert model.score(new, labels(new)) > 0.9


def test_labels_are_scaled_by_one_range_over_all_candidates():
    x = tokens(50)
    y = np.stack([np.linspace(0, 1, 50), np.full(50, 9.0)], 1)
    model = TokenMLPRegressor(max_iter=5).fit(x, y)
    assert (model.low_, model.high_) == (0.0, 9.0)


def test_predictions_do_not_depend_on_the_other_prompts_of_a_batch():
    x = tokens(40)
    model = TokenMLPRegressor(max_iter=3).fit(x, labels(x))
    one_by_one = np.concatenate([model.predict(x.take(np.array([i]))) for i in range(40)])
    assert one_by_one == pytest.approx(model.predict(x), abs=1e-5)


def test_predictions_equal_those_of_the_torch_module():
    import torch

    x = tokens(20)
    model = TokenMLPRegressor(max_iter=3).fit(x, labels(x))
    net = model._network(6, 2)
    with torch.no_grad():
        for layer, name in ((net[0], "first"), (net[3], "second")):
            layer.weight.copy_(torch.from_numpy(model.weights_[name].T))
            layer.bias.copy_(torch.from_numpy(model.weights_[name + "_bias"]))
        scaled = torch.from_numpy(
            ((x.values.astype(float) - model.mean_) / model.scale_).astype(np.float32)
        )
        out = net.eval()(scaled)
    logits = np.stack(
        [out[a:b].mean(0).numpy() for a, b in zip(x.offsets[:-1], x.offsets[1:], strict=True)]
    )
    expected = model.low_ + (model.high_ - model.low_) / (1 + np.exp(-logits))
    assert model.predict(x) == pytest.approx(expected, abs=1e-5)


def test_the_same_seed_gives_the_same_predictions():
    x = tokens(60)
    first, second = (
        clone(TokenMLPRegressor(max_iter=3)).fit(x, labels(x)).predict(x) for _ in range(2)
    )
    assert (first == second).all()


def test_labels_may_be_missing_at_random():
    x, new = tokens(), tokens(seed=1)
    incomplete = np.where(np.random.default_rng(0).random((300, 2)) < 0.3, np.nan, labels(x))
    assert TokenMLPRegressor().fit(x, incomplete).score(new, labels(new)) > 0.85


def test_ragged_arrays_select_prompts_and_average_over_tokens():
    x = RaggedArray(np.arange(12.0).reshape(6, 2), np.array([0, 1, 3, 6]))
    assert x.take(np.array([2, 0])).values.tolist() == [[6, 7], [8, 9], [10, 11], [0, 1]]
    assert x.mean(x.values).tolist() == [[0, 1], [3, 4], [8, 9]]
    assert as_ragged_array(np.zeros((3, 2))).lengths.tolist() == [1, 1, 1]
