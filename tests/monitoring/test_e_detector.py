"""The e-detector: its recursion, its bound on false alarms, and its delay."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from catimage.monitoring.e_detector import (
    STAKES,
    advance,
    initial,
    log_evidence,
    state_from_json,
    state_to_json,
)

UNIT = st.floats(0, 1)
LIMITS = st.floats(0.05, 0.95)


def evidence_by_definition(values: np.ndarray, limit: float) -> float:
    """Sum of the wealth of the gamblers that start at each value, mean over the stakes."""
    total = 0.0
    for stake in STAKES:
        for start in range(len(values)):
            total += np.prod(1 + stake / limit * (values[start:] - limit)) / len(STAKES)
    return float(total)


@given(hnp.arrays(float, st.integers(1, 12), elements=UNIT), LIMITS)
def test_the_evidence_is_the_wealth_of_gamblers_who_start_at_each_time(values, limit):
    evidence = np.exp(log_evidence(advance(initial(), values, limit)))
    assert evidence == pytest.approx(evidence_by_definition(values, limit), rel=1e-9)


@given(hnp.arrays(float, st.integers(0, 20), elements=UNIT), LIMITS, st.integers(0, 20))
def test_values_may_arrive_in_parts(values, limit, cut):
    parts = advance(advance(initial(), values[:cut], limit), values[cut:], limit)
    np.testing.assert_allclose(parts, advance(initial(), values, limit))


@given(hnp.arrays(float, (3, 5), elements=UNIT), hnp.arrays(float, 3, elements=LIMITS))
def test_several_detectors_are_independent(values, limits):
    together = advance(initial(3), values, limits)
    for i in range(3):
        np.testing.assert_allclose(together[i], advance(initial(), values[i], limits[i]))


def test_the_expected_growth_is_one_if_the_mean_is_the_limit() -> None:
    """For a value that is 1 with probability 0.3, else 0, and the limit 0.3: a fair game."""
    up, down = (np.exp(advance(initial(), [value], 0.3)) for value in (1.0, 0.0))
    np.testing.assert_allclose(0.3 * up + 0.7 * down, 1.0)


def test_false_alarms_are_rarer_than_the_bound() -> None:
    """The mean time to a false alarm is at least the threshold, here 100 values, even though the
    values are as extreme as values with this mean can be."""
    rng = np.random.default_rng(0)
    state, first = initial(400), np.full(400, 1000.0)
    for time in range(1, 1001):
        state = advance(state, rng.random((400, 1)) < 0.5, 0.5)
        alarm = log_evidence(state) >= np.log(100)
        first[alarm & (first == 1000)] = time
    standard_error = first.std() / 20
    assert first.mean() + 3 * standard_error > 100  # truncated at 1000, so the true mean is higher
    assert (first < 1000).mean() > 0.5  # the bound is not trivial


def test_a_change_is_detected_soon() -> None:
    rng = np.random.default_rng(1)
    before, after = rng.beta(2, 2, (200, 300)), rng.beta(8, 2, (200, 100))
    state = advance(initial(200), before, 0.6)
    assert (log_evidence(state) < np.log(1e6)).all()
    assert (log_evidence(advance(state, after, 0.6)) > np.log(1e6)).all()


def test_missing_values_leave_the_state() -> None:
    np.testing.assert_array_equal(
        advance(initial(), [0.9, np.nan, 0.7], 0.5), advance(initial(), [0.9, 0.7], 0.5)
    )


def test_states_survive_json() -> None:
    for state in (initial(), initial(2), advance(initial(2), np.full((2, 3), 0.9), 0.5)):
        restored = state_from_json(json.loads(json.dumps(state_to_json(state), allow_nan=False)))
        np.testing.assert_array_equal(restored, state)
