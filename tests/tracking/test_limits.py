"""Budget, latency and memory of a challenger, held promotions, and the labels of the champion."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from catimage.data.schema import SCORES, read_table
from catimage.params import PromoteParams, load_params
from catimage.tracking import promotion
from catimage.tracking.gate import budget_excess
from catimage.tracking.overhead import Overhead
from catimage.tracking.registry import RegistrationResult, register
from catimage.validation.history import label_table
from catimage.workspace import Workspace
from tests.tracking.table_routers import gate_sample, router
from tests.tracking.test_promotion import NOT_WORSE, aliases, new_router

SETTINGS = PromoteParams()


def run(workspace: Workspace, *settings: str, hold: bool = False) -> RegistrationResult:
    return register(workspace, load_params(workspace.params, list(settings)), hold)


@pytest.mark.parametrize(("budget", "kept"), [(2.0, True), (1.9, False)])
def test_a_challenger_has_to_keep_its_budget(budget: float, kept: bool) -> None:
    """It always selects the expensive candidate, which costs 2."""
    expensive = np.tile([0.0, 1.0], (100, 1))
    problem = budget_excess(router(expensive, budget=budget), gate_sample(expensive), SETTINGS)
    expected = (
        "it exceeds the budget on 100 gate prompts: the mean cost is 2 tflops, and the budget"
    )
    assert problem == ("" if kept else f"{expected} 1.9")
    without_budget = router(expensive, budget=budget, quality_floor=0.5)
    assert not budget_excess(without_budget, gate_sample(expensive), SETTINGS)


def test_a_random_excess_is_not_significant() -> None:
    """Half of the prompts cost 1 and half 2; the mean, 1.5, is only just above the budget."""
    table = np.array([[0.0, 1.0], [1.0, 0.0]] * 50)
    assert not budget_excess(router(table, budget=1.49), gate_sample(table), SETTINGS)
    assert budget_excess(router(table, budget=1.2), gate_sample(table), SETTINGS)


def test_a_challenger_above_its_budget_is_not_promoted(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(workspace)
    new_router(workspace)
    monkeypatch.setattr(promotion, "budget_excess", lambda *_: "it exceeds the budget")
    result = run(workspace, *NOT_WORSE)
    assert not result.champion and result.reason.startswith(
        "it exceeds the budget. It is not worse"
    )


def test_a_slow_challenger_is_not_promoted_and_one_like_the_champion_is(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(workspace)
    new_router(workspace)
    measured = [Overhead(10.0, 1000), Overhead(30.0, 1000)]
    with monkeypatch.context() as patched:
        patched.setattr(promotion, "measure", lambda routers, prompts: measured)
        slow = run(workspace, *NOT_WORSE)
    assert not slow.champion
    assert slow.reason.startswith(
        "a decision takes 30 ms, and one of the champion 10 ms; at most 2"
    )
    assert "It is not worse than the champion" in slow.reason
    assert run(workspace, *NOT_WORSE).champion, "the real routers are equal"


def test_a_held_promotion_leaves_the_champion_and_its_labels(workspace: Workspace) -> None:
    for settings, hold in (((), True), (("promote.approval=true",), False)):
        held = run(workspace, *settings, hold=hold)
        assert not held.champion and held.promotable
        assert aliases(workspace) == {"challenger": "1"}
        assert not workspace.champion_labels.exists()
    result = run(workspace, "promote.approval=false")
    assert result.champion and not result.promotable
    scores = read_table(workspace.scores, SCORES, "label")
    sample = sorted(scores["prompt_id"].unique())
    expected = label_table(scores[scores["prompt_id"].isin(sample)])
    stored = pd.read_parquet(workspace.champion_labels)
    pd.testing.assert_frame_equal(stored, expected)
    again = run(workspace, hold=True)
    assert again.champion and not again.promotable
