import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import Pipeline

from catimage.encoders.loading import load_encoder
from catimage.errors import InputError
from catimage.estimators import store
from catimage.estimators.features.feature_union import FastFeatureUnion
from catimage.estimators.features.steps import (
    feature_step,
    nested_instances,
    rename_encoder,
    set_embeddings_folder,
    text_encoders,
)
from catimage.estimators.features.text import PooledEmbedding, RawPrompts, TextFeatures
from catimage.estimators.linear import RidgeRegressor
from catimage.estimators.stacking import StackRegressor
from catimage.params import EncoderParams, FeatureParams


def step_of(*feature_kinds):
    """Return the feature step of the given kinds of features."""
    return feature_step([FeatureParams(kind=kind) for kind in feature_kinds], EncoderParams())


@pytest.mark.parametrize(
    ("kind", "squared_length"),
    [("tfidf", 1), ("characters", 1), ("embedding", 1), ("layers", 1), ("kernel", 2)],
)
def test_all_rows_of_a_feature_have_the_same_length(kind, squared_length, prompts):
    x = step_of(kind).fit(prompts).transform(prompts)
    lengths = np.linalg.norm(x.toarray() if sp.issparse(x) else x, axis=1)
    assert lengths == pytest.approx(np.full(len(prompts), squared_length**0.5), abs=2e-3)


@pytest.mark.parametrize("kind", ["tokens", "prompts"])
def test_features_that_are_not_matrices_cannot_be_combined(kind):
    with pytest.raises(InputError, match=f"features of kind '{kind}' cannot be combined"):
        step_of("tfidf", kind)


def nested_stack() -> Pipeline:
    """Return a stack of two pipelines with different text encoders."""
    first = Pipeline([("features", step_of("tfidf", "kernel")), ("regressor", RidgeRegressor())])
    second = Pipeline(
        [("features", PooledEmbedding("ViT-B-32", "openai")), ("regressor", LinearRegression())]
    )
    stack = StackRegressor([("a", first), ("b", second)])
    return Pipeline([("features", RawPrompts()), ("regressor", stack)])


def test_text_encoders_of_nested_estimators_are_found_and_can_be_changed(tmp_path):
    stack = nested_stack()
    assert text_encoders(stack) == [
        EncoderParams(),
        EncoderParams(model="ViT-B-32", weights="openai"),
    ]
    (tmp_path / "tiny").mkdir()
    set_embeddings_folder(stack, lambda name: tmp_path / name)
    assert {text.model: text.stored for text in nested_instances(stack, TextFeatures)} == {
        "tiny": str(tmp_path / "tiny"),
        "ViT-B-32": None,
    }
    set_embeddings_folder(stack, None)
    rename_encoder(stack, "ViT-B-32", "local-dir:x")
    assert {(text.model, text.stored) for text in nested_instances(stack, TextFeatures)} == {
        ("tiny", None),
        ("local-dir:x", None),
    }


def test_a_feature_union_is_saved_without_its_embeddings_folder(tmp_path, prompts):
    load_encoder(EncoderParams()).encode(list(prompts)).save(tmp_path / "tiny")
    y = np.random.default_rng(0).normal(size=(len(prompts), 2))
    features = [FeatureParams(kind="tfidf"), FeatureParams(kind="kernel")]
    step = feature_step(features, EncoderParams(), lambda name: tmp_path / name)
    pipeline = Pipeline([("features", step), ("regressor", RidgeRegressor())])
    predicted = pipeline.fit(prompts, y).predict(prompts)
    store.save(pipeline, tmp_path / "saved", {})
    folders = {text.stored for text in nested_instances(pipeline, TextFeatures)}
    assert folders == {str(tmp_path / "tiny")}, "saving does not change the estimator"
    loaded, _ = store.load(tmp_path / "saved")
    assert all(text.stored is None for text in nested_instances(loaded, TextFeatures))
    assert all(
        isinstance(column, int)
        for vectorizer in nested_instances(loaded, TfidfVectorizer)
        for column in getattr(vectorizer, "vocabulary_", {}).values()
    )
    assert isinstance(loaded.named_steps["features"], FastFeatureUnion)
    assert loaded.predict(prompts) == pytest.approx(predicted, abs=1e-3)
