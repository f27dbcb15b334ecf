import numpy as np
import pytest

from catimage.evaluation.cases import case_samples, cases_document
from catimage.evaluation.intervals import PairedBootstrap
from catimage.evaluation.methods import Pool

COST = np.array([1.0, 2.0, 4.0])
POOL = Pool(["a", "b", "c"], COST, "s")
PREDICTED = np.array(
    [
        [0.9, 0.1, 0.2],
        [0.1, 0.2, 0.9],
        [0.1, 0.9, 0.1],
        [0.8, 0.1, 0.1],
        [0.1, 0.2, 0.9],
        [0.1, 0.2, 0.9],
    ]
)
LABELS = np.array(
    [
        [0.7, 0.5, 0.0],
        [0.0, 0.4, 0.9],
        [0.0, 0.3, 1.0],
        [0.1, 0.5, 0.0],
        [0.0, 0.6, 0.5],
        [0.0, 0.6, 0.9],
    ]
)
IDS = list("uvwxyz")


@pytest.fixture(scope="module")
def document():
    return cases_document(
        PREDICTED.argmax(axis=1), 0.1, PREDICTED, LABELS, POOL, "b", IDS, PairedBootstrap(6, 200, 0)
    )


def test_shares_and_the_mean_gain(document):
    gains = [0.2, 0.5, 0, -0.4, -0.1, 0.3]
    assert (document["candidate"], document["cost"], document["lambda"]) == ("b", 2, 0.1)
    assert document["mean_cost"] == pytest.approx((1 + 4 + 2 + 1 + 4 + 4) / 6)
    assert (
        document["differs"] == pytest.approx(5 / 6)
        and document["better"] == 0.5
        and document["worse"] == pytest.approx(2 / 6)
    )
    assert document["gain"] == pytest.approx(np.mean(gains))
    assert document["interval"] == pytest.approx(
        PairedBootstrap(6, 200, 0).interval(np.array(gains))
    )


def test_the_largest_gains_and_losses_are_named_in_order(document):
    assert [c["prompt_id"] for c in document["successes"]] == ["v", "z", "u"]
    assert [c["prompt_id"] for c in document["failures"]] == [
        "x",
        "y",
    ]  # two alone lose: a prompt without a loss is no failure
    first, worst = document["successes"][0], document["failures"][0]
    assert first == {
        "prompt_id": "v",
        "candidate": "c",
        "cost": 4,
        "gain": pytest.approx(0.5),
        "predicted_gain": pytest.approx(0.7),
    }
    assert (
        worst["candidate"] == "a"
        and worst["gain"] == pytest.approx(-0.4)
        and worst["predicted_gain"] == pytest.approx(0.7)
    )


def test_a_router_that_takes_the_candidate_itself_has_no_cases():
    constant = np.tile([0.0, 1.0, 0.0], (6, 1))
    document = cases_document(
        np.ones(6, int), 0.1, constant, LABELS, POOL, "b", IDS, PairedBootstrap(6, 100, 0)
    )
    assert (
        document["differs"] == 0
        and document["successes"] == document["failures"] == []
        and document["interval"] == [0, 0]
    )


def test_samples_show_the_fixed_candidate_and_the_routed_one(document):
    places = {identifier: (i, f"prompt {identifier}") for i, identifier in enumerate(IDS)}
    shown = case_samples(
        document["successes"], "b", places, PREDICTED, LABELS, POOL, {("v", "c"): b"\xff\xd8\xff"}
    )
    assert [s.prompt for s in shown] == ["prompt v", "prompt z", "prompt u"]
    fixed, routed = shown[0].cells
    assert (fixed.candidate, fixed.chosen, fixed.image, fixed.measured) == ("b", False, "", 0.4)
    assert (routed.candidate, routed.chosen, routed.predicted, routed.measured) == (
        "c",
        True,
        0.9,
        0.9,
    )
    assert routed.image.startswith("data:image/jpeg")
