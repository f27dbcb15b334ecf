"""Fast predictions, compared with those of the pipeline, alone and in batches."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.pipeline import Pipeline

from catimage.estimators import fast_predict as module
from catimage.estimators.build import build_estimator
from catimage.estimators.context import EstimatorContext
from catimage.estimators.fast_predict import fast_predict
from catimage.params import EstimatorParams
from catimage.routing.curve import deferral_curve, lambda_of_point
from catimage.routing.policy import choose
from catimage.scenes.grammar import sample_scene

RNG = np.random.default_rng(0)
TEXTS = np.array(
    [*dict.fromkeys(sample_scene(RNG).caption() for _ in range(150)), "the the ring"], object
)
LABELS = RNG.random((len(TEXTS), 2))
NEW = np.array(
    ["unknown", *(sample_scene(RNG).caption() for _ in range(20)), "a ring ring", "?"], object
)
EVERY = np.concatenate([NEW, TEXTS[:60]])
COSTS = np.array([1.0, 2.0])
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
    for some in (NEW[:1], NEW, TEXTS[:40], NEW[-1:], np.array(["a"] * 300, object)):
        found, expected = fast_predict(pipeline, some), pipeline.predict(some)
        assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)
    assert (module._linear_model(pipeline) is not None) == (name in LINEAR)


def test_a_tfidf_prediction_is_the_same_number_at_every_position(fitted):
    together = fast_predict(fitted["ridge"], NEW)
    alone = [fast_predict(fitted["ridge"], NEW[i : i + 1])[0] for i in range(len(NEW))]
    assert together.tolist() == np.array(alone).tolist()
    assert fast_predict(fitted["ridge"], NEW[::-1]).tolist() == together[::-1].tolist()


@pytest.mark.parametrize("name", [*LINEAR, *OTHER])
@settings(max_examples=15, deadline=None)
@given(rows=st.lists(st.integers(0, len(EVERY) - 1), min_size=1, max_size=80))
def test_predictions_and_decisions_do_not_depend_on_the_other_prompts(fitted, name, rows):
    """Also at the lambdas of a calibration on the same prompts, where some are nearly tied."""
    predicted, curve, alone = together_and_alone(fitted, name)
    found = fast_predict(fitted[name], EVERY[rows])
    np.testing.assert_allclose(found, alone[rows], rtol=0, atol=2e-6)
    for i in {0, len(curve) // 3, len(curve) // 2, len(curve) - 1}:
        lam = lambda_of_point(curve, i)
        chosen = choose(found, COSTS, lam)
        assert chosen.tolist() == choose(alone, COSTS, lam)[rows].tolist()
        assert chosen.tolist() == choose(predicted, COSTS, lam)[rows].tolist()


_KNOWN = {}


def together_and_alone(fitted, name):
    """The predictions in one batch, their curve, and the predictions alone, computed once."""
    if name not in _KNOWN:
        predicted = fast_predict(fitted[name], EVERY)
        alone = [fast_predict(fitted[name], EVERY[i : i + 1]) for i in range(len(EVERY))]
        _KNOWN[name] = predicted, deferral_curve(predicted, COSTS), np.concatenate(alone)
    return _KNOWN[name]


def test_candidates_with_equal_labels_have_equal_predictions():
    """The cheaper of two equal candidates is selected, in any batch, on any processor."""
    equal = np.repeat(LABELS[:, :1], 11, axis=1)
    for name in ("ridge", "kernel_ridge", "knn"):
        pipeline = unfitted(name).fit(TEXTS, equal)
        for some in (NEW[:1], NEW, TEXTS):
            found = fast_predict(pipeline, some)
            assert (found == found[:, :1]).all(), name


def test_a_pipeline_that_is_fitted_again_has_new_predictions(fitted):
    pipeline = clone(fitted["kernel_ridge"]).fit(TEXTS, LABELS)
    before = fast_predict(pipeline, NEW)
    pipeline.fit(TEXTS[::2], LABELS[::2] + 1)
    after = fast_predict(pipeline, NEW)
    np.testing.assert_allclose(after, pipeline.predict(NEW), rtol=0, atol=1e-6)
    assert np.abs(after - before).min() > 0.1


def test_labels_of_one_candidate_and_unfitted_pipelines_are_left_to_scikit_learn():
    flat = unfitted("ridge").fit(TEXTS, LABELS[:, 0])
    np.testing.assert_allclose(fast_predict(flat, NEW), flat.predict(NEW), rtol=1e-7)
    with pytest.raises(Exception, match="not fitted"):
        fast_predict(unfitted("ridge"), NEW)
