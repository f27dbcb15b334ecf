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
from catimage.estimators.lstm.network import (
    Architecture,
    forward,
    sinusoidal_encoding,
    torch_forward,
    torch_network,
)
from catimage.estimators.lstm.regressor import LSTMRegressor
from catimage.estimators.lstm.training import _loss
from catimage.params import EstimatorParams

STEPS = (1, 2, 4, 8)


@parametrize_with_checks(
    [
        LSTMRegressor(
            hidden_size=8,
            head_size=16,
            learning_rate=0.05,
            max_iter=10,
            batch_size=16,
            dropout=0.0,
            network="mlp_tanh",
        )
    ]
)
def test_scikit_learn_estimator_contract(estimator, check):
    check(estimator)


def data(n=120, width=5, seed=0, steps=STEPS):
    """Return features, and labels that saturate with the number of steps. The first feature
    determines the rate of saturation.
    """
    x = np.random.default_rng(seed).normal(size=(n, width))
    return x, 2 + 3 * (1 - np.exp(-np.array(steps) / np.exp(1 + x[:, :1])))


def small(**settings):
    """Return an LSTM regressor with few units and a short training."""
    return LSTMRegressor(
        **{
            "steps": list(STEPS),
            "hidden_size": 12,
            "head_size": 16,
            "learning_rate": 0.01,
            "max_iter": 25,
            **settings,
        }
    )


@pytest.mark.parametrize("settings", [{}, {"interpolate": False}, {"step_encoding": "sinusoidal"}])
def test_labels_of_unseen_prompts_are_predicted_in_the_unit_of_the_metric(settings):
    model = small(**settings).fit(*data())
    x, y = data(seed=1)
    assert np.abs(model.predict(x) - y).mean() < 0.4 * np.abs(y.mean(axis=0) - y).mean()


def test_without_step_encoding_an_lstm_distinguishes_steps_but_an_mlp_does_not():
    x, _ = data(seed=1)
    mlp = small(network="mlp_tanh", step_encoding="none", max_iter=5).fit(*data())
    assert np.ptp(mlp.predict(x), axis=1).max() == pytest.approx(0, abs=1e-6)
    lstm_predictions = small(step_encoding="none").fit(*data()).predict(x)
    assert (np.diff(lstm_predictions.mean(axis=0)) > 0).all()


@pytest.mark.parametrize("network", ["lstm", "mlp_tanh"])
@pytest.mark.parametrize("encoding", ["learned", "sinusoidal", "none"])
@pytest.mark.parametrize("series", [1, 3])
def test_numpy_and_torch_predictions_are_equal(network, encoding, series):
    n_encodings = 0 if encoding == "none" else 12
    architecture = Architecture(network, encoding, 7, 6, 2, 5, n_encodings, series)
    torch.manual_seed(0)
    net = torch_network(architecture, dropout=0.5).eval()
    weights = {key: value.numpy() for key, value in net.state_dict().items()}
    x = np.random.default_rng(0).normal(size=(4, 7)).astype(np.float32)
    steps = np.array([1, 2, 5, 11])
    with torch.no_grad():
        expected = torch_forward(
            net, architecture, torch.from_numpy(x), torch.from_numpy(steps), series - 1
        ).numpy()
    assert forward(weights, architecture, x, steps, series - 1) == pytest.approx(expected, abs=1e-6)


def test_the_default_settings_equal_the_settings_in_the_paper():
    net = torch_network(Architecture("lstm", "learned", 768, 512, 2, 128, 130, 1), dropout=0.1)
    assert (net["lstm"].hidden_size, net["lstm"].num_layers, net["lstm"].bidirectional) == (
        512,
        2,
        True,
    )
    assert [tuple(layer.weight.shape) for layer in (net["head"][0], net["head"][2])] == [
        (128, 1024),
        (1, 128),
    ]
    paper = {
        "hidden_size": 512,
        "num_layers": 2,
        "head_size": 128,
        "batch_size": 32,
        "learning_rate": 1e-4,
        "max_iter": 25,
        "interpolate": True,
    }
    defaults = LSTMRegressor().get_params()
    assert {name: defaults[name] for name in paper} == paper


def test_the_sinusoidal_encoding_equals_the_encoding_of_the_transformer():
    encoding = sinusoidal_encoding(9, 6)
    for step in range(9):
        for i in range(3):
            angle = step / 10000 ** (i / 3)
            assert encoding[step, i] == pytest.approx(np.sin(angle), abs=1e-6)
            assert encoding[step, 3 + i] == pytest.approx(np.cos(angle), abs=1e-6)
    assert sinusoidal_encoding(4, 5).shape == (4, 5)


def test_all_steps_are_predicted_and_the_steps_of_the_candidates_are_returned():
    model = small(max_iter=2).fit(*data())
    x, _ = data(seed=1)
    assert model._fitted_series()[0].predicted_steps.tolist() == [1, 2, 3, 4, 5, 6, 7, 8]
    assert model.predict(x) == pytest.approx(model._predict_series(x, 0)[:, [0, 1, 3, 7]])
    sampled = small(max_iter=1, interpolate=False).fit(*data())
    assert sampled._fitted_series()[0].predicted_steps.tolist() == list(STEPS)


