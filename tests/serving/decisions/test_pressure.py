"""The price of device time under load."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from catimage.routing.curve import deferral_curve
from catimage.serving.decisions.pressure import (
    PressureController,
    highest_pressure,
    latency_target,
)
from catimage.serving.tasks import CandidateLoad
from tests.trained_workspace import COSTS, prompts_of

SECONDS = np.array([0.05, 0.1, 0.2, 0.4])


def loads(*seconds):
    return {n: CandidateLoad(s, s, 1) for n, s in zip(COSTS, seconds, strict=True)}


@given(st.lists(st.floats(0, 100), min_size=2))
def test_the_price_rises_with_the_wait_within_its_bounds_and_falls_again(waits):
    controller = PressureController(target=3.0, highest=2.0)
    prices = [controller.observe(wait) for wait in sorted(waits)]
    assert prices == sorted(prices) and prices[0] >= 0 and prices[-1] <= 2
    assert controller.observe(0.0) == controller.value == 0.0
    assert controller.observe(0.29) == 0 < controller.observe(0.7) < controller.observe(2.5) == 2


def test_the_price_of_a_device_follows_its_own_queue():
    controller = PressureController(target=1.0, highest=2.0)
    assert controller.shares({"a": 0.0, "b": 0.0}, 0.0) == {}  # no price yet
    waits = {"busy": 0.8, "same device": 0.8, "shorter": 0.45, "idle": 0.0}
    controller.observe(0.8)
    shares = controller.shares(waits, 0.8)
    assert shares == {"busy": 1, "same device": 1, "shorter": pytest.approx(0.125), "idle": 0}
    controller.observe(0.5)  # requests that were not sent yet count for every device
    shares = controller.shares({"busy": 0.1, "idle": 0.0}, 0.5)
    assert shares == {"busy": 1, "idle": pytest.approx((3 / 4) ** 3)}


@given(st.lists(st.floats(0, 50), min_size=1), st.floats(0, 20))
def test_shares_are_between_0_and_1_and_that_of_the_busiest_device_is_1(waits, undecided):
    controller, by_name = (
        PressureController(3.0, 2.0),
        dict(zip(map(str, waits), waits, strict=True)),
    )
    busiest = max(waits) + undecided
    shares = controller.shares(by_name, busiest) if controller.observe(busiest) else {}
    assert all(0 <= share <= 1 for share in shares.values())
    assert all(share == 1 for name, share in shares.items() if by_name[name] == max(waits))


def test_the_default_target_is_three_times_the_slowest_candidate():
    assert latency_target(None, loads(0.1, 0.2, 0.5)) == pytest.approx(1.5)
    assert latency_target(2.0, {}) == 2.0


@pytest.mark.parametrize("seconds", [(0.1, 0.2, 0.4), (0.4, 0.1, 0.4), (0.2, 0.1, 0.15)])
def test_at_the_highest_price_the_fastest_candidate_wins_for_nearly_every_prompt(ridge, seconds):
    price = highest_pressure(ridge.router, loads(*seconds))
    predicted = ridge.router.predict(prompts_of(200))
    score = predicted - price * np.array(seconds)
    assert 0 < price < 1000
    assert (score.argmax(axis=1) == np.argmin(seconds)).mean() > 0.95


def test_there_is_no_price_if_all_candidates_are_equally_fast(ridge):
    assert highest_pressure(ridge.router, loads(0.1, 0.1, 0.1)) == 0
    assert highest_pressure(ridge.router, {}) == 0


def served(controller, seed, duration=200.0):
    """Arrivals up to 1.5 times the capacity of the slowest candidate on one device.

    Returns the share of the requests above the latency target, and the mean quality.
    """
    rng = np.random.default_rng(seed)
    time = free = 0.0
    late, quality = [], []
    while time < duration:
        load = 0.3 + 0.7 * np.sin(np.pi * time / duration) ** 2
        time += rng.exponential(SECONDS[-1] / (1.5 * load))
        wait = max(free - time, 0.0)
        gain = rng.gamma(2, 0.05) * (np.log2(SECONDS / SECONDS[0]) / 3) ** 0.7
        price = controller.observe(wait) if controller else 0.0
        m = int(np.argmax(gain - price * SECONDS))
        free = max(free, time) + SECONDS[m]
        late.append(free - time > 3 * SECONDS[-1])
        quality.append(0.6 + gain[m])
    return float(np.mean(late)), float(np.mean(quality))


def test_at_1_5_times_the_capacity_few_requests_are_late_and_quality_stays_within_2_percent(ridge):
    rng = np.random.default_rng(0)
    gains = rng.gamma(2, 0.05, (500, 1)) * (np.log2(SECONDS / SECONDS[0]) / 3) ** 0.7
    router = dataclasses.replace(
        ridge.router,
        candidates=["a", "b", "c", "d"],
        costs=SECONDS,
        curve=deferral_curve(gains, SECONDS),
    )
    speeds = {n: CandidateLoad(s, s, 1) for n, s in zip("abcd", SECONDS.tolist(), strict=True)}
    fixed = served(None, 1)
    paced = served(
        PressureController(latency_target(None, speeds), highest_pressure(router, speeds)), 1
    )
    assert fixed[0] > 0.5 and paced[0] < fixed[0] / 10
    assert paced[1] > 0.98 * fixed[1]
