"""Budget, latency and memory of a challenger, held promotions, and the labels of the champion."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from catimage.data.schema import SCORES, read_table
from catimage.params import PromoteParams, load_params
from catimage.tracking import promotion
from catimage.tracking.gate import compare_routers
from catimage.tracking.overhead import Overhead
from catimage.tracking.registry import RegistrationResult, register
from catimage.validation.history import label_table
from catimage.workspace import Workspace
from tests.tracking.table_routers import gate_sample, router
from tests.tracking.test_promotion import NOT_WORSE, aliases, new_router


def run(workspace: Workspace, *settings: str, hold: bool = False) -> RegistrationResult:
    return register(workspace, load_params(workspace.params, list(settings)), hold)


@pytest.mark.parametrize(("budget", "promoted"), [(2.0, True), (1.9, False)])
def test_a_challenger_above_its_budget_is_not_promoted(budget: float, promoted: bool) -> None:
    """It always selects the expensive candidate, which costs 2 and is much better."""
    rng = np.random.default_rng(0)
    labels = np.tile([0.0, 100.0], (100, 1)) + rng.normal(0, 0.1, (100, 2))
    champion = router(np.tile([1.0, 0.0], (100, 1)), budget=budget)
    challenger = router(np.tile([0.0, 1.0], (100, 1)), budget=budget)
    decision = compare_routers(champion, challenger, gate_sample(labels), PromoteParams())
    assert decision.promoted is promoted and decision.compared
    if not promoted:
        assert decision.reason.startswith(
            "it exceeds the budget on 100 gate prompts: the mean cost is 2 tflops, and the budget"
            " 1.9. It is better than the champion"
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
    result = run(workspace)
    assert result.champion and not result.promotable
    scores = read_table(workspace.scores, SCORES, "label")
    sample = sorted(scores["prompt_id"].unique())
    expected = label_table(scores[scores["prompt_id"].isin(sample)])
    stored = pd.read_parquet(workspace.champion_labels)
    pd.testing.assert_frame_equal(stored, expected)
    again = run(workspace, hold=True)
    assert again.champion and not again.promotable
