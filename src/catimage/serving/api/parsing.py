"""Reading and checking request bodies: limits of size and time, and errors in OpenAI's codes."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails, from_json
from starlette.requests import ClientDisconnect, Request

from catimage.errors import nearest
from catimage.serving.api.bodies import LONGEST_PROMPT, MOST_PROMPTS
from catimage.serving.api.errors import CLIENT_CLOSED_REQUEST, abbreviated, shortened
from catimage.serving.api.json_response import JSON
from catimage.serving.messages import ServingError

MAX_BODY = 1024 * 1024
"""The largest request body in bytes."""
BODY_SECONDS = 10.0
"""Seconds within which the whole body has to arrive."""
Body = TypeVar("Body", bound=BaseModel)
_HINTS = {
    "size": "Use a size such as '64x64', or 'auto'",
    "background": "No candidate generates transparent images; use 'auto' or 'opaque'",
    "output_format": "Use 'png', 'jpeg' or 'webp'",
}


async def parse_body(request: Request, model: type[Body]) -> Body:
    """Return the JSON body of a request as an instance of ``model``.

    Raises:
        ServingError: the media type is not JSON (415), the body is too large (413) or too slow
            (408), or it is invalid (400).
    """
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != JSON:
        message = f"Content-Type: found {abbreviated(media_type)}. Use {JSON!r}."
        raise ServingError(message, 415, "unsupported_media_type")
    return parse(await read_body(request), model)


async def read_body(request: Request) -> bytes:
    """Return the body of a request.

    Raises:
        ServingError: it is larger than :data:`MAX_BODY` (413), or takes longer than
            :data:`BODY_SECONDS` (408), or the client disconnected (499).
    """
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length[:20]) > MAX_BODY:
        raise _too_large()
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for chunk in request.stream():
                body += chunk
                if len(body) > MAX_BODY:
                    raise _too_large()
    except TimeoutError as error:
        message = f"request body: not complete after {BODY_SECONDS:.0f} s. Send it faster."
        raise ServingError(message, 408, "request_timeout") from error
    except ClientDisconnect as error:
        raise disconnected() from error
    return bytes(body)


def disconnected() -> ServingError:
    """Return the error of a request whose client disconnected; only logs show it."""
    message = "client: disconnected before the response. Send the request again."
    return ServingError(message, CLIENT_CLOSED_REQUEST, "client_closed_request")


def _too_large() -> ServingError:
    message = f"request body: larger than {MAX_BODY} bytes. Send a shorter prompt."
    return ServingError(message, 413, "request_too_large")


def parse(body: bytes, model: type[Body]) -> Body:
    """Return a JSON document as an instance of ``model``; fields with the value null are left out.

    Raises:
        ServingError: the document is not a JSON object, or a field is unknown or invalid (400).
    """
    try:
        document = from_json(body)
    except ValueError as error:
        message = "request body: not valid JSON. Send one JSON object."
        raise ServingError(message, code="invalid_json") from error
    if not isinstance(document, dict):
        message = "request body: not a JSON object. Send one JSON object."
        raise ServingError(message, code="invalid_json")
    _check_names(document, model)
    present = {name: value for name, value in document.items() if value is not None}
    try:
        return model.model_validate(present, strict=True)
    except ValidationError as error:
        raise _invalid(error.errors(include_url=False)[0], model) from error


def _check_names(document: Mapping[str, Any], model: type[BaseModel]) -> None:
    """Check that the document has no unknown fields.

    Raises:
        ServingError: a field is unknown or not supported (400).
    """
    names = [f.alias or name for name, f in model.model_fields.items()]
    unsupported: Mapping[str, str] = getattr(model, "unsupported", {})
    for name, value in document.items():
        if name in unsupported and value is not None:
            message = f"{name}: not supported, because {unsupported[name]}."
            raise ServingError(message, code="unsupported_parameter", param=name)
        if name not in names and name not in unsupported:
            short = shortened(name)
            message = f"{short}: unknown field{nearest(short, names)}. Correct or remove it."
            raise ServingError(message, code="unknown_parameter", param=short)


def _invalid(first: ErrorDetails, model: type[BaseModel]) -> ServingError:
    """Return the first error of a body in OpenAI's format."""
    field, kind = str(first["loc"][0]), first["type"]
    if kind == "missing":
        message = f"{field}: missing. Add this field."
        return ServingError(message, code="missing_required_parameter", param=field)
    reason = first["msg"].removeprefix("Input ").rstrip(".")
    found = abbreviated(first["input"])
    if field == "prompt":
        reason = f"should be a text of 1 to {LONGEST_PROMPT:,} characters"
        if len(first["loc"]) > 1:
            reason += f", or a list of 1 to {MOST_PROMPTS} of them"
    fix = _HINTS.get(field, "Correct it")
    message = f"{field}: {reason[0].lower()}{reason[1:]} (found {found}). {fix}."
    code = "invalid_type" if kind.endswith("_type") else "invalid_value"
    return ServingError(message, code=code, param=field)
