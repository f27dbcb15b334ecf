import json

import numpy as np
import pytest

from catimage.errors import InputError
from catimage.estimators import store
from catimage.estimators.build import BUILDERS, build_estimator, in_dependency_order
from catimage.estimators.context import EstimatorContext
from catimage.estimators.fitting import fit
from catimage.params import ESTIMATOR_KINDS, EncoderParams, EstimatorParams
from catimage.scenes.grammar import sample_scene


def built(name, **more):
    """Return an unfitted estimator and its grid; ``more`` contains fields of its EstimatorParams
    and of the EstimatorContext.
    """
    spec = {k: more.pop(k) for k in ("kind", "features", "settings") if k in more}
    return build_estimator(EstimatorParams(name=name, **spec), EstimatorContext(**more))


@pytest.fixture(scope="module")
def data():
    """Return train and validation splits: captions of scenes, and labels that depend on the number
    of objects in the scene.
    """
    rng = np.random.default_rng(0)
    scenes = [sample_scene(rng) for _ in range(300)]
    n_objects = np.array([sum(g.count for g in s.groups) for s in scenes], float)
    labels = np.stack([20 - n_objects, np.full(300, 12.0)], 1)
    prompts = np.array([s.caption() for s in scenes], object)
    return (prompts[:240], labels[:240]), (prompts[240:], labels[240:])


@pytest.mark.parametrize("name", ["clusters", "knn", "mlp", "ridge", "transformer"])
def test_an_estimator_reduces_the_error_and_can_be_saved_and_loaded(name, data, tmp_path):
    train, val = data
    pipeline, grid = built(name)
    fitted = fit(pipeline, grid, train, val)
    predicted = fitted.predict(val[0])
    assert predicted.shape == val[1].shape
    limit = 0.8 if name == "clusters" else 0.7  # a mean over a cluster is less precise
    assert np.mean((predicted - val[1]) ** 2) < limit * np.mean((val[1] - train[1].mean(0)) ** 2)
    store.save(fitted, tmp_path / name, {"name": name})
    loaded, meta = store.load(tmp_path / name)
    assert meta == {"name": name}
    assert loaded.predict(val[0]) == pytest.approx(predicted, abs=1e-6)


def test_knn_predicts_the_mean_label_of_the_prompts_with_the_largest_cosine_similarity(data):
    train, val = data
    pipeline, grid = built("knn")
    fitted = fit(pipeline, grid, train, val)
    k = fitted.get_params()["regressor__n_neighbors"]
    embed = fitted.named_steps["features"].transform
    nearest = np.argsort(-(embed(val[0]) @ embed(train[0]).T), axis=1, kind="stable")[:, :k]
    assert fitted.predict(val[0]) == pytest.approx(train[1][nearest].mean(axis=1), abs=0.35)


def test_stored_embeddings_are_used_and_not_saved_with_the_estimator(data, tmp_path):
    from catimage.encoders.loading import load_encoder

    train, val = data
    folder = tmp_path / "embeddings"
    embeddings = load_encoder(EncoderParams()).encode([*train[0], *val[0]])
    embeddings.save(folder)
    stored, _ = built("knn", embeddings_folder=lambda name: folder)
    encoding, _ = built("knn")
    assert stored.fit(*train).predict(val[0]) == pytest.approx(
        encoding.fit(*train).predict(val[0]), abs=1e-3
    )
    store.save(stored, tmp_path / "knn", {})
    assert store.load(tmp_path / "knn")[0].named_steps["features"].stored is None


def test_every_kind_of_the_parameters_has_a_builder():
    assert sorted(BUILDERS) == sorted(ESTIMATOR_KINDS)


def test_unknown_settings_are_refused_with_a_suggestion():
    with pytest.raises(InputError, match=r"mine: unknown setting 'alhpa' .did you mean 'alpha'"):
        built("mine", kind="ridge", settings={"alhpa": 3})


def test_a_parameter_in_the_settings_is_not_in_the_grid():
    pipeline, grid = built("mine", kind="ridge", settings={"alpha": 3.0})
    assert pipeline.named_steps["regressor"].alpha == 3.0 and grid == {}


def test_an_untrusted_type_is_refused(tmp_path):
    from skops.io import dump

    from catimage.errors import InputError as UntrustedType

    (tmp_path / "bad").mkdir()
    dump(UntrustedType("x"), tmp_path / "bad" / "estimator.skops")
    (tmp_path / "bad" / "estimator.json").write_text(json.dumps({"format": store.FORMAT}))
    with pytest.raises(InputError, match=r"types that are not trusted .* Run 'catimage train'"):
        store.load(tmp_path / "bad")


@pytest.mark.parametrize(
    ("kind", "old", "new"),
    [
        ("mlp", "rate", "learning_rate"),
        ("mlp", "batch", "batch_size"),
        ("mlp", "hidden", "hidden_layer_sizes"),
        ("mlp", "networks", "n_estimators"),
        ("mlp", "epochs", "max_iter"),
        ("mlp", "patience", "n_iter_no_change"),
        ("transformer", "hidden", "hidden_layer_sizes"),
        ("transformer", "rate", "learning_rate"),
        ("transformer", "epochs", "max_iter"),
        ("transformer", "patience", "n_iter_no_change"),
        ("knn", "scanned", "min_compared"),
        ("knn", "exact", "algorithm"),
        ("lstm", "hidden", "hidden_size"),
        ("lstm", "layers", "num_layers"),
        ("lstm", "head", "head_size"),
        ("lstm", "encode_steps", "step_encoding"),
        ("finetuned", "head_rate", "head_learning_rate"),
    ],
)
def test_a_renamed_setting_is_refused_with_its_new_name(kind, old, new):
    with pytest.raises(InputError) as error:
        built("mine", kind=kind, settings={old: 1}, steps=(1, 2))
    message = f"train.estimators: mine: the setting {old!r} was renamed. Write {new!r}."
    assert str(error.value) == message


def test_the_members_of_a_stack_are_ordered_before_the_stack():
    both = EstimatorParams(name="both", kind="stack", members=("knn", "ridge"))
    knn, ridge = EstimatorParams(name="knn"), EstimatorParams(name="ridge")
    assert in_dependency_order([both, knn, ridge]) == [knn, ridge, both]
    with pytest.raises(InputError, match=r"knn has 'members', but its kind is knn"):
        in_dependency_order([EstimatorParams(name="knn", members=("ridge",)), ridge])
    first = EstimatorParams(name="a", kind="stack", members=("b",))
    second = EstimatorParams(name="b", kind="stack", members=("a",))
    with pytest.raises(InputError, match="a and b are members of each other"):
        in_dependency_order([first, second])
