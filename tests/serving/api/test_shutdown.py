"""Requests that the server cancels when the time for accepted requests is over."""

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace
from typing import Any

from catimage.serving.api.endpoints import EndpointTable
from catimage.serving.api.middleware.context import RequestContext

SCOPE = {"type": "http", "method": "POST", "path": "/v1/route", "headers": []}
START = {"type": "http.response.start", "status": 200, "headers": []}


async def _cancelled(started: bool) -> tuple[list[Any], bool]:
    """Cancel a request that never ends; return its messages, and whether it ended as cancelled."""
    messages: list[Any] = []

    async def send(message: Any) -> None:
        messages.append(message)

    async def endless(scope: Any, receive: Any, send: Any) -> None:
        if started:
            await send({**START})
        await asyncio.Event().wait()

    runtime: Any = SimpleNamespace(backend=None)
    context = RequestContext(endless, runtime, EndpointTable(()))
    task = asyncio.create_task(context({**SCOPE}, asyncio.Event().wait, send))  # type: ignore[arg-type]
    await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.wait({task})
    return messages, task.cancelled()


def test_a_cancelled_request_is_answered_503_and_may_be_repeated() -> None:
    messages, cancelled = asyncio.run(_cancelled(started=False))
    headers = {name.lower(): value for name, value in messages[0]["headers"]}
    assert messages[0]["status"] == 503 and headers[b"retry-after"] == b"5"
    assert json.loads(messages[1]["body"])["error"]["code"] == "draining"
    assert not cancelled


def test_a_cancelled_stream_ends_without_a_second_start() -> None:
    messages, cancelled = asyncio.run(_cancelled(started=True))
    assert [message["type"] for message in messages] == ["http.response.start"]
    assert cancelled
