"""The end of the process of a generator service is noticed at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from catimage.serving.dispatch.fleet import Fleet
from catimage.serving.generator.app import generator_app
from catimage.serving.generator.client import RemoteGroup
from catimage.serving.generator.failures import GroupUnavailable
from tests.serving.groups import ScriptedGroup

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
RUNNING = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n8\r\nrunning\n\r\n"


class MortalGroup(ScriptedGroup):
    """A group whose process the test can end."""

    def __init__(self) -> None:
        super().__init__("g", "a")
        self.end = asyncio.Event()

    async def status(self):
        if not self.up:
            await asyncio.sleep(60)  # nobody accepts the connection
        return await super().status()

    async def ended(self) -> None:
        await self.end.wait()
        self.end.clear()


def test_a_group_whose_process_ends_is_down_before_the_next_poll() -> None:
    async def run() -> None:
        group = MortalGroup()
        fleet = Fleet({"g": group})
        await fleet.start()
        async with asyncio.timeout(5):
            while not fleet.ready:
                await asyncio.sleep(0.01)
        group.up = False
        group.end.set()
        await asyncio.sleep(0.05)
        assert not fleet.ready
        assert fleet.members["g"].problem == "its process has ended"
        await fleet.close()

    asyncio.run(run())


async def _ended(answer: bytes) -> None:
    """Observe a service that sends ``answer``, and then loses the connection."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()
        await asyncio.sleep(0.1)
        writer.transport.abort()

    async with await asyncio.start_server(handle, "127.0.0.1", 0) as server:
        host, port = server.sockets[0].getsockname()
        group = RemoteGroup("g", f"http://{host}:{port}")
        try:
            started = asyncio.get_running_loop().time()
            await group.ended()
            assert asyncio.get_running_loop().time() - started >= 0.1
        finally:
            await group.close()


def test_the_end_of_the_connection_is_the_end_of_the_process() -> None:
    asyncio.run(_ended(RUNNING))


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n"])
def test_a_service_that_cannot_be_observed_is_not_taken_for_ended(answer: bytes) -> None:
    with pytest.raises(GroupUnavailable):
        asyncio.run(_ended(answer))


def test_the_response_ends_when_the_process_is_about_to_end() -> None:
    """The ASGI application sends the last chunk after the event, and nothing before."""

    async def run() -> tuple[bool, list[bytes]]:
        app = generator_app(lambda: 1 / 0, "g")  # type: ignore[arg-type, return-value]
        app.state.ending = asyncio.Event()
        sent: list[bytes] = []

        async def send(message) -> None:
            sent.append(message.get("body", b""))

        scope = {"type": "http", "method": "GET", "path": "/v1/end", "headers": []}
        answering = asyncio.create_task(app(scope, asyncio.Event().wait, send))
        await asyncio.sleep(0.05)
        early = answering.done()
        app.state.ending.set()
        await asyncio.wait_for(answering, 2)
        return early, sent

    early, sent = asyncio.run(run())
    assert not early
    assert sent == [b"", b"running\n", b""]
