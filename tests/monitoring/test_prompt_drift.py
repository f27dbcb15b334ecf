"""The test of prompts: baseline, limit, false alarms and delay."""

from __future__ import annotations

import json

import numpy as np
import pytest

from catimage.monitoring.e_detector import advance, initial
from catimage.monitoring.prompt_drift import MEMORY, STEP, PromptDrift
from catimage.monitoring.reference import Reference
from catimage.params.monitor import PromptDriftParams

SETTINGS = PromptDriftParams()


def embeddings(n: int, seed: int, shift: float = 0.0) -> np.ndarray:
    rows = np.random.default_rng(seed).standard_normal((n, 16)) + np.eye(16)[0] * 4
    rows[:, 1] += shift
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def reference() -> Reference:
    return Reference.fit(embeddings(1000, 0))


@pytest.fixture(scope="module")
def steady(reference: Reference) -> tuple[PromptDrift, float]:
    """Ten streams after 2,000 prompts like the training prompts, and their highest evidence."""
    state, highest = PromptDrift.start(17, 10), -np.inf
    points = reference.coordinates(embeddings(20_000, 1)).reshape(10, 2000, 17)
    for start in range(0, 2000, 40):
        state, _ = state.update(reference, points[:, start : start + 40], SETTINGS)
        highest = max(highest, state.evidence.max())
    return state, highest


def test_steady_prompts_give_no_evidence_of_an_alarm(steady):
    state, highest = steady
    assert highest < np.log(1e4)  # an alarm needs more than a million
    assert state.count == 500
    assert (np.abs(state.total / 500 - 0.5) < 0.06).all()


@pytest.mark.parametrize("shift", [2.0, -2.0])
def test_a_shift_is_detected_within_a_hundred_prompts(reference, steady, shift):
    points = reference.coordinates(embeddings(1000, 2, shift)).reshape(10, 100, 17)
    state, ranks = steady[0].update(reference, points, SETTINGS)
    assert (state.evidence > np.log(2.4e6)).all()
    assert (ranks[:, 50:].mean(1) > 0.8).all()
    assert (state.restarted().evidence == -np.inf).all()
    np.testing.assert_array_equal(state.restarted().recent, state.recent)


def test_a_narrower_distribution_with_the_same_mean_is_detected(reference, steady):
    """The distance to the training prompts shows it; the mean embedding does not."""
    centre = reference.embeddings.mean(0)
    close = centre + 0.02 * np.random.default_rng(4).standard_normal((2000, 16))
    close = (close / np.linalg.norm(close, axis=1, keepdims=True)).astype(np.float32)
    points = reference.coordinates(close).reshape(10, 200, 17)
    state, _ = steady[0].update(reference, points, SETTINGS)
    assert (state.evidence > np.log(2.4e6)).all()


def test_the_update_equals_a_loop_over_prompts(reference):
    points = reference.coordinates(embeddings(25, 5, 1.0))[None]
    settings = PromptDriftParams(baseline_prompts=13)
    state, ranks = PromptDrift.start(17).update(reference, points, settings)
    recent, witness, detector, expected = np.zeros(17), np.zeros(17), initial(), []
    for i, point in enumerate(points[0].astype(float)):
        if i in (0, STEP, 13, 13 + STEP):  # a step ends with the baseline
            witness = recent.copy()
        among = reference.points.astype(float) @ witness
        value = point @ witness
        expected.append(((among < value).mean() + (among <= value).mean()) / 2)
        baseline = 0.8 if i < 13 else np.clip(np.mean(expected[:13]), 0.5, 0.8)
        detector = advance(detector, [expected[-1]], baseline + 0.1)
        decay = np.exp(-1 / MEMORY)
        recent = decay * recent + (1 - decay) * point
    np.testing.assert_allclose(ranks[0], expected, atol=2e-3)
    np.testing.assert_allclose(state.recent[0], recent, atol=1e-4)
    np.testing.assert_allclose(state.detector[0], detector, atol=0.05)


def test_the_limit_follows_the_baseline() -> None:
    def state(count: int, mean: float) -> PromptDrift:
        return PromptDrift(
            np.zeros((1, 2), np.float32), initial(1), count, np.array([count * mean])
        )

    assert state(499, 0.5).limit(SETTINGS)[0] == pytest.approx(0.9)
    assert state(500, 0.55).limit(SETTINGS)[0] == pytest.approx(0.65)
    assert state(500, 0.4).limit(SETTINGS)[0] == pytest.approx(0.6)
    assert state(500, 0.9).limit(SETTINGS)[0] == pytest.approx(0.9)
    immediate = PromptDriftParams(baseline_prompts=0)
    assert state(0, 0.0).limit(immediate)[0] == pytest.approx(0.6)


def test_the_state_survives_json(reference):
    points = reference.coordinates(embeddings(60, 6))[None]
    first, _ = PromptDrift.start(17).update(reference, points[:, :30], SETTINGS)
    restored = PromptDrift.from_json(json.loads(json.dumps(first.to_json(), allow_nan=False)))
    entire, _ = first.update(reference, points[:, 30:], SETTINGS)
    again, _ = restored.update(reference, points[:, 30:], SETTINGS)
    np.testing.assert_allclose(again.evidence, entire.evidence, atol=1e-3)
    assert again.count == entire.count
