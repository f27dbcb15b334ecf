"""Server-sent events of ``stream: true``, as OpenAI's clients parse them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from catimage.serving.api.answers import size_text, usage_document
from catimage.serving.api.encoding import base64_text, encoded
from catimage.serving.api.errors import CLIENT_CLOSED_REQUEST, error_document, serving_error
from catimage.serving.api.generation import Generation, closing, unless_disconnected
from catimage.serving.api.json_response import json_bytes
from catimage.serving.messages import JsonObject, Result, Routed, ServingError
from catimage.serving.tasks import FinishedImage, Preview

EVENT_STREAM = "text/event-stream"
"""Media type of server-sent events."""
KEEP_ALIVE_SECONDS = 10.0
"""A comment is sent after this time without an event, so that proxies keep the connection."""
_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


def event_bytes(name: str, document: JsonObject) -> bytes:
    """Return one server-sent event."""
    return b"event: %b\ndata: %b\n\n" % (name.encode(), json_bytes(document))


async def stream_events(generation: Generation) -> AsyncIterator[bytes]:
    """Yield the events of a request.

    A preview is an event ``image_generation.partial_image``, and a finished image is an event
    ``image_generation.completed``. The last image is kept until the Result, because its event has
    the object ``catimage``.
    """
    images: list[FinishedImage] = []
    usage: JsonObject = {}
    result: Result | None = None
    last: FinishedImage | None = None
    async with closing(generation.backend.core.generate(generation.request)) as events:
        async for event in events:
            if isinstance(event, Routed):
                usage = {"usage": usage_document(event)}
            elif isinstance(event, Preview):
                yield await _partial(generation, event)
            elif isinstance(event, Result):
                result = event
            else:
                images.append(event)
                if event.pixels is not None and last is not None:
                    yield await _completed(generation, last, usage)
                last = event if event.pixels is not None else last
    summary = generation.summary(result, images)
    assert last is not None  # not all images are flagged
    yield await _completed(generation, last, summary)


async def _partial(generation: Generation, preview: Preview) -> bytes:
    document = await _event(generation, preview)
    document |= {"type": "image_generation.partial_image", "partial_image_index": preview.number}
    return event_bytes(document["type"], document)


async def _completed(generation: Generation, image: FinishedImage, summary: JsonObject) -> bytes:
    """Return the event of a finished image; ``summary`` is ``usage``, or also ``catimage``."""
    document = await _event(generation, image)
    document |= {"type": "image_generation.completed"} | summary
    if generation.options.user is not None:
        document["safety_identifier"] = generation.options.user
    return event_bytes(document["type"], document)


async def _event(generation: Generation, image: Preview | FinishedImage) -> JsonObject:
    """Return the fields that the events of previews and of finished images share."""
    options = generation.options
    assert image.pixels is not None
    return {
        "b64_json": base64_text(await encoded(image.pixels, options.image_format)),
        "background": "opaque",
        "created_at": int(time.time()),
        "output_format": options.format,
        "quality": options.quality,
        "size": size_text(image.pixels),
        "image_index": image.index,
    }


Item = bytes | Exception | None
"""An event, the failure that ends a stream, or None at its end."""


class EventStream(Response):
    """A response with server-sent events. It cancels the work if the client disconnects.

    An error before the first event is an ordinary error response; a later one is an event
    ``error``.
    """

    media_type = EVENT_STREAM

    def __init__(self, events: Callable[[], AsyncIterator[bytes]]) -> None:
        super().__init__(headers=_HEADERS)
        del self.headers["content-length"]
        self._events = events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events."""
        queue: asyncio.Queue[Item] = asyncio.Queue()
        work = asyncio.create_task(_produce(self._events(), queue))
        try:
            first = await unless_disconnected(receive, _next(queue))
            if isinstance(first, Exception):
                raise first
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            if not await _send_all(first, queue, receive, send):
                scope["state"]["status"] = CLIENT_CLOSED_REQUEST
        finally:
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)


async def _produce(events: AsyncIterator[bytes], queue: asyncio.Queue[Item]) -> None:
    """Put the events into the queue, and the failure or None at the end."""
    try:
        async for event in events:
            queue.put_nowait(event)
        queue.put_nowait(None)
    except Exception as error:
        queue.put_nowait(error)
    finally:
        await events.aclose()  # type: ignore[attr-defined]


async def _next(queue: asyncio.Queue[Item]) -> Item:
    """Return the next item, or a comment if there is none for :data:`KEEP_ALIVE_SECONDS`."""
    try:
        async with asyncio.timeout(KEEP_ALIVE_SECONDS):
            return await queue.get()
    except TimeoutError:
        return b": keep-alive\n\n"


async def _send_all(
    first: bytes | None, queue: asyncio.Queue[Item], receive: Receive, send: Send
) -> bool:
    """Send the events up to the last one; return False if the client disconnects before it."""
    item: Item = first
    while item is not None:
        failed = isinstance(item, Exception)
        body = _error_event(item) if isinstance(item, Exception) else item
        await send({"type": "http.response.body", "body": body, "more_body": True})
        if failed:
            break
        try:
            item = await unless_disconnected(receive, _next(queue))
        except ServingError:
            return False
    await send({"type": "http.response.body", "body": b"", "more_body": False})
    return True


def _error_event(error: Exception) -> bytes:
    return event_bytes("error", error_document(serving_error(error)))
