"""Conversion of the events of the core to an answer with images."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TypeVar

from starlette.concurrency import run_in_threadpool
from starlette.types import Receive

from catimage.serving.api.answers import (
    AnswerOptions,
    catimage_document,
    flagged_images,
    images_document,
    size_text,
    usage_document,
)
from catimage.serving.api.backend import Backend
from catimage.serving.api.encoding import base64_text, encoded
from catimage.serving.api.image_urls import ImageLinks
from catimage.serving.api.parsing import disconnected
from catimage.serving.messages import ImageRequest, JsonObject, Result, ServedEvent, ServingError
from catimage.serving.tasks import FinishedImage

T = TypeVar("T")


@dataclass(frozen=True)
class Generation:
    """A request for images, and how it is answered.

    Attributes:
        backend: the parts of the service.
        request: the request.
        options: the options of the answer.
        links: makes the URLs of images.
        cost_unit: unit of the costs.
    """

    backend: Backend
    request: ImageRequest
    options: AnswerOptions
    links: ImageLinks
    cost_unit: str

    async def answer(self) -> JsonObject:
        """Generate the images and return the document of the answer.

        Raises:
            ServingError: there are no images, or all are flagged (400, ``moderation_blocked``).
        """
        images: list[FinishedImage] = []
        items: list[asyncio.Task[JsonObject]] = []
        result: Result | None = None
        try:
            async with closing(self.backend.core.generate(self.request)) as events:
                async for event in events:
                    if isinstance(event, FinishedImage):
                        images.append(event)
                        items.append(asyncio.create_task(self.item(event)))
                    elif isinstance(event, Result):
                        result = event
            documents = await asyncio.gather(*items)
        finally:
            for task in items:
                task.cancel()
        summary = self.summary(result, images)
        order = sorted(range(len(images)), key=lambda i: images[i].index)
        sizes = [size_text(i.pixels) for i in images if i.pixels is not None]
        return images_document([documents[i] for i in order], sizes[0], self.options, summary)

    async def item(self, image: FinishedImage) -> JsonObject:
        """Return the object of one image in ``data``."""
        if image.pixels is None:
            return {"flagged": image.flagged or "flagged"}
        data = await encoded(image.pixels, self.options.image_format)
        if not self.options.urls:
            return {"b64_json": base64_text(data)}
        store, media_type = self.backend.state.images, self.options.image_format.media_type
        token = await run_in_threadpool(
            store.put, data, media_type, self.backend.settings.url_seconds
        )
        return {"url": self.links.url(token)}

    def summary(self, result: Result | None, images: list[FinishedImage]) -> JsonObject:
        """Return ``usage`` and ``catimage`` of the answer.

        Raises:
            ServingError: the core ended without a result, or all images are flagged.
        """
        flagged = flagged_images(images)
        if result is None:
            raise RuntimeError("the core ended without a result")
        if len(flagged) == len(images):
            message = "prompt: the safety checker flagged every image. Change the prompt."
            raise ServingError(message, 400, "moderation_blocked", "prompt")
        document = catimage_document(self.request, result, flagged, self.options, self.cost_unit)
        return {"usage": usage_document(result.routed), "catimage": document}


@asynccontextmanager
async def closing(events: AsyncIterator[ServedEvent]) -> AsyncIterator[AsyncIterator[ServedEvent]]:
    """Close an iterator of events at the end of the ``with`` block, which cancels its work."""
    try:
        yield events
    finally:
        close = getattr(events, "aclose", None)
        if close is not None:
            await close()


async def unless_disconnected(receive: Receive, work: Awaitable[T]) -> T:
    """Return the result of ``work``, which is cancelled if the client disconnects.

    Raises:
        ServingError: the client disconnected (499).
    """
    task, watch = asyncio.ensure_future(work), asyncio.create_task(disconnection(receive))
    try:
        await asyncio.wait({task, watch}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise disconnected()
        return task.result()
    finally:
        pending = [t for t in (task, watch) if not t.done()]
        for unfinished in pending:
            unfinished.cancel()
        await asyncio.gather(*pending, return_exceptions=True)


async def disconnection(receive: Receive) -> None:
    """Wait until the client disconnects. The body of the request must have been read."""
    while (await receive())["type"] != "http.disconnect":
        pass
