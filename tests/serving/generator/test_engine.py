"""The engine with the real tiny pool: batches, cancellation, previews and failures."""

import asyncio
import random
import time

import numpy as np
import pytest

from catimage.pool.generator_cache import GeneratorCache
from catimage.pool.loading import load_pool
from catimage.serving.generator.batches import candidate_of
from catimage.serving.generator.engine import Engine
from catimage.serving.generator.failures import GroupUnavailable, TaskRefused, TaskTimedOut
from catimage.serving.tasks import FinishedImage, FinishedTask, Preview
from tests.serving.generator.helpers import events_of, images, run, start, task

CANDIDATES = ("tiny-turbo", "tiny-infinity", "tiny-sd-2", "tiny-sd-4", "tiny-ddim-8")
PROMPTS = ("two small red rings", "a large blue square on a grey background", "three green dots")


@pytest.fixture(scope="module")
def other_cache() -> GeneratorCache:
    """Other generators than those of the engine."""
    return GeneratorCache(load_pool("tiny"), "cpu")


def alone(of, cache: GeneratorCache) -> np.ndarray:
    """Generate the images of a task one by one, without the engine."""
    pool = load_pool("tiny")
    candidate = candidate_of(pool, (of.candidate, of.negative_prompt))
    generator = cache.get(candidate.generator)
    return np.stack([generator.generate([of.prompt], candidate, [s])[0] for s in of.seeds])


def test_images_of_random_mixes_are_those_of_single_calls(engine, other_cache):
    draw = random.Random(5)
    tasks = [
        task(
            candidate := draw.choice(CANDIDATES),
            [draw.randrange(1000) for _ in range(draw.randint(1, 4))],
            draw.choice(PROMPTS),
            negative_prompt=draw.choice([None, "red"]) if "sd" in candidate else None,
            previews=draw.choice([0, 2]),
        )
        for _ in range(8)
    ]
    results = run(engine, *tasks)
    sizes = [events[-1].batch_size for events in results]
    assert max(sizes) > 1
    for of, events in zip(tasks, results, strict=True):
        difference = np.abs(images(events).astype(int) - alone(of, other_cache))
        assert difference.max() <= 1, of


def test_concurrent_tasks_share_batches(engine):
    results = run(engine, *(task("tiny-sd-4", [i], f"{i} red rings") for i in range(16)))
    assert max(events[-1].batch_size for events in results) >= 4
    deadline = time.monotonic() + 5  # the events come before the end of the batch
    while engine.status().running_images and time.monotonic() < deadline:
        time.sleep(0.01)
    assert engine.status().queued_images == engine.status().running_images == 0


def test_a_negative_prompt_changes_the_image_and_is_not_mixed_with_others(engine):
    plain, negative = run(
        engine, task("tiny-sd-4", [3]), task("tiny-sd-4", [3], negative_prompt="red")
    )
    assert plain[-1].batch_size == negative[-1].batch_size == 1
    assert np.abs(images(plain).astype(int) - images(negative)).max() > 10


def test_previews_come_before_the_images_in_order(engine):
    (events,) = run(engine, task("tiny-sd-4", [1, 2], previews=2))
    previews = [event for event in events if isinstance(event, Preview)]
    assert [(p.index, p.number) for p in previews] == [(0, 0), (1, 0), (0, 1), (1, 1)]
    assert isinstance(events[4], FinishedImage) and isinstance(events[-1], FinishedTask)
    assert all(p.pixels.shape == (64, 64, 3) and p.pixels.std() > 0 for p in previews)


def test_a_task_for_one_image_does_not_wait_for_all_images_of_another(engine):
    size = engine.status().candidates["tiny-sd-8"].batch_size

    async def order() -> list[str]:
        ended = []

        async def follow(of):
            await events_of(engine, of)
            ended.append(of.request_id)

        large = asyncio.create_task(follow(task("tiny-sd-8", range(3 * size), request_id="large")))
        await asyncio.sleep(0.01)
        await follow(task("tiny-turbo", request_id="small"))
        await large
        return ended

    assert asyncio.run(order()) == ["small", "large"]


