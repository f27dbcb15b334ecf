"""The HTTP application of a generator service: its state, its tasks, and its end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager, suppress

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send

from catimage.serving.generator.background import BackgroundEngine
from catimage.serving.generator.engine import Engine
from catimage.serving.generator.failures import GenerationFailure, TaskRefused, failure_document
from catimage.serving.generator.wire import MEDIA_TYPE, decode_task, encode_event, encode_status
from catimage.serving.tasks import FinishedTask, ImageTask, TaskEvent
from catimage.serving.telemetry.logs import request_logged
from catimage.serving.telemetry.tracing import Span, tracing

MAX_BODY = 1 << 20
"""Maximum number of bytes of a task."""


def generator_app(
    engine: Callable[[], Engine],
    group: str = "generators",
    restart: Callable[[], None] = lambda: None,
) -> Starlette:
    """Return the application of one group.

    Args:
        engine: creates the engine. It is called in the background when the application starts, so
            that the application answers at once; an exception is reported in the state.
        group: name of the group.
        restart: ends the process, so that the supervisor starts it again; called when the engine
            has failed.

    A :class:`BackgroundEngine` is in ``app.state.engine`` while the application runs. Set the event
    ``app.state.ending`` before the process ends.
    """

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        app.state.engine, app.state.ending = (
            BackgroundEngine(engine, group, restart),
            asyncio.Event(),
        )
        app.state.engine.start()
        try:
            yield
        finally:
            await run_in_threadpool(app.state.engine.close)

    routes = [
        Route("/v1/tasks", post_task, methods=["POST"]),
        Route("/v1/status", get_status, methods=["GET"]),
        Route("/v1/end", get_end, methods=["GET"]),
    ]
    return Starlette(routes=routes, lifespan=lifespan)


async def get_status(request: Request) -> Response:
    """Handle ``GET /v1/status``."""
    status = request.app.state.engine.status()
    return Response(encode_status(status), media_type="application/json")


async def get_end(request: Request) -> Response:
    """Handle ``GET /v1/end``: a response that ends when the process does, also if it is killed."""

    async def body() -> AsyncIterator[bytes]:
        yield b"running\n"
        await request.app.state.ending.wait()

    return StreamingResponse(body(), media_type="text/plain")


async def post_task(request: Request) -> Response:
    """Handle ``POST /v1/tasks``: stream the events of a task."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY:
            return _failure(TaskRefused(f"task: larger than {MAX_BODY} bytes. Shorten it."), 413)
    try:
        task = decode_task(bytes(body))
    except ValueError as error:
        return _failure(TaskRefused(str(error)))
    return TaskResponse(request.app.state.engine, task)


def _failure(failure: GenerationFailure, status: int | None = None) -> JSONResponse:
    return JSONResponse(failure_document(failure), status or failure.status)


class TaskResponse(Response):
    """The events of a task as frames. When the client disconnects, the task is cancelled.

    A failure before the first event is a JSON document with the status of the failure; a later one
    is a frame.
    """

    media_type = MEDIA_TYPE

    def __init__(self, engine: BackgroundEngine, task: ImageTask) -> None:
        super().__init__()
        self._engine, self._task = engine, task
        self._span, self._arrival = Span(), time.time()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response."""
        task, headers = self._task, Headers(scope=scope)
        with (
            request_logged(task.request_id, private=(task.prompt, task.negative_prompt)),
            tracing().span("generate", headers=headers, candidate=task.candidate) as self._span,
        ):
            await self._answer(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        sending = asyncio.ensure_future(self._stream(scope, receive, send))
        leaving = asyncio.ensure_future(_disconnected(receive))
        try:
            await asyncio.wait({sending, leaving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            leaving.cancel()
            if not sending.done():
                sending.cancel()
                with suppress(asyncio.CancelledError):
                    await sending
        if not sending.cancelled():
            sending.result()

    async def _stream(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with aclosing(self._engine.submit(self._task)) as events:
            try:
                event = await anext(events)
            except GenerationFailure as failure:
                await _failure(failure)(scope, receive, send)
                return
            headers = [(b"content-type", MEDIA_TYPE.encode())]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send(_body(encode_event(event), more=True))
            await self._send_events(events, send)

    async def _send_events(self, events: AsyncGenerator[TaskEvent, None], send: Send) -> None:
        try:
            async for event in events:
                if isinstance(event, FinishedTask):
                    self._span.set(batch_size=event.batch_size)
                    tracing().record("queue", self._span, self._arrival, event.queue_seconds)
                await send(_body(encode_event(event), more=True))
        except GenerationFailure as failure:
            await send(_body(encode_event(failure), more=True))
        await send(_body(b"", more=False))


def _body(data: bytes, more: bool) -> Message:
    return {"type": "http.response.body", "body": data, "more_body": more}


async def _disconnected(receive: Receive) -> None:
    """Return when the client has disconnected."""
    while (await receive())["type"] != "http.disconnect":
        pass
