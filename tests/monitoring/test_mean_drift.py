"""Bets on several means, and running means."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from catimage.monitoring.e_detector import advance, initial, log_evidence
from catimage.monitoring.mean_drift import bet, running_mean


def test_the_evidence_is_the_mean_over_the_means() -> None:
    values = np.random.default_rng(0).random((3, 20))
    limits = np.array([0.4, 0.5, 0.6])
    state, fresh, evidence = bet(None, values, limits)
    single = [
        np.exp(log_evidence(advance(initial(), v, m))) for v, m in zip(values, limits, strict=True)
    ]
    assert np.exp(evidence) == pytest.approx(np.mean(single))
    assert fresh == [[None] * 4] * 3
    again = bet(json.loads(json.dumps(state)), values, limits)[2]
    assert again == pytest.approx(bet(None, np.tile(values, 2), limits)[2])


def test_another_number_of_means_starts_again() -> None:
    state, _, _ = bet(None, np.ones((2, 5)), [0.5, 0.5])
    values = np.full((3, 2), 0.7)
    assert bet(state, values, [0.5] * 3) == bet(None, values, [0.5] * 3)


def test_false_alarms_of_a_mean_at_its_limit_are_rare() -> None:
    """Both directions of a share of 0.3 with limits at 0.3 and 0.7: the hardest case."""
    rng, alarms = np.random.default_rng(1), 0
    for _ in range(100):
        values = (rng.random(200) < 0.3).astype(float)
        alarms += bet(None, np.stack([values, 1 - values]), [0.3, 0.7])[2] > np.log(2000)
    assert alarms <= 20  # the bound is 200 / 2000 of 100 runs = 10 on average


@given(st.lists(st.floats(0, 1), min_size=1, max_size=40), st.integers(1, 39))
def test_running_means_may_be_computed_in_parts(values, cut):
    """Equal to the weighted mean over an infinite past, of which the first part is the start."""
    array = np.array([values])
    start = running_mean(None, array[:, :cut], 10)
    entire = running_mean(start, array[:, cut:], 10)
    expected = start[0]
    for value in values[cut:]:
        expected = np.exp(-0.1) * expected + (1 - np.exp(-0.1)) * value
    assert entire[0] == pytest.approx(expected, abs=2e-6)
    assert min(values) - 1e-6 <= entire[0] <= max(values) + 1e-6
