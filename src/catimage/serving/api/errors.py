"""Errors in OpenAI's format: ``{"error": {"message", "type", "param", "code"}}``."""

from __future__ import annotations

import logging
import math
import traceback
from http import HTTPStatus
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from catimage.errors import InputError
from catimage.serving.api.json_response import json_response
from catimage.serving.messages import JsonObject, ServingError
from catimage.serving.state.failures import STATE_UNAVAILABLE

_LOG = logging.getLogger(__name__)
RETRY_SECONDS = 5.0
"""Value of Retry-After of errors that pass, but have none."""
LONGEST_VALUE = 40
"""Number of characters of a value or field name of the request in an error message."""
FRAMES = 12
"""Number of stack frames of an unexpected exception in the log."""
LONGEST_MESSAGE = 600
"""Number of characters of an error message."""
_TYPES = {
    "insufficient_quota": "insufficient_quota",
    "moderation_blocked": "image_generation_user_error",
}
CLIENT_CLOSED_REQUEST = 499
"""Status in the logs of a request whose client disconnected (a convention of nginx)."""


def abbreviated(value: object) -> str:
    """Return at most 40 characters of a value of the request, for an error message."""
    if isinstance(value, str):
        value = value[: LONGEST_VALUE + 1]
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # an integer of more than 4300 digits; deep nesting
        text = f"a value of type {type(value).__name__}"
    return text if len(text) <= LONGEST_VALUE else text[: LONGEST_VALUE - 3] + "..."


def shortened(name: str) -> str:
    """Return at most 40 characters of a field name, for an error message and for ``param``."""
    return name if len(name) <= LONGEST_VALUE else name[: LONGEST_VALUE - 3] + "..."


def error_document(error: ServingError) -> JsonObject:
    """Return the body of an error response.

    The problem of a database is for the operator: it is logged, without being sent to the client.
    """
    message = error.message
    if error.code == STATE_UNAVAILABLE:
        _LOG.warning("%s", message)
        message = "service: its database cannot be used now. Try again later."
    if len(message) > LONGEST_MESSAGE:
        message = message[: LONGEST_MESSAGE - 3] + "..."
    kind = "invalid_request_error" if error.status < 500 else "server_error"
    kind = "rate_limit_error" if error.status == 429 else kind
    return {
        "error": {
            "message": message,
            "type": _TYPES.get(error.code, kind),
            "param": None if error.param is None else shortened(error.param),
            "code": error.code,
        }
    }


def error_headers(error: ServingError) -> dict[str, str]:
    """Return the headers of an error response."""
    headers, seconds = {}, error.retry_after
    if seconds is None and error.retryable and error.status in (429, 503):
        seconds = RETRY_SECONDS
    if seconds is not None:
        headers["Retry-After"] = str(max(1, math.ceil(seconds)))
    if not error.retryable:
        headers["x-should-retry"] = "false"
    if error.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if error.status in (408, 413):
        headers["Connection"] = "close"
    return headers


def error_response(error: ServingError, headers: dict[str, str] | None = None) -> Response:
    """Return the response to a request that cannot be answered."""
    return json_response(
        error_document(error), error.status, error_headers(error) | (headers or {})
    )


def serving_error(error: Exception) -> ServingError:
    """Return any exception as a ServingError; an unexpected one has status 500 and no details.

    The frames of an unexpected exception are logged without its message, which could contain a
    prompt.
    """
    if isinstance(error, ServingError):
        return error
    if isinstance(error, InputError):
        return ServingError(str(error))
    frames = traceback.extract_tb(error.__traceback__)[-FRAMES:]
    stack = " < ".join(f"{f.filename}:{f.lineno} {f.name}" for f in reversed(frames))
    _LOG.error("unexpected %s: %s", type(error).__name__, stack)
    message = "service: internal error. See the log of the service for the request id."
    return ServingError(message, 500, "internal_error", retryable=False)


async def on_serving_error(request: Request, error: Exception) -> Response:
    """Respond to an exception of a handler."""
    found = serving_error(error)
    request.scope["state"]["error_code"] = found.code
    return error_response(found)


async def on_http_error(request: Request, error: Exception) -> Response:
    """Respond to an exception of Starlette: no such route (404) or method (405)."""
    assert isinstance(error, HTTPException)
    path = shortened(request.url.path)
    status, code = error.status_code, HTTPStatus(error.status_code).name.lower()
    message = f"{request.method} {path}: {error.detail}. See /openapi.json for the routes."
    if status == 404:
        message = f"{path}: no such route. See /openapi.json for the routes."
        code = "unknown_url"
    request.scope["state"]["error_code"] = code
    headers: dict[str, Any] = dict(error.headers or {})
    return error_response(ServingError(message, status, code), headers)
