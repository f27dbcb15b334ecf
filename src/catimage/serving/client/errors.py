"""The errors of the client: one class per kind of response."""

from __future__ import annotations

from typing import Any

import httpx

from catimage.errors import InputError


class ServiceError(InputError):
    """The service answered with an error, or did not answer.

    Attributes:
        message: the message of the service.
        status: the HTTP status; None if there is no response.
        code: a short identifier, such as ``model_not_found``.
        param: the field of the request that is invalid; None if the error is not about a field.
        retry_after: seconds after which the request may be sent again; None if they are unknown.
        request_id: identifier of the request in the logs of the service.
    """

    def __init__(
        self,
        message: str,
        status: int | None = None,
        code: str | None = None,
        param: str | None = None,
        retry_after: float | None = None,
        request_id: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message, self.status, self.code, self.param = message, status, code, param
        self.retry_after, self.request_id = retry_after, request_id


class InvalidRequestError(ServiceError):
    """The request is invalid, too large or too slow (400, 408, 413, 415 or 422)."""


class InvalidKeyError(ServiceError):
    """The API key is missing or wrong (401)."""


class NotFoundError(ServiceError):
    """There is no such route, model or job (404)."""


class OverLimitError(ServiceError):
    """The service is overloaded, or a rate limit or a cost ceiling is exceeded (429)."""


class UnavailableError(ServiceError):
    """The service cannot answer at the moment (5xx)."""


class NoAnswerError(ServiceError):
    """The service cannot be reached, or the connection ended before the end of the answer."""


_CLASSES: dict[int, type[ServiceError]] = {
    400: InvalidRequestError,
    401: InvalidKeyError,
    404: NotFoundError,
    408: InvalidRequestError,
    413: InvalidRequestError,
    415: InvalidRequestError,
    422: InvalidRequestError,
    429: OverLimitError,
}


def response_error(response: httpx.Response) -> ServiceError:
    """Return the error of a response whose body has been read."""
    document = _error_object(response)
    status = response.status_code
    default: type[ServiceError] = UnavailableError if status >= 500 else ServiceError
    kind = _CLASSES.get(status, default)
    message = document.get("message") or (
        f"{response.request.url}: status {status} without a message. Check the URL of the service."
    )
    return kind(
        str(message),
        status,
        document.get("code"),
        document.get("param"),
        seconds_to_wait(response),
        response.headers.get("x-request-id"),
    )


def event_error(document: dict[str, Any]) -> ServiceError:
    """Return the error of an event ``error`` of a stream."""
    found = document.get("error", document)
    return UnavailableError(str(found.get("message")), None, found.get("code"), found.get("param"))


def seconds_to_wait(response: httpx.Response) -> float | None:
    """Return the number of seconds in the header Retry-After; None without it."""
    try:
        return max(0.0, float(response.headers["retry-after"]))
    except (KeyError, ValueError):  # the header may also be a date, which the service never sends
        return None


def _error_object(response: httpx.Response) -> dict[str, Any]:
    """Return the object ``error`` of a response; empty for other responses, such as a proxy's."""
    try:
        document = response.json()
    except ValueError:
        return {}
    found = document.get("error") if isinstance(document, dict) else None
    return found if isinstance(found, dict) else {}
