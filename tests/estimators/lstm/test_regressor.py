import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.utils.estimator_checks import parametrize_with_checks

from catimage.errors import InputError
from catimage.estimators import store
from catimage.estimators.build import build_estimator
from catimage.estimators.context import EstimatorContext
from catimage.estimators.lstm import regressor as lstm
from catimage.estimators.lstm.network import Shape, forward, sinusoids, torch_forward, torch_network
from catimage.estimators.lstm.regressor import LSTMRegressor
from catimage.estimators.lstm.training import _loss
from catimage.params import EstimatorParams

STEPS = (1, 2, 4, 8)


@parametrize_with_checks(
    [
        LSTMRegressor(
            hidden=8, head=16, rate=0.05, epochs=10, batch=16, dropout=0.0, network="mlp_tanh"
        )
    ]
)
def test_scikit_learns_contract(estimator, check):
    check(estimator)


def world(n=120, width=5, seed=0, steps=STEPS):
    """Qualities that saturate over steps at a pace which the first dimension tells."""
    x = np.random.default_rng(seed).normal(size=(n, width))
    return x, 2 + 3 * (1 - np.exp(-np.array(steps) / np.exp(1 + x[:, :1])))


def small(**settings):
    return LSTMRegressor(
        **{"steps": list(STEPS), "hidden": 12, "head": 16, "rate": 0.01, "epochs": 25, **settings}
    )


@pytest.mark.parametrize("settings", [{}, {"interpolate": False}, {"encode_steps": "sinusoidal"}])
def test_learns_the_series_of_unseen_prompts_in_the_metrics_unit(settings):
    model = small(**settings).fit(*world())
    x, y = world(seed=1)
    assert np.abs(model.predict(x) - y).mean() < 0.4 * np.abs(y.mean(axis=0) - y).mean()


def test_an_mlp_without_step_encoding_cannot_tell_steps_apart_and_an_lstm_can():
    x, _ = world(seed=1)
    blind = small(network="mlp_tanh", encode_steps="none", epochs=5).fit(*world()).predict(x)
    assert np.ptp(blind, axis=1).max() == pytest.approx(0, abs=1e-6)
    counting = small(encode_steps="none").fit(*world()).predict(x)
    assert (np.diff(counting.mean(axis=0)) > 0).all()


@pytest.mark.parametrize("network", ["lstm", "mlp_tanh"])
@pytest.mark.parametrize("encoding", ["learned", "sinusoidal", "none"])
@pytest.mark.parametrize("series", [1, 3])
def test_numpy_predicts_what_torch_does(network, encoding, series):
    shape = Shape(network, encoding, 7, 6, 2, 5, 0 if encoding == "none" else 12, series)
    torch.manual_seed(0)
    net = torch_network(shape, dropout=0.5).eval()
    weights = {key: value.numpy() for key, value in net.state_dict().items()}
    x, places = (
        np.random.default_rng(0).normal(size=(4, 7)).astype(np.float32),
        np.array([1, 2, 5, 11]),
    )
    with torch.no_grad():
        expected = torch_forward(
            net, shape, torch.from_numpy(x), torch.from_numpy(places), series - 1
        ).numpy()
    assert forward(weights, shape, x, places, series - 1) == pytest.approx(expected, abs=1e-6)


def test_the_network_has_the_papers_sizes():
    net = torch_network(Shape("lstm", "learned", 768, 512, 2, 128, 130, 1), dropout=0.1)
    assert (net["lstm"].hidden_size, net["lstm"].num_layers, net["lstm"].bidirectional) == (
        512,
        2,
        True,
    )
    assert [tuple(layer.weight.shape) for layer in (net["head"][0], net["head"][2])] == [
        (128, 1024),
        (1, 128),
    ]
    default = LSTMRegressor().get_params()
    assert {
        k: default[k]
        for k in ("hidden", "layers", "head", "batch", "rate", "epochs", "interpolate")
    } == {
        "hidden": 512,
        "layers": 2,
        "head": 128,
        "batch": 32,
        "rate": 1e-4,
        "epochs": 25,
        "interpolate": True,
    }


def test_sinusoids_are_the_transformers():
    found = sinusoids(9, 6)
    for step in range(9):
        for i in range(3):
            angle = step / 10000 ** (i / 3)
            assert found[step, i] == pytest.approx(np.sin(angle), abs=1e-6)
            assert found[step, 3 + i] == pytest.approx(np.cos(angle), abs=1e-6)
    assert sinusoids(4, 5).shape == (4, 5)


def test_every_step_in_between_is_predicted_and_candidates_read_off_it():
    model = small(epochs=2).fit(*world())
    x, _ = world(seed=1)
    assert model.places_[0].tolist() == [1, 2, 3, 4, 5, 6, 7, 8]
    assert model.predict(x) == pytest.approx(model.predict_places(x)[:, [0, 1, 3, 7]])
    sparse = small(epochs=1, interpolate=False).fit(*world())
    assert sparse.places_[0].tolist() == list(STEPS)


