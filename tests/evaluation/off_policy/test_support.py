"""The conditions of off-policy estimates."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from catimage.evaluation.off_policy.support import has_support, selection_problem
from tests.evaluation.off_policy.logged import simulate


def test_decisions_in_which_a_candidate_could_not_be_selected_have_no_support() -> None:
    propensities = np.array([[0.5, 0.5], [1.0, 0.0], [0.9, 0.1]])
    assert has_support(propensities).tolist() == [True, False, True]
    assert has_support(propensities[:0]).tolist() == []


def test_a_random_sample_of_decisions_passes_and_a_selected_one_does_not() -> None:
    names = ["a", "b", "c"]
    for seed in range(50):
        assert selection_problem(simulate(300, seed).decisions, names) is None
    decisions = simulate(400, 0).decisions
    scored = np.flatnonzero((decisions.actions != 1) | (np.arange(400) % 10 == 0))
    biased = replace(
        decisions,
        propensities=decisions.propensities[scored],
        actions=decisions.actions[scored],
        target=decisions.target[scored],
    )
    problem = selection_problem(biased, names)
    assert problem is not None
    assert "not a random sample of the logged ones" in problem and "at random" in problem
