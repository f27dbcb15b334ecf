import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from catimage.evaluation.intervals import PairedBootstrap
from catimage.evaluation.methods import Pool
from catimage.evaluation.uncertainty import (
    AVERSIONS,
    Beliefs,
    against_neutral,
    coverage,
    sentences,
    uncertainty_document,
    worst_means,
)

POOL = Pool(["sure", "gamble"], np.array([1.0, 1.0]), "seconds")


def world(n, seed, seeds=3):
    """The gamble is better by 0.1 on average, and its images differ by 1 from seed to seed; those
    of the sure candidate by 0.01.
    """
    rng = np.random.default_rng(seed)
    by_seed = np.stack(
        [rng.normal(0.5, 0.01, (n, seeds)), rng.normal(0.6, 1.0, (n, seeds))], axis=1
    )
    spread = np.array([0.01, 1.0]) / np.sqrt(seeds)
    return Beliefs(np.tile([0.5, 0.6], (n, 1)), np.tile(spread, (n, 1))), by_seed


@pytest.fixture(scope="module")
def document():
    validation, test = world(200, 0)[0], world(400, 1)
    return uncertainty_document(
        validation,
        *test,
        POOL,
        1.0,
        PairedBootstrap(400, 500, 0),
        np.array([0.8, np.nan]),
        own=0.25,
    )


def test_a_right_spread_covers_what_it_says(document):
    for row in document["by_candidate"]:
        assert row["interval_68"][0] <= 0.6827 <= row["interval_68"][1]
        assert row["interval_95"][0] <= 0.95 <= row["interval_95"][1]
        assert row["spread"] == pytest.approx(row["error"], rel=0.15)
    assert [row["seed_share"] for row in document["by_candidate"]] == [0.8, None]


def test_the_risk_averse_pass_a_gamble_up_at_the_price_of_the_mean(document):
    neutral, *_, averse = rows = document["risk_aversion"]
    assert [row["risk_aversion"] for row in rows] == sorted({*AVERSIONS, 0.25})
    assert neutral["changed"] == 0 and neutral["gain"] == 0 and neutral["worst_interval"] == [0, 0]
    assert averse["changed"] == 1 and averse["gain"] == pytest.approx(-0.1, abs=0.06)
    assert averse["worst_gain"] > 1 and averse["worst_interval"][0] > 1
    assert averse["seed_variance"] == pytest.approx(1e-4, rel=0.2)
    assert (
        averse["seed_variance_gain"] == pytest.approx(-1, abs=0.15)
        and averse["seed_variance_interval"][1] < -0.8
    )


def test_the_document_is_json_and_its_sentences_say_what_each_aversion_is_worth(document):
    json.dumps(document, allow_nan=False)
    said = sentences(document)
    assert len(said) == 4 and sentences(None) == []
    assert (
        said[-1].startswith("A risk aversion of 2 ")
        and "gains +" in said[-1]
        and "worst 5% of the images" in said[-1]
    )


def test_with_one_seed_nothing_is_said_of_its_variance():
    (validation, _), (test, by_seed) = world(50, 0, 1), world(60, 1, 1)
    rows = uncertainty_document(validation, test, by_seed, POOL, 1.0, PairedBootstrap(60, 100, 0))[
        "risk_aversion"
    ]
    assert {row["seed_variance"] for row in rows} == {None}


def test_the_budget_is_kept_by_every_aversion_on_the_validation_split():
    pool = Pool(["cheap", "dear"], np.array([1.0, 3.0]), "seconds")
    rng = np.random.default_rng(0)
    beliefs = Beliefs(rng.normal([0, 0.5], 1, (300, 2)), rng.uniform(0.1, 2, (300, 2)))
    by_seed = beliefs.predicted[:, :, None]
    rows = uncertainty_document(beliefs, beliefs, by_seed, pool, 1.8, PairedBootstrap(300, 100, 0))[
        "risk_aversion"
    ]
    assert all(row["cost"] <= 1.8 + 1e-9 for row in rows)
    assert all(row["cost"] > 1.7 for row in rows), "and it is used"


images = npst.arrays(
    float, st.tuples(st.integers(1, 12), st.integers(1, 4)), elements=st.integers(-9, 9).map(float)
)


@given(images, st.integers(0, 1000))
def test_the_worst_mean_is_that_of_the_images_drawn(values, seed):
    """Against the mean of the worst twentieth of twenty copies of each image drawn."""
    counts = (
        np.random.default_rng(seed)
        .multinomial(len(values), np.ones(len(values)) / len(values), size=3)
        .astype(np.uint8)
    )
    for mean, drawn in zip(worst_means(values, counts), counts, strict=True):
        copies = np.sort(np.repeat(np.repeat(values, drawn, axis=0).ravel(), 20))
        assert mean == pytest.approx(copies[: len(copies) // 20].mean(), abs=1e-9)


@given(images)
def test_the_worst_mean_leaves_missing_images_out(values):
    holed = np.concatenate([values, np.full((len(values), 1), np.nan)], axis=1)
    once = np.ones((1, len(values)), np.uint8)
    assert worst_means(holed, once) == pytest.approx(worst_means(values, once))


@settings(max_examples=30, deadline=None)
@given(images, st.integers(0, 1000))
def test_against_itself_nothing_is_gained_and_gains_change_sides(values, seed):
    bootstrap = PairedBootstrap(len(values), 100, 0)
    other = np.random.default_rng(seed).permuted(values, axis=None)
    itself, there, back = (
        against_neutral(a, b, bootstrap)
        for a, b in ((values, values), (values, other), (other, values))
    )
    assert itself["gain"] == itself["worst_gain"] == 0 and itself["interval"] == itself[
        "worst_interval"
    ] == [0, 0]
    for key in ("gain", "worst_gain"):
        assert there[key] == pytest.approx(-back[key], abs=1e-9)
    assert there["worst_mean"] <= there["worst"] + 1e-9 <= values.max() + 1e-9


@settings(max_examples=30, deadline=None)
@given(
    npst.arrays(float, st.integers(1, 30), elements=st.floats(-5, 5)),
    st.floats(0.1, 3),
    st.floats(1, 4),
)
def test_a_wider_spread_covers_no_less(error, spread, by):
    bootstrap = PairedBootstrap(len(error), 100, 0)
    narrow, wide = (
        coverage("a", error, np.full(len(error), s), bootstrap) for s in (spread, by * spread)
    )
    assert (
        narrow["coverage_68"] <= wide["coverage_68"]
        and narrow["coverage_68"] <= narrow["coverage_95"]
    )
    assert wide["interval_95"][0] <= wide["coverage_95"] <= wide["interval_95"][1]