def test_candidates_come_in_any_order_and_from_several_generators():
    x, y = world()
    steps, generators = [4, 1, 1, 8, 2], ["a", "b", "a", "a", "b"]
    rise = lambda s, g: y[:, [STEPS.index(s)]] + (1 if g == "b" else 0)  # noqa: E731
    labels = np.concatenate([rise(s, g) for s, g in zip(steps, generators, strict=True)], axis=1)
    model = small(steps=steps, generators=generators, epochs=40).fit(x, labels)
    assert [c.tolist() for c in model.columns_] == [[2, 0, 3], [1, 4]]
    assert np.abs(model.predict(x) - labels).mean() < 0.35


def test_labels_may_have_holes():
    x, y = world(200)
    rng = np.random.default_rng(0)
    holed = np.where(rng.random(y.shape) < 0.3, np.nan, y)
    holed[0] = np.nan
    new, truth = world(seed=1)
    found = small().fit(x, holed).predict(new)
    assert np.isfinite(found).all()
    assert np.abs(found - truth).mean() < 0.4 * np.abs(truth.mean(axis=0) - truth).mean()
    with pytest.raises(ValueError, match="every y is NaN"):
        small().fit(x, np.full_like(y, np.nan))


def test_the_loss_is_the_mean_squared_error_over_the_labels_that_there_are():
    shape = Shape("lstm", "learned", 5, 4, 1, 3, 9, 2)
    net = torch_network(shape, dropout=0.0).eval()
    rng = np.random.default_rng(0)
    x, places = (
        torch.from_numpy(rng.normal(size=(6, 5)).astype(np.float32)),
        [
            torch.tensor([1, 2, 4]),
            torch.tensor([8]),
        ],
    )
    wanted = [
        torch.from_numpy(
            np.where(rng.random((6, len(p))) < 0.4, np.nan, rng.random((6, len(p)))).astype(
                np.float32
            )
        )
        for p in places
    ]
    with torch.no_grad():
        said = [torch_forward(net, shape, x, p, i).numpy() for i, p in enumerate(places)]
        found = float(_loss(net, shape, x, places, wanted))
    errors = np.concatenate([(s - w.numpy()).ravel() for s, w in zip(said, wanted, strict=True)])
    assert found == pytest.approx(np.nanmean(errors**2), rel=1e-5)


def test_the_same_seed_gives_the_same_estimator_and_torchs_own_is_left_alone():
    torch.manual_seed(5)
    before = torch.rand(3)
    torch.manual_seed(5)
    first, second = (clone(small(epochs=2)).fit(*world(40)).predict(world(40)[0]) for _ in range(2))
    assert (first == second).all()
    assert (torch.rand(3) == before).all()
    assert (first != small(epochs=2, random_state=1).fit(*world(40)).predict(world(40)[0])).any()


def test_the_prediction_of_a_prompt_does_not_depend_on_its_neighbours():
    model, (x, _) = small(epochs=2).fit(*world()), world(70, seed=2)
    alone = np.concatenate([model.predict(x[i : i + 1]) for i in range(70)])
    assert alone == pytest.approx(model.predict(x), abs=1e-5)


def test_it_is_saved_without_torch_and_loaded_again(tmp_path):
    pipeline, grid = build_estimator(
        EstimatorParams(name="small", kind="lstm", settings={"hidden": 6, "epochs": 1}),
        EstimatorContext(steps=STEPS, step_groups=("sd",) * 4),
    )
    assert grid == {}
    prompts = np.array([f"{c} ring" for c in ("red", "blue", "green", "grey") * 5], object)
    pipeline.fit(prompts, np.random.default_rng(0).random((20, 4)))
    store.save(pipeline, tmp_path / "e", {"name": "small"})
    loaded, _ = store.load(tmp_path / "e")
    assert (loaded.predict(prompts) == pipeline.predict(prompts)).all()


def test_what_cannot_be_is_said_in_a_sentence():
    spec = EstimatorParams(name="lstm")
    for steps in ((), (0, 0)):
        with pytest.raises(
            InputError,
            match=r"lstm \(lstm\) predicts series over denoising steps, .*imported scores",
        ):
            lstm.build(spec, EstimatorContext(steps=steps, step_groups=("",) * len(steps)))
    x, y = world(10)
    for wrong in (
        {"network": "gru"},
        {"encode_steps": "yes"},
        {"steps": [1, 2]},
        {"steps": [0, 1, 2, 3]},
    ):
        with pytest.raises(ValueError, match="must be"):
            small(**wrong).fit(x, y)


def test_its_own_cost_counts_every_product_at_every_place():
    model = small(hidden=4, head=3, epochs=1, layers=1).fit(*world())
    lstm_products = 2 * (16 * 5 + 16 * 4)
    assert model.multiply_adds(world(3)[0]) == 3 * 8 * (lstm_products + 3 * 8 + 3)