def test_cancelled_work_stops_within_a_step_and_the_next_image_is_right(engine):
    expected = images(run(engine, task("tiny-sd-16", [9]))[0])

    async def cancel() -> float:
        running = asyncio.create_task(events_of(engine, task("tiny-sd-16", range(12))))
        waiting = asyncio.create_task(events_of(engine, task("tiny-deepcache-32", range(40))))
        while not engine.status().running_images:
            await asyncio.sleep(0.001)
        for client in (running, waiting):
            client.cancel()
        start = time.perf_counter()
        while engine.status().running_images or engine.status().queued_images:
            await asyncio.sleep(0.001)
        return time.perf_counter() - start

    load = engine.status().candidates["tiny-sd-16"]
    whole_batch = 12 * load.batch_seconds
    assert asyncio.run(cancel()) < max(0.5 * whole_batch, 1.0)
    np.testing.assert_array_equal(images(run(engine, task("tiny-sd-16", [9]))[0]), expected)


def test_an_empty_negative_prompt_has_no_effect_on_a_candidate_that_takes_none(engine):
    plain, empty = run(engine, task("tiny-turbo", [3]), task("tiny-turbo", [3], negative_prompt=""))
    np.testing.assert_array_equal(images(plain), images(empty))


def test_invalid_tasks_are_refused(engine):
    for of, problem in [
        (task("tiny-lightning"), "not in the group"),
        (task("tiny-turbo", negative_prompt="red"), "takes none"),
        (task("tiny-turbo", seeds=[]), "seeds"),
    ]:
        with pytest.raises(TaskRefused, match=problem):
            run(engine, of)


def test_the_time_limit_of_a_task_ends_it_without_a_charge(engine):
    with pytest.raises(TaskTimedOut, match=r"0\.05 s") as error:
        run(engine, task("tiny-deepcache-32", range(20), timeout=0.05))
    assert not error.value.billed


def test_the_speeds_are_measured(engine):
    loads = engine.status().candidates
    assert set(loads) >= set(CANDIDATES)
    assert all(load.seconds > 0 and load.batch_seconds > 0 for load in loads.values())
    assert loads["tiny-sd-16"].seconds > loads["tiny-sd-2"].seconds
    assert max(load.batch_size for load in loads.values()) > 1


def test_an_engine_that_cannot_load_says_so_and_refuses_tasks():
    pool = load_pool("tiny")
    generators = {
        "tiny-sd": pool.generators["tiny-sd"].model_copy(update={"weights": "tiny/missing"})
    }
    broken = pool.model_copy(update={"generators": generators})
    engine = Engine(broken, "cpu", ["tiny-sd"])
    engine.start()
    deadline = time.monotonic() + 60
    while not engine.status().error:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert not engine.status().ready and "tiny/missing" in engine.status().error
    with pytest.raises(GroupUnavailable, match="tiny/missing"):
        run(engine, task("tiny-sd-2"))
    engine.close()


def test_an_engine_drains_and_then_fails_what_is_left():
    engine = start(Engine(load_pool("tiny"), "cpu", ["tiny-turbo"], "t"), measured=False)

    async def drain() -> None:
        accepted = asyncio.create_task(events_of(engine, task("tiny-turbo", range(3))))
        await asyncio.sleep(0)
        assert await engine.drain(30)
        assert engine.status().draining
        assert images(await accepted).shape == (3, 64, 64, 3)
        left = asyncio.create_task(events_of(engine, task("tiny-turbo", range(200))))
        await asyncio.sleep(0.01)
        assert not await engine.drain(0.01)
        await asyncio.to_thread(engine.close)
        with pytest.raises(GroupUnavailable, match="ends"):
            await left
        with pytest.raises(GroupUnavailable, match="stopping"):
            await events_of(engine, task("tiny-turbo"))

    asyncio.run(drain())
