"""Threads of an engine that end unexpectedly: visible, no task hangs, and the process restarts."""

import asyncio
import threading
import time

import pytest

from catimage.errors import InputError
from catimage.pool.loading import load_pool
from catimage.serving.generator import background
from catimage.serving.generator.background import BackgroundEngine
from catimage.serving.generator.device_lane import DeviceLane
from catimage.serving.generator.engine import Engine
from catimage.serving.generator.failures import GroupUnavailable
from tests.serving.generator.helpers import events_of, task


class Panic(BaseException):
    """An exception that ``except Exception`` does not catch, as those of Rust code."""


def lane_that_raises(monkeypatch, error):
    """Make the thread of the device end with an exception when the first task arrives."""

    def run(self, on_ready):
        on_ready()
        self.queue.take(lambda _: 1, None)
        raise error

    monkeypatch.setattr(DeviceLane, "run", run)


def started(engine):
    engine.start()
    deadline = time.monotonic() + 10
    while not engine.status().ready:
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("error", [Panic("gone"), ImportError("gone"), KeyError("gone")])
def test_a_thread_that_ends_fails_its_tasks_and_is_reported(monkeypatch, error):
    lane_that_raises(monkeypatch, error)
    engine = Engine(load_pool("tiny"), "cpu", ["tiny-turbo"], "g")
    started(engine)

    async def ask():
        tasks = [events_of(engine, task("tiny-turbo", [i])) for i in range(3)]
        async with asyncio.timeout(5):
            return await asyncio.gather(*tasks, return_exceptions=True)

    assert [type(failure) for failure in asyncio.run(ask())] == [GroupUnavailable] * 3
    status = engine.status()
    assert not status.ready and "gone" in status.error and engine.lost.is_set()
    engine.close()


@pytest.mark.parametrize(("error", "restarted"), [(Panic("x"), True), (InputError("x"), False)])
def test_the_process_is_restarted_but_not_in_quick_succession(monkeypatch, error, restarted):
    monkeypatch.setattr(background, "RESTART_SECONDS", 0.5)
    monkeypatch.setattr(background, "REPORT_SECONDS", 0.1)
    lane_that_raises(monkeypatch, error)
    ended = threading.Event()
    engine = BackgroundEngine(
        lambda: Engine(load_pool("tiny"), "cpu", ["tiny-turbo"], "g"), "g", ended.set
    )
    began = time.monotonic()
    started(engine)
    with pytest.raises(GroupUnavailable):
        asyncio.run(asyncio.wait_for(events_of(engine, task("tiny-turbo")), 5))
    assert ended.wait(1.5) == restarted
    assert time.monotonic() - began >= 0.5
    engine.close()


def test_a_closed_engine_does_not_restart_the_process(monkeypatch):
    monkeypatch.setattr(background, "RESTART_SECONDS", 0.0)
    lane_that_raises(monkeypatch, Panic("x"))
    ended = threading.Event()
    engine = BackgroundEngine(
        lambda: Engine(load_pool("tiny"), "cpu", ["tiny-turbo"], "g"), "g", ended.set
    )
    started(engine)
    engine.close()
    assert not ended.wait(0.2)
