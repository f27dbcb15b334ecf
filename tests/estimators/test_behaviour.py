"""Behavioural tests of every kind of estimator: minimum functionality, directional expectations,
and invariance (as in CheckList, Ribeiro et al. 2020).
"""

import numpy as np
import pytest

from catimage.estimators.build import BUILDERS, build_estimator
from catimage.estimators.context import EstimatorContext
from catimage.params import EstimatorParams

QUALITY = {"plain": (0.7, 0.6), "crowded": (0.3, 0.8)}
"""Mean quality of the cheap candidate and of the expensive candidate, by type of scene."""
FAST_SETTINGS = {
    "clusters": {"n_clusters": 4},
    "finetuned": {"max_iter": 2, "learning_rate": 1e-3, "head_learning_rate": 1e-2},
    "lstm": {"hidden_size": 16, "head_size": 16, "max_iter": 30, "learning_rate": 1e-2},
    "mlp": {
        "hidden_layer_sizes": 16,
        "n_estimators": 1,
        "max_iter": 40,
        "learning_rate": 1e-2,
        "dropout": 0.1,
        "input_dropout": 0.0,
    },
    "transformer": {"hidden_layer_sizes": 16, "max_iter": 30},
}
"""Settings that shorten training; the defaults are measured in benchmarks/."""
ORDER_INDEPENDENT = ("knn", "ridge")
"""Kinds of estimators whose predictions do not depend on the order of the training prompts. The
other kinds draw batches, initial centers or samples.
"""
COLOURS = ("red", "blue", "green", "purple", "orange", "black", "white", "yellow")
SIZES = ("tiny", "small", "large", "huge")
SHAPES = ("ring", "square", "circle", "triangle", "star")


def prompts_of(n, seed):
    """Return n different prompts, alternating between plain and crowded scenes."""
    rng, prompts = np.random.default_rng(seed), {}
    while len(prompts) < n:
        (a, b), (x, y), size = (
            rng.choice(COLOURS, 2, replace=False),
            rng.choice(SHAPES, 2, replace=False),
            rng.choice(SIZES),
        )
        crowded = f"four small {a} {x}s and five {size} {b} {y}s"
        plain = f"a {size} {a} {x} on a plain grey background"
        prompts[crowded if len(prompts) % 2 else plain] = None
    return np.array(list(prompts), object)


def labels_of(n, seed):
    """Return noisy labels (n, 2) of the prompts that ``prompts_of(n, ...)`` returns."""
    truth = np.array([QUALITY["crowded" if i % 2 else "plain"] for i in range(n)])
    return truth + np.random.default_rng(seed).normal(0, 0.03, truth.shape)


def unfitted(kind):
    spec = EstimatorParams(
        name=kind,
        settings=FAST_SETTINGS.get(kind, {}),
        members=("ridge",) if kind == "stack" else (),
    )
    members = {"ridge": unfitted("ridge")} if kind == "stack" else {}
    return build_estimator(
        spec, EstimatorContext(steps=(1, 8), step_groups=("mini", "mini"), members=members)
    )[0]


PROMPTS, LABELS, UNSEEN = prompts_of(200, 0), labels_of(200, 1), prompts_of(40, 2)


@pytest.fixture(scope="module", params=BUILDERS)
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def fitted(kind):
    return unfitted(kind).fit(PROMPTS, LABELS)


def test_minimum_functionality_error_on_unseen_prompts_is_below_that_of_the_mean_label(fitted):
    predicted, truth = fitted.predict(UNSEEN), labels_of(40, 3)
    assert predicted.shape == truth.shape and np.isfinite(predicted).all()
    assert np.mean((predicted - truth) ** 2) < 0.5 * np.mean((LABELS.mean(axis=0) - truth) ** 2)


def test_direction_each_type_of_scene_is_routed_to_its_best_candidate(fitted):
    choice = fitted.predict(UNSEEN).argmax(axis=1)
    assert (choice[::2] == 0).mean() >= 0.9, "the cheap candidate is best on plain scenes"
    assert (choice[1::2] == 1).mean() >= 0.9, "the expensive candidate is best on crowded scenes"


def test_direction_a_candidate_that_is_always_better_has_higher_predictions(kind):
    predicted = unfitted(kind).fit(PROMPTS, LABELS + np.array([0.6, 0.0])).predict(UNSEEN)
    assert (predicted[:, 0] > predicted[:, 1]).mean() >= 0.9


def test_invariance_predictions_do_not_depend_on_white_space(fitted):
    spaced = np.array([f"  {prompt.replace(' ', '   ')}\n" for prompt in UNSEEN], object)
    assert fitted.predict(spaced) == pytest.approx(fitted.predict(UNSEEN), abs=1e-6)


def test_invariance_predictions_do_not_depend_on_the_other_prompts_of_a_batch(fitted):
    one_by_one = np.concatenate([fitted.predict(UNSEEN[i : i + 1]) for i in range(4)])
    assert one_by_one == pytest.approx(fitted.predict(UNSEEN)[:4], abs=1e-4)


def test_invariance_the_order_of_the_training_prompts_changes_few_choices(kind, fitted):
    order = np.random.default_rng(4).permutation(len(PROMPTS))
    permuted = unfitted(kind).fit(PROMPTS[order], LABELS[order]).predict(UNSEEN)
    predicted = fitted.predict(UNSEEN)
    if kind in ORDER_INDEPENDENT:
        assert permuted == pytest.approx(predicted, abs=1e-3)
    assert (permuted.argmax(axis=1) == predicted.argmax(axis=1)).mean() >= 0.9
