"""The largest batch is corrected with the batches of requests, on simulated devices."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable

import pytest

from catimage.serving.generator.speeds import Speeds
from catimage.serving.tasks import CandidateLoad

Step = Callable[[int], float]


def helps(size: int) -> float:
    """Return the seconds of a batch of a device with a large fixed time per batch."""
    return 0.2 + 0.01 * size


def linear(size: int) -> float:
    """Return the seconds of a batch of a device for which batches are useless."""
    return 0.01 * size


def speeds_from(size: int) -> Speeds:
    speeds = Speeds({"few": "sd", "many": "sd", "other": "turbo"})
    for name in ("few", "many", "other"):
        speeds.set(name, CandidateLoad(0.21, 0.21, size))
    return speeds


def make(speeds: Speeds, seconds: Step, images: int, queue: int = 100_000) -> list[int]:
    """Make images from a queue that holds ``queue`` images; return the sizes of the batches."""
    sizes = list[int]()
    while images > 0:
        waiting = min(queue, images)
        while waiting > 0:
            sizes.append(size := min(speeds.limit("few"), waiting))
            speeds.record("few", size, seconds(size))
            waiting, images = waiting - size, images - size
    return sizes


def test_a_batch_that_is_too_small_grows_with_requests_for_ten_images():
    speeds = speeds_from(1)
    assert make(speeds, helps, 10, queue=10) == [1, 1, 2, 1, 2, 2, 1]
    make(speeds, helps, 90, queue=10)
    assert speeds.loads()["few"].batch_size >= 8


def test_a_batch_that_is_too_small_grows_under_load_to_the_largest_useful_one():
    speeds = speeds_from(1)
    sizes = make(speeds, helps, 500)
    assert speeds.loads()["few"].batch_size == 32 and max(sizes) == 32
    assert speeds.loads()["few"].batch_seconds == pytest.approx(helps(32) / 32, rel=0.1)


def test_the_new_size_is_that_of_all_candidates_of_the_generator_and_logged(caplog):
    speeds = speeds_from(1)
    with caplog.at_level(logging.INFO):
        make(speeds, helps, 7)
    assert {name: load.batch_size for name, load in speeds.loads().items()} == {
        "few": 2,
        "many": 2,
        "other": 1,
    }
    assert "generator sd: batches of at most 2 images from now on, 1 before" in caplog.text


@pytest.mark.parametrize("seed", range(10))
def test_useless_batches_shrink_also_with_noise(seed):
    draw, speeds = random.Random(seed), speeds_from(32)
    make(speeds, lambda size: linear(size) * draw.uniform(1.0, 1.04), 10_000)
    assert speeds.loads()["few"].batch_size <= 2


@pytest.mark.parametrize("seed", range(10))
def test_useful_batches_stay_large_though_some_are_disturbed(seed):
    draw, speeds = random.Random(seed), speeds_from(16)
    sizes = make(speeds, lambda size: helps(size) * draw.choice([1.0, 1.0, 1.0, 2.0]), 20_000)
    assert speeds.loads()["few"].batch_size >= 16
    assert sum(size for size in sizes if size < 8) / sum(sizes) < 0.01


def test_trials_become_rare():
    speeds = speeds_from(8)

    def best_at_eight(size: int) -> float:
        return 0.2 + 0.02 * size if size <= 8 else 0.05 * size

    sizes = make(speeds, best_at_eight, 40_000)
    assert speeds.loads()["few"].batch_size == 8
    assert sum(size != 8 for size in sizes[1000:]) <= 0.02 * len(sizes[1000:])


def test_a_single_request_is_never_delayed_by_a_trial():
    speeds = speeds_from(1)
    assert make(speeds, helps, 20, queue=1) == [1] * 20
    assert speeds.loads()["few"].batch_size == 1


def test_no_trial_exceeds_the_memory():
    speeds = speeds_from(4)
    speeds.bound("sd", 4)
    sizes = make(speeds, helps, 2000)
    assert max(sizes) == 4 and speeds.loads()["few"].batch_size == 4
    speeds.bound("sd", 2)
    assert speeds.loads()["few"].batch_size == speeds.loads()["many"].batch_size == 2
