import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.base import clone
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import Pipeline

from catimage.encoders.loading import load_encoder
from catimage.errors import InputError
from catimage.estimators import store
from catimage.estimators.features.feature_union import JoinedFeatures, KernelMap
from catimage.estimators.features.steps import (
    LayerMeans,
    PooledEmbedding,
    RawPrompts,
    TextFeatures,
    encoders_of,
    feature_step,
    look_up,
    parts_of,
    rename_encoder,
)
from catimage.estimators.linear import RidgeRegressor
from catimage.estimators.stacking import StackRegressor
from catimage.params import Encoder, FeatureParams

PROMPTS = np.array(
    [
        f"{n} {s} {c} circles"
        for n in ("one", "two")
        for s in ("small", "large")
        for c in ("red", "blue", "green")
    ],
    object,
)


def _step(*features):
    return feature_step(
        [FeatureParams(**({"kind": f} if isinstance(f, str) else f)) for f in features],
        Encoder(),
        None,
    )


def test_joined_columns_are_those_of_each_times_its_weight():
    both = _step("tfidf", {"kind": "embedding", "weight": 0.5}).fit(PROMPTS)
    words, embedded = (
        _step("tfidf").fit_transform(PROMPTS),
        _step("embedding").fit_transform(PROMPTS),
    )
    x = both.transform(PROMPTS)
    assert sp.issparse(x) and x.format == "csr"
    assert x.toarray() == pytest.approx(np.hstack([words.toarray(), 0.5 * embedded]), abs=1e-6)


def test_every_part_has_rows_of_unit_length_so_that_none_drowns_the_others():
    for kind, squared in (
        ("tfidf", 1),
        ("characters", 1),
        ("embedding", 1),
        ("layers", 1),
        ("kernel", 2),
    ):
        x = _step(kind).fit(PROMPTS).transform(PROMPTS)
        lengths = np.linalg.norm(x.toarray() if sp.issparse(x) else x, axis=1)
        assert lengths == pytest.approx(np.full(len(PROMPTS), squared**0.5), abs=2e-3), kind


def test_one_prompt_has_the_row_that_it_has_among_others():
    step = _step("tfidf", "kernel", "characters").fit(PROMPTS)
    whole = step.transform(PROMPTS)
    alone = step.transform(PROMPTS[3:4])
    assert sp.issparse(alone) and alone.format == whole.format and alone.dtype == whole.dtype
    assert alone.toarray() == pytest.approx(whole[[3]].toarray(), abs=1e-5)


def test_dense_parts_stay_dense():
    x = _step("embedding", "kernel").fit(PROMPTS).transform(PROMPTS)
    assert isinstance(x, np.ndarray)
    assert len(x) == len(PROMPTS)


@pytest.mark.parametrize("kind", ["tokens", "prompts"])
def test_what_has_no_columns_cannot_be_joined(kind):
    with pytest.raises(InputError, match="cannot be joined"):
        _step("tfidf", kind)


def test_products_of_the_kernels_features_are_the_kernel_on_the_landmarks():
    views = [PooledEmbedding(), LayerMeans()]
    mapped = KernelMap(views, gammas=(1.5, 0.5)).fit(PROMPTS)
    expected = np.zeros((len(PROMPTS), len(PROMPTS)))
    for view, gamma in zip(views, (1.5, 0.5), strict=True):
        seen = view.fit(PROMPTS).transform(PROMPTS).astype(float)
        expected += np.exp(-gamma * ((seen[:, None] - seen[None]) ** 2).sum(axis=2))
    x = mapped.transform(PROMPTS)
    assert x @ x.T == pytest.approx(expected, abs=4e-3)
    fewer = KernelMap(views, landmarks=5).fit(PROMPTS).transform(PROMPTS)
    assert fewer.shape == (len(PROMPTS), 5)
    values = np.linalg.eigvalsh(expected)
    x = KernelMap(views, gammas=(1.5, 0.5), rank=3).fit(PROMPTS).transform(PROMPTS)
    assert np.linalg.norm(x @ x.T - expected, 2) == pytest.approx(
        values[-4], abs=4e-3
    )  # the best of rank 3 misses by the fourth


def test_layers_are_standardised_and_keep_the_angles_between_prompts():
    from catimage.encoders.loading import load_encoder

    means = load_encoder(Encoder()).encode(PROMPTS).layers.reshape(len(PROMPTS), -1).astype(float)
    z = (means - means.mean(axis=0)) / np.maximum(means.std(axis=0), 1e-6)
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    x = LayerMeans().fit(PROMPTS).transform(PROMPTS)
    assert x @ x.T == pytest.approx(z @ z.T, abs=5e-3)
    assert LayerMeans(width=3).fit(PROMPTS).transform(PROMPTS[:4]).shape == (4, 3)


def test_clones_are_unfitted_and_take_parameters():
    joined = _step("tfidf", "kernel").fit(PROMPTS)
    fresh = clone(joined)
    assert not hasattr(fresh, "steps_")
    assert fresh.get_params()["1__gammas"] == KernelMap().gammas
    fresh.set_params(**{"1__gammas": (9.0, 9.0), "weights": [1.0, 2.0]})
    assert fresh.steps[1].gammas == (9.0, 9.0)
    assert joined.steps[1].gammas != (9.0, 9.0)
    with pytest.raises(ValueError, match="Invalid parameter"):
        fresh.set_params(nothing=1)


def _stack() -> Pipeline:
    inner = Pipeline([("features", _step("tfidf", "kernel")), ("regressor", RidgeRegressor())])
    other = Pipeline(
        [("features", PooledEmbedding("ViT-B-32", "openai")), ("regressor", LinearRegression())]
    )
    return Pipeline(
        [("features", RawPrompts()), ("regressor", StackRegressor([("a", inner), ("b", other)]))]
    )


def test_every_encoder_within_is_found_pointed_at_a_folder_and_renamed(tmp_path):
    stack = _stack()
    assert encoders_of(stack) == [Encoder(), Encoder(model="ViT-B-32", weights="openai")]
    (tmp_path / "tiny").mkdir()
    look_up(stack, lambda name: tmp_path / name)
    assert {t.model: t.stored for t in parts_of(stack, TextFeatures)} == {
        "tiny": str(tmp_path / "tiny"),
        "ViT-B-32": None,
    }
    look_up(stack, None)
    rename_encoder(stack, "ViT-B-32", "local-dir:x")
    assert {(t.model, t.stored) for t in parts_of(stack, TextFeatures)} == {
        ("tiny", None),
        ("local-dir:x", None),
    }


def test_joined_features_are_saved_without_their_folder(tmp_path):
    load_encoder(Encoder()).encode(list(PROMPTS)).save(tmp_path / "tiny")
    y = np.random.default_rng(0).normal(size=(len(PROMPTS), 2))
    features = [FeatureParams(kind="tfidf"), FeatureParams(kind="kernel")]
    step = feature_step(features, Encoder(), lambda name: tmp_path / name)
    pipeline = Pipeline([("features", step), ("regressor", RidgeRegressor())])
    predicted = pipeline.fit(PROMPTS, y).predict(PROMPTS)
    store.save(pipeline, tmp_path / "saved", {})
    loaded, _ = store.load(tmp_path / "saved")
    assert all(text.stored is None for text in parts_of(loaded, TextFeatures))
    assert all(
        isinstance(k, int)
        for words in parts_of(loaded, TfidfVectorizer)
        for k in getattr(words, "vocabulary_", {}).values()
    )
    assert isinstance(loaded.named_steps["features"], JoinedFeatures)
    assert loaded.predict(PROMPTS) == pytest.approx(predicted, abs=1e-3)
