"""Connections whose headers arrive slowly are closed; others are not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from catimage.serving.bento.header_timeout import ANSWER, limit_header_time

SECONDS = 0.2
Client = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def _slow(request: Request) -> PlainTextResponse:
    """Answer with the body, after more than the limit."""
    body = await request.body()
    await asyncio.sleep(2 * SECONDS)
    return PlainTextResponse(body.decode() or "empty")


@asynccontextmanager
async def _server() -> AsyncIterator[Callable[[], Awaitable[Client]]]:
    """Run a server; yields a function that connects to it."""
    app = Starlette(routes=[Route("/", _slow, methods=["GET", "POST"])])
    config = uvicorn.Config(app, lifespan="off", log_config=None)
    config.load()
    limit_header_time(config, SECONDS)
    server = uvicorn.Server(config)
    server.lifespan = config.lifespan_class(config)
    loop = asyncio.get_running_loop()

    def protocol() -> asyncio.Protocol:
        state, protocol_class = server.server_state, cast(Any, config.http_protocol_class)
        return cast(
            asyncio.Protocol, protocol_class(config=config, server_state=state, app_state={})
        )

    listener = await loop.create_server(protocol, "127.0.0.1", 0)
    host, port = listener.sockets[0].getsockname()
    async with listener:
        yield lambda: asyncio.open_connection(host, port)


async def _send(writer: asyncio.StreamWriter, data: bytes, pause: float = 0.0) -> None:
    writer.write(data)
    await asyncio.sleep(pause)


@pytest.mark.parametrize("start", [b"", b"GET / HTTP/1.1\r\nhost: a\r\n"])
def test_a_connection_without_complete_headers_is_closed(start: bytes) -> None:
    async def answer() -> tuple[bytes, float]:
        async with _server() as connect:
            reader, writer = await connect()
            began = asyncio.get_running_loop().time()
            await _send(writer, start)
            received = await asyncio.wait_for(reader.read(), 2)
            return received, asyncio.get_running_loop().time() - began

    received, seconds = asyncio.run(answer())
    assert received == ANSWER
    assert SECONDS <= seconds < 1.5


def test_a_byte_at_a_time_does_not_extend_the_limit() -> None:
    async def sent() -> int:
        async with _server() as connect:
            reader, writer = await connect()
            number = 0
            while not reader.at_eof() and number < 40:
                await _send(writer, b"G", SECONDS / 10)
                number += 1
                if reader._buffer:  # type: ignore[attr-defined]
                    return number
            return number

    assert asyncio.run(sent()) < 20


def test_answers_and_bodies_may_take_longer_than_the_headers() -> None:
    async def answers() -> list[bytes]:
        async with _server() as connect:
            reader, writer = await connect()
            received = []
            for _ in range(2):  # on one connection
                await _send(writer, b"POST / HTTP/1.1\r\nhost: a\r\n", SECONDS / 2)
                await _send(writer, b"content-length: 4\r\n\r\nab", 2 * SECONDS)
                await _send(writer, b"cd")
                await reader.readuntil(b"\r\n\r\n")
                received.append(await reader.readexactly(4))
            return received

    assert asyncio.run(answers()) == [b"abcd", b"abcd"]


def test_the_headers_of_a_later_request_are_limited_too() -> None:
    async def answer() -> bytes:
        async with _server() as connect:
            reader, writer = await connect()
            await _send(writer, b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
            await reader.readuntil(b"\r\n\r\n")
            assert await reader.readexactly(5) == b"empty"
            await _send(writer, b"GET / HTT")
            return await asyncio.wait_for(reader.read(), 2)

    assert asyncio.run(answer()) == ANSWER
