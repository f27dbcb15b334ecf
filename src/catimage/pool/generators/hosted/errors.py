"""Errors of requests to the server of a hosted generator."""

from __future__ import annotations

from enum import Enum
from typing import Any

from catimage.errors import InputError
from catimage.pool.generators.hosted.spec import HostedSpec

_MESSAGE_LENGTH = 500
_REFUSAL_STATUS_CODES = (400, 403, 422, 451)
"""Status codes with which servers refuse a prompt. (They also report invalid options with them.)"""


def missing_package(spec: HostedSpec) -> InputError:
    """Return the error for a missing package ``openai``."""
    return spec.error(
        "kind", "hosted models need the package openai. Run 'pip install \"catimage[hosted]\"'."
    )


class RefusedRequest(InputError):
    """A server refused a prompt, or responded without an image.

    Args:
        spec: the generator's settings in the pool file.
        problem: what the server did.
        fix: how to correct the error, a sentence without full stop.
    """

    def __init__(self, spec: HostedSpec, problem: str, fix: str) -> None:
        where = f"{spec.location}.base_url"
        super().__init__(
            f"{where}: {problem}. {fix}, remove the prompt, or set generate.on_refusal to skip."
        )
        self.reason = problem


def request_error(spec: HostedSpec, request: str, error: Any) -> InputError:
    """Return the error for a request that failed after all retries.

    Args:
        spec: the generator's settings in the pool file.
        request: description of the request.
        error: an ``APIError`` of the package ``openai``.
    """
    import openai

    server = spec.base_url
    if isinstance(error, openai.APITimeoutError):
        attempts = f"{spec.retries + 1} attempts of {spec.timeout:g} s"
        problem = f"{server} did not respond to {request} in {attempts}"
        return spec.error("base_url", f"{problem}. Increase 'timeout', or retry later.")
    if not isinstance(error, openai.APIStatusError):
        reason = _one_line(str(error.__cause__ or error))
        message = f"cannot send {request}: {server} is unavailable ({reason}). Retry later."
        return spec.error("base_url", message)
    reason = f"{_response_message(error)} (status {error.status_code})"
    if isinstance(error, openai.AuthenticationError):
        return spec.error(
            "key_variable",
            f"{server} rejects the key in {spec.key_variable}: {reason}. Set a valid key.",
        )
    if isinstance(error, (openai.RateLimitError, openai.InternalServerError)):
        attempts = f"in {spec.retries + 1} attempts"
        message = f"{server} failed at {request} {attempts}: {reason}. Retry later."
        return spec.error("base_url", message)
    problem, fix = f"{server} rejects {request}: {reason}", "Correct the candidate"
    if error.status_code in _REFUSAL_STATUS_CODES:
        return RefusedRequest(spec, problem, fix)
    return spec.error("base_url", f"{problem}. {fix}, or remove the prompt.")


class RequestOutcome(Enum):
    """What is known about a request that failed."""

    REFUSED = "refused"
    NOT_BILLED = "not billed"
    AMBIGUOUS = "ambiguous"


_UNSENT = ("ConnectError", "ConnectTimeout", "PoolTimeout")
"""Exceptions of the HTTP client (httpx or httpx2) before a request is sent."""
_GATEWAY_TIMEOUTS = (408, 504, 524)
"""Status codes with which a server or a gateway reports that it did not wait for the result."""


def outcome_of(error: BaseException) -> RequestOutcome:
    """Return whether the server refused a request, or may have charged for it.

    A request that did not reach the server, or that the server answered with an error, is not
    billed. It is ambiguous if the server may have made the image: after a timeout or a broken
    connection, and if the response cannot be read.

    Args:
        error: an exception of the generator.
    """
    import openai

    if isinstance(error, RefusedRequest):
        return RequestOutcome.REFUSED
    cause = error.__cause__
    if isinstance(cause, openai.APIStatusError):
        late = cause.status_code in _GATEWAY_TIMEOUTS
        return RequestOutcome.AMBIGUOUS if late else RequestOutcome.NOT_BILLED
    if isinstance(cause, openai.APIConnectionError):
        is_unsent = type(cause.__cause__).__name__ in _UNSENT
        return RequestOutcome.NOT_BILLED if is_unsent else RequestOutcome.AMBIGUOUS
    return RequestOutcome.AMBIGUOUS


def _response_message(error: Any) -> str:
    """Return the error message in the response's body, or else that of the exception."""
    body = error.body
    in_body = isinstance(body, dict) and body.get("message")
    return _one_line(str(body["message"]) if in_body else error.message)


def _one_line(text: str) -> str:
    return " ".join(text.split()).rstrip(".")[:_MESSAGE_LENGTH]
