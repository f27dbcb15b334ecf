import numpy as np
import pytest

from catimage.data.dataset import Candidates
from catimage.evaluation.cases import case_samples, cases_document
from catimage.evaluation.intervals import PairedBootstrap
from catimage.evaluation.samples import PromptResults

CANDIDATES = Candidates(["a", "b", "c"], np.array([1.0, 2.0, 4.0]), "s")
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
RESULTS = PromptResults(IDS, [f"prompt {i}" for i in IDS], PREDICTED, LABELS, CANDIDATES)


def document_of(picked):
    return cases_document(RESULTS, picked, 0.1, "b", PairedBootstrap(6, 200, 0))


@pytest.fixture(scope="module")
def document():
    return document_of(PREDICTED.argmax(axis=1))


def test_the_document_has_shares_of_prompts_and_the_mean_gain(document):
    gains = [0.2, 0.5, 0, -0.4, -0.1, 0.3]
    assert (document["candidate"], document["cost"], document["lambda"]) == ("b", 2, 0.1)
    assert document["mean_cost"] == pytest.approx((1 + 4 + 2 + 1 + 4 + 4) / 6)
    assert document["differs"] == pytest.approx(5 / 6)
    assert document["better"] == 0.5
    assert document["worse"] == pytest.approx(2 / 6)
    assert document["gain"] == pytest.approx(np.mean(gains))
    interval = PairedBootstrap(6, 200, 0).interval(np.array(gains))
    assert document["interval"] == pytest.approx(interval)


def test_the_largest_gains_and_losses_are_listed_in_order(document):
    assert [case["prompt_id"] for case in document["successes"]] == ["v", "z", "u"]
    # Only two prompts lose, and a prompt without a loss is not a failure.
    assert [case["prompt_id"] for case in document["failures"]] == ["x", "y"]
    first, worst = document["successes"][0], document["failures"][0]
    assert first == {
        "prompt_id": "v",
        "candidate": "c",
        "cost": 4,
        "gain": pytest.approx(0.5),
        "predicted_gain": pytest.approx(0.7),
    }
    assert worst["candidate"] == "a"
    assert worst["gain"] == pytest.approx(-0.4)
    assert worst["predicted_gain"] == pytest.approx(0.7)


def test_a_router_that_always_selects_the_fixed_candidate_has_no_cases():
    document = document_of(np.ones(6, int))
    assert document["differs"] == 0
    assert document["successes"] == document["failures"] == []
    assert document["interval"] == [0, 0]


def test_samples_show_the_fixed_candidate_and_the_routed_one(document):
    images = {("v", "c"): b"\xff\xd8\xff"}
    shown = case_samples(document["successes"], "b", RESULTS, images)
    assert [sample.prompt for sample in shown] == ["prompt v", "prompt z", "prompt u"]
    fixed, routed = shown[0].cells
    assert (fixed.candidate, fixed.is_routed, fixed.image, fixed.measured) == ("b", False, "", 0.4)
    assert (routed.candidate, routed.is_routed) == ("c", True)
    assert (routed.predicted, routed.measured) == (0.9, 0.9)
    assert routed.image.startswith("data:image/jpeg")
