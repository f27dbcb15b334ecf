"""Paid images: concurrent requests, none of which is sent twice, and the kinds of failures."""

import asyncio
import socket
import time

import numpy as np
import pytest

from catimage.serving.generator.engine import Engine
from catimage.serving.generator.failures import PromptModerated, TaskFailed, TaskTimedOut
from tests.pool.generators.hosted.server import (
    error_response,
    image_response,
    run_server,
    uniform_image,
    uniform_image_response,
)
from tests.pool.generators.hosted.test_hosted import KEY, hosted_tree, save_pool
from tests.serving.generator.helpers import events_of, images, run, start, task


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv(KEY, "secret")


@pytest.fixture
def engine_of(tmp_path):
    """Start engines with the hosted generator of a server, and close them."""
    engines = []

    def new(url, **settings) -> Engine:
        engines.append(Engine(save_pool(tmp_path, hosted_tree(url, **settings))))
        return start(engines[-1])

    yield new
    for engine in engines:
        engine.close()


def slow(_, body):
    time.sleep(0.2)
    return uniform_image_response(body)


def test_requests_run_at_the_same_time_and_the_images_are_in_order(engine_of):
    with run_server(slow) as server:
        engine = engine_of(server.url, concurrency=8)
        assert engine.status().paid == {"painter-low", "painter-high"}
        start_time = time.perf_counter()
        results = run(engine, *(task("painter-low", [1, 2], prompt=p) for p in "abcd"))
        assert time.perf_counter() - start_time < 1.2
    for prompt, events in zip("abcd", results, strict=True):
        np.testing.assert_array_equal(images(events), [uniform_image(prompt)] * 2)
    load = engine.status().candidates["painter-low"]
    assert 0.15 < load.seconds < 1.0 and load.batch_seconds == 0


@pytest.mark.parametrize(
    ("response", "failure", "billed"),
    [
        (error_response(400, "safety system"), PromptModerated, None),
        (error_response(429, "too many"), TaskFailed, None),
        (error_response(500, "broken"), TaskFailed, None),
        (error_response(504, "gateway"), TaskTimedOut, True),
        (image_response(b64_json="bm8gaW1hZ2U="), TaskTimedOut, True),
    ],
)
def test_a_failed_request_is_sent_once_and_classified(engine_of, response, failure, billed):
    with run_server(lambda *_: response) as server:
        engine = engine_of(server.url, retries=5)
        with pytest.raises(failure) as error:
            run(engine, task("painter-low", prompt="a secret prompt"))
        assert len(server.bodies) == 1
    assert getattr(error.value, "billed", None) == billed
    assert "secret prompt" not in str(error.value)


def test_a_refused_connection_is_not_billed(engine_of):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        with pytest.raises(TaskFailed, match="unavailable"):
            run(engine_of(url), task("painter-low"))


@pytest.mark.parametrize("limits", [{"timeout": 0.1}, {"timeout": 5}])
def test_a_timeout_after_the_request_may_have_been_billed(engine_of, limits):
    with run_server(lambda *_: (time.sleep(0.6), error_response(500, ""))[1]) as server:
        engine = engine_of(server.url, **limits)
        with pytest.raises(TaskTimedOut) as error:
            run(engine, task("painter-low", timeout=0.3))
        assert error.value.billed and len(server.bodies) == 1


def test_requests_that_wait_are_not_sent_after_the_client_has_left(engine_of):
    async def leave(engine) -> None:
        client = asyncio.create_task(events_of(engine, task("painter-low", range(10))))
        await asyncio.sleep(0.1)
        client.cancel()
        await asyncio.sleep(0.5)

    with run_server(slow) as server:
        asyncio.run(leave(engine_of(server.url, concurrency=2)))
        assert 1 <= len(server.bodies) <= 2


def test_the_rate_limit_is_kept_and_a_waiting_request_can_be_cancelled(engine_of):
    async def leave(engine) -> None:
        first = asyncio.create_task(events_of(engine, task("painter-low")))
        await asyncio.sleep(0.1)
        second = asyncio.create_task(events_of(engine, task("painter-low")))
        await asyncio.sleep(0.05)
        second.cancel()
        await first
        await asyncio.sleep(0.5)

    with run_server(lambda _, body: uniform_image_response(body)) as server:
        engine = engine_of(server.url, requests_a_minute=120)
        asyncio.run(leave(engine))
        assert len(server.bodies) == 1
        run(engine, task("painter-low", [1, 2, 3]))
        intervals = np.diff(server.times[1:])
        assert len(server.bodies) == 4 and intervals.min() > 0.45
