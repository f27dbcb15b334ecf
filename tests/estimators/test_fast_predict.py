"""Fast predictions of a few prompts, compared with those of the pipeline."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.pipeline import Pipeline

from catimage.estimators import fast_predict as module
from catimage.estimators.build import build_estimator
from catimage.estimators.context import EstimatorContext
from catimage.estimators.fast_predict import fast_predict
from catimage.params import EstimatorParams
from catimage.scenes.grammar import sample_scene

RNG = np.random.default_rng(0)
TEXTS = np.array(
    [*dict.fromkeys(sample_scene(RNG).caption() for _ in range(150)), "the the ring"], object
)
LABELS = RNG.random((len(TEXTS), 2))
NEW = np.array(
    ["unknown", *(sample_scene(RNG).caption() for _ in range(20)), "a ring ring", "?"], object
)
LINEAR = {
    "ridge": {},
    "kernel_ridge": {},
    "kernel only": {"features": [{"kind": "kernel"}]},
    "weights": {"features": [{"kind": "tfidf", "weight": 3.0}, {"kind": "kernel", "weight": 0.5}]},
    "characters": {"features": [{"kind": "characters"}, {"kind": "tfidf"}]},
}
OTHER = {
    "knn": {},
    "embedding": {"features": [{"kind": "embedding"}, {"kind": "tfidf"}]},
    "differences": {"target": "differences"},
}


def unfitted(name, **fields):
    kind = name if name in ("knn", "ridge") else "kernel_ridge"
    context = EstimatorContext(steps=(1, 2), step_groups=("g", "g"))
    spec = EstimatorParams.model_validate({"name": name.split()[0], "kind": kind} | fields)
    return build_estimator(spec, context)[0]


@pytest.fixture(scope="module")
def fitted():
    return {name: unfitted(name, **f).fit(TEXTS, LABELS) for name, f in (LINEAR | OTHER).items()}


@pytest.mark.parametrize("name", [*LINEAR, *OTHER])
def test_predictions_are_those_of_the_pipeline(fitted, name):
    pipeline = fitted[name]
    assert type(pipeline) is Pipeline
    for some in (NEW[:1], NEW, TEXTS[:40], NEW[-1:], np.array(["a"] * 65, object)):
        found, expected = fast_predict(pipeline, some), pipeline.predict(some)
        assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)
    assert (module._linear_model(pipeline) is not None) == (name in LINEAR)


def test_a_tfidf_prediction_is_the_same_number_at_every_position(fitted):
    together = fast_predict(fitted["ridge"], NEW)
    alone = [fast_predict(fitted["ridge"], NEW[i : i + 1])[0] for i in range(len(NEW))]
    assert together.tolist() == np.array(alone).tolist()
    assert fast_predict(fitted["ridge"], NEW[::-1]).tolist() == together[::-1].tolist()


@pytest.mark.parametrize("name", LINEAR)
def test_a_prediction_does_not_depend_on_the_other_prompts(fitted, name):
    together = fast_predict(fitted[name], NEW)
    alone = np.concatenate([fast_predict(fitted[name], NEW[i : i + 1]) for i in range(len(NEW))])
    np.testing.assert_allclose(together, alone, rtol=0, atol=1e-6)


def test_a_pipeline_that_is_fitted_again_has_new_predictions(fitted):
    pipeline = clone(fitted["kernel_ridge"]).fit(TEXTS, LABELS)
    before = fast_predict(pipeline, NEW)
    pipeline.fit(TEXTS[::2], LABELS[::2] + 1)
    after = fast_predict(pipeline, NEW)
    np.testing.assert_allclose(after, pipeline.predict(NEW), rtol=0, atol=1e-6)
    assert np.abs(after - before).min() > 0.1


def test_labels_of_one_candidate_and_unfitted_pipelines_are_left_to_scikit_learn():
    flat = unfitted("ridge").fit(TEXTS, LABELS[:, 0])
    np.testing.assert_array_equal(fast_predict(flat, NEW), flat.predict(NEW))
    with pytest.raises(Exception, match="not fitted"):
        fast_predict(unfitted("ridge"), NEW)
