import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from catimage.data.dataset import Candidates
from catimage.evaluation.intervals import PairedBootstrap
from catimage.evaluation.uncertainty.document import uncertainty_lines
from catimage.evaluation.uncertainty.risk_aversion import (
    AVERSIONS,
    PredictedLabels,
    compare_with_neutral,
    risk_aversion_rows,
    worst_means,
)
from tests.evaluation.uncertainty.conftest import CANDIDATES, predictions_and_scores


@pytest.fixture(scope="module")
def rows():
    validation, test = predictions_and_scores(200, 0)[0], predictions_and_scores(400, 1)
    bootstrap = PairedBootstrap(400, 500, 0)
    return risk_aversion_rows(validation, *test, CANDIDATES, 1.0, bootstrap, router_aversion=0.25)


def test_risk_averse_routing_avoids_the_variable_candidate_and_has_a_lower_mean(rows):
    neutral, *_, averse = rows
    assert [row["risk_aversion"] for row in rows] == sorted({*AVERSIONS, 0.25})
    assert neutral["changed"] == 0
    assert neutral["gain"] == 0
    assert neutral["worst_interval"] == [0, 0]
    assert averse["changed"] == 1
    assert averse["gain"] == pytest.approx(-0.1, abs=0.06)
    assert averse["worst_gain"] > 1
    assert averse["worst_interval"][0] > 1
    assert averse["seed_variance"] == pytest.approx(1e-4, rel=0.2)
    assert averse["seed_variance_gain"] == pytest.approx(-1, abs=0.15)
    assert averse["seed_variance_interval"][1] < -0.8


def test_rows_are_json_and_each_risk_aversion_has_a_sentence(rows):
    json.dumps(rows, allow_nan=False)
    lines = uncertainty_lines({"risk_aversion": rows})
    assert len(lines) == 4
    assert uncertainty_lines(None) == []
    assert lines[-1].startswith("A risk aversion of 2 ")
    assert "gains +" in lines[-1]
    assert "worst 5% of the images" in lines[-1]


def test_with_one_seed_there_is_no_seed_variance():
    validation, _ = predictions_and_scores(50, 0, 1)
    test = predictions_and_scores(60, 1, 1)
    rows = risk_aversion_rows(validation, *test, CANDIDATES, 1.0, PairedBootstrap(60, 100, 0))
    assert {row["seed_variance"] for row in rows} == {None}


def test_lambda_is_calibrated_to_the_budget_for_every_risk_aversion():
    candidates = Candidates(["cheap", "expensive"], np.array([1.0, 3.0]), "seconds")
    rng = np.random.default_rng(0)
    labels = PredictedLabels(rng.normal([0, 0.5], 1, (300, 2)), rng.uniform(0.1, 2, (300, 2)))
    by_seed, bootstrap = labels.predicted[:, :, None], PairedBootstrap(300, 100, 0)
    rows = risk_aversion_rows(labels, labels, by_seed, candidates, 1.8, bootstrap)
    assert all(row["cost"] <= 1.8 + 1e-9 for row in rows)
    assert all(row["cost"] > 1.7 for row in rows), "the budget is used"


images = npst.arrays(
    float, st.tuples(st.integers(1, 12), st.integers(1, 4)), elements=st.integers(-9, 9).map(float)
)


@given(images, st.integers(0, 1000))
def test_worst_means_agree_with_explicitly_resampled_images(values, seed):
    """With 20 copies of each image, the worst 5% are a whole number of copies."""
    counts = (
        np.random.default_rng(seed)
        .multinomial(len(values), np.ones(len(values)) / len(values), size=3)
        .astype(np.uint8)
    )
    for mean, drawn in zip(worst_means(values, counts), counts, strict=True):
        copies = np.sort(np.repeat(np.repeat(values, drawn, axis=0).ravel(), 20))
        assert mean == pytest.approx(copies[: len(copies) // 20].mean(), abs=1e-9)


def test_worst_means_of_many_images_agree_with_explicitly_resampled_images():
    rng = np.random.default_rng(0)
    values, bootstrap = rng.normal(size=(500, 4)), PairedBootstrap(500, 20, 0)
    for mean, drawn in zip(worst_means(values, bootstrap.counts), bootstrap.counts, strict=True):
        drawn_values = np.sort(np.repeat(values, drawn, axis=0), axis=None)
        assert mean == pytest.approx(drawn_values[: len(drawn_values) // 20].mean())


@given(images)
def test_missing_images_do_not_change_the_worst_mean(values):
    with_missing = np.concatenate([values, np.full((len(values), 1), np.nan)], axis=1)
    once = np.ones((1, len(values)), np.uint8)
    assert worst_means(with_missing, once) == pytest.approx(worst_means(values, once))


@settings(max_examples=30, deadline=None)
@given(images, st.integers(0, 1000))
def test_gains_over_the_same_images_are_0_and_swapping_two_sets_changes_the_sign(values, seed):
    bootstrap = PairedBootstrap(len(values), 100, 0)
    other = np.random.default_rng(seed).permuted(values, axis=None)
    same, forward, backward = (
        compare_with_neutral(a, b, bootstrap)
        for a, b in ((values, values), (values, other), (other, values))
    )
    assert same["gain"] == same["worst_gain"] == 0
    assert same["interval"] == same["worst_interval"] == [0, 0]
    for key in ("gain", "worst_gain"):
        assert forward[key] == pytest.approx(-backward[key], abs=1e-9)
    assert forward["worst_mean"] <= forward["worst"] + 1e-9 <= values.max() + 1e-9