def test_candidates_may_be_in_any_order_and_in_several_step_groups():
    x, y = data()
    steps, groups = [4, 1, 1, 8, 2], ["a", "b", "a", "a", "b"]
    quality = lambda s, g: y[:, [STEPS.index(s)]] + (1 if g == "b" else 0)  # noqa: E731
    labels = np.concatenate([quality(s, g) for s, g in zip(steps, groups, strict=True)], axis=1)
    model = small(steps=steps, step_groups=groups, max_iter=40).fit(x, labels)
    assert [s.columns.tolist() for s in model._fitted_series()] == [[2, 0, 3], [1, 4]]
    assert np.abs(model.predict(x) - labels).mean() < 0.35


def test_labels_may_be_missing():
    x, y = data(200)
    rng = np.random.default_rng(0)
    incomplete = np.where(rng.random(y.shape) < 0.3, np.nan, y)
    incomplete[0] = np.nan
    new, truth = data(seed=1)
    predicted = small().fit(x, incomplete).predict(new)
    assert np.isfinite(predicted).all()
    assert np.abs(predicted - truth).mean() < 0.4 * np.abs(truth.mean(axis=0) - truth).mean()
    with pytest.raises(ValueError, match="all labels are missing"):
        small().fit(x, np.full_like(y, np.nan))


def test_the_loss_is_the_mean_squared_error_and_ignores_missing_labels():
    architecture = Architecture("lstm", "learned", 5, 4, 1, 3, 9, 2)
    net = torch_network(architecture, dropout=0.0).eval()
    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.normal(size=(6, 5)).astype(np.float32))
    steps = [torch.tensor([1, 2, 4]), torch.tensor([8])]
    shapes = [(6, len(series_steps)) for series_steps in steps]
    targets = [np.where(rng.random(shape) < 0.4, np.nan, rng.random(shape)) for shape in shapes]
    labels = [torch.from_numpy(target.astype(np.float32)) for target in targets]
    with torch.no_grad():
        scores = [torch_forward(net, architecture, x, s, i).numpy() for i, s in enumerate(steps)]
        loss = float(_loss(net, architecture, x, steps, labels))
    errors = np.concatenate([(s - t.numpy()).ravel() for s, t in zip(scores, labels, strict=True)])
    assert loss == pytest.approx(np.nanmean(errors**2), rel=1e-5)


def test_the_same_seed_gives_the_same_predictions_and_leaves_torchs_generator_unchanged():
    torch.manual_seed(5)
    before = torch.rand(3)
    torch.manual_seed(5)
    first, second = (clone(small(max_iter=2)).fit(*data(40)).predict(data(40)[0]) for _ in range(2))
    assert (first == second).all()
    assert (torch.rand(3) == before).all()
    assert (first != small(max_iter=2, random_state=1).fit(*data(40)).predict(data(40)[0])).any()


def test_predictions_do_not_depend_on_the_other_prompts_of_a_batch():
    model, (x, _) = small(max_iter=2).fit(*data()), data(70, seed=2)
    one_by_one = np.concatenate([model.predict(x[i : i + 1]) for i in range(70)])
    assert one_by_one == pytest.approx(model.predict(x), abs=1e-5)


def test_a_loaded_estimator_predicts_the_same_as_the_saved_estimator(tmp_path):
    pipeline, grid = build_estimator(
        EstimatorParams(name="small", kind="lstm", settings={"hidden_size": 6, "max_iter": 1}),
        EstimatorContext(steps=STEPS, step_groups=("sd",) * 4),
    )
    assert grid == {}
    prompts = np.array([f"{c} ring" for c in ("red", "blue", "green", "grey") * 5], object)
    pipeline.fit(prompts, np.random.default_rng(0).random((20, 4)))
    store.save(pipeline, tmp_path / "e", {"name": "small"})
    loaded, _ = store.load(tmp_path / "e")
    assert (loaded.predict(prompts) == pipeline.predict(prompts)).all()


def test_invalid_settings_and_candidates_without_steps_are_refused():
    spec = EstimatorParams(name="lstm")
    for steps in ((), (0, 0)):
        with pytest.raises(
            InputError,
            match=r"lstm \(lstm\) predicts series over denoising steps, but .* imported scores",
        ):
            lstm.build(spec, EstimatorContext(steps=steps, step_groups=("",) * len(steps)))
    x, y = data(10)
    for settings in (
        {"network": "gru"},
        {"step_encoding": "yes"},
        {"steps": [1, 2]},
        {"steps": [0, 1, 2, 3]},
    ):
        with pytest.raises(ValueError, match="must be"):
            small(**settings).fit(x, y)


def test_multiply_adds_count_the_products_at_every_predicted_step():
    model = small(hidden_size=4, head_size=3, max_iter=1, num_layers=1).fit(*data())
    # two directions; four gates of four units, on five features and four recurrent states
    lstm_products = 2 * (16 * 5 + 16 * 4)
    # three prompts, eight steps, and an MLP with layers of 8, 3 and 1 units
    assert model.multiply_adds(data(3)[0]) == 3 * 8 * (lstm_products + 3 * 8 + 3)
