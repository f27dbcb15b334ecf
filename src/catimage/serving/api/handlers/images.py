"""``POST /v1/images/generations`` and the images behind signed URLs."""

from __future__ import annotations

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from catimage.serving.api.answers import AnswerOptions
from catimage.serving.api.bodies import ImagesBody
from catimage.serving.api.generation import Generation, unless_disconnected
from catimage.serving.api.image_urls import ImageLinks, unknown_image
from catimage.serving.api.json_response import json_response
from catimage.serving.api.parsing import parse_body
from catimage.serving.api.requests import client_key, image_request, request_id, with_known_model
from catimage.serving.api.runtime import runtime_of
from catimage.serving.api.streaming import EventStream, stream_events
from catimage.serving.messages import ServingError


async def post_generations(request: Request) -> Response:
    """Handle ``POST /v1/images/generations``."""
    backend = runtime_of(request).require()
    body = await parse_body(request, ImagesBody)
    labels = backend.core.labels
    body = with_known_model(body, labels["candidates"], backend.settings.model_aliases)
    message = image_request(body, request_id(request), client_key(request), backend.settings)
    links = ImageLinks(backend.secret, backend.settings.url_seconds, base_url(request))
    options = AnswerOptions.of(body)
    generation = Generation(backend, message, options, links, labels["cost_unit"])
    if not body.stream:
        return json_response(await unless_disconnected(request.receive, generation.answer()))
    if generation.options.urls:
        text = "response_format: streams contain base64. Use 'b64_json', or omit the field."
        raise ServingError(text, param="response_format")
    return EventStream(lambda: stream_events(generation))


async def get_file(request: Request) -> Response:
    """Handle ``GET /v1/images/files/{token}``; the signature in the path replaces a key.

    Raises:
        ServingError: the signature is invalid, or the image has expired (404).
    """
    backend = runtime_of(request).require()
    links = ImageLinks(backend.secret, backend.settings.url_seconds)
    token = links.token(request.path_params["token"])
    image = await run_in_threadpool(backend.state.images.get, token)
    if image is None:
        raise unknown_image()
    headers = {
        "Cache-Control": "private, max-age=3600, immutable",
        "Cross-Origin-Resource-Policy": "cross-origin",
    }
    return Response(image[0], headers=headers, media_type=image[1])


def base_url(request: Request) -> str:
    """Return the URL under which the client reached the service, without a slash at the end."""
    return str(request.base_url).rstrip("/")
