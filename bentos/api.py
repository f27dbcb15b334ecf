"""HTTP interface: request models, errors in OpenAI's format, and size-limited request bodies."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse

from catimage.errors import InputError

MAX_BODY = 1024 * 1024
"""The largest request body in bytes, about ten times the longest prompt."""
ROUTES = "GET /v1/models, POST /v1/images/generations and POST /v1/route"
"""The routes, as they are listed in error messages."""

_CODES = {
    "missing": "missing_required_parameter",
    "extra_forbidden": "unknown_parameter",
    "json_invalid": "invalid_json",
    "model_type": "invalid_json",
}
"""Error codes of the OpenAI API for error types of pydantic."""


class ApiError(Exception):
    """An error response in OpenAI's format.

    Attributes:
        message: a message of the form ``<field>: <problem>. <fix>.``
        param: the invalid field of the request; None if the error is not about a field.
        code: a short identifier of the error.
        status: the HTTP status.
    """

    def __init__(
        self, message: str, param: str | None = None, code: str = "invalid_value", status: int = 400
    ) -> None:
        super().__init__(message)
        self.message, self.param, self.code, self.status = message, param, code, status


class RouteRequest(BaseModel):
    """The body of ``POST /v1/route``.

    Attributes:
        prompt: the prompt.
        budget: the highest mean cost per image, in the router's cost unit.
        lam: ``lambda``, in quality per unit of cost. Without ``budget`` and ``lambda``, the
            calibrated lambda is used; both together are an error.
        seed: makes the decision repeatable.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    prompt: str = Field(min_length=1)
    budget: float | None = Field(None, gt=0, allow_inf_nan=False)
    lam: float | None = Field(None, ge=0, allow_inf_nan=False, alias="lambda")
    seed: int | None = Field(None, ge=0, lt=2**32)

    @model_validator(mode="after")
    def _budget_or_lambda(self) -> Self:
        if self.budget is not None and self.lam is not None:
            raise ApiError("budget, lambda: both are set. Set only one.", "budget")
        return self


class ImagesRequest(RouteRequest):
    """The body of ``POST /v1/images/generations``: fields of the OpenAI API and of ``/v1/route``.

    Attributes:
        model: ``catimage`` for the router, or the name of a candidate to use without the router.
        n: the number of images.
        size: ``WIDTHxHEIGHT``, or ``auto`` for the size of the candidate.
        response_format: always ``b64_json``.
        seed: the seed of the decision and of the first image; the next images have the next seeds.
    """

    model: str = "catimage"
    n: int = Field(1, ge=1, le=10)
    size: str = Field("auto", pattern=r"^(auto|[1-9][0-9]{0,4}x[1-9][0-9]{0,4})$")
    response_format: Literal["b64_json"] = "b64_json"


Body = TypeVar("Body", bound=BaseModel)


async def parse_body(request: Request, model: type[Body]) -> Body:
    """Return the JSON body of a request as an instance of ``model``.

    Raises:
        ApiError: the body is larger than :data:`MAX_BODY` (status 413), or invalid (status 400).
    """
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY:
            message = f"request body: larger than {MAX_BODY} bytes. Send a shorter prompt."
            raise ApiError(message, None, "request_too_large", 413)
    try:
        return model.model_validate_json(bytes(body))
    except ValidationError as error:
        raise _validation_error(error) from error


def decision_seed(request: Request, body: RouteRequest) -> int | str | None:
    """Return the key of the random draw: the field ``seed``, else the header X-Request-Id.

    None, for a random draw, if the request has neither.
    """
    return request.headers.get("x-request-id") if body.seed is None else body.seed


def _validation_error(error: ValidationError) -> ApiError:
    """Return the first error of a request body in OpenAI's format."""
    first = error.errors()[0]
    kind, field = first["type"], str(first["loc"][0]) if first["loc"] else None
    code = _CODES.get(kind, "invalid_type" if kind.endswith("_type") else "invalid_value")
    reason = first["msg"].removeprefix("Input ").rstrip(".")
    found = _abbreviated(first["input"])
    message = f"{field}: {reason[0].lower()}{reason[1:]} (found {found}). Correct it."
    if field == "response_format":
        message = (
            "response_format: the value is not supported, because the service stores no images. Use"
            " 'b64_json'."
        )
    if field == "size":
        message = (
            f"size: not of the form WIDTHxHEIGHT (found {found}). Use a size such as '64x64', or"
            " omit the field."
        )
    messages = {
        "invalid_json": "request body: not a JSON object. Send one JSON object.",
        "missing_required_parameter": f"{field}: missing. Add this field.",
        "unknown_parameter": f"{field}: unknown field. Remove it.",
    }
    return ApiError(messages.get(code, message), None if code == "invalid_json" else field, code)


def _abbreviated(value: Any) -> str:
    """Return at most 40 characters of a value, for a message."""
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."


async def on_error(request: Request, error: Exception) -> JSONResponse:
    """Return any exception as an error object of the OpenAI API.

    The response to an unexpected exception has status 500 and no details; the details are in the
    log of the service.
    """
    headers = None
    if isinstance(error, HTTPException):
        headers, code = error.headers, HTTPStatus(error.status_code).name.lower()
        message = f"{request.url.path}: {error.detail}. Use one of {ROUTES}."
        error = ApiError(message, None, code, error.status_code)
    if not isinstance(error, ApiError):
        message = "service: internal error. See the log of the service."
        error = ApiError(message, None, "internal_error", 500)
    kind = "invalid_request_error" if error.status < 500 else "server_error"
    body = {"message": error.message, "type": kind, "param": error.param, "code": error.code}
    return JSONResponse({"error": body}, error.status, headers)


@contextmanager
def input_errors(field: str) -> Iterator[None]:
    """Convert an InputError in the ``with`` block to an ApiError for a field of the request."""
    try:
        yield
    except InputError as error:
        raise ApiError(str(error), field) from error
