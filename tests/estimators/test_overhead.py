import numpy as np
import pytest
from sklearn.pipeline import Pipeline

from catimage.estimators.differences import DifferencesRegressor
from catimage.estimators.features.steps import feature_step
from catimage.estimators.features.text import PooledEmbedding
from catimage.estimators.knn import CosineKNNRegressor
from catimage.estimators.linear import RidgeRegressor
from catimage.estimators.overhead import decision_ms, decision_tflops, multiply_adds
from catimage.estimators.stacking import StackRegressor
from catimage.params import EncoderParams, FeatureParams
from tests.estimators.test_build import built

PROMPTS = np.array(
    ["a red moon", "an empty white wall", "two blue rings", "many small stars", "a huge cross"] * 4,
    object,
)
LABELS = np.arange(40.0).reshape(20, 2)


def fitted(name, **settings):
    return built(name, settings=settings)[0].fit(PROMPTS, LABELS)


def test_ridge_on_tfidf_needs_no_text_encoder():
    cost = decision_tflops(fitted("ridge"), "a red moon")
    # two operations per multiply-add, two candidates, and five columns (three words, two pairs)
    assert cost == {"text_encoder": 0.0, "estimator": pytest.approx(2 * 2 * 5 / 1e12)}


def test_knn_counts_the_similarity_to_every_training_prompt():
    cost = decision_tflops(fitted("knn"), "a red moon")
    assert cost["estimator"] == pytest.approx(2 * 20 * 128 / 1e12)
    # the projections and MLPs of three layers for five tokens: three words, start and end
    layers = 3 * 12 * 128 * 128 * 5 * 2
    assert layers < cost["text_encoder"] * 1e12 < 1.5 * layers


def test_the_cost_of_the_transformer_grows_with_the_number_of_tokens():
    model = fitted("transformer", max_iter=1)
    short, long = (
        decision_tflops(model, prompt)["estimator"]
        for prompt in ("a red moon", "a red moon and a red moon and")
    )
    assert 0 < short < long


@pytest.mark.parametrize(
    ("name", "settings", "expected"),
    [
        # three networks of 8 hidden units, 128-dimensional embeddings, and two candidates
        ("mlp", {"hidden_layer_sizes": 8, "n_estimators": 3, "max_iter": 1}, 24 * 128 + 24 * 2),
        ("clusters", {"n_clusters": 3}, 3 * 128),
    ],
)
def test_multiply_adds_of_each_regressor(name, settings, expected):
    assert decision_tflops(fitted(name, **settings), "a red moon")["estimator"] == pytest.approx(
        2 * expected / 1e12
    )


def test_a_fine_tuned_encoder_counts_as_a_text_encoder():
    frozen = decision_tflops(fitted("knn"), "a red moon")["text_encoder"]
    tuned = decision_tflops(fitted("finetuned", max_iter=0), "a red moon")
    # the head: two operations per multiply-add, a 128-dimensional embedding, and two candidates
    assert tuned == {"text_encoder": pytest.approx(frozen + 2 * 128 * 2 / 1e12), "estimator": 0.0}


def test_composite_estimators_count_the_sum_of_the_multiply_adds_of_all_parts():
    union = feature_step(
        [FeatureParams(kind="tfidf"), FeatureParams(kind="kernel")], EncoderParams(), None
    )
    one = Pipeline([("features", union), ("regressor", DifferencesRegressor(RidgeRegressor()))])
    two = Pipeline([("features", PooledEmbedding()), ("regressor", CosineKNNRegressor())])
    stack = StackRegressor([("one", one), ("two", two)], folds=2).fit(PROMPTS, LABELS)
    features, kernel = stack.members_[0][0].transformer_list[1][1]
    width = 128 + features.transformer_list[1][1].directions_.shape[1]
    assert kernel.components_.shape == (20, width)
    # "one" has three outputs (the mean and two differences) and 25 features: five of TF-IDF, and 20
    # of the kernel. "two" (knn) compares 20 training prompts with 128-dimensional embeddings.
    kernel_products = 20 * width + 20 * 20 + features.transformer_list[1][1].directions_.size
    expected = 3 * (5 + 20) + kernel_products + 20 * 128
    assert multiply_adds(stack, PROMPTS[:1]) == expected


def test_measurements_do_not_use_cached_embeddings():
    model = fitted("knn")
    cached = model[0].transform(PROMPTS)
    assert decision_tflops(model, PROMPTS[0])["text_encoder"] > 0
    spent = decision_ms(model, list(PROMPTS), np.array([1.0, 2.0]))
    assert spent["with_text"] > 2 * spent["without_text"] > 0
    assert (model[0].transform(PROMPTS) == cached).all(), "the cache is restored"
