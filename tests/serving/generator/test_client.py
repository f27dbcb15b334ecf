"""The HTTP application and its clients, over a socket with a real server."""

import asyncio
import socket
import threading
import time
from collections import Counter
from contextlib import contextmanager

import numpy as np
import pytest
import uvicorn

from catimage.errors import InputError
from catimage.serving.generator.app import generator_app
from catimage.serving.generator.client import LocalGroup, RemoteGroup
from catimage.serving.generator.failures import GroupUnavailable, TaskRefused, TaskTimedOut
from catimage.serving.tasks import FinishedTask
from tests.serving.generator.helpers import images, task


class _Server(uvicorn.Server):
    def install_signal_handlers(self) -> None:
        """Leave the signals of the test process alone."""


class SharedEngine:
    """The engine of the session, which an application neither starts nor closes."""

    def __init__(self, engine) -> None:
        self.submit, self.status, self.lost = engine.submit, engine.status, threading.Event()

    def start(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


@contextmanager
def served(create, path):
    """Serve the engine that ``create`` returns on a unix socket."""
    config = uvicorn.Config(generator_app(create), uds=str(path))
    server = _Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield f"unix://{path}"
    finally:
        server.should_exit = server.force_exit = True
        thread.join()


async def collect(group, of) -> list:
    return [event async for event in group.run(of)]


async def ready(group) -> None:
    """Wait until a service is ready."""
    while not (await group.status()).ready:
        await asyncio.sleep(0.01)


async def failing(group, of) -> None:
    """Run a task when the service is ready."""
    await ready(group)
    await collect(group, of)


def with_group(url, call, **options):
    """Run ``call(group)`` with a client, and close the client."""

    async def main():
        group = RemoteGroup("cpu", url, **options)
        try:
            return await call(group)
        finally:
            await group.close()

    return asyncio.run(main())


def test_a_remote_task_has_the_events_of_a_local_one(engine, tmp_path):
    of = task("tiny-sd-4", [1, 2], previews=1)
    local = asyncio.run(collect(LocalGroup("cpu", engine), of))

    async def both(group):
        await ready(group)
        return await asyncio.gather(*(collect(group, of) for _ in range(5)))

    with served(lambda: SharedEngine(engine), tmp_path / "s") as url:
        results = with_group(url, both)
    for events in results:
        assert Counter(map(type, events)) == Counter(map(type, local))
        assert type(events[-1]) is type(local[-1]) is FinishedTask
        assert np.abs(images(events).astype(int) - images(local)).max() <= 1


def test_a_service_that_cannot_start_answers_with_the_reason(tmp_path):
    def fail():
        raise InputError("pool.yaml: not found. Create it.")

    async def call(group):
        while not (await group.status()).error:
            await asyncio.sleep(0.01)
        with pytest.raises(GroupUnavailable, match=r"pool\.yaml: not found"):
            await collect(group, task("tiny-turbo"))
        return await group.status()

    with served(fail, tmp_path / "s") as url:
        status = with_group(url, call)
    assert not status.ready and status.error == "pool.yaml: not found. Create it."


def test_a_service_that_is_starting_is_unavailable(tmp_path):
    started = threading.Event()

    def create():
        started.wait()
        raise InputError("test: ends. Do nothing.")

    async def call(group):
        assert not (await group.status()).ready
        with pytest.raises(GroupUnavailable, match="it is starting"):
            await collect(group, task("tiny-turbo"))

    with served(create, tmp_path / "s") as url:
        try:
            with_group(url, call)
        finally:
            started.set()


def test_a_client_that_leaves_cancels_its_task(engine, tmp_path):
    async def leave(group):
        await ready(group)
        running = asyncio.create_task(collect(group, task("tiny-deepcache-32", range(40))))
        while not engine.status().running_images:
            await asyncio.sleep(0.005)
        running.cancel()
        deadline = time.monotonic() + 20
        while engine.status().running_images or engine.status().queued_images:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.005)

    with served(lambda: SharedEngine(engine), tmp_path / "s") as url:
        with_group(url, leave)


def test_failures_keep_their_class(engine, tmp_path):
    with served(lambda: SharedEngine(engine), tmp_path / "s") as url:
        with pytest.raises(TaskRefused, match="takes none"):
            with_group(url, lambda g: failing(g, task("tiny-turbo", negative_prompt="x")))
        with pytest.raises(TaskTimedOut):
            with_group(url, lambda g: failing(g, task("tiny-deepcache-32", range(9), timeout=0.1)))


def test_a_service_that_does_not_run_is_unavailable(tmp_path):
    for url in (f"unix://{tmp_path}/none", "http://127.0.0.1:9"):
        with pytest.raises(GroupUnavailable, match="does not answer"):
            with_group(url, lambda g: g.status())
        with pytest.raises(GroupUnavailable, match="does not answer"):
            with_group(url, lambda g: collect(g, task("tiny-turbo")))


@pytest.mark.parametrize(("paid", "failure"), [(False, GroupUnavailable), (True, TaskTimedOut)])
def test_a_connection_that_ends_in_the_middle(paid, failure):
    listener = socket.create_server(("127.0.0.1", 0))

    def answer() -> None:
        connection, _ = listener.accept()
        connection.recv(1 << 16)
        connection.sendall(
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\n\0\0\0\x09a\r\n"
        )
        connection.close()

    thread = threading.Thread(target=answer)
    thread.start()

    async def call(group):
        group._paid = frozenset({"tiny-turbo"} if paid else ())
        await collect(group, task("tiny-turbo"))

    with pytest.raises(failure) as error:
        with_group(f"http://127.0.0.1:{listener.getsockname()[1]}", call)
    assert getattr(error.value, "billed", False) == paid
    thread.join()
    listener.close()


def test_the_headers_of_a_request_are_sent(tmp_path):
    listener, received = socket.create_server(("127.0.0.1", 0)), []

    def answer() -> None:
        connection, _ = listener.accept()
        received.append(connection.recv(1 << 16))
        listener.close()  # a second request fails at once
        connection.close()

    thread = threading.Thread(target=answer)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    thread.start()
    with pytest.raises(GroupUnavailable):
        with_group(url, lambda g: g.status(), headers=lambda: {"traceparent": "00-1"})
    thread.join()
    assert b"traceparent: 00-1" in received[0]
