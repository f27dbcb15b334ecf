import numpy as np
import pytest

from catimage.estimators.build import build
from catimage.estimators.overhead import decision_tflops
from catimage.params import Encoder

PROMPTS = np.array(["a red moon", "an empty white wall", "two blue rings", "many small stars", "a huge cross"] * 4, object)
LABELS = np.arange(40.0).reshape(20, 2)


def test_ridge_has_no_text_encoder():
    fitted = build("ridge", Encoder())[0].fit(PROMPTS, LABELS)
    cost = decision_tflops(fitted, "a red moon")
    assert cost == {"text_encoder": 0.0, "estimator": pytest.approx(2 * 2 * 5 / 1e12)}  # three words, two pairs, two candidates


def test_knn_compares_with_every_training_prompt():
    fitted = build("knn", Encoder())[0].fit(PROMPTS, LABELS)
    cost = decision_tflops(fitted, "a red moon")
    assert cost["estimator"] == pytest.approx(2 * 20 * 128 / 1e12)
    layers = 3 * 12 * 128 * 128 * 5 * 2  # projections and MLPs of three layers over three words, start and end
    assert layers < cost["text_encoder"] * 1e12 < 1.5 * layers


def test_the_transformer_reads_every_token():
    pipeline, _ = build("transformer", Encoder())
    fitted = pipeline.set_params(regressor__epochs=1).fit(PROMPTS, LABELS)
    one, five = (decision_tflops(fitted, p)["estimator"] for p in ("a red moon", "a red moon and a red moon and"))
    assert 0 < one < five
