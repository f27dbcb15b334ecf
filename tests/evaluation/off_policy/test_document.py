"""The document about logged traffic, for a router with a known rule."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from catimage.data.prompts.identity import prompt_id
from catimage.data.traffic import OUTCOMES
from catimage.evaluation.off_policy import document as module
from catimage.evaluation.off_policy.document import off_policy_document
from catimage.evaluation.off_policy.text import left_out_lines, off_policy_line, weights_line
from catimage.params import EvaluateParams
from catimage.router import Router
from catimage.routing.randomized import RoutingRule
from tests.decision_rows import NOON
from tests.trained_workspace import COSTS, QUALITY

SETTINGS = EvaluateParams(bootstrap=200)
NAMES = list(COSTS)


def outcomes_of(n: int, explore: float = 0.5, seed: int = 0) -> pd.DataFrame:
    """Return outcomes of a service that selects the cheapest candidate, or one at random."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(n):
        text = f"{'plain' if i % 2 else 'crowded'} traffic number {i}"
        shares = [1 - explore + explore / 3, explore / 3, explore / 3]
        action = int(rng.choice(3, p=shares))
        score = QUALITY[text.split()[0]][action] + 0.02 * rng.standard_normal()
        row = {
            "request_id": f"r{i}",
            "time": pd.Timestamp(NOON + timedelta(minutes=i)),
            "user": None,
            "prompt_id": prompt_id(text),
            "prompt": text,
            "candidate": NAMES[action],
            "propensities": dict(zip(NAMES, shares, strict=True)),
            "cost": COSTS[NAMES[action]],
            "unit": "tflops",
            "metric": "clip_score",
            "score": score,
        }
        rows.append(row)
    return pd.DataFrame(rows, columns=OUTCOMES.names)


@pytest.fixture(scope="module")
def router(calibrated_folder: Path) -> Router:
    """A router that selects the best candidate of each prompt, and the cheapest of similar ones."""
    router = Router.load(calibrated_folder / "models" / "router")
    return replace(router, rule=RoutingRule.from_parts((1.0, 0.03)))


@pytest.fixture(scope="module")
def outcomes() -> pd.DataFrame:
    return outcomes_of(600)


def test_the_estimates_are_those_of_the_policy_that_the_router_is(
    router: Router, outcomes: pd.DataFrame
) -> None:
    """The true values are those of the candidates that the router selects for the prompts."""
    document = off_policy_document(router, outcomes, [], False, SETTINGS)
    assert document is not None and document["reason"] is None
    assert (document["requests"], document["prompts"], document["left_out"]) == (600, 600, {})
    decisions = router.route(outcomes["prompt"].tolist())
    cost = np.mean([COSTS[decision.candidate] for decision in decisions])
    true_qualities = [QUALITY[d.prompt.split()[0]][NAMES.index(d.candidate)] for d in decisions]
    quality = np.mean(true_qualities)
    for method in ("ips", "self_normalized_ips", "doubly_robust"):
        for name, truth in (("quality", quality), ("cost", cost)):
            row = document["challenger"][method][name]
            assert row["interval"][0] <= truth <= row["interval"][1], (method, name)
    robust = document["challenger"]["doubly_robust"]
    assert robust["quality"]["value"] == pytest.approx(quality, abs=0.01)
    assert robust["quality"]["se"] < document["challenger"]["ips"]["quality"]["se"]
    assert robust["cost"]["value"] == pytest.approx(cost), "the costs are known exactly"
    served = document["logged"]
    assert served["quality"]["value"] == pytest.approx(outcomes["score"].mean())
    assert served["cost"]["value"] == pytest.approx(outcomes["cost"].mean())
    gain = document["gain"]["quality"]
    assert gain["value"] == pytest.approx(robust["quality"]["value"] - served["quality"]["value"])
    assert gain["interval"][0] > 0
    assert document["mean_weight"]["value"] == pytest.approx(1, abs=0.15)
    assert 0 < document["effective_sample_size"] < 600
    assert document["largest_weight"] == pytest.approx(6)
    again = off_policy_document(router, outcomes, [], False, SETTINGS)
    assert again == document, "equal inputs give equal documents"
    assert "a gain of +" in off_policy_line(document)
    assert "of 600 equally weighted ones" in weights_line(document)


