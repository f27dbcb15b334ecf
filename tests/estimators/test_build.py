import numpy as np
import pytest
from sklearn.base import clone

from catimage.errors import InputError
from catimage.estimators import store
from catimage.estimators.build import NAMES, build, fit
from catimage.params import Encoder
from catimage.tiny.scenes import draw_scene


@pytest.fixture(scope="module")
def data():
    """Captions of the scene grammar, and labels that depend on how crowded the scene is."""
    rng = np.random.default_rng(0)
    scenes = [draw_scene(rng) for _ in range(300)]
    crowd = np.array([sum(g.count for g in s.groups) for s in scenes], float)
    labels = np.stack([20 - crowd, np.full(300, 12.0)], 1)
    prompts = np.array([s.caption() for s in scenes], object)
    return (prompts[:240], labels[:240]), (prompts[240:], labels[240:])


@pytest.mark.parametrize("name", NAMES)
def test_every_estimator_learns_and_survives_the_disk(name, data, tmp_path):
    train, val = data
    pipeline, grid = build(name, Encoder())
    fitted = fit(pipeline, grid, train, val)
    predicted = fitted.predict(val[0])
    assert predicted.shape == val[1].shape
    assert np.mean((predicted - val[1]) ** 2) < 0.7 * np.mean((val[1] - train[1].mean(0)) ** 2)
    store.save(fitted, tmp_path / name, {"name": name})
    loaded, meta = store.load(tmp_path / name)
    assert meta == {"name": name}
    assert loaded.predict(val[0]) == pytest.approx(predicted, abs=1e-6)


def test_knn_is_the_mean_of_the_nearest_by_cosine(data):
    train, val = data
    pipeline, grid = build("knn", Encoder())
    fitted = fit(pipeline, grid, train, val)
    k = fitted.get_params()["regressor__n_neighbors"]
    embed = fitted.named_steps["features"].transform
    nearest = np.argsort(-(embed(val[0]) @ embed(train[0]).T), axis=1, kind="stable")[:, :k]
    assert fitted.predict(val[0]) == pytest.approx(train[1][nearest].mean(axis=1), abs=0.35)


def test_k_is_the_best_on_the_validation_split(data):
    train, val = data
    pipeline, grid = build("knn", Encoder())
    errors = {
        k: np.mean((clone(pipeline).set_params(regressor__n_neighbors=k).fit(*train).predict(val[0]) - val[1]) ** 2)
        for k in grid["regressor__n_neighbors"]
    }
    assert fit(pipeline, grid, train, val).get_params()["regressor__n_neighbors"] == min(errors, key=errors.get)


def test_stored_embeddings_are_looked_up_and_not_saved(data, tmp_path):
    from catimage.encoders import load_encoder

    train, val = data
    folder = tmp_path / "embeddings"
    made = load_encoder(Encoder()).encode([*train[0], *val[0]])
    made.save(folder)
    stored, _ = build("knn", Encoder(), str(folder))
    fresh, _ = build("knn", Encoder())
    assert stored.fit(*train).predict(val[0]) == pytest.approx(fresh.fit(*train).predict(val[0]), abs=1e-3)
    store.save(stored, tmp_path / "knn", {})
    assert store.load(tmp_path / "knn")[0].named_steps["features"].stored is None


def test_an_unknown_estimator_is_refused_with_the_nearest():
    with pytest.raises(InputError, match="did you mean 'ridge'"):
        build("rigde", Encoder())


def test_a_type_that_is_not_trusted_is_refused(tmp_path):
    from skops.io import dump

    from catimage.errors import InputError as Stranger

    (tmp_path / "bad").mkdir()
    dump(Stranger("x"), tmp_path / "bad" / "estimator.skops")
    (tmp_path / "bad" / "estimator.json").write_text("{}")
    with pytest.raises(InputError, match="not trusted"):
        store.load(tmp_path / "bad")