def test_scores_are_negated_if_low_values_are_good(router: Router, outcomes: pd.DataFrame) -> None:
    document = off_policy_document(router, outcomes, [], False, SETTINGS)
    negated = outcomes.assign(score=-outcomes["score"])
    assert off_policy_document(router, negated, [], True, SETTINGS) == document


def test_outcomes_that_cannot_be_used_are_left_out_by_reason(
    router: Router, outcomes: pd.DataFrame
) -> None:
    records = outcomes.to_dict("records")
    records[0]["metric"], records[1]["unit"] = "sharpness", "usd"
    records[2]["propensities"] = {"mini-1": 1.0}
    changed = pd.DataFrame(records)
    seen = [outcomes["prompt"][3].upper() + "!"]
    document = off_policy_document(router, changed, seen, False, SETTINGS)
    assert document is not None and document["requests"] == 596
    assert document["left_out"] == {
        module.OTHER_METRIC: 1,
        module.OTHER_UNIT: 1,
        module.NO_SUPPORT: 1,
        module.TRAINING_PROMPT: 1,
    }
    assert len(left_out_lines(document)) == 4
    others = off_policy_document(router, outcomes.iloc[4:], [], False, SETTINGS)
    assert others is not None and others["challenger"] == document["challenger"]


def test_a_candidate_that_was_removed_since_has_no_weight(
    router: Router, outcomes: pd.DataFrame
) -> None:
    records = outcomes.to_dict("records")
    for i, record in enumerate(records):
        shares = {name: 0.9 * share for name, share in record["propensities"].items()}
        record["propensities"] = {**shares, "old": 0.1}
        if i % 10 == 0:
            record |= {"candidate": "old", "cost": 9.0, "score": 0.0}
    changed = pd.DataFrame(records)
    document = off_policy_document(router, changed, [], False, SETTINGS)
    assert document is not None and document["reason"] is None
    robust = document["challenger"]["doubly_robust"]["quality"]
    complete = off_policy_document(router, outcomes, [], False, SETTINGS)
    assert complete is not None
    expected = complete["challenger"]["doubly_robust"]["quality"]["value"]
    assert robust["value"] == pytest.approx(expected, abs=0.02)
    assert document["logged"]["cost"]["value"] == pytest.approx(changed["cost"].mean())


def test_without_outcomes_there_is_no_document(router: Router, outcomes: pd.DataFrame) -> None:
    assert off_policy_document(router, outcomes.iloc[:0], [], False, SETTINGS) is None
    assert off_policy_line(None) == ""


def test_without_exploration_there_is_a_reason_instead_of_estimates(router: Router) -> None:
    document = off_policy_document(router, outcomes_of(50, explore=0.0), [], False, SETTINGS)
    assert document is not None and document["challenger"] is None
    assert document["requests"] == 0 and document["left_out"] == {module.NO_SUPPORT: 50}
    assert "Set serving.explore above 0" in off_policy_line(document)


def test_a_sample_of_outcomes_that_depends_on_the_candidate_is_refused(
    router: Router, outcomes: pd.DataFrame
) -> None:
    biased = outcomes[outcomes["candidate"] == "mini-4"]
    document = off_policy_document(router, biased, [], False, SETTINGS)
    assert document is not None and document["challenger"] is None
    assert "not a random sample" in document["reason"]
    other = outcomes.assign(metric="sharpness")
    document = off_policy_document(router, other, [], False, SETTINGS)
    assert document is not None and document["reason"] == module.ALL_LEFT_OUT


def test_few_effective_requests_are_refused(router: Router) -> None:
    document = off_policy_document(router, outcomes_of(60, explore=0.3), [], False, SETTINGS)
    assert document is not None and document["challenger"] is None
    assert "equally weighted ones" in document["reason"]
